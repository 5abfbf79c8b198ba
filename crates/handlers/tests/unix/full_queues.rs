//! A listener whose queue is full: the connect is tried again, and never spins.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use handlers::{Address, CloseReason, Connection, ConnectionOptions, Timeout};
use reactor::{ManualClock, PanicPolicy, Reactor};
use socket2::SockRef;
use support::{Result, turn_until, turn_until_quiet};

use crate::{Greets, Seen, at_name, expect_nothing_left, options, still};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A listener whose queue is full.
struct Full {
    listener: UnixListener,
    address: Address,
    _waiting: UnixStream,
}

impl Full {
    fn new(test: &str) -> Result<Self> {
        let (listener, address) = at_name(test)?;
        SockRef::from(&listener).listen(0)?; // one waits, even in a queue of this length
        let _waiting = UnixStream::connect_addr(&listener.local_addr()?)?;
        Ok(Self {
            listener,
            address,
            _waiting,
        })
    }
}

/// Returns options that count the tries.
fn counted(tries: &Arc<AtomicUsize>) -> ConnectionOptions {
    let tries = Arc::clone(tries);
    options().prepare(move |_fd| {
        tries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
}

/// Advances the clock to each of these times, and checks how many tries there were by then.
fn expect_tries(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    tries: &AtomicUsize,
    expected: &[(u64, usize)],
) -> Result {
    let mut now = 0;
    for (at, expected) in expected {
        reactor.advance(seen, ms(at - now))?;
        now = *at;
        turn_until_quiet(reactor, seen)?;
        assert_eq!(tries.load(Ordering::Relaxed), *expected, "after {at} ms");
    }
    Ok(())
}

#[test]
fn a_full_queue_is_tried_again_after_pauses_that_double_up_to_64_ms() -> Result {
    let full = Full::new("pauses")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let tries = Arc::new(AtomicUsize::new(0));
    let connecting = Connection::connect_to(&mut reactor, &full.address, &counted(&tries), Greets);
    let debug = format!("{connecting:?}");
    assert_eq!(debug, "Connecting { attempts: 1, .. }");
    let expected = [
        (0, 1),
        (1, 2),
        (2, 2),
        (3, 3),
        (7, 4),
        (15, 5),
        (31, 6),
        (63, 7),
        (126, 7),
        (127, 8),
        (190, 8),
        (191, 9),
        (255, 10),
    ];
    expect_tries(&mut reactor, &mut seen, &tries, &expected)?;
    assert!(connecting.is_pending() && seen.closed.is_empty());
    assert_eq!((reactor.len(), reactor.timers().count()), (0, 1));
    full.listener.accept()?;
    reactor.advance(&mut seen, ms(64))?;
    turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    assert_eq!((reactor.len(), reactor.timers().count()), (1, 0));
    assert!(!connecting.is_pending());
    Ok(())
}

#[test]
fn a_queue_that_stays_full_times_out_with_a_last_try() -> Result {
    for (timeout, all_tries) in [(0, 2), (1, 2), (2, 3), (10, 5)] {
        let full = Full::new(&format!("timeout-{timeout}"))?;
        let (mut reactor, mut seen) = (still()?, Seen::default());
        let tries = Arc::new(AtomicUsize::new(0));
        let options = counted(&tries).connect_timeout(ms(timeout));
        let connecting = Connection::connect_to(&mut reactor, &full.address, &options, Greets);
        assert!(connecting.is_pending());
        if timeout > 0 {
            reactor.advance(&mut seen, ms(timeout - 1))?;
            turn_until_quiet(&mut reactor, &mut seen)?;
            assert!(connecting.is_pending() && seen.closed.is_empty());
            reactor.advance(&mut seen, ms(1))?;
        }
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert!(
            matches!(seen.closed[..], [CloseReason::TimedOut(Timeout::Connect)]),
            "{timeout} ms: {seen:?}"
        );
        assert_eq!(tries.load(Ordering::Relaxed), all_tries, "{timeout} ms");
        expect_nothing_left(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn room_at_the_end_of_the_timeout_is_used() -> Result {
    let full = Full::new("last-moment")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let options = options().connect_timeout(ms(10));
    Connection::connect_to(&mut reactor, &full.address, &options, Greets);
    reactor.advance(&mut seen, ms(9))?;
    full.listener.accept()?;
    reactor.advance(&mut seen, ms(60_000))?;
    turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    assert!(seen.closed.is_empty(), "{seen:?}");
    Ok(())
}

#[test]
fn without_a_timeout_a_full_queue_is_tried_for_ever() -> Result {
    for timeout in [None, Some(Duration::MAX)] {
        let full = Full::new(&format!("for-ever-{}", timeout.is_some()))?;
        let (mut reactor, mut seen) = (still()?, Seen::default());
        let tries = Arc::new(AtomicUsize::new(0));
        let options = counted(&tries).connect_timeout(timeout);
        Connection::connect_to(&mut reactor, &full.address, &options, Greets);
        reactor.advance(&mut seen, Duration::from_secs(60))?;
        // 7 tries up to 63 ms, and then one in 64 ms.
        assert_eq!(tries.load(Ordering::Relaxed), 7 + (60_000 - 63) / 64);
        full.listener.accept()?;
        reactor.advance(&mut seen, ms(64))?;
        turn_until(&mut reactor, &mut seen, |seen| seen.opened == 1)?;
    }
    Ok(())
}

#[test]
fn a_connect_that_waits_for_room_is_cancelled() -> Result {
    let full = Full::new("cancel")?;
    for pause in [0, 1, 100] {
        let (mut reactor, mut seen) = (still()?, Seen::default());
        let connecting = Connection::connect_to(&mut reactor, &full.address, &options(), Greets);
        reactor.advance(&mut seen, ms(pause))?;
        connecting.cancel(&mut reactor);
        connecting.cancel(&mut reactor);
        assert!(seen.closed.is_empty(), "not from within the call");
        assert!(!connecting.is_pending());
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert!(matches!(seen.closed[..], [CloseReason::Closed]), "{seen:?}");
        expect_nothing_left(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn a_connect_as_that_waits_for_room_is_cancelled() -> Result {
    let full = Full::new("cancel-as")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let make = |stream: handlers::SocketStream| stream.into_unix();
    let connecting =
        Connection::connect_to_as(&mut reactor, &full.address, &options(), make, Greets);
    reactor.advance(&mut seen, ms(5))?;
    connecting.cancel(&mut reactor);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(matches!(seen.closed[..], [CloseReason::Closed]), "{seen:?}");
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn a_listener_that_ends_while_its_queue_is_full_is_a_failure() -> Result {
    let full = Full::new("ends")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    Connection::connect_to(&mut reactor, &full.address, &options(), Greets);
    drop(full.listener);
    reactor.advance(&mut seen, ms(1))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(seen.error()?.kind(), std::io::ErrorKind::ConnectionRefused);
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn an_error_of_prepare_that_would_block_is_not_a_full_queue() -> Result {
    let (_listener, address) = at_name("would-block")?;
    let (mut reactor, mut seen) = (still()?, Seen::default());
    let options = options().prepare(|_fd| Err(rustix::io::Errno::AGAIN.into()));
    Connection::connect_to(&mut reactor, &address, &options, Greets);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.error()?.to_string().contains("prepare of fd"));
    expect_nothing_left(&mut reactor, &mut seen)
}

#[test]
fn a_panic_of_prepare_at_a_later_try_is_reported_to_the_handler() -> Result {
    let full = Full::new("later-panic")?;
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let mut seen = Seen::default();
    let tries = AtomicUsize::new(0);
    let options = options().prepare(move |_fd| {
        assert_eq!(tries.fetch_add(1, Ordering::Relaxed), 0, "on purpose");
        Ok(())
    });
    Connection::connect_to(&mut reactor, &full.address, &options, Greets);
    reactor.advance(&mut seen, ms(1))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(
        matches!(&seen.closed[..], [CloseReason::Panicked(text)] if text.contains("on purpose")),
        "{seen:?}"
    );
    expect_nothing_left(&mut reactor, &mut seen)
}
