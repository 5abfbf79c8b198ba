//! `Context`: the access that a running callback has to its loop.

use std::fmt;
use std::time::Instant;

use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Readiness;
use crate::timer::TimerKey;

/// The arguments of a running callback: the state, the registry, and the reason for the call.
///
/// `state` and `registry` are two fields, so both can be used in one expression. Every operation of
/// the registry is allowed from within any callback, even on the registration whose handler is
/// running.
pub struct Context<'a, S> {
    /// The user's own state, as passed to [`Reactor::run`](crate::Reactor::run).
    pub state: &'a mut S,
    /// The registry of the loop.
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

    /// Returns the key of the source whose handler is running. In
    /// [`Handler::closed`](crate::Handler::closed) this is the stale key of the registration that
    /// has ended. In the closure of [`with_handler`](Self::with_handler) this is the key of the
    /// accessed registration. In any other callback this is [`Key::NULL`].
    #[inline]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Returns the timer whose callback is running, or `None` in any other callback.
    pub const fn timer(&self) -> Option<TimerKey> {
        self.registry.timers.running()
    }

    /// Returns the readiness of the source at the start of this call. It shows all that is known
    /// about the source, not only what the interest of the handler asks for. It is empty in a
    /// callback that does not belong to a source.
    ///
    /// After a source was writable, it counts as writable until a write would block, even while the
    /// interest does not include `WRITABLE`. To see the readiness after the reads and writes of
    /// this call, use [`Io::readiness`](crate::Io::readiness).
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Returns the context of an access to the registration `key`: the same state, the same
    /// registry.
    #[inline]
    pub(crate) const fn for_access(&mut self, key: Key) -> Context<'_, S> {
        Context::new(self.state, self.registry, key, Readiness::EMPTY)
    }

    #[inline]
    pub(crate) const fn set_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }

    /// Returns the time of this [turn](crate::Reactor::turn), as [`Registry::now`] does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use reactor::{ManualClock, Missed, Next, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    /// let began = reactor.now();
    /// reactor.every(Duration::from_secs(2), Missed::Skip, move |cx| {
    ///     *cx.state = cx.now() - began;
    ///     Ok(Next::Keep)
    /// });
    /// let mut elapsed = Duration::ZERO;
    /// reactor.advance(&mut elapsed, Duration::from_secs(5))?;
    /// assert_eq!(elapsed, Duration::from_secs(4)); // the second tick
    /// # Ok(())
    /// # }
    /// ```
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
