//! The clients: what both ends of a connection know of it, and what a client does.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use simulation::{now, random};

use super::line::Line;
use crate::draw::{duration, once_in, size};

/// Bytes that were sent have arrived after this time.
const ARRIVAL: Duration = Duration::from_secs(1);
/// The most bytes that a client sends. The smallest buffer of the kernel holds them.
pub(super) const SENT_MAX: u64 = 60_000;
pub(super) const HEADER: usize = 4;

/// Returns the bytes of a stream from `position` on.
pub(super) fn bytes(stream: u32, position: u64, count: usize) -> Vec<u8> {
    let byte = |position: u64| match position {
        0..4 => stream.to_le_bytes()[position as usize],
        _ => (u64::from(stream) * 31 + position * 7 + (position >> 8)) as u8,
    };
    (position..position + count as u64).map(byte).collect()
}

/// The way of a client to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Tcp,
    Proxy,
    Unix,
}

/// A client, and what both ends of its connection know of it.
#[derive(Default)]
pub(super) struct Client {
    pub(super) number: u32,
    pub(super) way: Way,
    pub(super) is_layered: bool,
    /// The number of bytes that had been sent, by time.
    pub(super) sent: RefCell<Vec<(Option<Instant>, u64)>>,
    /// The client has ended its direction.
    pub(super) is_whole: Cell<bool>,
    /// It reads to the end, and resets nothing.
    pub(super) is_patient: Cell<bool>,
    pub(super) given: Cell<u64>,
    pub(super) written: Cell<u64>,
    pub(super) pending: Cell<u32>,
    /// The handler has closed the connection, or has failed.
    pub(super) is_closed: Cell<bool>,
    /// The handler has closed it after its last byte, with all the time that it takes.
    pub(super) is_closed_in_order: Cell<bool>,
    pub(super) was_paused: Cell<bool>,
    pub(super) had_timeout: Cell<bool>,
    pub(super) is_finished: Cell<bool>,
    pub(super) received: Cell<u64>,
    pub(super) is_over: Cell<bool>,
}

impl Client {
    pub(super) fn is_proxied(&self) -> bool {
        self.way == Way::Proxy
    }

    /// Returns `true` if a stream that is cut can look whole: a bare Unix socket has no reset.
    pub(super) fn may_look_whole(&self) -> bool {
        self.way == Way::Unix && !self.is_layered
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.borrow().last().map_or(0, |(_, sent)| *sent)
    }

    /// Returns how many bytes have arrived at the server by `time`, at least.
    pub(super) fn arrived(&self, time: Instant) -> u64 {
        let sent = self.sent.borrow();
        let arrived = sent
            .iter()
            .filter(|(at, _)| at.is_some_and(|at| at + ARRIVAL <= time));
        arrived.map(|(_, sent)| *sent).max().unwrap_or(0)
    }
}

/// The behaviour of a client. Its errors are those of a daemon that has closed.
pub(super) fn talk(client: &Client) -> io::Result<()> {
    simulation::sleep(duration(Duration::from_secs(30)));
    let mut line = Line::connect(client.way, client.is_layered)?;
    send(client, &mut line, HEADER)?;
    for _ in 0..random(40) {
        match random(8) {
            0..=3 => send(client, &mut line, size(8_000))?,
            4 => simulation::sleep(duration(Duration::from_secs(20))),
            5 => receive_arrived(client, &mut line)?,
            6 if once_in(10) => {
                // A Unix socket has no reset.
                client.is_whole.set(client.may_look_whole());
                line.reset();
                return Ok(());
            }
            7 if once_in(10) => {
                // Dropped: a clean end, unless something is unread, or the stream has an end of
                // its own.
                client.is_whole.set(!client.is_layered);
                return Ok(());
            }
            _ => {}
        }
    }
    client.is_patient.set(true);
    client.is_whole.set(true);
    line.shutdown_write()?;
    while receive(client, &mut line, 10_000)? > 0 {
        if once_in(8) {
            simulation::sleep(duration(Duration::from_secs(1)));
        }
    }
    Ok(())
}

pub(super) fn send(client: &Client, line: &mut Line, count: usize) -> io::Result<()> {
    let sent = client.sent();
    let count = count.min((SENT_MAX - sent) as usize);
    // Before the call, since the server may see it first.
    client.sent.borrow_mut().push((None, sent + count as u64));
    let written = line.write_all(&bytes(client.number, sent, count));
    if let Some((at, _)) = client.sent.borrow_mut().last_mut() {
        *at = Some(now());
    }
    written
}

/// Reads what has come, if there is any.
fn receive_arrived(client: &Client, line: &mut Line) -> io::Result<()> {
    let arrived = line.unread();
    if arrived == 0 {
        return Ok(());
    }
    line.set_timeout(Some(Duration::ZERO));
    let received = receive(client, line, arrived as usize);
    line.set_timeout(None);
    match received {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()), // no whole record
        received => received.map(drop),
    }
}

/// Reads what comes, and compares it with what was written.
fn receive(client: &Client, line: &mut Line, most: usize) -> io::Result<usize> {
    let mut buf = vec![0; most];
    let count = line.read(&mut buf)?;
    assert!(buf[..count] == bytes(!client.number, client.received.get(), count));
    client.received.set(client.received.get() + count as u64);
    if count == 0 && !client.may_look_whole() {
        let written = client.written.get();
        assert_eq!(
            client.received.get(),
            written,
            "an answer that was cut looks whole"
        );
        let owes = client.pending.get() > 0 && !client.is_closed.get();
        assert!(!owes, "an answer that is owed looks whole");
    }
    Ok(count)
}
