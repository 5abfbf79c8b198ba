//! Tasks of loops in the simulation.
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod connections;
#[allow(dead_code, reason = "the random daemons use more of it")]
#[path = "../chaos/draw.rs"]
mod draw;
mod mix;
mod sources;
mod wakes;
