//! A callback event loop for single-process, I/O-bound daemons.
//!
//! You register a source (anything with a file descriptor) together with a callback. The loop calls
//! the callback while the source is ready. The callback gets the source, your state and the
//! registry. It runs to completion on the one thread of the loop: no `async`, no locks, no
//! `Rc<RefCell>`.
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use std::net::TcpListener;
//! use reactor::{Interest, Next, Reactor};
//!
//! fn main() -> std::io::Result<()> {
//!     let mut reactor = Reactor::<u64>::new()?; // the state: bytes echoed so far
//!     let listener = TcpListener::bind("127.0.0.1:7777")?;
//!     reactor.add(listener, Interest::READABLE, |listener, cx| {
//!         let (stream, _peer) = listener.try_io(Interest::READABLE, |l| l.accept())?;
//!         cx.registry.add(stream, Interest::READABLE, |stream, cx| {
//!             let mut buf = [0; 4096];
//!             let n = stream.read(&mut buf)?; // WouldBlock: called again when there is more
//!             // Any other error closes this connection, and only this one. A write that would
//!             // block becomes such an error here. The connections of `handlers` keep the rest
//!             // instead, and stop reading.
//!             stream.write_all(&buf[..n]).map_err(std::io::Error::other)?;
//!             *cx.state += n as u64;
//!             Ok(if n == 0 { Next::Remove } else { Next::Keep })
//!         })?;
//!         Ok(Next::Keep)
//!     })?;
//!     reactor.run(&mut 0)?;
//!     Ok(())
//! }
//! ```
//!
//! # The contract
//!
//! - **Level semantics at edge cost.** A handler is called once a turn while its source is ready
//!   and wanted, so it may read as little as it likes. The kernel is told to watch a source once in
//!   its life for each direction; interest is a mask in user space. [`Io`] keeps the readiness
//!   true.
//! - **Ownership.** The reactor owns the source and its handler together. After
//!   [`Registry::remove`] the source is closed and the handler is never called again. An event that
//!   was collected before the removal reaches no handler, even if the number of the fd is in use
//!   again.
//! - **Keys.** [`Key`]s are `Copy`. A key never comes to name another registration, and a stale key
//!   is an [`Error`], not a panic.
//! - **`?` in handlers.** `WouldBlock` waits for the source, `Interrupted` calls again, and any
//!   other error ends this registration only.
//! - **Everything is allowed in a callback**: it may add, remove, change and stop any registration,
//!   also the one that is running.
//!
//! # Where to look
//!
//! | to | see |
//! | --- | --- |
//! | build, run, turn | [`Reactor`], [`Builder`] |
//! | register, change, remove, defer, stop | [`Registry`] |
//! | read, write, accept | [`Io`] |
//! | know why a handler is called | [`Readiness`], by [`Context::readiness`] |
//! | run something later, or repeatedly | [`Registry::after`], [`Registry::every`] |
//! | notice that a peer is silent | [`Registry::set_timeout`] |
//! | hand values to the loop from other threads | [`notification_queue`], [`Registry::consume`] |
//! | send to a queue that may be full, on a thread | [`Sender::send_within`] |
//! | send to a queue that may be full, on a loop | [`Sender::on_room`] |
//! | run something on the loop from another thread | [`Remote`] |
//! | run a loop on a thread of its own, or several | [`LoopThread`], [`LoopPool`] |
//! | wait for one, any or all of several events, on a thread or on a loop | [`Event`] |
//! | wait for all of several events and fds, on a thread | [`Event::wait_all_and_readable`] |
//! | wait for all of several events and fds, on a loop | [`Registry::on_all_and_readable`] |
//! | be signalled by C, another process or the kernel | [`EventFd`] |
//! | share a value between handlers of one loop, whatever its state | [`Registry::local`] |
//! | test timeouts without waiting for them | [`ManualClock`] |
//! | keep state in a handler, and be notified of its end | [`Handler`] |
//! | reach another registration's source and handler | [`Context::with_handler`] |
//! | see what the loop does | [`Metrics`], [`RegistrationInfo`] |
//! | see why [`Reactor::run`] does not end | [`Registry::reasons_to_run`] |
//!
//! The crate runs on Linux on 64-bit machines: the tests run on x86-64, and AArch64 is compiled. A
//! child process made by `fork` without `exec` must not use the reactor of its parent, because the
//! two would share one epoll instance.

#[cfg(feature = "simulation")]
pub mod simulation;

mod builder;
mod callback;
mod context;
mod error;
mod event;
mod locals;
mod loop_thread;
mod notify;
mod outcome;
mod primitives;
mod reactor;
mod registry;
mod slots;
mod source;
mod sys;
mod timer;
mod turn;

pub use crate::builder::Builder;
pub use crate::context::Context;
pub use crate::error::{AddError, Error, Failure, errno};
pub use crate::event::{Event, SetOutcome, Signalled};
pub use crate::loop_thread::{LoopPool, LoopThread, WorkerThread};
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
