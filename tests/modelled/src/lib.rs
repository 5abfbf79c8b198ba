//! The crate `reactor`, compiled again with the primitives of loom in the place of those of the
//! standard library.
//!
//! A test runs real loops and real threads' calls in [`model`], in every order of their steps. The
//! kernel of the models stands below the loops.

// The unit tests of the files belong to `reactor`, and need more crates than this package has.
#![cfg(not(test))]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the files are those of a crate with a page"
)]
#![allow(dead_code, reason = "what the models do not use")]

mod kernel;
mod model;
mod primitives;

#[path = "../../../crates/reactor/src/builder.rs"]
mod builder;
#[path = "../../../crates/reactor/src/callback.rs"]
mod callback;
#[path = "../../../crates/reactor/src/context.rs"]
mod context;
#[path = "../../../crates/reactor/src/error.rs"]
mod error;
#[path = "../../../crates/reactor/src/event/mod.rs"]
mod event;
#[path = "../../../crates/reactor/src/locals.rs"]
mod locals;
#[path = "../../../crates/reactor/src/loop_thread.rs"]
mod loop_thread;
#[path = "../../../crates/reactor/src/notify/mod.rs"]
mod notify;
#[path = "../../../crates/reactor/src/outcome.rs"]
mod outcome;
#[path = "../../../crates/reactor/src/reactor.rs"]
mod reactor;
#[path = "../../../crates/reactor/src/registry.rs"]
mod registry;
#[path = "../../../crates/reactor/src/request_context/mod.rs"]
mod request_context;
#[path = "../../../crates/reactor/src/simulation.rs"]
pub mod simulation;
#[path = "../../../crates/reactor/src/slots.rs"]
mod slots;
#[path = "../../../crates/reactor/src/source/mod.rs"]
mod source;
#[path = "../../../crates/reactor/src/sys/mod.rs"]
mod sys;
#[path = "../../../crates/reactor/src/timer/mod.rs"]
mod timer;
#[path = "../../../crates/reactor/src/turn/mod.rs"]
mod turn;

pub use crate::builder::Builder;
pub use crate::context::Context;
pub use crate::error::{AddError, Error, Failure, errno};
pub use crate::event::{Event, SetOutcome, Signalled};
pub use crate::loop_thread::{LoopPool, LoopThread, WorkerThread};
pub use crate::model::{join, model, spawn_loop};
pub use crate::notify::calls::CallError;
pub use crate::notify::post_error::{LoopGone, TryPostError};
pub use crate::notify::queue::{Capacity, Receiver, notification_queue};
pub use crate::notify::remote::Remote;
pub use crate::notify::send_error::SendTimeoutError;
pub use crate::notify::sender::Sender;
pub use crate::notify::waker::{KeepAlive, Waker};
pub use crate::outcome::{CloseReason, Exit, Next};
pub use crate::reactor::Reactor;
pub use crate::registry::Registry;
pub use crate::slots::Key;
pub use crate::source::handler::Handler;
pub use crate::source::io::Io;
pub use crate::source::kind::Kind;
pub use crate::source::list::RegistrationInfo;
pub use crate::source::readiness::{Interest, Readiness};
pub use crate::source::ready::Priority;
pub use crate::sys::clock::ManualClock;
pub use crate::sys::eventfd::EventFd;
pub use crate::sys::fd_set::FdSet;
pub use crate::timer::list::TimerInfo;
pub use crate::timer::{Missed, Then, TimerKey};
pub use crate::turn::deferred::DeferredKey;
pub use crate::turn::hook_list::HookKey;
pub use crate::turn::metrics::Metrics;
pub use crate::turn::policies::PanicPolicy;
pub use crate::turn::reasons::ReasonToRun;
pub use crate::turn::spin::Spin;
