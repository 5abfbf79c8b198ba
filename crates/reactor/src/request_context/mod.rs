//! The context of a request: what is current when work is handed on is current again in its
//! callback.
//!
//! ```text
//!   registered, armed, deferred, posted, sent, ...      the callback runs
//!   ┌───────────────────────────────┐                    ┌──────────────────────────────┐
//!   │ Carried::current()            │──── slot, timer, ──▶ enter_context ... callback    │
//!   │  the context of this thread   │     closure, value  │ leave_context: nothing again │
//!   └───────────────────────────────┘                    └──────────────────────────────┘
//! ```
//!
//! Ground rule: between two callbacks of a loop nothing is current. So a callback needs no record
//! of the context before it. A turn sets aside what is current on its thread, and restores it when
//! it returns or unwinds.
//!
//! The rest of the crate knows only [`Carried`]. Without the feature `request-context` it is a type
//! without a size, nothing is ever current, and the compiler removes the tests.
//!
//! Source: folly's `RequestContext`. Unlike there, a context is a value that nothing changes, and a
//! `tracing` span is a part of it.

#[cfg(feature = "request-context")]
mod context;
#[cfg(feature = "request-context")]
mod current;
#[cfg(not(feature = "request-context"))]
mod nothing;
mod on_loop;
#[cfg(feature = "request-context")]
mod settings;

#[cfg(feature = "request-context")]
pub use self::context::RequestContext;
#[cfg(not(feature = "request-context"))]
pub(crate) use self::nothing::{Carried, SetAside};
pub(crate) use self::on_loop::{Accessed, Contexts};
#[cfg(feature = "request-context")]
pub(crate) use self::{context::RequestContext as Carried, current::SetAside};
