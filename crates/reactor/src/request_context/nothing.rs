//! The stand-in for a context without the feature `request-context`: it has no size and no cost.

/// The context of work on its way to its callback.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried;

impl Carried {
    pub(crate) const ENABLED: bool = false;
    pub(crate) const NONE: Self = Self;

    #[inline]
    pub(crate) const fn current() -> Self {
        Self
    }

    #[inline]
    #[expect(clippy::unused_self, reason = "a context has the same method")]
    pub(crate) const fn is_none(&self) -> bool {
        true
    }

    /// Makes this context current on this thread. Returns the context that was current.
    #[inline]
    pub(crate) const fn make_current(self) -> Self {
        self
    }

    /// Runs `callback` with this context.
    #[inline]
    #[expect(clippy::unused_self, reason = "a context has the same method")]
    pub(crate) fn scope<R>(&self, callback: impl FnOnce() -> R) -> R {
        callback()
    }
}

/// Restores what was current on this thread before a turn.
#[derive(Debug)]
pub(crate) struct SetAside;

impl SetAside {
    #[inline]
    pub(crate) const fn all() -> Self {
        Self
    }
}
