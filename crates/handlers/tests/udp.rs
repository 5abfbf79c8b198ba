//! Datagram sockets, on the loopback interface.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::udp::{
    self, Datagram, DatagramHandler, Ecn, Failure, Outgoing, Sending, Sent, Udp, UdpMetrics, UdpSocket,
};
use reactor::{Closed, Context, Handler, Interest, Io, Key, ManualClock, Next, Reactor};
use rustix::io::Errno;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers of a test note.
#[derive(Default)]
struct Seen {
    datagrams: Vec<Vec<u8>>,
    failures: Vec<(&'static str, Option<SocketAddr>, Option<Errno>)>,
    sent: Vec<Option<Sent>>,
    drained: usize,
    closed: usize,
    metrics: UdpMetrics,
}

fn local(v6: bool) -> SocketAddr {
    if v6 { ([0, 0, 0, 0, 0, 0, 0, 1], 0).into() } else { ([127, 0, 0, 1], 0).into() }
}

/// A plain socket on the other side.
fn peer(v6: bool) -> Result<StdSocket> {
    let socket = StdSocket::bind(local(v6))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

#[track_caller]
fn turn_until<S>(reactor: &mut Reactor<S>, state: &mut S, done: impl Fn(&S) -> bool) -> Result {
    let began = Instant::now();
    while !done(state) {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        reactor.turn(state, Some(Duration::from_millis(100)))?;
    }
    Ok(())
}

fn errno(failure: &Failure) -> Option<Errno> {
    Errno::from_io_error(&failure.error)
}

/// Notes everything; on a datagram it does what the test says.
struct Noting<F>(F);

impl<F> DatagramHandler<Seen> for Noting<F>
where
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, Seen>) -> io::Result<Next>,
{
    fn on_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<Next> {
        cx.state.datagrams.push(datagram.bytes.to_vec());
        let result = (self.0)(datagram, socket, cx);
        cx.state.metrics = socket.metrics();
        result
    }

    fn on_failure(&mut self, failure: &Failure, cx: &mut Context<'_, Seen>) {
        cx.state.failures.push((failure.call, failure.to, errno(failure)));
    }

    fn on_drain(&mut self, socket: &mut Sending<'_>, cx: &mut Context<'_, Seen>) -> io::Result<Next> {
        cx.state.drained += 1;
        cx.state.metrics = socket.metrics();
        Ok(Next::Keep)
    }

    fn on_close(&mut self, _reason: Closed, cx: &mut Context<'_, Seen>) {
        cx.state.closed += 1;
    }
}

/// Registers a socket on the loopback interface.
fn noting<F>(reactor: &mut Reactor<Seen>, on_datagram: F) -> Result<(Key, SocketAddr)>
where
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, Seen>) -> io::Result<Next> + 'static,
{
    let socket = UdpSocket::bind(local(false))?;
    let address = socket.local_addr()?;
    Ok((Udp::new(Noting(on_datagram)).add_to(reactor, socket)?, address))
}

#[test]
fn what_is_received_comes_with_its_addresses_and_is_answered() -> Result {
    for v6 in [false, true] {
        let mut reactor = Reactor::<usize>::new()?;
        let socket = UdpSocket::bind(local(v6))?;
        let (address, peer) = (socket.local_addr()?, peer(v6)?);
        let peer_address = peer.local_addr()?;
        udp::add(&mut reactor, socket, move |datagram, socket, cx| {
            assert_eq!((datagram.from, datagram.to), (peer_address, Some(address.ip())));
            assert!(datagram.interface.is_some());
            assert!(datagram.received.is_some_and(|at| at.elapsed().is_ok_and(|ago| ago < PATIENCE)));
            assert_eq!(socket.reply(datagram, datagram.bytes), Ok(Sent::Now));
            *cx.state += 1;
            Ok(Next::Keep)
        })?;
        let mut buffer = [1; 70_000];
        let largest = if v6 { 65_536 - 40 - 8 } else { 65_535 - 20 - 8 }; // one packet: IPv6 is cut at the interface's MTU
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
fn an_answer_comes_from_the_address_that_was_asked() -> Result {
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
        assert_eq!((seen.datagrams.len(), seen.metrics.receives), (received, 1 + turn as u64));
    }
    assert!(seen.datagrams.iter().flatten().copied().eq(0..70));
    // The last batch was not full: the socket is known to be empty, and not asked again.
    assert_eq!(reactor.turn(&mut seen, Some(Duration::ZERO))?, 0);
    peer.send_to(b"more", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 71)?;
    assert_eq!((seen.metrics.receives, reactor.metrics().kernel_updates), (4, 1));
    Ok(())
}

#[test]
fn a_datagram_that_is_too_large_is_told_and_the_socket_goes_on() -> Result {
    let mut reactor = Reactor::new()?;
    let (_, address) = noting(&mut reactor, |datagram, socket, cx| {
        cx.state.sent.push(socket.send_to(&[0; 65_508], datagram.from).ok());
        cx.state.sent.push(socket.send_to(b"nowhere", (datagram.from.ip(), 0).into()).ok());
        cx.state.sent.push(socket.send(b"to nobody").ok());
        cx.state.sent.push(socket.reply(datagram, b"fine").ok());
        Ok(Next::Keep)
    })?;
    let peer = peer(false)?;
    peer.send_to(b"go", address)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    assert_eq!(seen.sent, [Some(Sent::Failed), Some(Sent::Failed), Some(Sent::Failed), Some(Sent::Now)]);
    let to = peer.local_addr()?;
    let told = [
        ("sendmsg", Some(to), Some(Errno::MSGSIZE)),
        ("sendmsg", Some((to.ip(), 0).into()), Some(Errno::INVAL)),
        ("sendmsg", None, Some(Errno::DESTADDRREQ)),
    ];
    assert_eq!((&seen.failures[..], seen.metrics.failed), (&told[..], 3));
    assert_eq!((peer.recv(&mut [0; 16])?, reactor.len()), (4, 1));
    Ok(())
}

#[test]
fn that_nobody_listens_is_told_and_a_connected_socket_goes_on() -> Result {
    for v6 in [false, true] {
        let peer_socket = peer(v6)?;
        let to = peer_socket.local_addr()?;
        let mut reactor = Reactor::new()?;
        let socket = UdpSocket::connect(to)?;
        assert_eq!(socket.peer_addr(), Some(to));
        let address = socket.local_addr()?;
        let on_datagram = |_: &Datagram<'_>, socket: &mut Sending<'_>, cx: &mut Context<'_, Seen>| {
            // The second one gets the answer to the first, the third one that to the second.
            cx.state.sent.extend([socket.send(b"1").ok(), socket.send(b"2").ok(), socket.send(b"3").ok()]);
            Ok(Next::Keep)
        };
        Udp::new(Noting(on_datagram)).add_to(&mut reactor, socket)?;
        peer_socket.send_to(b"go", address)?;
        drop(peer_socket);
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.failures.len() == 3)?;
        assert_eq!(seen.sent, [Some(Sent::Now); 3]);
        let refused = Some(Errno::CONNREFUSED);
        let told = [("sendmsg", Some(to), refused), ("sendmsg", Some(to), refused), ("recvmmsg", Some(to), refused)];
        assert_eq!(seen.failures, told);

        let peer_socket = StdSocket::bind(to)?; // somebody listens again
        peer_socket.set_read_timeout(Some(PATIENCE))?;
        peer_socket.send_to(b"go", address)?;
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 2)?;
        assert_eq!(peer_socket.recv_from(&mut [0; 16])?, (1, address));
        assert_eq!((seen.failures.len(), seen.metrics.sent), (3, 6));
    }
    Ok(())
}

/// A socket that has no room while the test says so: what the kernel would do with a slow device.
struct Stuffed {
    udp: Udp<Seen>,
    full: Rc<Cell<bool>>,
}

impl Handler<Seen, UdpSocket> for Stuffed {
    fn ready(&mut self, io: &mut Io<UdpSocket>, cx: &mut Context<'_, Seen>) -> io::Result<Next> {
        if self.full.get() {
            let _ = io.try_io(Interest::WRITABLE, |_| Err::<(), _>(ErrorKind::WouldBlock.into()));
        }
        self.udp.ready(io, cx)
    }
}

/// Registers such a socket, and lets it learn that it is writable, so that it has to be told when it is not.
fn stuffed(reactor: &mut Reactor<Seen>, udp: Udp<Seen>) -> Result<(Rc<Cell<bool>>, SocketAddr, Key)> {
    let socket = UdpSocket::bind(local(false))?;
    let (address, full) = (socket.local_addr()?, Rc::new(Cell::new(false)));
    let handler = Stuffed { udp, full: Rc::clone(&full) };
    let key = reactor.add_handler(socket, Interest::READABLE | Interest::WRITABLE, handler)?;
    assert_eq!(reactor.turn(&mut Seen::default(), Some(PATIENCE))?, 1);
    assert_eq!(reactor.interest(key)?, Interest::READABLE, "with nothing queued it does not ask for room");
    full.set(true);
    Ok((full, address, key))
}

/// On "fill" sends five datagrams of 100 bytes to `to`.
fn filler(
    to: SocketAddr,
) -> impl FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, Seen>) -> io::Result<Next> + 'static {
    move |datagram, socket, cx| {
        if datagram.bytes == b"fill" {
            cx.state.sent = (0..5).map(|number| socket.send_to(&[number; 100], to).ok()).collect();
        }
        Ok(Next::Keep)
    }
}

#[test]
fn what_has_to_wait_is_queued_up_to_the_limit_and_goes_out_as_one_run() -> Result {
    for (datagrams_max, bytes_max) in [(3, 10_000), (100, 399)] {
        let mut reactor = Reactor::new()?;
        let (_, receiver) = noting(&mut reactor, |_, _, _| Ok(Next::Keep))?;
        let udp = Udp::new(Noting(filler(receiver))).queued_max(datagrams_max).queued_bytes_max(bytes_max);
        let (full, address, key) = stuffed(&mut reactor, udp)?;
        let peer = peer(false)?;
        let mut seen = Seen::default();
        peer.send_to(b"fill", address)?;
        turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
        assert_eq!(seen.sent, [Some(Sent::Queued), Some(Sent::Queued), Some(Sent::Queued), None, None]);
        assert_eq!((seen.metrics.queued, seen.metrics.dropped, seen.metrics.sent), (3, 2, 0));
        assert_eq!(reactor.interest(key)?, Interest::READABLE | Interest::WRITABLE);

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
        assert_eq!((seen.metrics.sent, seen.metrics.sends), (3, 1), "one call, divided by the kernel");
    }
    Ok(())
}

#[test]
fn nothing_overtakes_the_queue_which_goes_out_a_bounded_part_a_turn() -> Result {
    let peer = peer(false)?;
    let to = peer.local_addr()?;
    let mut reactor = Reactor::new()?;
    let on_datagram = move |datagram: &Datagram<'_>, socket: &mut Sending<'_>, cx: &mut Context<'_, Seen>| {
        let sizes = if datagram.bytes == b"fill" { 1..101 } else { 101..102 };
        cx.state.sent = sizes.map(|bytes| socket.send_to(&[0; 101][..bytes], to).ok()).collect(); // none can be merged
        Ok(Next::Keep)
    };
    let (full, address, _) = stuffed(&mut reactor, Udp::new(Noting(on_datagram)))?;
    let mut seen = Seen::default();
    peer.send_to(b"fill", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 1)?;
    full.set(false);
    peer.send_to(b"go", address)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.datagrams.len() == 2)?;
    assert_eq!((&seen.sent, seen.metrics.sent), (&vec![Some(Sent::Queued)], 64));
    reactor.turn(&mut seen, Some(PATIENCE))?; // it is still writable, and called again
    for bytes in 1..102 {
        assert_eq!(peer.recv(&mut [0; 200])?, bytes);
    }
    Ok(())
}

#[test]
fn bursts_from_another_thread_that_race_with_the_end_of_a_batch_are_all_answered() -> Result {
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
                peer.recv(&mut [0; 16])?; // a wakeup that was lost would end its patience
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
    echo(2)?; // makes the buffers
    let mut result = Ok(());
    let allocations = allocation_counter::measure(|| result = echo(100));
    assert_eq!(allocations.count_total, 0);
    result
}

#[test]
fn datagrams_that_were_merged_on_the_way_are_told_one_by_one() -> Result {
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
    assert_eq!((seen.metrics.received, seen.metrics.receives), (6, 2), "five of them in one buffer");
    Ok(())
}

#[test]
fn with_a_queue_of_nothing_the_sender_is_told_and_told_again_when_there_is_room() -> Result {
    let peer = peer(false)?;
    let mut reactor = Reactor::new()?;
    let udp = Udp::new(Noting(filler(peer.local_addr()?))).queued_max(0);
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
fn in_a_run_that_is_refused_each_datagram_gets_its_own_answer() -> Result {
    let peer = peer(false)?;
    let to = peer.local_addr()?;
    let mut reactor = Reactor::new()?;
    let on_datagram = move |datagram: &Datagram<'_>, socket: &mut Sending<'_>, _: &mut Context<'_, Seen>| {
        if datagram.bytes == b"fill" {
            let foreign = Some([192, 0, 2, 1].into()); // not an address of this machine
            for (number, from) in [None, foreign, foreign, foreign, None, None].into_iter().enumerate() {
                let queued = socket.send_datagram(&Outgoing { from, ..Outgoing::new(&[number as u8], to) });
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
            // What no kernel takes is no reason to think that this one does not know the marks.
            assert_eq!(socket.send_to(b"", (to.ip(), 0).into()), Ok(Sent::Failed));
            for ecn in marks {
                assert_eq!(socket.send_datagram(&Outgoing { ecn, ..Outgoing::new(b"", to) }), Ok(Sent::Now));
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
fn a_handler_that_ends_its_socket_is_told_no_more_of_the_batch() -> Result {
    type End = fn(&mut Context<'_, Seen>) -> io::Result<Next>;
    let ends: [End; 3] = [
        |_| Ok(Next::Remove),
        |_| Err(io::Error::other("enough")),
        |cx| cx.registry.remove(cx.key()).map(|()| Next::Keep).map_err(io::Error::from),
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
        Err(if datagram.bytes.is_empty() { ErrorKind::WouldBlock } else { ErrorKind::Interrupted }.into())
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
fn a_socket_that_rests_receives_nothing_until_it_goes_on() -> Result {
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
    assert_eq!((seen.datagrams.len(), reactor.interest(key)?), (1, Interest::NONE));
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
fn others_send_by_the_key_of_a_socket_and_failures_are_told_at_once() -> Result {
    let peer = peer(false)?;
    let mut reactor = Reactor::new()?;
    let udp = Udp::new(Noting(|_: &Datagram<'_>, _: &mut Sending<'_>, _: &mut Context<'_, Seen>| Ok(Next::Keep)));
    let key = udp.add_to(&mut reactor, UdpSocket::connect(peer.local_addr()?)?)?;
    reactor.defer(move |cx| {
        let sent = Udp::with(key, cx, |socket, _| {
            assert_eq!((socket.queued(), socket.queued_bytes()), (0, 0));
            (socket.send(b"hello"), socket.send(&[0; 70_000]))
        });
        let (hello, too_long) = sent.unwrap();
        cx.state.sent.extend([hello.ok(), too_long.ok()]);
        cx.registry.remove(key).unwrap();
        assert_eq!(Udp::with(key, cx, |_, _| ()).expect_err("it is gone").kind(), ErrorKind::NotFound);
    });
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.sent.is_empty())?;
    assert_eq!(seen.sent, [Some(Sent::Now), Some(Sent::Failed)]);
    assert_eq!(seen.failures, [("sendmsg", Some(peer.local_addr()?), Some(Errno::MSGSIZE))]);
    assert_eq!(peer.recv(&mut [0; 16])?, 5);
    Ok(())
}

#[test]
fn errors_name_the_call_and_the_address() -> Result {
    let taken = peer(false)?;
    let error = UdpSocket::bind(taken.local_addr()?).expect_err("it is taken");
    let named = format!("bind {}: Address already in use", taken.local_addr()?);
    assert!(error.kind() == ErrorKind::AddrInUse && error.to_string().starts_with(&named), "{error}");
    let error = UdpSocket::connect(([255, 255, 255, 255], 9).into()).expect_err("broadcast is to be asked for");
    assert!(error.to_string().starts_with("connect 255.255.255.255:9: "), "{error}");
    Ok(())
}
