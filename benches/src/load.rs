//! The client of echo servers: connections that have one message each on its way, and how soon it is back.
//!
//! A closed loop: a message is sent once the one before it has come back whole, so the server is asked for no more than it
//! can give, and what it gives is the figure. Sources are edge-triggered: a message costs the client a read, a write and
//! its share of a wait, which is less than any server can do with.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::retry_on_intr;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use workloads::{Result, SEED, raise_open_files_limit, random, report, resident_bytes};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the server listens, on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Connections, each with one message on its way
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    message: u32,
    /// How long it measures, after a tenth as long to warm up
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    milliseconds: u64,
    /// Exactly so many messages instead, beside the first of each connection
    #[arg(long, conflicts_with = "milliseconds")]
    messages: Option<u64>,
    /// The server's process, for its processor time and its memory
    #[arg(long)]
    pid: Option<u32>,
}

/// A server that says nothing for so long has been forgotten.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many connections come from one address, which has ports for twice as many.
const CONNECTIONS_OF_AN_ADDRESS: usize = 10_000;
/// So many are opened at once: no more than a short backlog holds.
const OPENED_AT_ONCE: usize = 64;
const EVENTS: usize = 1024;
const BUFFER: usize = 65536;
/// Messages begin at so many places of a random text, so that what comes to the wrong connection does not look right.
const TEXTS: usize = 251;

pub(crate) fn run(options: &Options) -> Result {
    raise_open_files_limit()?;
    let resident = || options.pid.map(|pid| resident_bytes(&pid.to_string())).transpose();
    let before = resident()?;
    let mut client = Client::open(options)?;
    let after = resident()?;

    let measured = match options.messages {
        Some(messages) => {
            let measured = client.exchange(messages, options.pid)?;
            client.close()?;
            measured
        }
        None => client.exchange_for(Duration::from_millis(options.milliseconds), options.pid)?,
    };
    let mut figures = measured.figures()?;
    if let (Some(before), Some(after)) = (before, after) {
        figures.push(("bytes", (after - before) / f64::from(options.connections)));
    }
    report(&figures);
    Ok(())
}

/// All connections, and what goes over them.
struct Client {
    epoll: OwnedFd,
    events: Vec<Event>,
    connections: Vec<Connection>,
    /// Where every connection has its message from.
    text: Vec<u8>,
    message: usize,
    /// Where every connection reads to.
    buffer: Vec<u8>,
    /// Messages that may still be sent.
    left: u64,
    on_their_way: usize,
    /// How long each message took, in nanoseconds.
    took: Vec<u64>,
}

impl Client {
    /// Connects, and sends a message over each connection, so that the server has had to do with all of them.
    fn open(options: &Options) -> Result<Self> {
        let mut seed = SEED;
        let message = options.message as usize;
        let mut client = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            connections: Vec::new(),
            text: (0..message + TEXTS).map(|_| random(&mut seed) as u8).collect(),
            message,
            buffer: vec![0; BUFFER],
            left: 0,
            on_their_way: 0,
            took: Vec::new(),
        };
        let all = options.connections as usize;
        while client.connections.len() < all {
            let from = client.connections.len();
            for place in from..all.min(from + OPENED_AT_ONCE) {
                let connection = Connection::open(place, options.port)?;
                let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                epoll::add(&client.epoll, &connection.stream, EventData::new_u64(place as u64), interest)?;
                client.connections.push(connection);
            }
            client.left = u64::MAX;
            client.begin(from)?;
            client.finish()?;
        }
        Ok(client)
    }

    /// Exactly so many messages.
    fn exchange(&mut self, messages: u64, pid: Option<u32>) -> Result<Measured> {
        let mark = Mark::new(pid)?;
        self.took.clear();
        self.left = messages;
        self.begin(0)?;
        self.turns_until_all_are_back()?;
        mark.measured(pid, std::mem::take(&mut self.took))
    }

    /// As many as there are in this time, after a tenth of it.
    fn exchange_for(&mut self, time: Duration, pid: Option<u32>) -> Result<Measured> {
        self.left = u64::MAX;
        self.begin(0)?;
        self.turns(time / 10)?;
        self.took.clear();
        let mark = Mark::new(pid)?;
        self.turns(time)?;
        let measured = mark.measured(pid, std::mem::take(&mut self.took))?;
        self.finish()?;
        Ok(measured)
    }

    fn turns(&mut self, time: Duration) -> Result {
        let began = Instant::now();
        while began.elapsed() < time {
            self.turn()?;
        }
        Ok(())
    }

    /// Takes what is still on its way.
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

    /// Sends over the connections from this one on.
    fn begin(&mut self, from: usize) -> Result {
        for place in from..self.connections.len() {
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

    /// Ends the connections, one after the other, so that the server has done the same in every run that is counted.
    fn close(self) -> Result {
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
            return Err(format!("{} messages do not come back", self.on_their_way).into());
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
    /// Whether there is a message that is not yet back.
    on_its_way: bool,
    /// When it was begun, and how much of it has gone out and come back.
    since: Instant,
    written: usize,
    read: usize,
}

impl Connection {
    fn open(place: usize, port: u16) -> Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        let source = Ipv4Addr::new(127, 0, 0, 1 + (place / CONNECTIONS_OF_AN_ADDRESS) as u8);
        bind(&socket, &SocketAddrV4::new(source, 0))?;
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        // Closing resets the connection, so that no port stays in TIME_WAIT for the rounds to come.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, on_its_way: false, since: Instant::now(), written: 0, read: 0 })
    }

    const fn begin(&mut self, now: Instant) {
        (self.on_its_way, self.since, self.written, self.read) = (true, now, 0, 0);
    }

    /// Reads all there is, which has to be what was sent.
    fn read(&mut self, message: &[u8], buffer: &mut [u8]) -> std::result::Result<(), String> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server has closed it".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let expected = message[..self.written].get(self.read..self.read + count);
            if !self.on_its_way || expected != Some(&buffer[..count]) {
                return Err(format!("{count} bytes came back that are not what was sent"));
            }
            self.read += count;
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Writes as much of the message as there is room for.
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

/// A moment, and what the server had used up by then.
struct Mark {
    at: Instant,
    processor: Option<Duration>,
}

impl Mark {
    fn new(pid: Option<u32>) -> Result<Self> {
        Ok(Self { at: Instant::now(), processor: pid.map(processor_time).transpose()? })
    }

    fn measured(&self, pid: Option<u32>, took: Vec<u64>) -> Result<Measured> {
        let now = Self::new(pid)?;
        let processor = now.processor.zip(self.processor).map(|(now, then)| now.saturating_sub(then));
        Ok(Measured { elapsed: now.at - self.at, processor, took })
    }
}

/// What has come back in a time.
struct Measured {
    elapsed: Duration,
    processor: Option<Duration>,
    /// Nanoseconds that each message took.
    took: Vec<u64>,
}

impl Measured {
    fn figures(mut self) -> Result<Vec<(&'static str, f64)>> {
        self.took.sort_unstable();
        let count = self.took.len();
        let at = |percent: usize| self.took.get(count * percent / 100).map(|&ns| ns as f64 / 1e3);
        let (median, late) = at(50).zip(at(99)).ok_or("no message has come back")?;
        let mut figures = vec![
            ("messages_per_s", count as f64 / self.elapsed.as_secs_f64()),
            ("us_median", median),
            ("us_99th", late),
        ];
        figures.extend(self.processor.map(|processor| ("cpu_us", processor.as_secs_f64() * 1e6 / count as f64)));
        Ok(figures)
    }
}

/// The processor time that a process has used, over all of its threads.
fn processor_time(pid: u32) -> Result<Duration> {
    let mut ns = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(schedstat) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            return processor_ticks(pid);
        };
        ns += field(&schedstat, 0)?;
    }
    Ok(Duration::from_nanos(ns))
}

/// The same in the kernel's ticks, for one that is built without statistics of its scheduler.
fn processor_ticks(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything. Behind it user time is the twelfth, system time the thirteenth.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat")?;
    let ticks = field(fields, 11)? + field(fields, 12)?;
    Ok(Duration::from_secs(1) * u32::try_from(ticks)? / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// One of the numbers of a line.
fn field(line: &str, place: usize) -> Result<u64> {
    Ok(line.split_whitespace().nth(place).ok_or("a field is missing in /proc")?.parse()?)
}
