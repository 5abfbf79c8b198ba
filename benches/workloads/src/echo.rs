//! W5, echo: a server that sends back what it receives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use clap::{Args, ValueEnum};

use crate::{Result, raise_open_files_limit};

/// How it serves.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What stands between the loop and the socket
    #[arg(long, value_enum, default_value_t = Form::Bare)]
    pub form: Form,
    /// Look for work for up to so many microseconds before sleeping
    #[arg(long, default_value_t = 0)]
    pub spin: u64,
}

/// What stands between the loop and the socket; not every server has each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Nothing: it reads into a buffer that all connections share
    Bare,
    /// Connections that queue what the socket does not take
    Buffered,
    /// The same, closed when they have been silent for a minute
    Timed,
    /// A task for each connection, that reads into a buffer that all share
    Shared,
    /// A task for each connection, with a buffer of its own
    Usual,
}

/// How much is read at once, where all connections share the buffer.
pub const READ_MAX: usize = 64 * 1024;
/// How many connections the kernel holds until they are accepted: bind has asked for 128, which our
/// client soon fills.
const QUEUE_MAX: i32 = 4096;

/// A listening socket, non-blocking, on a port that the kernel chooses; tells the client which.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`, and of standard output.
pub fn listen() -> Result<TcpListener> {
    raise_open_files_limit()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, QUEUE_MAX)?;
    listener.set_nonblocking(true)?;
    announce(listener.local_addr()?.port())?;
    Ok(listener)
}

/// Tells the client where the server is.
///
/// # Errors
/// Those of standard output.
pub fn announce(port: u16) -> Result {
    println!("{{\"port\": {port}}}");
    Ok(io::stdout().flush()?)
}

/// What a connection waits for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Await {
    /// Bytes of its peer
    Readable,
    /// That its peer takes what it has sent
    Writable,
    /// Nothing: the peer has sent all it will, and has it back
    Nothing,
}

/// A connection on a loop that tells what is ready: what its peer has not yet taken.
#[derive(Debug, Default)]
pub struct Echo {
    /// Empty, and without memory, while the peer keeps up.
    backlog: Vec<u8>,
}

impl Echo {
    /// Reads once, or not while something is left over from before, and writes once; keeps what the
    /// socket does not take. Gives what to wait for, and whether the read has proven that there was
    /// no more, but for the end of the stream.
    ///
    /// # Errors
    /// Those of the connection.
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

/// A write that would block has written nothing.
#[inline]
fn unless_full(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
