//! A turn: one pass of the loop, and what belongs to no source, timer or queue.
//!
//! Below the registry lie the policies and the reasons to stop ([`Turn`]), the time, the counters, the list of hooks, and how values
//! are dropped. Above it lie the phases of a turn: `phases.rs` has their order, and each has a file of its own.

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

/// What holds for the turns of a loop, and ends them.
pub(crate) struct Turn {
    pub(crate) supervision: Supervision,
    pub(crate) spin: Option<SpinPolicy>,
    /// How many sources that are ready are called at most.
    pub(crate) max_calls: usize,
    /// Whether a turn has more phases than sources and deferred callbacks: a timer, another thread or a policy of the wait is in use.
    /// Said apart, since every turn asks.
    pub(crate) needs_full_turn: bool,
    pub(crate) stopping: bool,
    /// The line that has asked for that, if it was one of this thread.
    pub(crate) stopped_at: Option<&'static Location<'static>>,
    /// What `run` is to return.
    pub(crate) failure: Option<Box<Failure>>,
    /// Whether deferred callbacks run, which are counted: no place may go meanwhile.
    pub(crate) runs_deferred: bool,
    pub(crate) cancelled: Cancelled,
    /// Why the registration whose handler has just run ends, if it does.
    pub(crate) end_of_running: Option<CloseReason>,
    /// The own policy of a registration that has removed itself while its handler runs.
    pub(crate) policy_of_running: Option<PanicPolicy>,
    /// The own policies of registrations that have ended, and whose handlers are still to be told, where they are not the loop's.
    /// Looked at where calls are supervised, as they are with such a policy.
    pub(crate) policies_of_ended: Vec<(Key, PanicPolicy)>,
}

/// The deferred callbacks that were cancelled.
#[derive(Debug)]
pub(crate) struct Cancelled {
    /// How many keep their places among the others.
    pub(crate) places: usize,
    /// How many have given them up.
    pub(crate) ended: u64,
}

impl Cancelled {
    /// Counts one that has given up its place.
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

    /// Returns the policy for a deferred callback, which may tell of the end of `ended`.
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

    /// Leaves word why the registration whose handler is running ends.
    pub(crate) fn end_running(&mut self, reason: CloseReason) -> Readiness {
        self.end_of_running = Some(reason);
        Readiness::ENDED
    }
}
