//! Faults by the kernel: errors of system calls, and what a process meets on a real machine.

mod disk;
mod injection;
mod memory;
mod program;

use support::{Result, is_installed};
