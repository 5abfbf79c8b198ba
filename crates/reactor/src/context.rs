//! `Context`: what a callback may touch while it runs.

use std::fmt;
use std::time::Instant;

use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Readiness;
use crate::timer::TimerKey;

/// What a callback may touch while it runs: the state, the registry, and the reason it is called.
///
/// `state` and `registry` are two fields, so both can be used in one expression. Everything that the registry offers is
/// allowed from within any callback, also on the registration that is running.
pub struct Context<'a, S> {
    /// The user's own state, as given to [`Reactor::run`](crate::Reactor::run).
    pub state: &'a mut S,
    /// Where registrations live.
    pub registry: &'a mut Registry<S>,
    key: Key,
    readiness: Readiness,
}

impl<'a, S> Context<'a, S> {
    #[inline]
    pub(crate) const fn new(
        state: &'a mut S,
        registry: &'a mut Registry<S>,
        key: Key,
        readiness: Readiness,
    ) -> Self {
        Self {
            state,
            registry,
            key,
            readiness,
        }
    }

    /// The key of the source whose handler is running; in [`Handler::closed`](crate::Handler::closed) the one that has
    /// ended, stale by now; [`Key::NULL`] in any other callback.
    #[inline]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The timer whose callback is running, `None` in any other callback.
    pub const fn timer(&self) -> Option<TimerKey> {
        self.registry.timers.running()
    }

    /// The facts known of the source when this call began, wanted and unwanted ones; none in any other callback.
    /// A source that has had room to write once is known to be writable from then on, also while nobody wants to write.
    ///
    /// [`Io::readiness`](crate::Io::readiness) follows the reads and writes of the call itself.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// The context of an access to the registration `key`: the same state, the same registry.
    #[inline]
    pub(crate) const fn for_access(&mut self, key: Key) -> Context<'_, S> {
        Context::new(self.state, self.registry, key, Readiness::EMPTY)
    }

    #[inline]
    pub(crate) const fn set_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }

    /// The time of this turn: [`Registry::now`].
    #[inline]
    pub fn now(&self) -> Instant {
        self.registry.time.now()
    }
}

impl<S> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("key", &self.key)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
