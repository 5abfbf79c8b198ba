//! The interface for simulations, which answer loops in place of the kernel, the clock and real
//! threads.
//!
//! A program does not use this module. A simulation implements [`System`] and [installs](install)
//! it, as the crate `simulation` does. A library of handlers that has threads or descriptors of its
//! own takes part in a simulation by two functions: [`installed`] returns the system to call, and
//! [`block_until`] replaces calls that block the thread.

pub use crate::sys::simulated::{
    Installed, Reports, System, ThreadNumber, block_until, install, installed,
};
