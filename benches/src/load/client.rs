//! The connections to one server, and their messages.
//!
//! The client is a closed loop: a connection sends a message when the one before it has come back
//! completely. So the client asks for no more than the server can do, and the rate of the server is
//! the figure. Sources are edge-triggered. A message costs the client a read, a write and its share
//! of a wait, which is less than any server needs.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::retry_on_intr;
use workloads::{Result, SEED, random};

use super::connection::Connection;
use super::measured::{Measured, processor_time};
use super::security::Security;

/// The time after which a silent server counts as failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The number of connections that are opened at once. A short backlog holds no more.
const OPENED_AT_ONCE: usize = 64;
/// The time after the last message in which a server falls asleep, even if it spins first.
const QUIET: Duration = Duration::from_millis(1);
const EVENTS: usize = 1024;
const BUFFER: usize = 65536;
/// The number of places in a random text at which messages begin. By that, a message on the wrong
/// connection is recognised.
const TEXTS: usize = 251;

/// All connections with their messages.
pub(super) struct Client {
    epoll: OwnedFd,
    events: Vec<Event>,
    connections: Vec<Connection>,
    /// The text that all messages are slices of.
    text: Vec<u8>,
    message: usize,
    /// The read buffer of all connections.
    buffer: Vec<u8>,
    /// The number of messages that may still be sent.
    left: u64,
    port: u16,
    /// The configuration of the sessions, if the connections have any.
    security: Option<Security>,
    /// All connections are open. From now on, handshakes are those of the exchange.
    is_open: bool,
    on_their_way: usize,
    /// The round-trip time of each message, in nanoseconds.
    took: Vec<u64>,
}

impl Client {
    /// Connects, and exchanges a message over each connection, so that the server has handled all
    /// of them.
    pub(super) fn open(
        port: u16,
        connections: usize,
        message: usize,
        security: Option<Security>,
    ) -> Result<Self> {
        let mut seed = SEED;
        let mut client = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            connections: Vec::new(),
            text: (0..message + TEXTS)
                .map(|_| random(&mut seed) as u8)
                .collect(),
            message,
            buffer: vec![0; BUFFER],
            left: 0,
            port,
            security,
            is_open: false,
            on_their_way: 0,
            took: Vec::new(),
        };
        while client.connections.len() < connections {
            let from = client.connections.len();
            for place in from..connections.min(from + OPENED_AT_ONCE) {
                let connection = client.connect(place)?;
                client.connections.push(connection);
            }
            client.left = u64::MAX;
            client.begin(from..client.connections.len())?;
            client.finish()?;
        }
        client.is_open = true;
        Ok(client)
    }

    /// Opens the connection of this place.
    fn connect(&self, place: usize) -> Result<Connection> {
        let message = &self.text[place % TEXTS..][..self.message];
        let connection = Connection::open(self.port, self.security.as_ref(), message)?;
        epoll::add(
            &self.epoll,
            connection.stream(),
            EventData::new_u64(place as u64),
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )?;
        Ok(connection)
    }

    pub(super) const fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Replaces all connections. The handshakes of the new ones do not begin yet.
    pub(super) fn reconnect(&mut self) -> Result {
        for place in 0..self.connections.len() {
            self.connections[place] = self.connect(place)?;
        }
        Ok(())
    }

    /// Begins a message on every connection, and waits until all are back. Returns the time that
    /// this took.
    pub(super) fn burst(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.took.clear();
        self.left = self.connections.len() as u64;
        self.begin(0..self.connections.len())?;
        self.finish()?;
        Ok(began.elapsed())
    }

    /// Exchanges exactly this many messages.
    pub(super) fn exchange(&mut self, messages: u64) -> Result {
        self.left = messages;
        self.begin(0..self.connections.len())?;
        self.turns_until_all_are_back()
    }

    /// Loads the server for `time`, over at most `connections_max` connections, and waits until it
    /// has sent everything back. `pid` is the process of the server. The kernel's account of a
    /// process is exact while the process sleeps, and lags behind by ticks while it runs.
    pub(super) fn load(
        &mut self,
        time: Duration,
        connections_max: usize,
        pid: u32,
    ) -> Result<Measured<'_>> {
        let count = self.connections.len().min(connections_max);
        for connection in &mut self.connections[..count] {
            connection.prepare()?;
        }
        let used = processor_time(pid)?;
        self.took.clear();
        let began = Instant::now();
        self.left = u64::MAX;
        self.begin(0..count)?;
        while began.elapsed() < time {
            self.turn()?;
        }
        self.finish()?;
        let elapsed = began.elapsed();
        std::thread::sleep(QUIET);
        let processor = processor_time(pid)?.saturating_sub(used);
        for connection in &mut self.connections[..count] {
            connection.check()?;
        }
        Ok(Measured {
            elapsed,
            processor,
            took: &mut self.took,
        })
    }

    /// Waits for the messages in flight.
    fn finish(&mut self) -> Result {
        self.left = 0;
        self.turns_until_all_are_back()
    }

    fn turns_until_all_are_back(&mut self) -> Result {
        while self.on_their_way > 0 {
            self.turn()?;
        }
        Ok(())
    }

    /// Begins a message on each of these connections.
    fn begin(&mut self, places: Range<usize>) -> Result {
        for place in places {
            if self.left > 0 {
                self.on_their_way += 1;
                self.begin_at(place, Instant::now())?;
                self.connections[place].write(&self.text[place % TEXTS..][..self.message])?;
            }
        }
        Ok(())
    }

    /// Begins a message. If each message needs a handshake, the connection is replaced unless it is
    /// new.
    fn begin_at(&mut self, place: usize, now: Instant) -> Result {
        self.left -= 1;
        if self.connections[place].is_used_up() {
            self.connections[place] = self.connect(place)?;
        }
        Ok(self.connections[place].begin(now)?)
    }

    /// Closes the connections one after the other, so that the server makes the same calls in every
    /// counted run.
    pub(super) fn close(self) -> Result {
        (self.connections.into_iter()).try_for_each(|connection| connection.close(PATIENCE))
    }

    fn turn(&mut self) -> Result {
        let patience = Timespec::try_from(PATIENCE)?;
        let mut events = std::mem::take(&mut self.events);
        retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&patience)))?;
        if events.is_empty() {
            return Err(format!(
                "{} messages did not come back within 20 s",
                self.on_their_way
            )
            .into());
        }
        for event in events.drain(..) {
            self.ready(event.data.u64() as usize, event.flags)?;
        }
        self.events = events;
        Ok(())
    }

    fn ready(&mut self, place: usize, flags: EventFlags) -> Result {
        let connection = &mut self.connections[place];
        let message = &self.text[place % TEXTS..][..self.message];
        let told = |error| format!("connection {place}: {error}");
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            connection.read(message, &mut self.buffer).map_err(told)?;
            let now = Instant::now();
            if let Some(took) = connection.end(message, now) {
                if self.is_open {
                    connection.check_handshake().map_err(told)?;
                }
                self.took.push(took.as_nanos() as u64);
                if self.left == 0 {
                    self.on_their_way -= 1;
                } else {
                    self.begin_at(place, now)?;
                }
            }
        }
        let message = &self.text[place % TEXTS..][..self.message];
        Ok(self.connections[place].write(message).map_err(told)?)
    }
}
