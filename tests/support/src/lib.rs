//! Helpers that the tests of several crates share.

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use reactor::{Interest, ManualClock, Next, Reactor, Then};

/// What helpers return.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The time after which a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Turns until `done`.
///
/// # Errors
/// Those of [`Reactor::turn`].
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

/// Turns until nothing has happened for 50 ms.
///
/// # Errors
/// Those of [`Reactor::turn`].
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
/// Those of [`Reactor::run`], and that it does not return within [`PATIENCE`].
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

/// A connected pair of TCP sockets. The first sends without delay.
///
/// # Errors
/// Those of the kernel.
pub fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    Ok((near, far))
}

/// How long a slow handler takes, and whether it reads the clock after that.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// The time that passes.
    pub pause: Duration,
    /// Whether the handler reads the clock again, so that the rest of the turn knows of the pause.
    pub refreshes: bool,
}

/// Adds a source whose handler takes long, once: when it becomes readable by a byte from the stream
/// that is returned.
///
/// # Errors
/// Those of [`UnixStream::pair`] and [`Registry::add`](reactor::Registry::add).
pub fn add_slow_handler<S: 'static>(
    reactor: &mut Reactor<S>,
    clock: &ManualClock,
    slow: Slow,
) -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    let clock = clock.clone();
    reactor.add(near, Interest::READABLE, move |_, cx| {
        cx.now(); // this is the time of its turn
        clock.advance(slow.pause);
        if slow.refreshes {
            cx.registry.refresh_now();
        }
        Ok(Next::Remove)
    })?;
    Ok(far)
}
