//! `Context`: what a callback may touch while it runs.

use std::fmt;
use std::time::Instant;

use crate::readiness::Readiness;
use crate::registry::Registry;
use crate::slots::Key;

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
    /// A context for a callback that belongs to no source.
    #[inline]
    pub(crate) const fn new(state: &'a mut S, registry: &'a mut Registry<S>) -> Self {
        Self::of_source(state, registry, Key::NULL, Readiness::EMPTY)
    }

    #[inline]
    pub(crate) const fn of_source(
        state: &'a mut S,
        registry: &'a mut Registry<S>,
        key: Key,
        readiness: Readiness,
    ) -> Self {
        Self { state, registry, key, readiness }
    }

    /// The key of the source whose handler is running; [`Key::NULL`] in any other callback.
    #[inline]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// The facts this handler is called for, as they were when the call began; none in any other callback.
    ///
    /// [`Io::readiness`](crate::Io::readiness) follows the reads and writes of the call itself.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// The time of this turn: [`Registry::now`].
    #[inline]
    pub fn now(&self) -> Instant {
        self.registry.now()
    }
}

impl<S> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("key", &self.key).field("readiness", &self.readiness).finish_non_exhaustive()
    }
}
