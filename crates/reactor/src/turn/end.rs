//! The end of a loop: the order in which its parts are dropped.
//!
//! Ground rule: other threads are refused before any value of the user is dropped. A destructor may
//! join a thread that calls into this loop, or that sends to it until it is refused.

use super::disposal::Disposal;
use super::policies::Label;
use crate::registry::Registry;

impl<S> Registry<S> {
    /// Ends the loop. Each value of the user is dropped, however many destructors panic.
    ///
    /// # Panics
    /// With the first of these panics under
    /// [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate), unless the thread is panicking.
    pub(crate) fn end(&mut self) {
        let mut disposal = Disposal::default();
        self.close_ways_in();
        self.end_sources(&mut disposal);
        self.hooks.end_all(&mut disposal);
        self.timers.end_all(&mut disposal);
        self.contexts.end_all(&mut disposal);
        disposal.drop_each(|| self.deferred.pop_front().is_some());
        disposal.drop_each(|| self.inbox.captures.drop_next());
        self.locals.end_all(&mut disposal);
        self.handle_drop_panics(
            disposal,
            Label {
                name: "reactor",
                origin: None,
            },
            self.turn.supervision.policy(),
        );
    }
}
