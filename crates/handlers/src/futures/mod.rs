//! Futures on the loop: any `async` crate becomes usable from a callback.
//!
//! A task is a future that the loop polls on its own thread, among the deferred callbacks. It needs
//! no `Send`. When it is done, a callback is called with its output, and can use the state.
//!
//! | to | see |
//! | --- | --- |
//! | run a future from a callback | [`spawn`] |
//! | run a future from a callback, and await it in a task | [`spawn_joinable`] |
//! | run a future from a task | [`spawn_local`], [`JoinHandle`] |
//! | run a future from another thread | [`Spawner`] |
//! | begin a program as a future | [`block_on`] |
//! | use the state and the registry within a future | [`with_context`] |
//! | read, write, connect, accept, and send datagrams within a future | [`Async`] |
//! | wait for a time within a future | [`sleep`], [`sleep_until`], [`interval`] |
//! | limit the time of a future | [`timeout`], [`timeout_at`] |
//! | receive from a queue, send into one | [`receive`], [`sink`] |
//! | wait for an event | [`wait_event`], [`wait_any`], [`wait_all`] |
#![cfg_attr(
    feature = "pool",
    doc = "| run a job on a worker thread | [`submit`] |"
)]
#![cfg_attr(feature = "names", doc = "| look up a name | [`resolve`] |")]
#![cfg_attr(feature = "signal", doc = "| receive signals | [`signals`] |")]
#![cfg_attr(
    feature = "child",
    doc = "| start a process and wait for its exit | [`spawn_child`] |"
)]
//! | give way to the rest of the loop | [`yield_now`] |
//! | serve connections whose protocol is a future | [`Listener::serve_async`](crate::Listener::serve_async), [`protocol`] |
//! | connect within a future | [`AsyncConnection::connect`], [`AsyncConnection::connect_as`] |
//! | learn within a future that its server stops | [`AsyncConnection::stopping`] |
//! | use hyper | [hyper](#hyper) |
#![cfg_attr(
    feature = "request-context",
    doc = "| give a request within a task a context of its own | [`in_context`] |"
)]
//! | cancel a task, or let it run in the background | [`TaskKey`] |
//! | list the tasks | [`tasks`] |
//! | limit how much of a turn tasks may take | [`set_budget`] |
//!
//! # Tasks in a turn
//!
//! A task is polled when it was spawned or woken. The woken tasks are polled once a turn, in the
//! order of their wakes, after the sources and the timers of the turn. Tasks that are woken during
//! these polls, also by themselves, are polled in the same turn. After 256 polls or 5 ms the rest
//! waits for the next turn, which does not sleep: see [`set_budget`]. So a task that is always
//! ready keeps no source, timer or post from running. [`yield_now`] always goes on in the next
//! turn.
//!
//! A task that reads, writes or receives 64 times in one poll without a wait gives way to the other
//! tasks, even if it could go on.
//!
//! # Wakers
//!
//! A waker may be used on any thread, at any time: during the poll of its own task, from a
//! destructor, and after the task or its loop has ended, when it does nothing. A wake allocates
//! nothing. On the thread of the loop it takes no lock. On another thread it takes one, and makes a
//! system call only if the loop sleeps: one for each sleep of the loop, however many tasks are
//! woken.
//!
//! # Panics and the end
//!
//! If a task panics, the [panic policy](reactor::PanicPolicy) of the loop applies. With `Propagate`
//! the panic unwinds through [`Reactor::run`](reactor::Reactor::run). In both cases only this task
//! ends, and its [`JoinHandle`] returns [`JoinError::Panicked`].
//!
//! When the reactor is dropped, all tasks are dropped, each of them even if the destructor of
//! another panics.
//!
//! # Several loops on a thread
//!
//! A loop may run within a task or a callback of another loop of its thread, for example by
//! [`block_on`]. Meanwhile the outer loop takes no turn. So the inner loop must not wait for a
//! task, a timer or a source of the outer one: it would wait for ever. The callbacks of the inner
//! loop which are not tasks run within the task of the outer loop, so [`spawn_local`] and [`sleep`]
//! mean the outer loop there. Use [`spawn`] and a time of the inner loop instead.
//!
//! If two loops of a thread take turns alternately, a task of one may await the futures of the
//! other.
//!
//! # hyper
//!
//! With the feature `hyper`, [`AsyncConnection`] is a stream of hyper, `HyperTimer` its timer and
//! `HyperExecutor` its executor. hyper 1 then serves HTTP/1 and HTTP/2 on the loop, and its clients
//! run there too.

mod block_on;
mod connection;
mod ending;
mod executor;
mod fairness;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "request-context")]
mod in_context;
mod interval;
mod io;
mod join;
mod keep_alive;
mod key;
mod local;
mod of_thread;
mod pass;
mod places;
mod primitives;
mod requests;
mod sent;
mod sleeps;
mod sources;
mod spawn;
mod spawner;
mod stage;
mod task;
mod tasks;
mod time;
mod timeout;
mod waiter;
mod waker;
mod with_context;
mod woken;
mod yield_now;

use std::time::Duration;

use reactor::{Error, Registry};

pub use self::block_on::{BlockOnError, block_on};
pub use self::connection::{AsyncConnection, Connect, Stopping, protocol};
#[cfg(feature = "hyper")]
pub use self::hyper::{HyperExecutor, HyperTimer};
#[cfg(feature = "request-context")]
pub use self::in_context::{InContext, in_context};
pub use self::interval::{Interval, interval, interval_at};
pub use self::io::{Async, IntoInner};
pub use self::join::{JoinError, JoinHandle};
pub use self::key::{StaleTask, TaskInfo, tasks};
#[cfg(feature = "simulation")]
pub(crate) use self::of_thread::{OfThread, replace_of_thread};
#[cfg(feature = "names")]
pub use self::sources::resolve;
#[cfg(feature = "child")]
pub use self::sources::{ChildExit, spawn_child};
pub use self::sources::{
    Disconnected, EventWait, QueueSink, QueueStream, receive, sink, wait_all, wait_any, wait_event,
};
#[cfg(feature = "pool")]
pub use self::sources::{JobEnd, PendingJob, submit};
#[cfg(feature = "signal")]
pub use self::sources::{SignalStream, signals};
pub use self::spawn::{spawn, spawn_joinable, spawn_local};
pub use self::spawner::Spawner;
pub use self::tasks::TaskKey;
pub use self::time::{Sleep, now, sleep, sleep_until};
pub use self::timeout::{Elapsed, Timeout, timeout, timeout_at};
pub use self::with_context::{WithContext, with_context};
pub use self::yield_now::{YieldNow, yield_now};

/// Default number of polls in a turn.
const MAX_POLLS: usize = 256;
/// Default time for polls in a turn.
const MAX_TIME: Duration = Duration::from_millis(5);

/// Sets how much of a turn the tasks of a loop may take: `max_polls` polls, and no further poll
/// once `max_time` has passed. The clock is read after eight polls, and then less often while polls
/// are short. A number of 0 counts as 1. Default: 256 polls, 5 ms.
///
/// # Errors
/// - [`Error::Full`] at the limit of registrations.
/// - [`Error::Loop`] if no eventfd can be created.
/// - [`Error::Os`] if epoll refuses the eventfd.
pub fn set_budget<S: 'static>(
    registry: &mut Registry<S>,
    max_polls: usize,
    max_time: Duration,
) -> Result<(), Error> {
    let executor = executor::of_loop(registry)?;
    executor.budget.set((max_polls.max(1), max_time));
    Ok(())
}
