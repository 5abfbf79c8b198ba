//! Keys of children: how one is reached from anywhere on its loop, also from outside of callbacks.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Error, Key, Registry};

use super::process::{ChildProcess, SignalTarget};
use crate::signal::Signal;

/// The children that a loop watches, by the keys of their registrations.
#[derive(Default)]
pub(super) struct Children(pub(super) HashMap<Key, Rc<ChildProcess>>);

/// The name of a child on its loop: `Copy`, and checked at every use. It is stale as soon as the child's end is told,
/// so nothing that is done by it can reach another process that got the same pid.
///
/// Loop thread only, as the [`Registry`] that each method takes; from other threads, by
/// [`Remote::post`](reactor::Remote::post).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildKey(pub(super) Key);

/// As the [`Key`] of its registration.
impl fmt::Display for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ChildKey {
    /// The key of its registration, whose source is the child's pidfd: for
    /// [`set_background`](Registry::set_background), or to compare it with [`Context::key`](reactor::Context::key). The
    /// timeout of the registration belongs to [`terminate`](Self::terminate).
    ///
    /// To [remove](Registry::remove) it gives up the watch and not the child: it goes on, its end is not told, and the
    /// loop reaps it in the background, so that no zombie stays.
    pub const fn key(self) -> Key {
        self.0
    }

    /// Returns the child's process id.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if its end has been told, or its watch removed.
    pub fn pid<S>(self, registry: &mut Registry<S>) -> Result<u32, Error> {
        Ok(self.process(registry)?.pid())
    }

    /// Sends a signal. One system call; to a child that has ended and whose end is not told yet it does nothing.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if its end has been told, or its watch removed. [`Error::Call`] with the signal and the
    /// child: `EPERM` if it runs as another user by now; of the kind `InvalidInput` for a signal that has no name, such
    /// as a real-time signal.
    ///
    /// # Source
    /// `pidfd_send_signal(2)`, which cannot hit another process that got the same pid.
    pub fn signal<S>(self, registry: &mut Registry<S>, signal: Signal) -> Result<(), Error> {
        self.process(registry)?.send(SignalTarget::Process, signal)
    }

    /// Sends a signal to the child and to all of its process group: the processes that it has started and that have not
    /// made a group of their own.
    ///
    /// # Errors
    /// As [`signal`](Self::signal); [`Error::Call`] with `ESRCH` if the child leads no group: spawn it with
    /// [`process_group(0)`](std::os::unix::process::CommandExt::process_group).
    ///
    /// # Source
    /// `kill(2)` of the group, whose number is the child's pid, which nobody else gets while the child is not reaped.
    pub fn signal_group<S>(self, registry: &mut Registry<S>, signal: Signal) -> Result<(), Error> {
        self.process(registry)?.send(SignalTarget::Group, signal)
    }

    /// Kills the child at once, by `SIGKILL`. Its end is told as ever.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn kill<S>(self, registry: &mut Registry<S>) -> Result<(), Error> {
        self.signal(registry, Signal::KILL)
    }

    /// Asks the child to end, by `SIGTERM`, and kills it by `SIGKILL` if it has not ended `grace` after this turn's
    /// time.
    ///
    /// A child that is stopped is continued, by `SIGCONT`, so that it hears of it. Called again, this sends no second
    /// `SIGTERM`, which many programs take for insistence: [`signal`](Self::signal) does. Of two times the earlier one
    /// counts, and the group if either is for it. [`Duration::ZERO`] leaves it until next turn, [`Duration::MAX`] for
    /// ever. The child's end is told as ever. If its watch is removed meanwhile, it is killed in time all the same; if
    /// the reactor is dropped, with that. Two system calls and a timeout; O(1).
    ///
    /// # Errors
    /// As [`signal`](Self::signal); nothing is pending then that was not before.
    pub fn terminate<S>(self, registry: &mut Registry<S>, grace: Duration) -> Result<(), Error> {
        self.end(registry, grace, SignalTarget::Process)
    }

    /// Asks the child and all of its process group to end, as [`terminate`](Self::terminate) does with the child alone.
    /// A child that was asked before gets no second `SIGTERM`.
    ///
    /// The grace is for the whole group. A child that ends before the others is not reaped, and its end is not told,
    /// until they have ended or the grace is over. Then what is left is killed: the number of the group is the child's,
    /// and nobody else gets it before the child is reaped. With a grace of [`Duration::MAX`] the others are waited for
    /// without a limit.
    ///
    /// The others are looked for in `/proc`, O(processes of the machine): when the child has ended, when one of them
    /// has, and by a call after [`terminate`](Self::terminate). Where that fails, what is left is killed with the
    /// child's end. A process that has made a group of its own is out of reach.
    ///
    /// # Errors
    /// As [`signal_group`](Self::signal_group).
    pub fn terminate_group<S>(
        self,
        registry: &mut Registry<S>,
        grace: Duration,
    ) -> Result<(), Error> {
        self.end(registry, grace, SignalTarget::Group)
    }

    fn end<S>(
        self,
        registry: &mut Registry<S>,
        grace: Duration,
        target: SignalTarget,
    ) -> Result<(), Error> {
        let process = self.process(registry)?;
        process.request_exit(target)?;
        let now = registry.now();
        let Some(at) = now.checked_add(grace) else {
            return Ok(());
        };
        let at = process.kill_at.get().map_or(at, |earlier| earlier.min(at));
        process.kill_at.set(Some(at));
        registry.set_timeout(self.0, Some(at.saturating_duration_since(now)))
    }

    fn process<S>(self, registry: &mut Registry<S>) -> Result<Rc<ChildProcess>, Error> {
        let known = registry.contains(self.0);
        let process = registry
            .local::<Children>()
            .0
            .get(&self.0)
            .filter(|_| known);
        process.cloned().ok_or(Error::StaleKey(self.0))
    }
}
