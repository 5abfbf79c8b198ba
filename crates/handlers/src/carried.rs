//! The context of a request, as this crate carries it.
//!
//! The loop carries the context of what is registered, deferred, armed or posted. So a room needs
//! this module only for the rest:
//!
//! - A list of callbacks, or a thread, of its own: it stores the [`CallerContext`].
//! - A callback of a registration that is called by a request, and not by the loop: it runs
//!   [in the context of the registration](in_own_context).
//! - Work on behalf of all users of a room: it is handed on [for no request](for_no_request).
//!   Otherwise the first request that needs it would stay alive with it.
//!
//! Without the feature `request-context` the type has no size, and the functions do nothing.

use reactor::Context;
#[cfg(feature = "request-context")]
use reactor::RequestContext;

/// `true` if contexts are carried.
pub(crate) const ENABLED: bool = cfg!(feature = "request-context");

/// The context of the caller that has handed on work.
#[derive(Clone, Default)]
pub(crate) struct CallerContext(#[cfg(feature = "request-context")] RequestContext);

#[cfg(feature = "request-context")]
impl CallerContext {
    /// Returns the context that is current on this thread.
    pub(crate) fn current() -> Self {
        Self(RequestContext::current())
    }

    /// Drops this context, which may hold the last values of the user.
    #[cfg(feature = "futures")]
    pub(crate) fn end(self) {
        drop(self.0);
    }

    /// Runs `callback` with this context.
    pub(crate) fn scope<R>(&self, callback: impl FnOnce() -> R) -> R {
        self.0.scope(callback)
    }

    /// Runs `callback` with this context, where nothing else is current.
    #[cfg(any(feature = "futures", feature = "pool"))]
    #[inline]
    pub(crate) fn scope_if_any<R>(&self, callback: impl FnOnce() -> R) -> R {
        if self.0.is_none() {
            callback()
        } else {
            self.0.scope(callback)
        }
    }
}

#[cfg(not(feature = "request-context"))]
impl CallerContext {
    #[inline(always)]
    pub(crate) const fn current() -> Self {
        Self()
    }

    #[cfg(feature = "futures")]
    #[inline(always)]
    pub(crate) const fn end(self) {}

    #[inline(always)]
    #[expect(clippy::unused_self, reason = "a context is used")]
    pub(crate) fn scope<R>(&self, callback: impl FnOnce() -> R) -> R {
        callback()
    }

    #[cfg(any(feature = "futures", feature = "pool"))]
    #[inline(always)]
    pub(crate) fn scope_if_any<R>(&self, callback: impl FnOnce() -> R) -> R {
        self.scope(callback)
    }
}

/// Runs `callback` without a context, on behalf of no request.
#[inline(always)]
pub(crate) fn for_no_request<R>(callback: impl FnOnce() -> R) -> R {
    CallerContext::default().scope(callback)
}

/// Runs `callback` in the context of the registration that is accessed.
#[inline(always)]
pub(crate) fn in_own_context<S, R>(
    cx: &mut Context<'_, S>,
    callback: impl FnOnce(&mut Context<'_, S>) -> R,
) -> R {
    #[cfg(feature = "request-context")]
    return cx.in_own_context(callback);
    #[cfg(not(feature = "request-context"))]
    callback(cx)
}
