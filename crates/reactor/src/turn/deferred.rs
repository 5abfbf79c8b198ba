//! Deferred callbacks: once, after the sources of a turn, in the order of deferral.

use std::panic::Location;

use super::supervise::supervise;
use super::supervision::Label;
use crate::callback::Deferred;
use crate::context::Context;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Readiness;

/// Room for so many deferred callbacks is kept, or for eight times as many as a turn has.
const DEFERRED_KEPT: usize = 4096;

impl<S> Registry<S> {
    /// Runs `callback` once, after the sources of this turn, in the order of deferral.
    ///
    /// What a deferred callback defers runs next turn, which does not wait then: deferring for ever starves nobody. The
    /// panic policy holds for it. O(1); one allocation if the closure captures anything, none if not.
    #[track_caller]
    pub fn defer(&mut self, callback: impl FnOnce(&mut Context<'_, S>) + 'static) {
        self.defer_from(Location::caller(), callback);
    }

    /// Defers `callback` as [`defer`](Self::defer) does, and shows `origin` as its place in the source, in logs and lists.
    ///
    /// It is for a library of handlers, which defers now a callback that a line of its user's has asked for earlier.
    #[inline]
    pub fn defer_from(
        &mut self,
        origin: &'static Location<'static>,
        callback: impl FnOnce(&mut Context<'_, S>) + 'static,
    ) {
        self.deferred.push_back(Deferred { task: Box::new(callback), origin: Some(origin), key: Key::NULL });
    }

    /// Runs what has been deferred by now, in order; what it defers itself is left. Gives how many ran.
    #[inline(never)]
    pub(crate) fn run_deferred(&mut self, state: &mut S) -> usize {
        let count = self.deferred.len();
        for _ in 0..count {
            let Some(Deferred { task, origin, key }) = self.deferred.pop_front() else { break };
            self.metrics.deferred += 1; // now, and not of all at the end: one may panic
            let mut cx = Context::new(state, self, key, Readiness::EMPTY);
            if cx.registry.turn.supervision.is_active() {
                // What a deferred callback leaves behind in a panic is nobody's registration: it is logged, and over.
                let name = task.type_name();
                supervise(&mut cx, |cx| task.run(cx)).report(self, |_| Label { name, origin });
                self.inbox.handed_over.end_run(); // one that has panicked
            } else {
                task.run(&mut cx);
            }
        }
        if self.deferred.capacity() > DEFERRED_KEPT.max(8 * count) {
            self.give_back_deferred(count);
        }
        count
    }

    /// Gives back what many callbacks that were deferred at once have taken, once there are far fewer.
    #[cold]
    #[inline(never)]
    fn give_back_deferred(&mut self, usual: usize) {
        self.deferred.shrink_to(2 * usual);
    }
}
