//! Keeps cores awake during a measurement.
//!
//! A sleeping core takes a while to wake. A virtual core that sleeps may take milliseconds, since
//! its host gives it to other guests meanwhile. A message takes microseconds. Neither the server
//! nor the client causes that delay, so it must not count.

use std::fs::{File, OpenOptions};
use std::io::Write;

use workloads::Result;

/// While this value lives, idle cores poll for work instead of sleeping, as far as the kernel's
/// driver supports that.
pub(crate) struct Awake {
    /// The request is in force while this file is open.
    _latency: File,
}

/// The file that takes the maximum latency of a wakeup. Source: "PM Quality Of Service Interface"
/// in the kernel's documentation.
const LATENCY: &str = "/dev/cpu_dma_latency";

impl Awake {
    /// Requests a latency of 0.
    ///
    /// # Errors
    /// The errors of the kernel, which allows this only for root.
    pub(crate) fn keep() -> Result<Self> {
        let mut latency = OpenOptions::new()
            .write(true)
            .open(LATENCY)
            .map_err(|error| format!("{LATENCY}: {error}"))?;
        latency.write_all(&0_i32.to_ne_bytes())?;
        Ok(Self { _latency: latency })
    }
}
