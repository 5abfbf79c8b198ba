//! The callbacks of a handler for datagrams: their data and their order, pauses of a socket, and
//! its end.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use handlers::udp::{self, Datagram, Sending, Sent, Udp, UdpSocket};
use reactor::{Context, Interest, ManualClock, Next, Reactor};

use crate::{Noting, PATIENCE, Result, Seen, local, noting, peer, turn_until};

#[test]
fn a_datagram_comes_with_its_addresses_and_is_answered() -> Result {
    for v6 in [false, true] {
        let mut reactor = Reactor::<usize>::new()?;
        let socket = UdpSocket::bind(local(v6))?;
        let (address, peer) = (socket.local_addr()?, peer(v6)?);
        let peer_addr = peer.local_addr()?;
        udp::add(&mut reactor, socket, move |datagram, socket, cx| {
            assert_eq!(
                (datagram.from, datagram.to),
                (peer_addr, Some(address.ip()))
            );
            assert!(datagram.interface.is_some());
            assert!(
                datagram
                    .received
                    .is_some_and(|at| at.elapsed().is_ok_and(|ago| ago < PATIENCE))
            );
            assert_eq!(socket.reply(datagram, datagram.bytes), Ok(Sent::Now));
            *cx.state += 1;
            Ok(Next::Keep)
        })?;
        let mut buffer = [1; 70_000];
        // One packet: IPv6 is cut at the interface's MTU.
        let largest = if v6 { 65_536 - 40 - 8 } else { 65_535 - 20 - 8 };
        for bytes in [0, 1, 1500, largest] {
            peer.send_to(&vec![bytes as u8; bytes], address)?;
            turn_until(&mut reactor, &mut 0, |count| *count == 1)?;
            assert_eq!(peer.recv_from(&mut buffer)?, (bytes, address));
            assert!(buffer[..bytes].iter().all(|byte| *byte == bytes as u8));
        }
    }
    Ok(())
}

#[test]
fn an_answer_comes_from_the_address_of_the_question() -> Result {
    let mut reactor = Reactor::<usize>::new()?;
    let socket = UdpSocket::bind(([0, 0, 0, 0], 0).into())?;
    let asked = SocketAddr::from(([127, 0, 0, 9], socket.local_addr()?.port()));
    udp::add(&mut reactor, socket, |datagram, socket, cx| {
        assert_eq!(socket.reply(datagram, b"answer"), Ok(Sent::Now));
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let peer = peer(false)?;
    peer.send_to(b"question", asked)?;
    turn_until(&mut reactor, &mut 0, |count| *count == 1)?;
    assert_eq!(peer.recv_from(&mut [0; 16])?, (6, asked));
    Ok(())
}

#[test]
fn a_flood_is_received_a_batch_a_turn_and_in_order() -> Result {
    let mut reactor = Reactor::new()?;
    let (_, address) = noting(&mut reactor, |_, _, _| Ok(Next::Keep))?;
    let peer = peer(false)?;
    for number in 0..70_u8 {
        peer.send_to(&[number], address)?;
    }
    let mut seen = Seen::default();
    for (turn, received) in [32, 64, 70].into_iter().enumerate() {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
        assert_eq!(
            (seen.datagrams.len(), seen.metrics.receives),
            (received, 1 + turn as u64)
        );
    }
    assert!(seen.datagrams.iter().flatten().copied().eq(0..70));
    // The last batch was not full: the socket is known to be empty, and is not read again.
    assert_eq!(reactor.turn(&mut seen, Some(Duration::ZERO))?, 0);
    peer.send_to(b"more", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 71)?;
    assert_eq!(
        (seen.metrics.receives, reactor.metrics().kernel_updates),
        (4, 1)
    );
    Ok(())
}

/// They come from another thread.
#[test]
fn bursts_that_race_with_the_end_of_a_batch_are_all_answered() -> Result {
    let mut reactor = Reactor::<usize>::new()?;
    let socket = UdpSocket::bind(local(false))?;
    let (address, peer) = (socket.local_addr()?, peer(false)?);
    udp::add(&mut reactor, socket, |datagram, socket, cx| {
        assert_eq!(socket.reply(datagram, datagram.bytes), Ok(Sent::Now));
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let bursts = (0..1000).map(|round| 1 + round * 7 % 40); // smaller and larger than a batch
    let total = bursts.clone().sum::<usize>();
    let client = std::thread::spawn(move || {
        for burst in bursts {
            for _ in 0..burst {
                peer.send_to(b"hello", address)?;
            }
            for _ in 0..burst {
                peer.recv(&mut [0; 16])?; // fails if a wakeup is lost
            }
        }
        io::Result::Ok(())
    });
    turn_until(&mut reactor, &mut 0, |count| *count == total)?;
    client.join().map_err(|_| "the client panicked")??;
    Ok(())
}

#[test]
fn an_echo_allocates_nothing() -> Result {
    let mut reactor = Reactor::<usize>::new()?;
    let socket = UdpSocket::bind(local(false))?;
    let (address, peer) = (socket.local_addr()?, peer(false)?);
    udp::add(&mut reactor, socket, |datagram, socket, cx| {
        assert_eq!(socket.reply(datagram, datagram.bytes), Ok(Sent::Now));
        *cx.state += 1;
        Ok(Next::Keep)
    })?;
    let mut echo = |rounds: usize| {
        for _ in 0..rounds {
            peer.send_to(b"hello", address)?;
            turn_until(&mut reactor, &mut 0, |count| *count == 1)?;
            assert_eq!(peer.recv(&mut [0; 16])?, 5);
        }
        Result::Ok(())
    };
    echo(2)?; // allocates the buffers
    let mut result = Ok(());
    let allocations = allocation_counter::measure(|| result = echo(100));
    assert_eq!(allocations.count_total, 0);
    result
}

#[test]
fn a_handler_that_removes_its_socket_gets_no_more_of_the_batch() -> Result {
    type End = fn(&mut Context<'_, Seen>) -> io::Result<Next>;
    let ends: [End; 3] = [
        |_| Ok(Next::Remove),
        |_| Err(io::Error::other("enough")),
        |cx| {
            cx.registry
                .remove(cx.key())
                .map(|()| Next::Keep)
                .map_err(io::Error::from)
        },
    ];
    for end in ends {
        let mut reactor = Reactor::new()?;
        let (_, address) = noting(&mut reactor, move |_, _, cx| end(cx))?;
        let peer = peer(false)?;
        peer.send_to(b"1", address)?;
        peer.send_to(b"2", address)?;
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.closed == 1)?;
        assert_eq!((seen.datagrams.len(), reactor.len()), (1, 0));
    }
    Ok(())
}

#[test]
fn would_block_and_interrupted_end_nothing() -> Result {
    let mut reactor = Reactor::new()?;
    let (_, address) = noting(&mut reactor, |datagram, _, _| {
        Err(if datagram.bytes.is_empty() {
            ErrorKind::WouldBlock
        } else {
            ErrorKind::Interrupted
        }
        .into())
    })?;
    let peer = peer(false)?;
    for bytes in [&b""[..], b"1", b""] {
        peer.send_to(bytes, address)?;
    }
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 3)?;
    assert_eq!((reactor.len(), reactor.metrics().kernel_updates), (1, 1));
    Ok(())
}

#[test]
fn a_paused_socket_receives_nothing_until_it_is_resumed() -> Result {
    let mut reactor = Reactor::new()?;
    let (key, address) = noting(&mut reactor, |_, _, cx| {
        cx.registry.set_interest(cx.key(), Interest::NONE)?;
        Ok(Next::Keep)
    })?;
    let peer = peer(false)?;
    let mut seen = Seen::default();
    peer.send_to(b"1", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    peer.send_to(b"2", address)?;
    for _ in 0..3 {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
    }
    assert_eq!(
        (seen.datagrams.len(), reactor.interest(key)?),
        (1, Interest::NONE)
    );
    reactor.set_interest(key, Interest::READABLE)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 2)
}

#[test]
fn a_timeout_ends_a_socket_that_does_not_say_otherwise() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (key, _) = noting(&mut reactor, |_, _, _| Ok(Next::Keep))?;
    reactor.set_timeout(key, Some(Duration::from_secs(60)))?;
    let mut seen = Seen::default();
    reactor.advance(&mut seen, Duration::from_secs(59))?;
    assert_eq!((seen.closed, reactor.len()), (0, 1));
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    assert_eq!((seen.closed, reactor.len()), (1, 0));
    Ok(())
}

#[test]
fn an_ipv4_sender_to_an_ipv6_socket_has_an_ipv4_address() -> Result {
    let (mut reactor, mut seen) = (Reactor::new()?, Vec::new());
    let socket = UdpSocket::bind("[::]:0".parse()?)?;
    let port = socket.local_addr()?.port();
    udp::add(
        &mut reactor,
        socket,
        |datagram, socket, cx: &mut Context<'_, Vec<_>>| {
            cx.state.push((datagram.from, datagram.to));
            assert_eq!(socket.reply(datagram, datagram.bytes), Ok(Sent::Now));
            Ok(Next::Keep)
        },
    )?;
    for v6 in [false, true] {
        let peer = peer(v6)?;
        let to = SocketAddr::new(local(v6).ip(), port);
        peer.send_to(b"hello", to)?;
        turn_until(&mut reactor, &mut seen, |seen| !seen.is_empty())?;
        assert_eq!(seen.pop(), Some((peer.local_addr()?, Some(to.ip()))));
        let mut answer = [0; 16];
        assert_eq!(peer.recv_from(&mut answer)?, (5, to));
    }
    Ok(())
}

#[test]
fn the_ipv4_peer_of_an_ipv6_socket_has_an_ipv4_address() -> Result {
    let (mut reactor, peer) = (Reactor::new()?, peer(false)?);
    let address = peer.local_addr()?;
    let socket = UdpSocket::connect(format!("[::ffff:127.0.0.1]:{}", address.port()).parse()?)?;
    assert_eq!(socket.peer_addr(), Some(address));
    let nothing = |_: &Datagram<'_>, _: &mut Sending<'_>, _: &mut Context<'_, Seen>| Ok(Next::Keep);
    let key = udp::add_handler(&mut reactor, socket, Udp::new(Noting(nothing)))?;
    reactor.defer(move |cx| {
        let sent = key.with(cx, |socket, _cx| socket.send(b"hello"));
        cx.state
            .sent
            .push(sent.ok().and_then(std::result::Result::ok));
    });
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.sent == [Some(Sent::Now)]
    })?;
    assert_eq!(peer.recv(&mut [0; 16])?, 5);
    Ok(())
}
