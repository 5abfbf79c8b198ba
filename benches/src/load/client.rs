//! The connections to one server, and their messages.
//!
//! The client is a closed loop: a connection sends a message when the one before it has come back
//! completely. So the client asks for no more than the server can do, and the rate of the server is
//! the figure. Sources are edge-triggered. A message costs the client a read, a write and its share
//! of a wait, which is less than any server needs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::retry_on_intr;
use rustix::net::sockopt;
use workloads::{Result, SEED, random};

use super::measured::{Measured, processor_time};

/// The time after which a silent server counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);
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
    on_their_way: usize,
    /// The round-trip time of each message, in nanoseconds.
    took: Vec<u64>,
}

impl Client {
    /// Connects, and exchanges a message over each connection, so that the server has handled all
    /// of them.
    pub(super) fn open(port: u16, connections: usize, message: usize) -> Result<Self> {
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
            on_their_way: 0,
            took: Vec::new(),
        };
        while client.connections.len() < connections {
            let from = client.connections.len();
            for place in from..connections.min(from + OPENED_AT_ONCE) {
                let connection = Connection::open(port)?;
                let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                epoll::add(
                    &client.epoll,
                    &connection.stream,
                    EventData::new_u64(place as u64),
                    interest,
                )?;
                client.connections.push(connection);
            }
            client.left = u64::MAX;
            client.begin(from..client.connections.len())?;
            client.finish()?;
        }
        Ok(client)
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
        let used = processor_time(pid)?;
        self.took.clear();
        let began = Instant::now();
        self.left = u64::MAX;
        self.begin(0..self.connections.len().min(connections_max))?;
        while began.elapsed() < time {
            self.turn()?;
        }
        self.finish()?;
        let elapsed = began.elapsed();
        std::thread::sleep(QUIET);
        let processor = processor_time(pid)?.saturating_sub(used);
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
                self.left -= 1;
                self.on_their_way += 1;
                let connection = &mut self.connections[place];
                connection.begin(Instant::now());
                connection.write(&self.text[place % TEXTS..][..self.message])?;
            }
        }
        Ok(())
    }

    /// Closes the connections one after the other, so that the server makes the same calls in every
    /// counted run.
    pub(super) fn close(self) -> Result {
        for connection in self.connections {
            let mut stream = connection.stream;
            stream.shutdown(Shutdown::Write)?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            if stream.read(&mut [0])? > 0 {
                return Err("more came back than was sent".into());
            }
        }
        Ok(())
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
            if connection.read == self.message && connection.on_its_way {
                let now = Instant::now();
                self.took.push((now - connection.since).as_nanos() as u64);
                if self.left > 0 {
                    self.left -= 1;
                    connection.begin(now);
                } else {
                    self.on_their_way -= 1;
                    connection.on_its_way = false;
                }
            }
        }
        Ok(connection.write(message).map_err(told)?)
    }
}

struct Connection {
    stream: TcpStream,
    /// Whether a message is in flight.
    on_its_way: bool,
    /// The start of that message, and its bytes that were written and read back.
    since: Instant,
    written: usize,
    read: usize,
}

impl Connection {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        // This makes `close` reset the connection, so no port stays in TIME_WAIT for later rounds.
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            on_its_way: false,
            since: Instant::now(),
            written: 0,
            read: 0,
        })
    }

    const fn begin(&mut self, now: Instant) {
        (self.on_its_way, self.since, self.written, self.read) = (true, now, 0, 0);
    }

    /// Reads all available bytes, and checks that they equal the bytes sent.
    fn read(&mut self, message: &[u8], buffer: &mut [u8]) -> std::result::Result<(), String> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server has closed the connection".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let expected = message[..self.written].get(self.read..self.read + count);
            if !self.on_its_way || expected != Some(&buffer[..count]) {
                return Err(format!(
                    "{count} bytes came back that differ from those sent"
                ));
            }
            self.read += count;
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Writes the part of the message that the socket accepts.
    fn write(&mut self, message: &[u8]) -> std::result::Result<(), String> {
        while self.on_its_way && self.written < message.len() {
            match self.stream.write(&message[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}
