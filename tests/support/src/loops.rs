//! Loops that take turns until something has happened.

use std::fmt::Debug;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Interest, ManualClock, Next, Reactor, Then};

use crate::{PATIENCE, Result};

/// Takes turns until `done`.
///
/// # Errors
/// The errors of [`Reactor::turn`].
///
/// # Panics
/// After [`PATIENCE`], with the state.
#[track_caller]
pub fn turn_until<S: Debug>(
    reactor: &mut Reactor<S>,
    state: &mut S,
    done: impl Fn(&S) -> bool,
) -> Result {
    let began = Instant::now();
    while !done(state) {
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {state:?}"
        );
        reactor.turn(state, Some(Duration::from_millis(10)))?;
    }
    Ok(())
}

/// Takes turns until nothing has happened for 50 ms.
///
/// # Errors
/// The errors of [`Reactor::turn`].
///
/// # Panics
/// After [`PATIENCE`].
#[track_caller]
pub fn turn_until_quiet<S>(reactor: &mut Reactor<S>, state: &mut S) -> Result {
    let began = Instant::now();
    while reactor.turn(state, Some(Duration::from_millis(50)))? > 0 {
        assert!(began.elapsed() < PATIENCE, "not quiet within {PATIENCE:?}");
    }
    Ok(())
}

/// Runs until nothing is left to wait for.
///
/// # Errors
/// The errors of [`Reactor::run`], and an error if it does not return within [`PATIENCE`].
pub fn run_out<S>(reactor: &mut Reactor<S>, state: &mut S) -> Result {
    let patience = reactor.after(PATIENCE, |cx| {
        cx.registry.stop();
        Ok(Then::Done)
    });
    reactor.set_timer_background(patience)?;
    reactor.run(state)?;
    reactor
        .cancel(patience)
        .map_err(|_| format!("it still waits after {PATIENCE:?}: {reactor:?}").into())
}

/// Runs `test` on a thread of its own, and passes on its panic.
///
/// # Panics
/// After [`PATIENCE`], with `what`: the test hangs.
#[track_caller]
#[allow(clippy::panic, reason = "a helper of tests")]
pub fn in_time(what: &str, test: impl FnOnce() + Send + 'static) {
    let (over, ends) = channel::<()>();
    let thread = thread::spawn(move || {
        let _ends = over;
        test();
    });
    if ends.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        panic!("{what} hangs");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// The pause of a slow handler, and its behaviour after the pause.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// The time that passes.
    pub pause: Duration,
    /// With `true`, the handler reads the clock again, so that the rest of the turn knows of the
    /// pause.
    pub refreshes: bool,
}

/// Adds a source whose handler is slow once, and returns the stream that makes the source readable
/// by a byte.
///
/// # Errors
/// The errors of [`UnixStream::pair`] and [`Registry::add`](reactor::Registry::add).
pub fn add_slow_handler<S: 'static>(
    reactor: &mut Reactor<S>,
    clock: &ManualClock,
    slow: Slow,
) -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    let clock = clock.clone();
    reactor.add(near, Interest::READABLE, move |_, cx| {
        cx.now(); // fixes the time of its turn
        clock.advance(slow.pause);
        if slow.refreshes {
            cx.registry.refresh_now();
        }
        Ok(Next::Remove)
    })?;
    Ok(far)
}
