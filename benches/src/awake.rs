//! Cores that do not sleep while something is measured.
//!
//! A core that sleeps takes a while to wake; a virtual one, which its host gives to somebody else
//! meanwhile, takes as long as that likes: up to milliseconds, for a message that takes
//! microseconds. That is neither the server's doing nor the client's.

use std::fs::{File, OpenOptions};
use std::io::Write;

use workloads::Result;

/// While this lives, a core without work looks for some instead of sleeping, as far as the kernel's
/// driver can.
pub(crate) struct Awake {
    /// What was asked for is in force as long as it is open.
    _latency: File,
}

/// Where the kernel is told how long it may take to wake a core: "PM Quality Of Service Interface"
/// of its documentation.
const LATENCY: &str = "/dev/cpu_dma_latency";

impl Awake {
    /// # Errors
    /// Those of the kernel, which lets root alone do it.
    pub(crate) fn keep() -> Result<Self> {
        let mut latency = OpenOptions::new()
            .write(true)
            .open(LATENCY)
            .map_err(|error| format!("{LATENCY}: {error}"))?;
        latency.write_all(&0_i32.to_ne_bytes())?;
        Ok(Self { _latency: latency })
    }
}
