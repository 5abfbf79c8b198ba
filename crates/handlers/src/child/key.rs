//! Keys of children: access to a child from anywhere on its loop, also outside of callbacks.

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

/// Identifies a child on its loop. It is `Copy`, and checked at every use. It becomes stale when
/// the child's end is reported, so it can never refer to another process that got the same pid.
///
/// Loop thread only, since each method takes the [`Registry`]. From other threads, use
/// [`Remote::post`](reactor::Remote::post).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildKey(pub(super) Key);

/// Formats the [`Key`] of its registration.
impl fmt::Display for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ChildKey {
    /// Returns the key of the registration, whose source is the child's pidfd. Use it for
    /// [`set_background`](Registry::set_background), or to compare it with
    /// [`Context::key`](reactor::Context::key). The timeout of the registration is reserved for
    /// [`terminate`](Self::terminate).
    ///
    /// [Removing](Registry::remove) the registration ends the watch, and the child goes on. Its end
    /// is not reported. The loop reaps it in the background, so that no zombie is left.
    pub const fn key(self) -> Key {
        self.0
    }

    /// Returns the child's process id.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if its end was reported, or its watch removed.
    pub fn pid<S>(self, registry: &mut Registry<S>) -> Result<u32, Error> {
        Ok(self.process(registry)?.pid())
    }

    /// Sends a signal to the child. Does nothing if the child has ended and its end is not reported
    /// yet.
    ///
    /// # Cost
    /// One system call.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if its end was reported, or its watch removed.
    /// - [`Error::Call`], with the signal and the child: `EPERM` if the child now runs as another
    ///   user; the kind `InvalidInput` for a signal without a name, such as a real-time signal.
    ///
    /// # Source
    /// `pidfd_send_signal(2)`, which cannot signal another process that got the same pid.
    ///
    /// ```
    /// use std::process::Command;
    /// use handlers::{child, signal::Signal};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let sleep = child::spawn(&mut reactor, Command::new("sleep").arg("60"), |exit, _cx| {
    ///     println!("{}", exit?.status); // "signal: 10 (SIGUSR1)"
    ///     Ok(())
    /// })?;
    /// sleep.key.signal(&mut reactor, Signal::USR1)?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn signal<S>(self, registry: &mut Registry<S>, signal: Signal) -> Result<(), Error> {
        self.process(registry)?.send(SignalTarget::Process, signal)
    }

    /// Sends a signal to the child and to its whole process group: the processes that the child has
    /// started and that have not made a group of their own.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if its end was reported, or its watch removed.
    /// - [`Error::Call`], with the signal and the child: `ESRCH` if the child does not lead a
    ///   group; spawn it with
    ///   [`process_group(0)`](std::os::unix::process::CommandExt::process_group). `EPERM` if the
    ///   child now runs as another user. `ECHILD` if other code has reaped the child. The kind
    ///   `InvalidInput` for a signal without a name, such as a real-time signal.
    ///
    /// # Source
    /// `kill(2)` of the group. The number of the group is the child's pid, which no other process
    /// can get until the child is reaped.
    pub fn signal_group<S>(self, registry: &mut Registry<S>, signal: Signal) -> Result<(), Error> {
        self.process(registry)?.send(SignalTarget::Group, signal)
    }

    /// Kills the child at once, by `SIGKILL`. Its end is reported as usual.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if its end was reported, or its watch removed.
    /// - [`Error::Call`], with the signal and the child: `EPERM` if the child now runs as another
    ///   user.
    pub fn kill<S>(self, registry: &mut Registry<S>) -> Result<(), Error> {
        self.signal(registry, Signal::KILL)
    }

    /// Asks the child to end, by `SIGTERM`. If it has not ended `grace` after the time of this
    /// turn, it is killed by `SIGKILL`. Its end is reported as usual.
    ///
    /// A stopped child is continued, by `SIGCONT`, so that it receives the signal. A second call
    /// sends no second `SIGTERM`, since many programs end at once at the second one; use
    /// [`signal`](Self::signal) for that. The earliest of several deadlines counts, and the group
    /// is killed if any call was for the group. With [`Duration::ZERO`] the child is killed next
    /// turn; with [`Duration::MAX`] never.
    ///
    /// If the watch is removed before the deadline, the child is still killed in time. If the
    /// reactor is dropped, the child is killed then.
    ///
    /// # Cost
    /// O(1): two system calls and a timeout.
    ///
    /// # Errors
    /// Nothing new is pending after an error.
    /// - [`Error::StaleKey`] if its end was reported, or its watch removed.
    /// - [`Error::Call`], with the signal and the child: `EPERM` if the child now runs as another
    ///   user.
    ///
    /// ```
    /// use std::process::Command;
    /// use std::time::Duration;
    /// use handlers::child;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let sleep = child::spawn(&mut reactor, Command::new("sleep").arg("60"), |exit, _cx| {
    ///     assert!(!exit?.status.success());
    ///     Ok(())
    /// })?;
    /// sleep.key.terminate(&mut reactor, Duration::from_secs(5))?;
    /// reactor.run(&mut ())?; // returns once the child has ended
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate<S>(self, registry: &mut Registry<S>, grace: Duration) -> Result<(), Error> {
        self.end(registry, grace, SignalTarget::Process)
    }

    /// Asks the child and its whole process group to end, as [`terminate`](Self::terminate) does
    /// with the child alone. A child that was asked before gets no second `SIGTERM`.
    ///
    /// The grace period is for the whole group. If the child ends before the others, it is not
    /// reaped and its end is not reported until the others have ended or the grace period is over.
    /// Then the rest of the group is killed: the number of the group is the child's pid, which no
    /// other process can get before the child is reaped. With a grace of [`Duration::MAX`] the
    /// others are waited for without a limit. A process that has made a group of its own is out of
    /// reach.
    ///
    /// # Cost
    /// The other processes are looked up in `/proc`, O(processes of the machine): when the child
    /// has ended, when one of the others has ended, and by a call after
    /// [`terminate`](Self::terminate). If a lookup at the child's end fails, the rest of the group
    /// is killed then.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if its end was reported, or its watch removed.
    /// - [`Error::Call`], with the signal and the child: `ESRCH` if the child does not lead a
    ///   group; spawn it with
    ///   [`process_group(0)`](std::os::unix::process::CommandExt::process_group). `EPERM` if the
    ///   child now runs as another user. `ECHILD` if other code has reaped the child.
    /// - [`Error::Call`] for `readdir` of `/proc`, in a call after [`terminate`](Self::terminate).
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
