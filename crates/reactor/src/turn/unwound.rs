//! The repairs after a panic has unwound through a turn.

use super::disposal::Disposal;
use crate::callback::Entry;
use crate::outcome::CloseReason;
use crate::registry::Registry;

impl<S> Registry<S> {
    /// Ends the callbacks that were running when a panic unwound through the loop.
    #[cold]
    pub(crate) fn remove_unwound(&mut self, running: Option<Box<dyn Entry<S>>>) {
        let mut disposal = Disposal::default();
        self.contexts.end_unwound(&mut disposal);
        let unwound = self
            .sources
            .iter()
            .find(|(_, slot)| slot.entry.is_none())
            .map(|(key, _)| key);
        if let Some(key) = unwound {
            let context = self.forget(key).map(|removed| removed.context);
            disposal.drop_one(context);
            self.answer_lost_calls(key);
        }
        self.hooks.remove_unwound();
        self.cancel_unwound();
        self.end_deferred();
        self.rearm_after_set_wall();
        self.inbox.handed_over.end_run();
        // Last, when the registry's own data is consistent. The task that would notify the handler
        // is not called while the panic unwinds.
        let news = running
            .and_then(|entry| entry.close(CloseReason::Panicked(String::new()), &mut disposal));
        disposal.drop_one(news);
        disposal.resume();
    }
}
