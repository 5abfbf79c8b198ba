//! Other threads: queues, remotes, wakeups.

mod queue;
mod remote;
mod room;
mod wake;

type Values = Vec<u32>;
