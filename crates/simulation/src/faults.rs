//! The faults of a simulation, and how often each happens.

use std::ops::Range;
use std::time::Duration;

/// How often each fault happens, and how slow everything is.
///
/// A field of type `u32` is a chance: 20 means once in 20 times on average, 0 never.
///
/// ```
/// use std::time::Duration;
/// use simulation::Faults;
///
/// let mut faults = Faults::none();
/// faults.resets = 20;
/// faults.latency = Duration::from_millis(1)..Duration::from_secs(1);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Faults {
    /// The time that a packet takes to the other side. Each connection has its own latency in this
    /// range, and each packet varies by up to half of it.
    pub latency: Range<Duration>,
    /// The bytes in a second that a connection carries.
    pub bandwidth: Range<u64>,
    /// The bytes that the kernel's send and receive buffers hold. Small buffers lead to short
    /// writes.
    pub buffer_bytes: Range<u64>,
    /// The bytes in one packet.
    pub packet_bytes: Range<u64>,
    /// The chance that a wait is interrupted by a signal (`EINTR`).
    pub interrupts: u32,
    /// The chance that a thread loses the processor at a system call, for less than 10 ms. Other
    /// threads run meanwhile.
    pub preemptions: u32,
    /// The chance that a whole process stops at a system call, as by `SIGSTOP`.
    pub stops: u32,
    /// How long a stopped process stands still.
    pub stop_time: Range<Duration>,
    /// The chance that the network resets a connection when it carries a packet.
    pub resets: u32,
    /// The chance that a connection is refused although something listens.
    pub refusals: u32,
    /// The chance that an attempt to connect has no answer, until `ETIMEDOUT` after 127 s.
    pub hangs: u32,
    /// The chance that a call that makes a descriptor fails with `EMFILE`.
    pub out_of_descriptors: u32,
    /// The chance that a datagram is lost.
    pub lost_datagrams: u32,
    /// The chance that a datagram arrives twice.
    pub doubled_datagrams: u32,
    /// The time that a job takes on a worker before its closure runs.
    pub job_time: Range<Duration>,
}

impl Faults {
    /// Returns a fast network without any fault. The order of events is still drawn.
    pub fn none() -> Self {
        let us = Duration::from_micros;
        Self {
            latency: us(20)..us(200),
            bandwidth: 100_000_000..1_000_000_000,
            buffer_bytes: 65_536..262_144,
            packet_bytes: 1_000..65_536,
            interrupts: 0,
            preemptions: 0,
            stops: 0,
            stop_time: us(0)..us(0),
            resets: 0,
            refusals: 0,
            hangs: 0,
            out_of_descriptors: 0,
            lost_datagrams: 0,
            doubled_datagrams: 0,
            job_time: us(1)..us(100),
        }
    }

    /// Returns a network in which nothing is lost, but nothing is reliable in time: slow packets of
    /// any size, small buffers, interrupted waits, stopped processes.
    pub fn slow() -> Self {
        let us = Duration::from_micros;
        Self {
            latency: us(20)..us(300_000),
            bandwidth: 10_000..1_000_000_000,
            buffer_bytes: 512..131_072,
            packet_bytes: 1..65_536,
            interrupts: 50,
            preemptions: 30,
            stops: 1_000,
            stop_time: us(100)..us(60_000_000),
            job_time: us(1)..us(5_000_000),
            ..Self::none()
        }
    }

    /// Returns a network in which everything goes wrong now and then.
    pub fn all() -> Self {
        Self {
            resets: 500,
            refusals: 20,
            hangs: 50,
            out_of_descriptors: 50,
            lost_datagrams: 20,
            doubled_datagrams: 20,
            ..Self::slow()
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::slow()
    }
}
