//! The end of the process at a repeated signal.
//!
//! The signal handler ends the process if a flag is set, whatever the loop does. The flag is set
//! some time after the first signal. A signal handler in safe code cannot read a clock, and the
//! loop may be blocked. Therefore a thread sets the flag: the signal handler writes to a socket;
//! the thread reads from it, waits, and sets the flag.
//!
//! Ground rule: the flag may be set late, but never early. Therefore the thread measures the time
//! from its own read of the first signal.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::action::SignalHook;
use super::number::Signal;
use crate::error::named;

/// The stack size of the thread, which calls a few blocking functions. The C library rounds it up
/// to its minimum.
const STACK_BYTES: usize = 64 * 1024;

/// The way in which a second signal ends the process.
pub(super) enum Insistence {
    /// Any signal after the first ends the process. The first signal sets this flag.
    AtOnce(Arc<AtomicBool>),
    /// A signal that finds this flag set ends the process. A thread sets the flag. The first signal
    /// notifies that thread through this socket.
    Later(Arc<AtomicBool>, UnixStream),
    Never,
}

impl Insistence {
    pub(super) fn after(delay: Duration) -> io::Result<Self> {
        if delay.is_zero() {
            return Ok(Self::AtOnce(Arc::default()));
        }
        if Instant::now().checked_add(delay).is_none() {
            return Ok(Self::Never);
        }
        let (notice, first) = UnixStream::pair().map_err(|error| named("socketpair", error))?;
        let insists = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&insists);
        let thread = thread::Builder::new()
            .name("shutdown_on".to_owned())
            .stack_size(STACK_BYTES);
        thread
            .spawn(move || set_after_first(&flag, first, delay))
            .map_err(|error| named("starting the thread of shutdown_on", error))?;
        Ok(Self::Later(insists, notice))
    }

    /// Returns the hooks of the handler of `signal`. Hooks run in the order of registration. The
    /// hook that checks the flag must therefore come before the hook that sets it or notifies the
    /// thread.
    pub(super) fn hooks(&self, signal: Signal) -> io::Result<Vec<SignalHook>> {
        Ok(match self {
            Self::AtOnce(first) => {
                vec![
                    SignalHook::end_process_if(signal, first)?,
                    SignalHook::set_flag(signal, first)?,
                ]
            }
            Self::Later(insists, notice) => {
                vec![
                    SignalHook::end_process_if(signal, insists)?,
                    SignalHook::write(signal, notice.try_clone()?)?,
                ]
            }
            Self::Never => Vec::new(),
        })
    }
}

/// Sets `flag` when `delay` has elapsed after the first byte from `first`. Does not set it if the
/// other end is closed before that time.
fn set_after_first(flag: &AtomicBool, mut first: UnixStream, delay: Duration) {
    let began = loop {
        match first.read(&mut [0]) {
            Ok(1..) => break Instant::now(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    };
    let Some(due) = began.checked_add(delay) else {
        return;
    };
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return flag.store(true, Ordering::SeqCst);
        }
        // Further signals write bytes too. These bytes are read, so that the end of the stream
        // after them is noticed.
        if first.set_read_timeout(Some(left)).is_err() || matches!(first.read(&mut [0; 64]), Ok(0))
        {
            return;
        }
    }
}
