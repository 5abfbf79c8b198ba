//! The action of a signal while it is not watched: the same as before its first watcher.
//!
//! signal-hook never undoes its `sigaction(2)`: a signal that was caught once stays caught. Its
//! handler first calls the handler that was installed before, if there was one, and then the hooks.
//! Therefore a previous handler is called in any case, also while the signal is watched. An ignored
//! signal stays ignored, since without hooks the handler does nothing. Only the default action,
//! which ends the process for most signals, would be lost. Therefore a hook of ours, registered
//! before any watching hook, takes the default action while the signal is not watched.
//!
//! Ground rule: a signal is marked as watched after the watcher's own hooks are registered. Until
//! then it takes its previous action, so no signal is lost when a watch begins. The mark is removed
//! after the hooks are removed. A signal that arrives between these two steps has no effect, like
//! an arrival that is still unreported when its watcher ends.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::low_level::{pipe, signal_name, unregister};
use signal_hook::{SigId, flag};

use super::number::{SIGNALS, Signal};
use crate::error::named;

/// For each signal, `true` while no watcher watches it, so that its previous action must be taken.
/// The signal handlers of this module read nothing else.
static UNWATCHED: [AtomicBool; SIGNALS] = [const { AtomicBool::new(true) }; SIGNALS];

static WATCHERS: Mutex<[Watchers; SIGNALS]> = Mutex::new(
    [Watchers {
        watching: 0,
        prepared: false,
    }; SIGNALS],
);

/// The watchers of one signal, in the whole process.
#[derive(Clone, Copy)]
struct Watchers {
    watching: usize,
    /// Set once the hook for the default action is registered, or once it is known that none is
    /// needed.
    prepared: bool,
}

fn watchers() -> MutexGuard<'static, [Watchers; SIGNALS]> {
    // Code that holds the lock does not panic. No signal handler takes it.
    WATCHERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `signal` keep its current action while it is not watched. Must be called before the signal
/// is caught.
pub(super) fn prepare(signal: Signal) -> io::Result<()> {
    let mut watchers = watchers();
    let entry = &mut watchers[signal.index()];
    if !entry.prepared {
        if is_default(signal)? {
            catch_with_default(signal)?;
        }
        entry.prepared = true;
    }
    Ok(())
}

/// Registers the hook that takes the default action of `signal` while it is not watched. The hook
/// stays registered.
fn catch_with_default(signal: Signal) -> io::Result<()> {
    let (number, unwatched) = (signal.as_raw(), &UNWATCHED[signal.index()]);
    if signal_name(number).is_some() {
        flag::register_conditional_default(number, unwatched)?;
    } else {
        // signal-hook knows no default action for real-time signals, SIGSTKFLT and SIGPWR. Their
        // default action ends the process.
        flag::register_conditional_shutdown(number, exit_status(signal), unwatched)?;
    }
    Ok(())
}

/// Returns `true` if no code has caught or ignored `signal` so far.
///
/// Safe code can learn this only from `/proc`. If `/proc` is not mounted, the default action is
/// assumed, which most signals have in most programs. The exception is `SIGPIPE`, which Rust's
/// runtime ignores before `main`. Any other error is returned, such as `EMFILE`: the answer is kept
/// for good, so it must not depend on what the process lacks at this moment.
fn is_default(signal: Signal) -> io::Result<bool> {
    let status = match read_status() {
        Ok(status) => status,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            tracing::debug!(%signal, %error, "assuming the default action");
            String::new()
        }
        Err(error) => return Err(error),
    };
    Ok(match (mask(&status, "SigIgn:"), mask(&status, "SigCgt:")) {
        (Some(ignored), Some(caught)) => (ignored | caught) >> (signal.as_raw() - 1) & 1 == 0,
        _ => signal != Signal::PIPE,
    })
}

fn read_status() -> io::Result<String> {
    const PATH: &str = "/proc/self/status";
    let opened = File::open(PATH);
    let mut file = opened.map_err(|error| named(format_args!("open({PATH})"), error))?;
    let mut status = String::new();
    let read = file.read_to_string(&mut status);
    read.map_err(|error| named(format_args!("read({PATH})"), error))?;
    Ok(status)
}

/// Returns a set of signals from the text of `/proc/pid/status`: bit 0 is signal 1.
fn mask(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Returns the exit status of a process that ends because of `signal`, as shells report it.
pub(super) fn exit_status(signal: Signal) -> i32 {
    128 + signal.as_raw()
}

/// Disables the previous action of a signal until this is dropped.
#[derive(Debug)]
pub(super) struct Watching(Signal);

impl Watching {
    /// Marks `signal` as watched. The signal must be caught already.
    pub(super) fn begin(signal: Signal) -> Self {
        let mut watchers = watchers();
        watchers[signal.index()].watching += 1;
        UNWATCHED[signal.index()].store(false, Ordering::SeqCst);
        Self(signal)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watchers = watchers();
        let entry = &mut watchers[self.0.index()];
        entry.watching -= 1;
        UNWATCHED[self.0.index()].store(entry.watching == 0, Ordering::SeqCst);
    }
}

/// An action of the signal handler itself. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SignalHook(SigId);

impl SignalHook {
    /// Ends the process at once with [`exit_status`] if `condition` is set when the signal arrives.
    pub(super) fn end_process_if(signal: Signal, condition: &Arc<AtomicBool>) -> io::Result<Self> {
        let condition = Arc::clone(condition);
        flag::register_conditional_shutdown(signal.as_raw(), exit_status(signal), condition)
            .map(Self)
    }

    /// Sets `flag` when the signal arrives.
    pub(super) fn set_flag(signal: Signal, flag: &Arc<AtomicBool>) -> io::Result<Self> {
        flag::register(signal.as_raw(), Arc::clone(flag)).map(Self)
    }

    /// Writes a byte to `socket` when the signal arrives, if the socket has room. Closes the socket
    /// when this is dropped.
    pub(super) fn write(signal: Signal, socket: UnixStream) -> io::Result<Self> {
        pipe::register(signal.as_raw(), socket).map(Self)
    }
}

impl Drop for SignalHook {
    fn drop(&mut self) {
        unregister(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_signals_are_read_from_the_line_of_their_name() {
        let status =
            "SigBlk:\t0000000000000002\nSigIgn:\t0000000000001000\nSigCgt:\t00000001000004c0\n";
        assert_eq!(
            (mask(status, "SigIgn:"), mask(status, "SigCgt:")),
            (Some(0x1000), Some(0x1_0000_04c0))
        );
        assert_eq!(mask("SigIgn:\tnonsense\n", "SigIgn:"), None);
        assert_eq!(mask("", "SigIgn:"), None);
    }

    #[test]
    fn the_default_action_is_distinguished_from_an_ignored_one() {
        assert!(is_default(Signal::ALRM).unwrap());
        assert!(!is_default(Signal::PIPE).unwrap(), "the runtime ignores it");
    }
}
