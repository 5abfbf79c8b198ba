//! The interface for simulations, which answer loops in place of the kernel, the clock and real
//! threads.
//!
//! A program does not use this module. A simulation implements [`System`] and [installs](install)
//! it, as the crate `simulation` does. A library of handlers that has threads or descriptors of its
//! own takes part in a simulation by two functions: [`installed`] returns the system to call, and
//! [`block_until`] replaces calls that block the thread.
//!
//! All simulated threads share one real thread, and the current `RequestContext` belongs to the
//! real thread. So a simulation calls [`set_context_aside`] each time that it suspends a thread.

use crate::request_context::SetAside;

pub use crate::sys::simulated::{
    Installed, Reports, System, ThreadNumber, block_until, install, installed,
};

/// The context and the spans that were current on this thread. They are restored when this value is
/// dropped, also by a panic.
#[derive(Debug)]
#[must_use = "dropping it restores the context"]
pub struct ContextSetAside {
    _current: SetAside,
}

/// Sets aside the `RequestContext` and the spans that are current on this thread. Nothing is
/// current from then on. Without the feature `request-context`, does nothing.
///
/// A simulation calls this when it suspends one of its threads, and drops the result when the
/// thread goes on. So each simulated thread has a context of its own.
///
/// # Cost
/// Without a subscriber of `tracing`, two accesses to a value of the thread. With one, it is asked
/// for its current span, and each span that was entered is left and entered again.
pub fn set_context_aside() -> ContextSetAside {
    ContextSetAside {
        _current: SetAside::all(),
    }
}
