//! Random daemons in the simulation, and the laws that hold for each of them.
//!
//! None of these tests knows of any fault. Each lets a daemon do what the seed says, at the moments
//! that the seed says, and compares what happens with a model of what is documented.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod connections;
mod draw;
mod ends;
#[allow(dead_code, reason = "the tests of connections use more of it")]
#[path = "../../../handlers/tests/connection/layered/toy.rs"]
mod toy;
mod turns;
