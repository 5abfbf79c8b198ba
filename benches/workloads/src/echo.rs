//! W5, echo: a server that sends back the bytes that it receives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use clap::{Args, ValueEnum};

use crate::{Result, raise_open_files_limit};

/// The options of a server.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Layer between the loop and the socket
    #[arg(long, value_enum, default_value_t = Form::Bare)]
    pub form: Form,
    /// Poll for up to this many microseconds before sleeping
    #[arg(long, default_value_t = 0)]
    pub spin: u64,
}

/// The layer between the loop and the socket. Each server has only some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// None: the handler reads into a buffer that all connections share
    Bare,
    /// Connections that queue the bytes that the socket does not accept
    Buffered,
    /// The same, closed after a minute of silence
    Timed,
    /// A task for each connection; all tasks read into a shared buffer
    Shared,
    /// A task for each connection, with its own buffer
    Usual,
    /// A task for each connection, which need not be `Send`, with its own buffer of 1 KiB
    Task,
    /// The same on the fastest executor
    TaskLean,
}

/// The maximum number of bytes of one read into a shared buffer.
pub const READ_MAX: usize = 64 * 1024;
/// The maximum number of bytes of one read of a task, whose buffer is a part of its future.
pub const TASK_READ_MAX: usize = 1024;
/// The maximum number of connections that wait in the kernel until they are accepted. `bind` asks
/// for 128, which our client soon fills.
const QUEUE_MAX: i32 = 4096;

/// Returns a non-blocking listening socket, on a port that the kernel chooses. Prints the port for
/// the client.
///
/// # Errors
/// The errors of `bind(2)`, of `listen(2)` and of standard output.
pub fn listen() -> Result<TcpListener> {
    raise_open_files_limit()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, QUEUE_MAX)?;
    listener.set_nonblocking(true)?;
    announce(listener.local_addr()?.port())?;
    Ok(listener)
}

/// Prints the port of the server for the client.
///
/// # Errors
/// The errors of standard output.
pub fn announce(port: u16) -> Result {
    println!("{{\"port\": {port}}}");
    Ok(io::stdout().flush()?)
}

/// The event that a connection waits for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Await {
    /// Bytes from the peer
    Readable,
    /// Room to write, since the peer has not read everything yet
    Writable,
    /// None: the peer has ended its direction, and has everything back
    Nothing,
}

/// A connection on a loop that reports readiness: the bytes that the peer has not read yet.
#[derive(Debug, Default)]
pub struct Echo {
    /// The bytes to send. It is empty and has no memory while the peer keeps up.
    backlog: Vec<u8>,
}

impl Echo {
    /// Writes the bytes that are left from before. If none are left after that, reads once and
    /// writes once. Keeps the bytes that the socket does not accept. Returns the event to wait for,
    /// and `true` if the read has proven that no more bytes are there. After the end of the stream,
    /// a short read is no such proof.
    ///
    /// # Errors
    /// The errors of the connection.
    #[inline]
    pub fn exchange(
        &mut self,
        stream: &mut (impl Read + Write),
        scratch: &mut [u8],
    ) -> io::Result<(Await, bool)> {
        if !self.backlog.is_empty() {
            let sent = unless_full(stream.write(&self.backlog))?;
            self.backlog.drain(..sent);
            if !self.backlog.is_empty() {
                return Ok((Await::Writable, false));
            }
            self.backlog = Vec::new();
        }
        let bytes = match stream.read(scratch) {
            Ok(0) => return Ok((Await::Nothing, true)),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok((Await::Readable, true));
            }
            Err(error) => return Err(error),
        };
        let sent = unless_full(stream.write(&scratch[..bytes]))?;
        if sent < bytes {
            self.backlog.extend_from_slice(&scratch[sent..bytes]);
            return Ok((Await::Writable, false));
        }
        Ok((Await::Readable, bytes < scratch.len()))
    }
}

/// Treats a write that would block as a write of 0 bytes.
#[inline]
fn unless_full(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
