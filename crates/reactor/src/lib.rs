//! A callback event loop for single-process, I/O-bound daemons.
//!
//! You register a source (anything with a file descriptor) together with a callback. The loop calls
//! the callback while the source is ready, and passes it the source, your state and the
//! [`Registry`], which holds all registrations. Each callback runs to completion on the one thread
//! of the loop. You need no `async`, no locks and no `Rc<RefCell>`.
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
//! - **Level semantics at edge cost.** A *turn* is one iteration of the loop. A handler is called
//!   once a turn while its source is ready for the handler's interest, so a handler may read as
//!   little as it likes. A change of the interest usually costs no system call, because the
//!   interest is a mask in user space. The loop usually makes at most one `epoll_ctl` for each
//!   direction of a source. [`Io`] updates the known readiness with each read and write.
//! - **Ownership.** The reactor owns the source and its handler together. After
//!   [`Registry::remove`] the source is closed and the handler is never called again. An event that
//!   the kernel reported before the removal reaches no handler, even if another source has the same
//!   fd number by then.
//! - **Keys.** A [`Key`] names a registration, and is `Copy`. After the registration has ended, the
//!   key is *stale*: it never names another registration. A call with a stale key returns an
//!   [`Error`] and does not panic.
//! - **`?` in handlers.** After `WouldBlock` the loop waits until the source is ready again. After
//!   `Interrupted` it calls the handler again next turn. Any other error ends this registration
//!   only.
//! - **Everything is allowed in a callback**: it may add, change and remove any registration,
//!   including its own, and stop the loop.
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
//! | know in each callback on behalf of which request it runs | `RequestContext` |
//! | test timeouts without waiting for them | [`ManualClock`] |
//! | keep state in a handler, and be notified of its end | [`Handler`] |
//! | reach another registration's source and handler | [`Context::with_handler`] |
//! | see what the loop does | [`Metrics`], [`RegistrationInfo`] |
//! | see why [`Reactor::run`] does not end | [`Registry::reasons_to_run`] |
//!
//! # Features
//!
//! None is a default.
//!
//! | feature | adds |
//! | --- | --- |
//! | `request-context` | `RequestContext`, which the loop carries from callback to callback |
//! | `simulation` | the interface by which the crate `simulation` replaces the kernel |
//!
//! The crate runs on Linux on 64-bit machines. It is tested on x86-64. For AArch64 it is compiled,
//! but not tested. A child process made by `fork` without `exec` must not use the reactor of its
//! parent, because the two would share one epoll instance.

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
mod request_context;
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
pub use crate::notify::on_room::RoomWait;
pub use crate::notify::post_error::{LoopGone, TryPostError};
pub use crate::notify::queue::{Capacity, Receiver, notification_queue};
pub use crate::notify::remote::Remote;
pub use crate::notify::send_error::SendTimeoutError;
pub use crate::notify::sender::Sender;
pub use crate::notify::waker::{KeepAlive, Waker};
pub use crate::outcome::{CloseReason, Exit, Next};
pub use crate::reactor::Reactor;
pub use crate::registry::Registry;
#[cfg(feature = "request-context")]
pub use crate::request_context::RequestContext;
pub use crate::slots::Key;
pub use crate::source::handler::Handler;
pub use crate::source::io::Io;
pub use crate::source::io_state::IoState;
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
