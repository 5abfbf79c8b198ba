//! The two policies of a loop for its callbacks, and the label of a callback in logs.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// The consequence of a panic in a callback: see [`Builder::on_panic`](crate::Builder::on_panic)
/// and [`Registry::set_panic_policy`](crate::Registry::set_panic_policy).
///
/// ```
/// use reactor::{PanicPolicy, Reactor};
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<u32>::builder().on_panic(PanicPolicy::RemoveHandler).build()?;
/// reactor.defer(|_cx| panic!("a bug"));
/// reactor.defer(|cx| *cx.state += 1);
/// let mut count = 0;
/// reactor.run(&mut count)?; // the panic is logged
/// assert_eq!(count, 1); // the other callback has run
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The panic unwinds through [`Reactor::run`](crate::Reactor::run). The registration whose
    /// handler panicked ends. The reactor is intact and may be run again. Use this policy in tests,
    /// and in programs that a supervisor restarts.
    #[default]
    Propagate,
    /// The registration is removed, the panic is logged with the name of the registration, and the
    /// loop goes on. The state `S` stays as the panic left it. A daemon with this policy must
    /// therefore keep its state consistent at every point where it can panic.
    ///
    /// Panics of destructors are caught too: destructors of sources, of the captures of callbacks
    /// and of values that are still queued. If a destructor panics, the panic is logged and
    /// counted, and the remaining values are dropped. As everywhere in Rust, two panics at once
    /// abort the process. This happens if a panic unwinds through a callback, and the destructor of
    /// a value that the callback owns panics too.
    RemoveHandler,
}

/// The number of turns after a slow turn in which each callback is timed.
const TIMED_TURNS: u32 = 128;

/// The two policies, and whether callbacks must be watched now.
#[derive(Debug)]
pub(crate) struct Supervision {
    policy: PanicPolicy,
    slow_after: Option<Duration>,
    timed_turns_left: u32,
    /// `true` if a registration has a panic policy of its own that catches panics.
    catches_some: bool,
    active: bool,
}

impl Supervision {
    pub(crate) const fn new(policy: PanicPolicy, slow_after: Option<Duration>) -> Self {
        Self {
            policy,
            slow_after,
            timed_turns_left: 0,
            catches_some: false,
            active: matches!(policy, PanicPolicy::RemoveHandler),
        }
    }

    /// Returns `true` if callbacks go through `supervise`.
    #[inline]
    pub(crate) const fn is_active(&self) -> bool {
        self.active
    }

    /// Returns `true` if each callback is timed. If not, callbacks go through `supervise` only for
    /// their panics.
    #[inline]
    pub(crate) const fn is_timing(&self) -> bool {
        self.timed_turns_left > 0
    }

    pub(crate) const fn policy(&self) -> PanicPolicy {
        self.policy
    }

    /// Returns how long a callback may take before it is slow.
    pub(crate) const fn slow_after(&self) -> Option<Duration> {
        self.slow_after
    }

    /// Returns `true` if the loop catches panics.
    #[inline]
    pub(crate) const fn catches(&self) -> bool {
        matches!(self.policy, PanicPolicy::RemoveHandler)
    }

    /// Allows a registration to end by its panic from now on, whatever the policy of the loop.
    pub(crate) fn catch_some(&mut self) {
        (self.catches_some, self.active) = (true, true);
    }

    /// Returns `true` if turns are timed.
    #[inline]
    pub(crate) const fn times_turns(&self) -> bool {
        self.slow_after.is_some()
    }

    /// Records how long a turn has taken, without the wait.
    pub(crate) fn record_turn(&mut self, took: Duration) {
        self.timed_turns_left = match self.slow_after {
            Some(slow_after) if took >= slow_after => TIMED_TURNS,
            _ => self.timed_turns_left.saturating_sub(1),
        };
        self.active = self.catches() || self.catches_some || self.timed_turns_left > 0;
    }
}

/// The label of a callback in logs: its name or its type, and where it was registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    pub(crate) name: &'a str,
    pub(crate) origin: Option<&'static Location<'static>>,
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.origin
            .map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}
