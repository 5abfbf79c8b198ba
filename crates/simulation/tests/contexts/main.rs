//! Request contexts in the simulation: each simulated thread has its own, and what is handed on
//! carries that of its caller.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

#[allow(dead_code, reason = "other random daemons use more of it")]
#[path = "../chaos/draw.rs"]
mod draw;
mod hand_overs;
mod mark;
mod threads;
