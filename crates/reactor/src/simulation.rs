//! The seam for simulations: what stands in for the kernel, the clock and the threads.
//!
//! A program does not use this module. A simulation implements [`System`] and
//! [installs](install) it; the crate `simulation` has one. Handlers with threads or descriptors of
//! their own ask [`installed`] and [`block_until`], to take part in it.

pub use crate::sys::simulated::{
    Installed, Reports, System, ThreadNumber, block_until, install, installed,
};
