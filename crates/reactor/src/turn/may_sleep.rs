//! Tests before a wait: is anything left to do or to wait for, and may the loop sleep?

use super::hook_list::Place;
use crate::primitives::Arc;
use crate::registry::Registry;

impl<S> Registry<S> {
    /// Returns `true` if anything is left that [`Reactor::run`](crate::Reactor::run) waits for.
    /// Otherwise `run` returns [`Exit::NothingLeft`](crate::Exit::NothingLeft).
    ///
    /// [`reasons_to_run`](Self::reasons_to_run) lists the reasons.
    ///
    /// # Cost
    /// O(1). For a loop with queues: O(number of sources that are ready and wait to be called).
    pub fn has_work(&self) -> bool {
        self.sources.foreground > 0
            || self.timers.keep_alive()
            || !self.inbox.announced.is_empty()
            || self
                .inbox
                .hub
                .as_ref()
                .is_some_and(|hub| hub.must_stay_alive() || self.sources.has_messages())
            || self.deferred.len() > self.turn.cancelled.places
            || !self.hooks.is_empty(Place::Idle)
    }

    /// Returns `true` if anything can end a wait without a timeout: a source, also one in the
    /// background, a timer, or another thread.
    pub(crate) fn can_be_woken(&self) -> bool {
        // The queue of the remotes stays when the last remote has been dropped.
        let remotes = usize::from(
            self.inbox
                .posts
                .as_ref()
                .is_some_and(|posts| self.contains(posts.0)),
        );
        let own = 1 + remotes + usize::from(self.inbox.handed_over.is_counted());
        self.sources.len() > remotes
            || !self.timers.is_empty()
            || self
                .inbox
                .hub
                .as_ref()
                .is_some_and(|hub| Arc::strong_count(hub) > own || hub.has_pending())
    }

    /// Returns `true` if there is work that the kernel need not report first.
    #[inline]
    pub(crate) fn has_work_at_hand(&self) -> bool {
        !self.sources.ready.is_empty()
            || !self.deferred.is_empty()
            || self.turn.stopping
            || !self.hooks.is_empty(Place::Idle)
    }

    /// Returns `true` if no message or wake of another thread keeps the loop from sleeping. From
    /// then on, other threads end its sleep.
    #[inline]
    pub(crate) fn may_sleep(&self) -> bool {
        self.inbox.announced.is_empty()
            && self.inbox.hub.as_ref().is_none_or(|hub| hub.fall_asleep())
    }

    /// Marks the loop as awake: other threads need not end its sleep.
    #[inline]
    pub(crate) fn wake_up(&self) {
        if let Some(hub) = &self.inbox.hub {
            hub.wake_up();
        }
    }

    /// Answers a wake by this turn, which does not sleep. If there are hooks before the wait,
    /// nothing is done: a wake that has come since they began belongs to the next turn.
    #[inline]
    pub(crate) fn answer_wake(&self) {
        if let Some(hub) = &self.inbox.hub
            && self.hooks.is_empty(Place::BeforeWait)
        {
            hub.take_wake();
        }
    }

    /// Takes a wake that has come before the hooks of this turn begin. Returns `true` if there was
    /// one.
    pub(crate) fn take_wake(&self) -> bool {
        self.inbox.hub.as_ref().is_some_and(|hub| hub.take_wake())
    }

    /// Restores a wake after a turn that was cut short: its hooks may not have seen the changes
    /// made before the wake.
    pub(crate) fn put_wake_back(&self) {
        if let Some(hub) = &self.inbox.hub
            && !(self.hooks.is_empty(Place::BeforeWait) && self.hooks.is_empty(Place::AfterWait))
        {
            hub.put_wake_back();
        }
    }
}
