//! Other threads: queues, remotes, wakes.

mod queue;
mod remote;

type Values = Vec<u32>;
