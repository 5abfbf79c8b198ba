//! Sending: at once, or in a queue while there is no room, and the reports of failures.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use handlers::udp::{self, Datagram, Ecn, Outgoing, Sending, Sent, Udp, UdpKey, UdpSocket};
use reactor::{Context, Error, Handler, Interest, Io, Key, Next, Reactor};
use rustix::io::Errno;

use crate::{Noting, PATIENCE, Result, Seen, local, noting, peer, turn_until};

#[test]
fn a_too_large_datagram_is_reported_and_the_socket_goes_on() -> Result {
    let mut reactor = Reactor::new()?;
    let (_, address) = noting(&mut reactor, |datagram, socket, cx| {
        cx.state
            .sent
            .push(socket.send_to(&[0; 65_508], datagram.from).ok());
        cx.state.sent.push(
            socket
                .send_to(b"nowhere", (datagram.from.ip(), 0).into())
                .ok(),
        );
        cx.state.sent.push(socket.send(b"to nobody").ok());
        cx.state.sent.push(socket.reply(datagram, b"fine").ok());
        Ok(Next::Keep)
    })?;
    let peer = peer(false)?;
    peer.send_to(b"go", address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    assert_eq!(
        seen.sent,
        [
            Some(Sent::Failed),
            Some(Sent::Failed),
            Some(Sent::Failed),
            Some(Sent::Now)
        ]
    );
    let to = peer.local_addr()?;
    let told = [
        ("sendmsg", Some(to), Some(Errno::MSGSIZE)),
        ("sendmsg", Some((to.ip(), 0).into()), Some(Errno::INVAL)),
        ("sendmsg", None, Some(Errno::DESTADDRREQ)),
    ];
    assert_eq!((&seen.failures[..], seen.metrics.failed), (&told[..], 3));
    assert_eq!(reactor.len(), 1);
    // The kernel drops datagrams, also on the loopback interface, while its backlog is full.
    peer.set_read_timeout(Some(PATIENCE / 10))?;
    let mut answer = 0;
    for asked in 1..10 {
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.datagrams.len() == asked
        })?;
        match peer.recv(&mut [0; 16]) {
            Ok(len) => {
                answer = len;
                break;
            }
            Err(_) => peer.send_to(b"again", address)?,
        };
    }
    assert_eq!(answer, 4);
    Ok(())
}

#[test]
fn a_connected_socket_reports_econnrefused_and_goes_on() -> Result {
    for v6 in [false, true] {
        let peer_socket = peer(v6)?;
        let to = peer_socket.local_addr()?;
        let mut reactor = Reactor::new()?;
        let socket = UdpSocket::connect(to)?;
        assert_eq!(socket.peer_addr(), Some(to));
        let address = socket.local_addr()?;
        let on_datagram =
            |_: &Datagram<'_>, socket: &mut Sending<'_>, cx: &mut Context<'_, Seen>| {
                // The second one gets the error of the first, the third one that of the second.
                cx.state.sent.extend([
                    socket.send(b"1").ok(),
                    socket.send(b"2").ok(),
                    socket.send(b"3").ok(),
                ]);
                Ok(Next::Keep)
            };
        udp::add_handler(&mut reactor, socket, Udp::new(Noting(on_datagram)))?;
        peer_socket.send_to(b"go", address)?;
        drop(peer_socket);
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.failures.len() == 3)?;
        assert_eq!(seen.sent, [Some(Sent::Now); 3]);
        let refused = Some(Errno::CONNREFUSED);
        let told = [
            ("sendmsg", Some(to), refused),
            ("sendmsg", Some(to), refused),
            ("recvmmsg", Some(to), refused),
        ];
        assert_eq!(seen.failures, told);

        let peer_socket = StdSocket::bind(to)?; // a socket is bound there again
        peer_socket.set_read_timeout(Some(PATIENCE))?;
        peer_socket.send_to(b"go", address)?;
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 2)?;
        assert_eq!(peer_socket.recv_from(&mut [0; 16])?, (1, address));
        assert_eq!((seen.failures.len(), seen.metrics.sent), (3, 6));
    }
    Ok(())
}

#[test]
fn congestion_marks_travel() -> Result {
    for v6 in [false, true] {
        let mut reactor = Reactor::<Vec<Option<Ecn>>>::new()?;
        let receiver = UdpSocket::bind(local(v6))?;
        let to = receiver.local_addr()?;
        udp::add(&mut reactor, receiver, |datagram, _, cx| {
            cx.state.push(datagram.ecn);
            Ok(Next::Keep)
        })?;
        let (sender, peer) = (UdpSocket::bind(local(v6))?, peer(v6)?);
        let address = sender.local_addr()?;
        let marks = [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)];
        udp::add(&mut reactor, sender, move |_, socket, _| {
            // A port that every kernel refuses does not show that this one does not support the
            // marks.
            assert_eq!(socket.send_to(b"", (to.ip(), 0).into()), Ok(Sent::Failed));
            for ecn in marks {
                assert_eq!(
                    socket.send_datagram(&Outgoing {
                        ecn,
                        ..Outgoing::new(b"", to)
                    }),
                    Ok(Sent::Now)
                );
            }
            Ok(Next::Keep)
        })?;
        peer.send_to(b"go", address)?;
        let mut seen = Vec::new();
        turn_until(&mut reactor, &mut seen, |seen| seen.len() == 4)?;
        assert_eq!(seen, marks);
    }
    Ok(())
}

#[test]
fn other_callbacks_send_through_the_key_and_get_failures_at_once() -> Result {
    let peer = peer(false)?;
    let mut reactor = Reactor::new()?;
    let udp = Udp::new(Noting(
        |_: &Datagram<'_>, _: &mut Sending<'_>, _: &mut Context<'_, Seen>| Ok(Next::Keep),
    ));
    let key = udp::add_handler(&mut reactor, UdpSocket::connect(peer.local_addr()?)?, udp)?;
    reactor.defer(move |cx| {
        let sent = key.with(cx, |socket, _| {
            assert_eq!((socket.queued(), socket.queued_bytes()), (0, 0));
            (socket.send(b"hello"), socket.send(&[0; 70_000]))
        });
        let (hello, too_long) = sent.unwrap();
        cx.state.sent.extend([hello.ok(), too_long.ok()]);
        cx.registry.remove(key.key()).unwrap();
        let refused = key.with(cx, |_, _| ()).expect_err("it is gone");
        assert!(
            matches!(refused, Error::StaleKey(stale) if stale == key.key()),
            "{refused}"
        );
    });
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.sent.is_empty())?;
    assert_eq!(seen.sent, [Some(Sent::Now), Some(Sent::Failed)]);
    assert_eq!(
        seen.failures,
        [("sendmsg", Some(peer.local_addr()?), Some(Errno::MSGSIZE))]
    );
    assert_eq!(peer.recv(&mut [0; 16])?, 5);
    Ok(())
}

#[test]
fn datagrams_queued_through_the_key_before_a_panic_are_still_sent() -> Result {
    let peer = peer(false)?;
    let mut reactor = Reactor::new()?;
    let udp = Udp::new(Noting(
        |_: &Datagram<'_>, _: &mut Sending<'_>, _: &mut Context<'_, Seen>| Ok(Next::Keep),
    ));
    let key = udp::add_handler(&mut reactor, UdpSocket::connect(peer.local_addr()?)?, udp)?;
    reactor.set_interest(key.key(), Interest::READABLE | Interest::WRITABLE)?;
    let mut seen = Seen::default();
    // it learns that it is writable, so that it can learn that it is not
    reactor.turn(&mut seen, Some(PATIENCE))?;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        reactor.enter(&mut seen, |cx| {
            cx.with_handler(key.key(), |io: &mut Io<UdpSocket>, _: &mut Udp<Seen>, _| {
                let _ = io.try_io(Interest::WRITABLE, |_| {
                    Err::<(), _>(ErrorKind::WouldBlock.into())
                });
            })?;
            key.with(cx, |socket, _| {
                assert_eq!(socket.send(b"hello"), Ok(Sent::Queued));
                panic!("as the test wants");
            })
        })
    }));
    assert_eq!(
        panicked.expect_err("the panic").downcast_ref(),
        Some(&"as the test wants")
    );
    assert_eq!(
        reactor.interest(key.key())?,
        Interest::READABLE | Interest::WRITABLE
    );
    Ok(())
}

#[test]
fn the_key_of_a_socket_is_refused_in_its_own_callbacks() -> Result {
    let peer = peer(false)?;
    let mut reactor = Reactor::<Vec<bool>>::new()?;
    let socket = UdpSocket::bind(local(false))?;
    let address = socket.local_addr()?;
    let own = Rc::new(Cell::new(None));
    let key = Rc::clone(&own);
    let echo = udp::add(&mut reactor, socket, move |datagram, socket, cx| {
        let own: UdpKey<Vec<bool>> = key.get().ok_or(ErrorKind::NotFound)?;
        let refused = own.with(cx, |_, _| ());
        cx.state
            .push(matches!(refused, Err(Error::Running(running)) if running == own.key()));
        socket.reply(datagram, datagram.bytes)?; // this is what it has that side for
        Ok(Next::Keep)
    })?;
    own.set(Some(echo));
    peer.send_to(b"hello", address)?;
    let mut refused = Vec::new();
    turn_until(&mut reactor, &mut refused, |refused| !refused.is_empty())?;
    assert_eq!(refused, [true]);
    assert_eq!(peer.recv(&mut [0; 16])?, 5);
    assert_eq!(echo.to_string(), echo.key().to_string());
    Ok(())
}

#[test]
fn errors_name_the_call_and_the_address() -> Result {
    let taken = peer(false)?;
    let error = UdpSocket::bind(taken.local_addr()?).expect_err("it is taken");
    let named = format!("bind {}: Address already in use", taken.local_addr()?);
    assert!(
        error.kind() == ErrorKind::AddrInUse && error.to_string().starts_with(&named),
        "{error}"
    );
    let error = UdpSocket::connect(([255, 255, 255, 255], 9).into())
        .expect_err("broadcast is to be asked for");
    assert!(
        error.to_string().starts_with("connect 255.255.255.255:9: "),
        "{error}"
    );
    Ok(())
}

/// A socket that has no room while the test says so, as the kernel does with a slow device.
struct Stuffed {
    udp: Udp<Seen>,
    full: Rc<Cell<bool>>,
}

impl Handler<Seen, UdpSocket> for Stuffed {
    fn ready(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, Seen>) -> io::Result<Next> {
        if self.full.get() {
            let _ = io.try_io(Interest::WRITABLE, |_| {
                Err::<(), _>(ErrorKind::WouldBlock.into())
            });
        }
        self.udp.ready(io, cx)
    }
}

/// Registers such a socket, and lets it learn that it is writable, so that a refusal has to reset
/// that.
fn stuffed(
    reactor: &mut Reactor<Seen>,
    udp: Udp<Seen>,
) -> Result<(Rc<Cell<bool>>, SocketAddr, Key)> {
    let socket = UdpSocket::bind(local(false))?;
    let (address, full) = (socket.local_addr()?, Rc::new(Cell::new(false)));
    let handler = Stuffed {
        udp,
        full: Rc::clone(&full),
    };
    let key = reactor.add_handler(socket, Interest::READABLE | Interest::WRITABLE, handler)?;
    assert_eq!(reactor.turn(&mut Seen::default(), Some(PATIENCE))?, 1);
    assert_eq!(
        reactor.interest(key)?,
        Interest::READABLE,
        "with nothing queued it does not ask for room"
    );
    full.set(true);
    Ok((full, address, key))
}

/// Sends five datagrams of 100 bytes to `to` at a datagram "fill".
fn filler(
    to: SocketAddr,
) -> impl FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, Seen>) -> io::Result<Next> + 'static
{
    move |datagram, socket, cx| {
        if datagram.bytes == b"fill" {
            let mut send = |number| match socket.send_to(&[number; 100], to) {
                Ok(sent) => Some(sent),
                Err(full) => {
                    let text = format!("{} datagrams, {} bytes", full.datagrams, full.bytes);
                    let error = io::Error::from(full); // as `?` would pass it on
                    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
                    assert!(error.to_string().contains(&text), "{error}");
                    None
                }
            };
            cx.state.sent = (0..5).map(&mut send).collect();
        }
        Ok(Next::Keep)
    }
}

#[test]
fn waiting_datagrams_are_queued_up_to_the_limit_and_sent_as_one_run() -> Result {
    for (datagrams_max, bytes_max) in [(3, 10_000), (100, 399)] {
        let mut reactor = Reactor::new()?;
        let (_, receiver) = noting(&mut reactor, |_, _, _| Ok(Next::Keep))?;
        let udp = Udp::new(Noting(filler(receiver)))
            .max_queued_datagrams(datagrams_max)
            .max_queued_bytes(bytes_max);
        let (full, address, key) = stuffed(&mut reactor, udp)?;
        let peer = peer(false)?;
        let mut seen = Seen::default();
        peer.send_to(b"fill", address)?;
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
        assert_eq!(
            seen.sent,
            [
                Some(Sent::Queued),
                Some(Sent::Queued),
                Some(Sent::Queued),
                None,
                None
            ]
        );
        assert_eq!(
            (seen.metrics.queued, seen.metrics.dropped, seen.metrics.sent),
            (3, 2, 0)
        );
        assert_eq!(
            reactor.interest(key)?,
            Interest::READABLE | Interest::WRITABLE
        );

        full.set(false);
        peer.send_to(b"go", address)?;
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 4)?;
        seen.datagrams.retain(|datagram| datagram != b"go");
        assert_eq!(seen.datagrams, [[0; 100], [1; 100], [2; 100]], "in order");
        assert_eq!(seen.drained, 1);
        assert_eq!(reactor.interest(key)?, Interest::READABLE);
        peer.send_to(b"how was it?", address)?;
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 4)?;
        assert_eq!(
            (seen.metrics.sent, seen.metrics.sends),
            (3, 1),
            "one call, divided by the kernel"
        );
    }
    Ok(())
}

#[test]
fn nothing_overtakes_the_queue_which_goes_out_a_bounded_part_a_turn() -> Result {
    let peer = peer(false)?;
    let to = peer.local_addr()?;
    let mut reactor = Reactor::new()?;
    let on_datagram =
        move |datagram: &Datagram<'_>, socket: &mut Sending<'_>, cx: &mut Context<'_, Seen>| {
            let sizes = if datagram.bytes == b"fill" {
                1..101
            } else {
                101..102
            };
            // None can be merged.
            cx.state.sent = sizes
                .map(|bytes| socket.send_to(&[0; 101][..bytes], to).ok())
                .collect();
            Ok(Next::Keep)
        };
    let (full, address, _) = stuffed(&mut reactor, Udp::new(Noting(on_datagram)))?;
    let mut seen = Seen::default();
    peer.send_to(b"fill", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    full.set(false);
    peer.send_to(b"go", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 2)?;
    assert_eq!(
        (&seen.sent, seen.metrics.sent),
        (&vec![Some(Sent::Queued)], 64)
    );
    reactor.turn(&mut seen, Some(PATIENCE))?; // still writable, and called again
    for bytes in 1..102 {
        assert_eq!(peer.recv(&mut [0; 200])?, bytes);
    }
    Ok(())
}

#[test]
fn datagrams_merged_on_the_way_are_delivered_one_by_one() -> Result {
    let mut reactor = Reactor::new()?;
    let (_, receiver) = noting(&mut reactor, |_, _, _| Ok(Next::Keep))?;
    let (full, address, _) = stuffed(&mut reactor, Udp::new(Noting(filler(receiver))))?;
    let peer = peer(false)?;
    peer.send_to(b"fill", address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    full.set(false);
    peer.send_to(b"go", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 7)?;
    peer.send_to(b"how was it?", receiver)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 8)?;
    assert_eq!(
        (seen.metrics.received, seen.metrics.receives),
        (6, 2),
        "five of them in one buffer"
    );
    Ok(())
}

#[test]
fn with_a_queue_of_zero_a_send_is_refused_and_room_is_reported_later() -> Result {
    let peer = peer(false)?;
    let mut reactor = Reactor::new()?;
    let udp = Udp::new(Noting(filler(peer.local_addr()?))).max_queued_datagrams(0);
    let (full, address, _) = stuffed(&mut reactor, udp)?;
    let mut seen = Seen::default();
    for _ in 0..2 {
        peer.send_to(b"fill", address)?;
        seen.datagrams.clear();
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
        assert_eq!((&seen.sent, seen.drained), (&vec![None; 5], 0));
    }
    full.set(false);
    peer.send_to(b"go", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.drained == 1)?;
    assert_eq!((seen.metrics.dropped, seen.metrics.sends), (10, 0));
    Ok(())
}

#[test]
fn in_a_refused_run_each_datagram_gets_its_own_result() -> Result {
    let peer = peer(false)?;
    let to = peer.local_addr()?;
    let mut reactor = Reactor::new()?;
    let on_datagram =
        move |datagram: &Datagram<'_>, socket: &mut Sending<'_>, _: &mut Context<'_, Seen>| {
            if datagram.bytes == b"fill" {
                let foreign = Some([192, 0, 2, 1].into()); // not an address of this machine
                for (number, from) in [None, foreign, foreign, foreign, None, None]
                    .into_iter()
                    .enumerate()
                {
                    let queued = socket.send_datagram(&Outgoing {
                        from,
                        ..Outgoing::new(&[number as u8], to)
                    });
                    assert_eq!(queued, Ok(Sent::Queued));
                }
            }
            Ok(Next::Keep)
        };
    let (full, address, _) = stuffed(&mut reactor, Udp::new(Noting(on_datagram)))?;
    let mut seen = Seen::default();
    peer.send_to(b"fill", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    full.set(false);
    peer.send_to(b"go", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 2)?;
    assert_eq!((seen.failures.len(), seen.metrics.sent), (3, 3));
    for number in [0, 4, 5] {
        let mut buffer = [0xff; 4];
        assert_eq!((peer.recv(&mut buffer)?, buffer[0]), (1, number));
    }
    Ok(())
}

/// Answers one datagram to `to` from a socket that is bound to `at`. Returns the answer as it
/// arrives.
fn answer_to(to: IpAddr, at: SocketAddr) -> Result<Vec<u8>> {
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    let socket = UdpSocket::bind(at)?;
    let port = socket.local_addr()?.port();
    let reply = |datagram: &Datagram<'_>, socket: &mut Sending<'_>, cx: &mut Context<'_, Seen>| {
        cx.state.sent.push(socket.reply(datagram, b"here").ok());
        Ok(Next::Keep)
    };
    udp::add_handler(&mut reactor, socket, Udp::new(Noting(reply)))?;
    let asks = StdSocket::bind("0.0.0.0:0")?;
    asks.set_read_timeout(Some(PATIENCE))?;
    asks.set_broadcast(true)?;
    asks.send_to(b"who is there?", (to, port))?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.sent.is_empty())?;
    assert_eq!(
        (seen.sent, seen.failures),
        (vec![Some(Sent::Now)], vec![]),
        "to {to}"
    );
    let mut answer = vec![0; 16];
    let bytes = asks.recv(&mut answer)?;
    answer.truncate(bytes);
    Ok(answer)
}

#[test]
fn a_datagram_to_the_broadcast_address_of_a_network_is_answered() -> Result {
    for (to, at) in [
        ("127.0.0.1", "0.0.0.0:0"),
        ("127.255.255.255", "0.0.0.0:0"),
        ("127.255.255.255", "[::]:0"),
    ] {
        assert_eq!(answer_to(to.parse()?, at.parse()?)?, b"here");
    }
    Ok(())
}
