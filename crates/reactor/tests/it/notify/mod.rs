//! Other threads: queues, remotes, wakes.

mod queue;
mod remote;
mod room;
mod wake;

type Values = Vec<u32>;
