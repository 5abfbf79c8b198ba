//! Other threads: queues, remotes, wakes.

mod queue;
mod remote;
mod wake;

type Values = Vec<u32>;
