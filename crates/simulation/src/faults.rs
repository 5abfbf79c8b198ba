//! The faults of a simulation, and how often each happens.

use std::ops::Range;
use std::time::Duration;

/// The faults of a simulation: how often each of them happens, and how slow everything is.
///
/// A field of type `u32` is a chance: 20 means once in 20 times on average, and 0 means never. A
/// field of type `Range` holds the values from which the simulation draws. An empty range always
/// gives its start. Durations are drawn by their order of magnitude, so short ones are about as
/// likely as long ones.
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
    /// The time that a packet takes to the other side. A connection draws one such time, and each
    /// of its packets takes up to 50% longer. Each datagram draws a time of its own.
    pub latency: Range<Duration>,
    /// The number of bytes that a connection carries in a second. It is drawn for each direction of
    /// each connection.
    pub bandwidth: Range<u64>,
    /// The size of a buffer in bytes. It is drawn for the send buffer and for the receive buffer of
    /// each end of a connection. Small buffers lead to short writes.
    pub buffer_bytes: Range<u64>,
    /// The size of a packet in bytes, drawn for each packet. The packet is smaller if fewer bytes
    /// are to be sent, or if the receive buffer has less room.
    pub packet_bytes: Range<u64>,
    /// The chance that a signal interrupts the wait of a loop (`EINTR`). A wait that has something
    /// to report at once is never interrupted.
    pub interrupts: u32,
    /// The chance that a thread loses the processor at a system call. It gets the processor back in
    /// less than 10 ms. Meanwhile other threads run.
    pub preemptions: u32,
    /// The chance that a system call of a thread stops the whole process, as `SIGSTOP` does.
    pub stops: u32,
    /// The time after which a process that was stopped by [`stops`](Self::stops) goes on.
    pub stop_time: Range<Duration>,
    /// The chance, at each packet of a connection, that the network resets the connection instead
    /// of carrying the packet.
    pub resets: u32,
    /// The chance that an attempt to connect is refused although there is a listener.
    pub refusals: u32,
    /// The chance that an attempt to connect gets no answer. It then fails with `ETIMEDOUT` after
    /// 127 s.
    pub hangs: u32,
    /// The chance that a daemon cannot make a socket or accept a connection (`EMFILE`).
    /// [`PeerListener::accept`](crate::PeerListener::accept) may fail too.
    pub out_of_descriptors: u32,
    /// The chance that a datagram is lost.
    pub lost_datagrams: u32,
    /// The chance that a datagram arrives twice.
    pub doubled_datagrams: u32,
    /// The time that passes on a worker of a pool before it runs the closure of a job.
    pub job_time: Range<Duration>,
    /// The time that a lookup of a name takes, until its answer or its error.
    pub lookup_time: Range<Duration>,
    /// The chance that a lookup of a name fails for now, with an error of kind `HostUnreachable`.
    pub failed_lookups: u32,
    /// The chance that no name server answers. The lookup then fails in the same way after 30 s.
    pub hung_lookups: u32,
}

impl Faults {
    /// Returns a fast network without faults. The order of events is still drawn.
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
            lookup_time: us(20)..us(2_000),
            failed_lookups: 0,
            hung_lookups: 0,
        }
    }

    /// Returns a network in which nothing is lost, but everything may take long: packets are slow
    /// and of any size, buffers are small, waits are interrupted, threads lose the processor, and
    /// processes stop.
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
            lookup_time: us(20)..us(5_000_000),
            ..Self::none()
        }
    }

    /// Returns the faults of [`slow`](Self::slow) and all others: connections are reset, attempts
    /// to connect are refused or get no answer, descriptors are missing, datagrams are lost or
    /// arrive twice, and lookups of names fail or get no answer.
    pub fn all() -> Self {
        Self {
            resets: 500,
            refusals: 20,
            hangs: 50,
            out_of_descriptors: 50,
            lost_datagrams: 20,
            doubled_datagrams: 20,
            failed_lookups: 20,
            hung_lookups: 50,
            ..Self::slow()
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::slow()
    }
}
