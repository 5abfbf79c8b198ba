//! Sources of another kind for a future: queues, events, jobs, lookups, signals, children.

pub(super) mod access;
#[cfg(feature = "child")]
mod child;
mod event;
mod feed;
#[cfg(feature = "pool")]
mod job;
#[cfg(feature = "names")]
mod lookup;
mod receive;
mod send;
#[cfg(feature = "signal")]
mod signals;

#[cfg(feature = "child")]
pub use self::child::{ChildExit, spawn_child};
pub use self::event::{EventWait, wait_all, wait_any, wait_event};
#[cfg(feature = "pool")]
pub use self::job::{JobEnd, PendingJob, submit};
#[cfg(feature = "names")]
pub use self::lookup::resolve;
pub use self::receive::{QueueStream, receive};
pub use self::send::{Disconnected, QueueSink, sink};
#[cfg(feature = "signal")]
pub use self::signals::{SignalStream, signals};
