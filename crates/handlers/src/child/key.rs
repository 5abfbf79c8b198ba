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

/// Identifies a child on its loop. The key is `Copy`. The key becomes stale when the child's end is
/// reported or the child's watch is removed: the methods then return [`Error::StaleKey`]. So the
/// key never refers to another process that has got the same pid.
///
/// Each method takes the [`Registry`], so you can call it only on the loop's thread. On another
/// thread, use [`Remote::post`](reactor::Remote::post) to call it on the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildKey(pub(super) Key);

/// Displays as the [`Key`] of the registration.
impl fmt::Display for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ChildKey {
    /// Returns the key of the registration, whose source is the child's pidfd. Use it for
    /// [`set_background`](Registry::set_background), or to compare it with
    /// [`Context::key`](reactor::Context::key). Do not set the timeout of this registration, since
    /// [`terminate`](Self::terminate) uses it.
    ///
    /// If you [remove](Registry::remove) the registration, the watch ends, and the child continues
    /// to run. The end of the child is then not reported. The loop still reaps the child in the
    /// background, so that no zombie is left.
    pub const fn key(self) -> Key {
        self.0
    }

    /// Returns the child's process id.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the child's end was reported, or its watch was removed.
    pub fn pid<S>(self, registry: &mut Registry<S>) -> Result<u32, Error> {
        Ok(self.process(registry)?.pid())
    }

    /// Sends a signal to the child. If the child has ended and its end was not reported yet, the
    /// call has no effect and returns `Ok`.
    ///
    /// # Cost
    /// One system call.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the child's end was reported, or its watch was removed.
    /// - [`Error::Call`], which names the signal and the child. The errno is `EPERM` if the child
    ///   now runs as another user. The kind is `InvalidInput` for a real-time signal, and for a
    ///   number that is not a signal.
    ///
    /// # Source
    /// `pidfd_send_signal(2)`, which cannot signal another process that has got the same pid.
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

    /// Sends a signal to the child and to the other processes of its group. The group holds all
    /// processes that the child and its descendants have started, except processes that have joined
    /// another group.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the child's end was reported, or its watch was removed.
    /// - [`Error::Call`], which names the child. The errno is `ESRCH` if the child does not lead a
    ///   group: spawn it with
    ///   [`process_group(0)`](std::os::unix::process::CommandExt::process_group). The errno is
    ///   `EPERM` if the child now runs as another user, and `ECHILD` if other code has reaped the
    ///   child. The kind is `InvalidInput` for a real-time signal, and for a number that is not a
    ///   signal.
    ///
    /// # Source
    /// `kill(2)` of the group. The id of the group is the child's pid, which no other process can
    /// get until the child is reaped.
    pub fn signal_group<S>(self, registry: &mut Registry<S>, signal: Signal) -> Result<(), Error> {
        self.process(registry)?.send(SignalTarget::Group, signal)
    }

    /// Kills the child at once, by `SIGKILL`. The end of the child is reported as usual.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the child's end was reported, or its watch was removed.
    /// - [`Error::Call`], which names the signal and the child, with `EPERM` if the child now runs
    ///   as another user.
    pub fn kill<S>(self, registry: &mut Registry<S>) -> Result<(), Error> {
        self.signal(registry, Signal::KILL)
    }

    /// Asks the child to end, by `SIGTERM`. If the child has not ended when `grace` has elapsed, it
    /// is killed by `SIGKILL`. `grace` counts from the [time of this turn](Registry::now). The end
    /// of the child is reported as usual.
    ///
    /// A child that was stopped, for example by `SIGSTOP`, is continued by `SIGCONT`, so that it
    /// can react to the `SIGTERM`. With a `grace` of [`Duration::ZERO`] the child is killed next
    /// turn. With [`Duration::MAX`] it is never killed.
    ///
    /// If you call this again, no second `SIGTERM` is sent, since a second one makes many programs
    /// end at once. To send a second `SIGTERM`, use [`signal`](Self::signal). If several calls have
    /// set deadlines, the child is killed at the earliest of them. If one of the calls was
    /// [`terminate_group`](Self::terminate_group), the whole group is killed at the deadline.
    ///
    /// If the watch is removed before the deadline, the child is still killed at the deadline. If
    /// the reactor is dropped before the deadline, the child is killed at once.
    ///
    /// # Cost
    /// O(1): two system calls and a timeout.
    ///
    /// # Errors
    /// If an error is returned, no new deadline is set.
    /// - [`Error::StaleKey`] if the child's end was reported, or its watch was removed.
    /// - [`Error::Call`], which names the signal and the child, with `EPERM` if the child now runs
    ///   as another user.
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

    /// Asks the child and its whole process group to end, by `SIGTERM`. When `grace` has elapsed,
    /// the rest of the group is killed by `SIGKILL`. In all other respects this method works like
    /// [`terminate`](Self::terminate). If the child has already got a `SIGTERM` from `terminate`,
    /// it gets no second one.
    ///
    /// If the child ends before the other processes of its group, its end is not reported at once.
    /// The child is reaped, and its end is reported, when the other processes have ended or the
    /// grace period is over. The delay keeps the id of the group valid: this id is the child's pid,
    /// which no other process can get before the child is reaped. With a grace of [`Duration::MAX`]
    /// the wait has no limit. A process that has joined another group gets no signal.
    ///
    /// # Cost
    /// The other processes of the group are looked up in `/proc`, which is O(processes of the
    /// machine). A lookup happens:
    /// - when the child has ended;
    /// - when the loop was waiting for another process of the group, and this process has ended;
    /// - by this method, if [`terminate`](Self::terminate) was called before.
    ///
    /// If a lookup after the child's end fails, the rest of the group is killed at once.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the child's end was reported, or its watch was removed.
    /// - [`Error::Call`], which names the child. The errno is `ESRCH` if the child does not lead a
    ///   group: spawn it with
    ///   [`process_group(0)`](std::os::unix::process::CommandExt::process_group). The errno is
    ///   `EPERM` if the child now runs as another user, and `ECHILD` if other code has reaped the
    ///   child.
    /// - [`Error::Call`] for `readdir` of `/proc`, if [`terminate`](Self::terminate) was called
    ///   before.
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
