//! Reasons: everything that keeps `run` from ending, in one list.
//!
//! Ground rule: the list is empty exactly when [`Registry::has_work`] returns `false`. Each
//! condition of `has_work` is tested here too, with its source location where it is known.

use std::fmt;
use std::panic::Location;

use crate::registry::Registry;
use crate::source::list::RegistrationInfo;
use crate::timer::list::TimerInfo;
use crate::turn::hook_list::HookKey;

/// A reason why [`Reactor::run`](crate::Reactor::run) does not end: one entry of
/// [`Registry::reasons_to_run`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ReasonToRun<'a> {
    /// A registration that is not in the [background](Registry::set_background).
    Source(RegistrationInfo<'a>),
    /// A timer that is not in the [background](Registry::set_timer_background).
    Timer(TimerInfo),
    /// A deferred or posted callback that has not run.
    #[non_exhaustive]
    Deferred {
        /// The type of the callback.
        name: &'static str,
        /// The line that deferred or posted it; `None` if the loop deferred it, to notify a handler
        /// of its end.
        origin: Option<&'static Location<'static>>,
    },
    /// An [idle callback](Registry::idle).
    #[non_exhaustive]
    Idle {
        /// The key of the callback.
        key: HookKey,
        /// The type of the callback.
        name: &'static str,
        /// The line that registered it.
        origin: &'static Location<'static>,
    },
    /// [`KeepAlive`](crate::KeepAlive) tokens. Jobs of a worker pool hold such tokens too.
    #[non_exhaustive]
    KeepAlive {
        /// The line that made the tokens. For a job, the line that submitted the job.
        origin: &'static Location<'static>,
        /// The number of tokens of this line that are held.
        held: usize,
    },
    /// A queue in the background with values that have not been handled yet.
    Messages(RegistrationInfo<'a>),
    /// Another thread has sent a value or a closure, or has woken the loop, and the loop has not
    /// yet looked at it.
    Wake,
}

impl ReasonToRun<'_> {
    /// Returns the source location of the reason, if it has one.
    pub const fn origin(&self) -> Option<&'static Location<'static>> {
        match self {
            Self::Source(registration) | Self::Messages(registration) => Some(registration.origin),
            Self::Timer(timer) => Some(timer.origin),
            Self::Deferred { origin, .. } => *origin,
            Self::Idle { origin, .. } | Self::KeepAlive { origin, .. } => Some(origin),
            Self::Wake => None,
        }
    }
}

impl fmt::Display for ReasonToRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(registration) => write!(f, "source {registration}"),
            Self::Timer(timer) => write!(f, "timer {timer}"),
            Self::Deferred {
                name,
                origin: Some(origin),
            } => write!(f, "deferred callback {name} {origin}"),
            Self::Deferred { name, origin: None } => write!(f, "deferred callback {name}"),
            Self::Idle { key, name, origin } => write!(f, "idle callback {key} {name} {origin}"),
            Self::KeepAlive { origin, held } => write!(f, "keep-alive {origin}, {held} held"),
            Self::Messages(registration) => write!(f, "messages in {registration}"),
            Self::Wake => f.write_str("something from another thread"),
        }
    }
}

impl<S> Registry<S> {
    /// Returns every reason why [`Reactor::run`](crate::Reactor::run) does not end now. If there is
    /// none, `run` ends.
    ///
    /// Use it for a status command, or for the log if a graceful shutdown takes too long. Each
    /// reason displays as a line that names its source location.
    ///
    /// # Cost
    /// O(registrations + timers), one lock, one allocation.
    ///
    /// ```
    /// use reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let token = reactor.remote()?.keep_alive();
    /// let reasons: Vec<_> = reactor.reasons_to_run().map(|reason| reason.to_string()).collect();
    /// assert!(reasons[0].starts_with("keep-alive ") && reasons[0].ends_with(", 1 held"));
    /// drop(token);
    /// reactor.run(&mut ())?; // ends: nothing is left
    /// assert_eq!(reactor.reasons_to_run().count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("uv_loop_alive", "uv_print_active_handles"))]
    pub fn reasons_to_run(&self) -> impl Iterator<Item = ReasonToRun<'_>> {
        let registered =
            self.registrations()
                .filter_map(|registration| match registration.keeps_alive {
                    true => Some(ReasonToRun::Source(registration)),
                    // A queue in the background keeps `run` alive only while it has values.
                    false => self
                        .sources
                        .is_ready_queue(registration.key)
                        .then_some(ReasonToRun::Messages(registration)),
                });
        let timers = self
            .timers()
            .filter(|timer| timer.keeps_alive)
            .map(ReasonToRun::Timer);
        let deferred = self
            .deferred
            .iter()
            .filter(|deferred| !deferred.is_cancelled())
            .map(|deferred| ReasonToRun::Deferred {
                name: deferred.task.type_name(),
                origin: deferred.origin,
            });
        let idle = self
            .hooks
            .idle()
            .map(|(key, name, origin)| ReasonToRun::Idle { key, name, origin });
        let holders = self
            .inbox
            .hub
            .as_ref()
            .map(|hub| hub.holders.list())
            .unwrap_or_default();
        let held = holders
            .into_iter()
            .map(|(origin, held)| ReasonToRun::KeepAlive { origin, held });
        // Messages and wakes of other threads that the loop has not handled yet.
        let is_woken = !self.inbox.announced.is_empty()
            || self.inbox.hub.as_ref().is_some_and(|hub| hub.has_pending());
        registered
            .chain(timers)
            .chain(deferred)
            .chain(idle)
            .chain(held)
            .chain(is_woken.then_some(ReasonToRun::Wake))
    }
}
