//! "An upstream that reconnects": its connects and their times, and its end.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{ManualClock, Reactor};
use support::{PATIENCE, Result, listen};

use super::{Forwarder, GRACE, Link, dial, end, send};

/// A loop on a manual clock, and a forwarder that dials.
struct Setup {
    reactor: Reactor<Forwarder>,
    state: Forwarder,
}

impl Setup {
    fn new(upstream: SocketAddr) -> Result<Self> {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let state = Forwarder {
            upstream,
            link: Link::Ended,
            failures: 0,
            waiting: VecDeque::new(),
            full: false,
            random: Box::new(|| RandomState::new().hash_one(())),
        };
        reactor.defer(dial);
        Ok(Self { reactor, state })
    }

    #[track_caller]
    fn turn_until(&mut self, done: impl Fn(&Forwarder) -> bool) -> Result {
        let began = Instant::now();
        while !done(&self.state) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}");
            self.reactor
                .turn(&mut self.state, Some(Duration::from_millis(10)))?;
        }
        Ok(())
    }

    /// Waits for the end of the connection. Returns the time until the next attempt.
    #[track_caller]
    fn delay(&mut self) -> Result<Duration> {
        self.turn_until(|state| matches!(state.link, Link::Waiting(_)))?;
        let Link::Waiting(timer) = self.state.link else {
            return Err("it waits".into());
        };
        Ok(self.reactor.remaining(timer)?.unwrap())
    }

    fn advance(&mut self, time: Duration) -> Result {
        self.reactor.advance(&mut self.state, time)?;
        Ok(())
    }

    /// Ends the forwarder, whose peer does not read, when its grace is over.
    fn end_by_force(mut self) -> Result {
        self.reactor.defer(end);
        self.advance(Duration::ZERO)?;
        self.advance(GRACE)?;
        self.end()
    }

    /// Ends the forwarder, and checks that the loop ends with it.
    fn end(mut self) -> Result {
        self.reactor.defer(end);
        self.reactor.run(&mut self.state)?;
        assert!(self.reactor.is_empty() && self.reactor.timers().count() == 0);
        Ok(())
    }
}

#[test]
fn a_peer_that_accepts_and_closes_is_dialled_ever_more_rarely() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new(address)?;
    for failures in 0..12 {
        setup.turn_until(|state| matches!(state.link, Link::Open(_)))?;
        drop(listener.accept()?);
        let (delay, longest) = (
            setup.delay()?,
            Duration::from_millis(100 << failures.min(8)),
        );
        assert!(
            delay <= longest && delay >= longest / 2,
            "{delay:?} after {failures}"
        );
        setup.advance(delay)?;
    }
    setup.end_by_force()
}

#[test]
fn a_connection_that_has_lasted_resets_the_delays() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new(address)?;
    for _ in 0..5 {
        setup.turn_until(|state| matches!(state.link, Link::Open(_)))?;
        drop(listener.accept()?);
        let delay = setup.delay()?;
        setup.advance(delay)?;
    }
    setup.turn_until(|state| matches!(state.link, Link::Open(_)))?;
    setup.advance(Duration::from_secs(10))?;
    drop(listener.accept()?);
    assert!(setup.delay()? <= Duration::from_millis(100));
    setup.end()
}

#[test]
fn clients_that_lost_the_same_upstream_do_not_come_back_together() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    drop(listener); // nothing listens there
    let delays = (0..20)
        .map(|_| Setup::new(address)?.delay())
        .collect::<Result<Vec<_>>>()?;
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
    Ok(())
}

#[test]
fn waiting_messages_arrive_when_the_upstream_is_back() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new(address)?;
    setup.turn_until(|state| matches!(state.link, Link::Open(_)))?;
    drop(listener.accept()?);
    let delay = setup.delay()?;
    for text in ["one ", "two ", "three"] {
        setup
            .reactor
            .defer(move |cx| send(Bytes::from_static(text.as_bytes()), cx));
    }
    setup.advance(delay)?;
    setup.turn_until(|state| matches!(state.link, Link::Open(_)) && state.waiting.is_empty())?;
    let (mut peer, _) = listener.accept()?;
    let reads = thread::spawn(move || {
        let mut received = String::new();
        peer.read_to_string(&mut received).map(|_| received)
    });
    setup.end()?; // sends the queued messages
    assert_eq!(reads.join().map_err(|_| "it panicked")??, "one two three");
    Ok(())
}

#[test]
fn nothing_is_dialled_after_the_end_in_any_state() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut open = Setup::new(address)?;
    open.turn_until(|state| matches!(state.link, Link::Open(_)))?;
    let peer = listener.accept()?;
    let closes = thread::spawn(move || {
        let mut peer = peer.0;
        peer.read_to_end(&mut Vec::new())
    });
    open.end()?;
    assert_eq!(closes.join().map_err(|_| "it panicked")??, 0);

    let mut waiting = Setup::new(address)?;
    waiting.turn_until(|state| matches!(state.link, Link::Open(_)))?;
    drop(listener.accept()?);
    waiting.delay()?;
    waiting.end()?;

    rustix::net::listen(&listener, 0)?;
    let fills = TcpStream::connect(address)?; // the kernel accepts one connection beyond a backlog of 0
    let mut connecting = Setup::new(address)?;
    connecting.turn_until(|state| matches!(state.link, Link::Connecting(_)))?;
    connecting.end()?;

    drop(fills);
    listener.set_nonblocking(true)?;
    drop(listener.accept());
    assert_eq!(
        listener.accept().err().map(|error| error.kind()),
        Some(ErrorKind::WouldBlock),
        "no connect has come"
    );
    Ok(())
}
