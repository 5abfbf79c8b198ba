//! Clients: each session draws what it sends, how it reads and how it ends, and compares every
//! byte that it receives.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::{Shared, count};
use crate::draw::{Draw, fill};
use crate::process::{Daemon, IDLE_TIMEOUT, LINE_MAX, PATIENCE};

const STREAM_MAX: usize = 2 << 20;
const CHUNK_MAX: usize = 64 << 10;
/// A slow reader reads less, so that its session lasts as long as any other.
const SLOW_MAX: usize = 256 << 10;
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The addresses of the servers.
pub(crate) struct Targets {
    echo: SocketAddr,
    relay: SocketAddr,
    frames: SocketAddr,
    idle: SocketAddr,
    udp: SocketAddr,
    unix: UnixAddr,
}

impl Targets {
    pub(crate) fn of(daemon: &Daemon) -> Result<Self, String> {
        let tcp = |server: &str| {
            let address = daemon.address(server)?;
            address
                .parse()
                .map_err(|error| format!("{address}: {error}"))
        };
        let unix = daemon.address("unix")?;
        let name = unix
            .strip_prefix("unix:@")
            .ok_or_else(|| format!("{unix} has no name"))?;
        Ok(Self {
            echo: tcp("echo")?,
            relay: tcp("relay")?,
            frames: tcp("frames")?,
            idle: tcp("idle")?,
            udp: tcp("udp")?,
            unix: UnixAddr::from_abstract_name(name).map_err(|error| format!("{unix}: {error}"))?,
        })
    }
}

/// Runs one session.
pub(super) fn session(shared: &Shared, targets: &Targets, draw: &mut Draw) -> Result<(), String> {
    let shortages = shared.shortages.load(Ordering::SeqCst);
    let (name, outcome) = match draw.below(20) {
        0..6 => (
            "echo",
            tcp(targets.echo).and_then(|s| stream(shared, &s, draw)),
        ),
        6..10 => (
            "unix",
            unix(&targets.unix).and_then(|s| stream(shared, &s, draw)),
        ),
        10..13 => {
            let outcome = tcp(targets.relay).and_then(|s| stream(shared, &s, draw));
            // Without a file descriptor the relay cannot connect, and resets the client.
            let is_excused =
                shortages % 2 == 1 || shared.shortages.load(Ordering::SeqCst) != shortages;
            ("relay", if is_excused { Ok(()) } else { outcome })
        }
        13..16 => (
            "frames",
            tcp(targets.frames).and_then(|s| lines(shared, s, draw)),
        ),
        16 => (
            "overlong line",
            tcp(targets.frames).and_then(|s| overlong(s, draw)),
        ),
        17 => ("idle", idle(targets.idle)),
        18 => ("hasty", hasty(targets, draw)),
        _ => ("datagrams", datagrams(shared, targets.udp, draw)),
    };
    count(&shared.totals.sessions, 1);
    outcome.map_err(|error| format!("{name} client: {error}"))
}

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    patient(TcpStream::connect(address)?.into())
}

fn unix(address: &UnixAddr) -> io::Result<Socket> {
    patient(UnixStream::connect_addr(address)?.into())
}

/// Sets the time after which a silence is a deviation.
fn patient(socket: Socket) -> io::Result<Socket> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends a stream and compares its echo, to the end or up to a reset.
fn stream(shared: &Shared, socket: &Socket, draw: &mut Draw) -> io::Result<()> {
    let is_slow = draw.once_in(4);
    let max = if is_slow { SLOW_MAX } else { STREAM_MAX };
    let total = draw.below(max) >> draw.below(12); // short ones are as likely
    let cut = draw.once_in(5).then(|| draw.below(total + 1));
    let (number, mut chunks) = (draw.number(), Draw::new(draw.number(), 0));
    let received = thread::scope(|scope| {
        let writer = scope.spawn(move || send(socket, number, total, &mut chunks));
        let received = receive(socket, number, total, cut, is_slow, draw);
        if cut.is_some() || received.is_err() {
            // A reset, which ends the writer too.
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Both);
        }
        let written = writer
            .join()
            .map_err(|_| io::Error::other("the writer panicked"))?;
        match (received, cut) {
            (Ok(received), None) => written.map(|()| received),
            (received, _) => received,
        }
    })?;
    count(&shared.totals.bytes, received as u64);
    count(&shared.totals.cuts, u64::from(cut.is_some()));
    Ok(())
}

fn send(mut socket: &Socket, number: u64, total: usize, draw: &mut Draw) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_MAX];
    let mut sent = 0;
    while sent < total {
        let length = (1 + draw.below(CHUNK_MAX)).min(total - sent);
        fill(number, sent, &mut chunk[..length]);
        socket.write_all(&chunk[..length])?;
        sent += length;
        if draw.once_in(20) {
            thread::sleep(draw.ms(5));
        }
    }
    socket.shutdown(Shutdown::Write)
}

/// Returns the length of what was received. It is the stream, up to its end or to `cut`.
fn receive(
    mut socket: &Socket,
    number: u64,
    total: usize,
    cut: Option<usize>,
    is_slow: bool,
    draw: &mut Draw,
) -> io::Result<usize> {
    let (mut buffer, mut expected) = (vec![0; CHUNK_MAX], vec![0; CHUNK_MAX]);
    let mut received = 0;
    loop {
        if cut.is_some_and(|cut| received >= cut) {
            return Ok(received);
        }
        let max = if is_slow { CHUNK_MAX / 16 } else { CHUNK_MAX };
        let length = 1 + draw.below(max);
        let length = socket.read(&mut buffer[..length])?;
        if length == 0 && received == total {
            return Ok(received);
        }
        if length == 0 || received + length > total {
            return Err(io::Error::other(format!(
                "{received} and {length} more bytes of {total}, and then the end"
            )));
        }
        fill(number, received, &mut expected[..length]);
        if buffer[..length] != expected[..length] {
            return Err(io::Error::other(format!(
                "wrong bytes after {received} of {total}"
            )));
        }
        received += length;
        if is_slow {
            thread::sleep(draw.ms(8));
        }
    }
}

/// Sends lines and compares the answers: many at once, or one after the other by a worker.
fn lines(shared: &Shared, socket: Socket, draw: &mut Draw) -> io::Result<()> {
    let by_worker = draw.once_in(2);
    let batches = if by_worker { 1 + draw.below(20) } else { 1 };
    let batch = if by_worker { 1 } else { 1 + draw.below(200) };
    let mut reader = BufReader::new(socket);
    for _ in 0..batches {
        let lines: Vec<String> = (0..batch).map(|_| line(by_worker, draw)).collect();
        reader
            .get_ref()
            .write_all((lines.join("\n") + "\n").as_bytes())?;
        for line in &lines {
            let mut answer = String::new();
            reader.read_line(&mut answer)?;
            let expected: String = line.chars().rev().collect();
            if answer.strip_suffix('\n') != Some(&expected) {
                return Err(io::Error::other(format!("{answer:?} to {line:?}")));
            }
        }
        count(&shared.totals.lines, lines.len() as u64);
    }
    reader.get_ref().shutdown(Shutdown::Write)?;
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more than the answers")),
    }
}

fn line(by_worker: bool, draw: &mut Draw) -> String {
    let length = draw.below(200);
    let letters = (0..length).map(|_| char::from(b'k' + draw.below(10) as u8));
    std::iter::once(if by_worker { 'j' } else { 'd' })
        .chain(letters)
        .collect()
}

/// Sends a line without an end. The server must end the connection, and answer nothing.
fn overlong(mut socket: Socket, draw: &mut Draw) -> io::Result<()> {
    let letters = vec![b'x'; LINE_MAX + 3 + draw.below(4 * LINE_MAX)];
    // The server may reset before it has read everything.
    if let Err(error) = socket.write_all(&letters)
        && !is_end(&error)
    {
        return Err(error);
    }
    match socket.read(&mut [0]) {
        Ok(0) => Ok(()),
        Err(error) if is_end(&error) => Ok(()),
        Ok(_) => Err(io::Error::other("an answer to a line that is too long")),
        Err(error) => Err(error),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// Says nothing until the server ends the connection, which must not be too soon.
fn idle(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    let mut socket = tcp(address)?;
    match socket.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if is_end(&error) => {}
        Ok(_) => return Err(io::Error::other("an answer to nothing")),
        Err(error) => return Err(error),
    }
    // A turn shorter than 50 ms takes its length off the timeouts that are set in it.
    if began.elapsed() + Duration::from_millis(50) < IDLE_TIMEOUT {
        return Err(io::Error::other(format!(
            "ended after {:?}",
            began.elapsed()
        )));
    }
    Ok(())
}

/// Connects, and is gone before it is served.
fn hasty(targets: &Targets, draw: &mut Draw) -> io::Result<()> {
    for _ in 0..1 + draw.below(20) {
        let target = [targets.echo, targets.relay, targets.frames][draw.below(3)];
        let socket = tcp(target)?;
        if draw.once_in(2) {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if draw.once_in(2) {
            // A relay without a file descriptor may have reset it.
            let _ = (&socket).write(b"half of a");
        }
    }
    Ok(())
}

/// Sends datagrams one by one. Each echo is whole; it may be lost.
fn datagrams(shared: &Shared, address: SocketAddr, draw: &mut Draw) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    let mut answer = [0; 2048];
    for _ in 0..1 + draw.below(50) {
        let number = draw.number();
        let mut datagram = vec![0; 1 + draw.below(1400)];
        fill(number, 0, &mut datagram);
        socket.send(&datagram)?;
        match socket.recv(&mut answer) {
            Ok(length) if answer[..length] == datagram => count(&shared.totals.datagrams, 1),
            Ok(length) => return Err(io::Error::other(format!("another datagram of {length}"))),
            // An answer that comes later would be taken for that of the next datagram.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                count(&shared.totals.datagrams_lost, 1);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Clients that have sent a request when the daemon is asked to end. Each must get its answer
/// whole: an echo, or a line that a worker reverses.
pub(crate) struct LastClients {
    echoes: Vec<(Socket, u64)>,
    lines: Vec<(Socket, String)>,
}

impl LastClients {
    const REQUEST: usize = 48 << 10;

    pub(crate) fn open(targets: &Targets, seed: u64) -> Result<Self, String> {
        let echo = |number: u64| {
            let socket = match number % 2 {
                0 => tcp(targets.echo)?,
                _ => unix(&targets.unix)?,
            };
            let mut request = vec![0; Self::REQUEST];
            fill(seed ^ number, 0, &mut request);
            (&socket).write_all(&request)?;
            Ok((socket, seed ^ number))
        };
        let line = |number: u64| {
            let socket = tcp(targets.frames)?;
            let line = format!("j{number}");
            (&socket).write_all(format!("{line}\n").as_bytes())?;
            Ok((socket, line))
        };
        let clients = || {
            Ok(Self {
                echoes: (0..8).map(echo).collect::<io::Result<_>>()?,
                lines: (0..8).map(line).collect::<io::Result<_>>()?,
            })
        };
        clients().map_err(|error: io::Error| format!("a last client: {error}"))
    }

    /// Reads the answers, up to the end of each stream.
    pub(crate) fn finish(self, seed: u64) -> Result<(), String> {
        let mut draw = Draw::new(seed, u64::MAX / 2);
        for (socket, number) in self.echoes {
            receive(&socket, number, Self::REQUEST, None, false, &mut draw)
                .map_err(|error| format!("a client at the stop: {error}"))?;
        }
        for (mut socket, line) in self.lines {
            let mut answer = String::new();
            let read = socket.read_to_string(&mut answer);
            let expected: String = line.chars().rev().chain(['\n']).collect();
            if read.is_err() || answer != expected {
                return Err(format!("{answer:?} to {line:?} at the stop: {read:?}"));
            }
        }
        Ok(())
    }
}
