//! The repairs after a panic has unwound through a turn.

use super::disposal::Disposal;
use crate::callback::Entry;
use crate::outcome::CloseReason;
use crate::registry::Registry;

impl<S> Registry<S> {
    /// Ends the callbacks that were running when a panic unwound through the loop.
    #[cold]
    pub(crate) fn remove_unwound(&mut self, running: Option<Box<dyn Entry<S>>>) {
        let (current, kept) = self.contexts.end_unwound();
        let unwound = self
            .sources
            .iter()
            .find(|(_, slot)| slot.entry.is_none())
            .map(|(key, _)| key);
        let removed = unwound.and_then(|key| {
            self.answer_lost_calls(key);
            self.forget(key)
        });
        let context = removed.map_or(kept, |removed| removed.context);
        self.end_deferred();
        self.inbox.handed_over.end_run();
        self.hooks.remove_unwound();
        self.cancel_unwound();
        self.rearm_after_set_wall();
        // Last, when the registry's own data is consistent. The task that would notify the handler
        // is not called while the panic unwinds.
        let mut disposal = Disposal::default();
        let news = running.and_then(|entry| {
            let reason = CloseReason::Panicked(String::new());
            context.scope(|| entry.close(reason, &mut disposal))
        });
        disposal.drop_one(news);
        disposal.drop_one(context);
        disposal.drop_one(current);
        disposal.resume();
    }
}
