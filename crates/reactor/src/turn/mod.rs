//! A turn: one iteration of the loop, with everything that belongs to no source, timer or queue.
//!
//! Below the registry lie the policies and the reasons to stop ([`Turn`]), the time, the counters,
//! the list of hooks, and the dropping of values. Above it lie the phases of a turn: `phases.rs`
//! has their order, and each has a file of its own.

pub(crate) mod deferred;
pub(crate) mod dispatch;
pub(crate) mod disposal;
pub(crate) mod end;
pub(crate) mod failure;
pub(crate) mod hook_list;
pub(crate) mod hooks;
pub(crate) mod long_turns;
pub(crate) mod may_sleep;
pub(crate) mod metrics;
pub(crate) mod nanos;
pub(crate) mod now;
pub(crate) mod peers;
pub(crate) mod phases;
pub(crate) mod policies;
pub(crate) mod reasons;
pub(crate) mod spin;
pub(crate) mod supervised_call;
pub(crate) mod time;
pub(crate) mod unwound;
pub(crate) mod wait;

use std::panic::Location;

use self::policies::{PanicPolicy, Supervision};
use self::spin::SpinPolicy;
use crate::error::Failure;
use crate::outcome::CloseReason;
use crate::slots::Key;
use crate::source::readiness::Readiness;

/// The state that holds for all turns of a loop, and the reasons that end them.
pub(crate) struct Turn {
    pub(crate) supervision: Supervision,
    pub(crate) spin: Option<SpinPolicy>,
    /// The maximum number of ready sources that are called in a turn.
    pub(crate) max_calls: usize,
    /// `true` if a turn has more phases than sources and deferred callbacks: a timer, another
    /// thread or a policy of the wait is in use. It is one flag, because every turn tests it.
    pub(crate) needs_full_turn: bool,
    pub(crate) stopping: bool,
    /// The line that has requested the stop, if it was one of this thread.
    pub(crate) stopped_at: Option<&'static Location<'static>>,
    /// The failure that `run` will return.
    pub(crate) failure: Option<Box<Failure>>,
    /// `true` while deferred callbacks run. Their number is counted at the beginning, so no place
    /// may be removed meanwhile.
    pub(crate) runs_deferred: bool,
    pub(crate) cancelled: Cancelled,
    /// The reason why the registration whose handler has just run ends, if it does.
    pub(crate) end_of_running: Option<CloseReason>,
    /// The own policy of a registration that has removed itself while its handler runs.
    pub(crate) policy_of_running: Option<PanicPolicy>,
    /// The own policies of registrations that have ended and whose handlers are not notified yet,
    /// if they differ from the loop's. Supervised calls use them. A policy that differs from the
    /// loop's makes all calls supervised.
    pub(crate) policies_of_ended: Vec<(Key, PanicPolicy)>,
}

/// The deferred callbacks that were cancelled.
#[derive(Debug)]
pub(crate) struct Cancelled {
    /// The number of cancelled callbacks that still have a place among the others.
    pub(crate) places: usize,
    /// The number of cancelled callbacks whose place has been removed.
    pub(crate) ended: u64,
}

impl Cancelled {
    /// Counts a cancelled callback whose place has been removed.
    pub(crate) const fn end_one(&mut self) {
        self.places -= 1;
        self.ended += 1;
    }
}

impl Turn {
    pub(crate) const fn new(
        supervision: Supervision,
        spin: Option<SpinPolicy>,
        max_calls: usize,
        needs_full_turn: bool,
    ) -> Self {
        Self {
            supervision,
            spin,
            max_calls,
            needs_full_turn,
            stopping: false,
            stopped_at: None,
            failure: None,
            runs_deferred: false,
            cancelled: Cancelled {
                places: 0,
                ended: 0,
            },
            end_of_running: None,
            policy_of_running: None,
            policies_of_ended: Vec::new(),
        }
    }

    /// Returns the policy for a deferred callback, which may report the end of `ended`.
    #[inline]
    pub(crate) fn policy_of_deferred(&mut self, ended: Key) -> PanicPolicy {
        if self.policies_of_ended.is_empty() {
            return self.supervision.policy();
        }
        let place = self
            .policies_of_ended
            .iter()
            .position(|(key, _)| *key == ended);
        place.map_or(self.supervision.policy(), |place| {
            self.policies_of_ended.swap_remove(place).1
        })
    }

    /// Records why the registration whose handler is running ends.
    pub(crate) fn end_running(&mut self, reason: CloseReason) -> Readiness {
        self.end_of_running = Some(reason);
        Readiness::ENDED
    }
}
