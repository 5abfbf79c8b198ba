//! What a signal does while nobody watches it: the same as before it was watched for the first time.
//!
//! signal-hook never calls `sigaction(2)` a second time: once caught, a signal stays caught. With no hook left its
//! handler does one thing, to call the handler that was there before; that one keeps its part in any case, also while
//! the signal is watched. Where there was none, a signal that was ignored stays so. The default action, which ends the
//! process for most signals, would be lost: a hook of our own, made before any of ours that watches, takes it while
//! nobody does.
//!
//! Ground rule: the note that somebody watches is made after the watcher's own hooks are, and withdrawn after they are
//! gone. So at each moment a signal reaches a watcher or does what it did before; it is never swallowed between the
//! two.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::low_level::{pipe, signal_name, unregister};
use signal_hook::{SigId, flag};

use super::number::{SIGNALS, Signal};

/// Of each signal whether its old action is due: all that a signal handler looks at.
static UNWATCHED: [AtomicBool; SIGNALS] = [const { AtomicBool::new(true) }; SIGNALS];

static WATCHERS: Mutex<[Watchers; SIGNALS]> = Mutex::new(
    [Watchers {
        watching: 0,
        prepared: false,
    }; SIGNALS],
);

/// Who watches one signal, in the whole process.
#[derive(Clone, Copy)]
struct Watchers {
    watching: usize,
    /// Whether its default action is provided for, or needs not to be.
    prepared: bool,
}

fn watchers() -> MutexGuard<'static, [Watchers; SIGNALS]> {
    // Nothing that panics is done while it is held. No signal handler takes it.
    WATCHERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that `signal` goes on to do what it does now, while nobody watches it. To be called before it is caught.
pub(super) fn prepare(signal: Signal) -> io::Result<()> {
    let mut watchers = watchers();
    let entry = &mut watchers[signal.index()];
    if !entry.prepared {
        if is_default(signal) {
            catch_with_default(signal)?;
        }
        entry.prepared = true;
    }
    Ok(())
}

/// The hook that takes the default action of `signal` while nobody watches it. It stays.
fn catch_with_default(signal: Signal) -> io::Result<()> {
    let (number, unwatched) = (signal.as_raw(), &UNWATCHED[signal.index()]);
    if signal_name(number).is_some() {
        flag::register_conditional_default(number, unwatched)?;
    } else {
        // Real-time signals, SIGSTKFLT and SIGPWR, which signal-hook has no default for: it is to end the process.
        flag::register_conditional_shutdown(number, exit_status(signal), unwatched)?;
    }
    Ok(())
}

/// Whether nobody has caught or ignored `signal` so far.
///
/// `/proc` is where safe code can learn it. Where that is not mounted, the default is what most signals do in most
/// programs, but for `SIGPIPE`, which Rust's runtime ignores before `main`.
fn is_default(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_else(|error| {
        tracing::debug!(%signal, %error, "/proc/self/status: the action before is taken to be the default");
        String::new()
    });
    match (mask(&status, "SigIgn:"), mask(&status, "SigCgt:")) {
        (Some(ignored), Some(caught)) => (ignored | caught) >> (signal.as_raw() - 1) & 1 == 0,
        _ => signal != Signal::PIPE,
    }
}

/// A set of signals of `/proc/pid/status`: bit 0 is signal 1.
fn mask(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// How a process that ends because of `signal` says so in its exit status: as shells do.
pub(super) fn exit_status(signal: Signal) -> i32 {
    128 + signal.as_raw()
}

/// Keeps the old action of a signal away, as long as this lives.
#[derive(Debug)]
pub(super) struct Watching(Signal);

impl Watching {
    /// `signal` is caught by now.
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

/// Something that is done in the signal handler itself, as long as this lives.
#[derive(Debug)]
pub(super) struct SignalHook(SigId);

impl SignalHook {
    /// Ends the process at once, as [`exit_status`] says, if `condition` holds by then.
    pub(super) fn end_process_if(signal: Signal, condition: &Arc<AtomicBool>) -> io::Result<Self> {
        let condition = Arc::clone(condition);
        flag::register_conditional_shutdown(signal.as_raw(), exit_status(signal), condition)
            .map(Self)
    }

    /// Sets `flag`.
    pub(super) fn set_flag(signal: Signal, flag: &Arc<AtomicBool>) -> io::Result<Self> {
        flag::register(signal.as_raw(), Arc::clone(flag)).map(Self)
    }

    /// Writes a byte to `socket` if it has room, and closes it when this goes.
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
        assert!(is_default(Signal::ALRM));
        assert!(!is_default(Signal::PIPE), "the runtime ignores it");
    }
}
