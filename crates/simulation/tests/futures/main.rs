//! Tasks of loops in the simulation.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod sources;
mod wakes;
