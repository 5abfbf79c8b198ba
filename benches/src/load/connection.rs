//! A connection to the server, with at most one message in flight.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use workloads::Result;

use super::security::Security;
use super::session::Session;

/// The result of an operation of a connection.
type Told<T = ()> = std::result::Result<T, String>;

pub(super) struct Connection {
    stream: TcpStream,
    session: Option<Box<Session>>,
    /// Whether a message is in flight.
    on_its_way: bool,
    /// The start of that message, and its bytes that were written and read back.
    since: Instant,
    written: usize,
    read: usize,
}

/// Connects to the server without blocking reads and writes.
pub(super) fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    // This makes `close` reset the connection, so no port stays in TIME_WAIT for later rounds.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Connection {
    pub(super) fn open(port: u16, security: Option<&Security>, message: &[u8]) -> Result<Self> {
        let stream = connect(port)?;
        let session = security.map(|security| Session::new(security, message));
        Ok(Self {
            stream,
            session: session.transpose()?.map(Box::new),
            on_its_way: false,
            since: Instant::now(),
            written: 0,
            read: 0,
        })
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Prepares the messages of a slice.
    pub(super) fn prepare(&mut self) -> Told {
        self.session.as_mut().map_or(Ok(()), |it| it.prepare())
    }

    /// Checks the answers of a slice that were not checked in it.
    pub(super) fn check(&mut self) -> Told {
        self.session.as_mut().map_or(Ok(()), |it| it.check())
    }

    /// Returns `true` if the next message needs another connection.
    pub(super) fn is_used_up(&self) -> bool {
        self.session.as_ref().is_some_and(|it| it.is_used_up())
    }

    /// Checks that the handshake was full or resumed, as it should be.
    pub(super) fn check_handshake(&self) -> Told {
        let session = self.session.as_ref();
        session.map_or(Ok(()), |it| it.check_handshake())
    }

    pub(super) fn begin(&mut self, now: Instant) -> Told {
        (self.on_its_way, self.since, self.written, self.read) = (true, now, 0, 0);
        self.session.as_mut().map_or(Ok(()), |it| it.begin())
    }

    /// Ends the message in flight if it has come back completely. Returns its round-trip time.
    pub(super) fn end(&mut self, message: &[u8], now: Instant) -> Option<Duration> {
        let is_back = self.on_its_way && self.read == message.len();
        self.on_its_way &= !is_back;
        is_back.then(|| now - self.since)
    }

    /// Reads all available bytes, and checks that they equal the bytes sent.
    pub(super) fn read(&mut self, message: &[u8], buffer: &mut [u8]) -> Told {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server has closed the connection".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            self.take(message, &buffer[..count])?;
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, message: &[u8], bytes: &[u8]) -> Told {
        let count = bytes.len();
        if let Some(session) = &mut self.session {
            self.read += session.receive(bytes)?;
            if self.read > message.len() {
                return Err("more came back than was sent".to_owned());
            }
            return Ok(());
        }
        let expected = message[..self.written].get(self.read..self.read + count);
        if !self.on_its_way || expected != Some(bytes) {
            let text = format!("{count} bytes came back that differ from those sent");
            return Err(text);
        }
        self.read += count;
        Ok(())
    }

    /// Writes the part of the message that the socket accepts.
    pub(super) fn write(&mut self, message: &[u8]) -> Told {
        if let Some(session) = &mut self.session {
            return session.send(&mut self.stream);
        }
        while self.on_its_way && self.written < message.len() {
            match self.stream.write(&message[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Ends our direction, and waits for the end of the server.
    pub(super) fn close(mut self, patience: Duration) -> Result {
        if let Some(session) = &mut self.session {
            session.close(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(patience))?;
        // A session ends with a close_notify, which is no message.
        let mut after = Vec::new();
        self.stream.read_to_end(&mut after)?;
        let is_more = self.session.is_none() && !after.is_empty();
        if is_more {
            return Err("more came back than was sent".into());
        }
        Ok(())
    }
}
