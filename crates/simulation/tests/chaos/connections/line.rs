//! The socket of a client, and the layer above it.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use simulation::{Peer, random};

use super::clients::Way;
use super::{PROXY, SERVER, UNIX};
use crate::draw::{duration, once_in, size};
use crate::toy::{DATA, END, HELLO, QUESTION, RECORD_MAX, decode, record};

/// The client's end of a connection.
pub(super) enum Line {
    Bare(Peer),
    Layered(Layered),
}

/// A client of the layer.
pub(super) struct Layered {
    peer: Peer,
    has_greeted: bool,
    received: Vec<u8>,
    input: Vec<u8>,
    has_ended: bool,
}

impl Line {
    pub(super) fn connect(way: Way, is_layered: bool) -> io::Result<Self> {
        let address = match way {
            Way::Tcp => SERVER,
            Way::Proxy => PROXY,
            Way::Unix => UNIX,
        };
        let peer = Peer::connect_to(&address.parse().unwrap())?;
        Ok(if is_layered {
            Self::Layered(Layered::new(peer))
        } else {
            Self::Bare(peer)
        })
    }

    fn peer(&mut self) -> &mut Peer {
        match self {
            Self::Bare(peer) | Self::Layered(Layered { peer, .. }) => peer,
        }
    }

    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.peer().set_timeout(timeout);
    }

    /// Returns how many bytes have arrived. Some bytes of a layered stream belong to the layer.
    pub(super) fn unread(&mut self) -> u64 {
        let held = match self {
            Self::Bare(_) => 0,
            Self::Layered(layered) => layered.input.len() as u64,
        };
        self.peer().unread() + held
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Bare(peer) => peer.write_all(bytes),
            Self::Layered(layered) => layered.write_all(bytes),
        }
    }

    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        if let Self::Layered(layered) = self {
            layered.write_record(END, b"")?;
        }
        self.peer().shutdown_write()
    }

    pub(super) fn reset(self) {
        match self {
            Self::Bare(peer) | Self::Layered(Layered { peer, .. }) => peer.reset(),
        }
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bare(peer) => peer.read(buf),
            Self::Layered(layered) => layered.read(buf),
        }
    }
}

impl Layered {
    const fn new(peer: Peer) -> Self {
        Self {
            peer,
            has_greeted: false,
            received: Vec::new(),
            input: Vec::new(),
            has_ended: false,
        }
    }

    /// Sends bytes in records of drawn lengths, after the hello.
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if !self.has_greeted {
            self.has_greeted = true;
            self.write_record(HELLO, b"")?;
        }
        while !bytes.is_empty() {
            let (piece, rest) =
                bytes.split_at(bytes.len().min(1 + random(RECORD_MAX as u64) as usize));
            bytes = rest;
            self.write_record(DATA, piece)?;
            if once_in(8) {
                self.write_record(QUESTION, &vec![7; size(100)])?;
            }
        }
        Ok(())
    }

    /// Sends a record, sometimes in two parts.
    fn write_record(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let bytes = record(kind, payload);
        let cut = if once_in(4) {
            random(bytes.len() as u64) as usize
        } else {
            0
        };
        if cut > 0 {
            self.peer.write_all(&bytes[..cut])?;
            simulation::sleep(duration(Duration::from_secs(2)));
        }
        self.peer.write_all(&bytes[cut..])
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.input.is_empty() && !self.has_ended {
            let mut bytes = [0; 4096];
            let count = self.peer.read(&mut bytes)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&bytes[..count]);
            while let Some((kind, payload)) = decode(&mut self.received) {
                match kind {
                    DATA => self.input.extend(payload),
                    END => self.has_ended = true,
                    _ => {} // a hello, or the answer to a question
                }
            }
        }
        let count = self.input.len().min(buf.len());
        buf[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(count)
    }
}
