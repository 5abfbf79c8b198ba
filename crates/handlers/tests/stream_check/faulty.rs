//! Streams that break their contract.

use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use handlers::{Shutdown, Stream};
use reactor::{Interest, IoState};
use rustix::event::{PollFd, PollFlags, poll};

use crate::toy::Toy;

/// How a [`Faulty`] breaks its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Drops held output if the socket is full.
    LosesOutput,
    /// Closes the socket without an end.
    SkipsEnd,
    /// Reads nothing while it holds output, and does not say so.
    WritesFirst,
    /// Says so. This is no fault.
    WaitsToWrite,
    /// Takes bytes and returns `WouldBlock`.
    DoublesRefused,
    /// Sends the bytes of a write in the reverse order.
    Reorders,
    /// Never says that it has input.
    ForgetsInput,
    /// Always says that it has input.
    ClaimsInput,
    /// Never says that it has output.
    ForgetsOutput,
    /// Returns `Ok` from a flush whose socket is full.
    FlushesEarly,
    /// Takes every write.
    HoldsAll,
    /// Counts one byte more than it has taken.
    CountsMore,
    /// Holds the end, and returns `Done`.
    EndsEarly,
    /// Returns 0 if the socket ends without an end of the stream.
    EndsWhenCut,
    /// Returns `WouldBlock` in that case.
    IgnoresCut,
    /// The handshake fails if it finds only a part.
    GivesUp,
    /// Wants to write and never does.
    WantsToWrite,
    /// The handshake waits for the peer.
    Blocks,
}

/// A socket that may be faulty too.
pub(crate) struct Socket {
    stream: UnixStream,
    /// Drops bytes that the kernel does not take.
    drops: bool,
    /// Takes no bytes.
    is_full: bool,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Stream for Socket {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_full {
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.stream.try_write(io, bufs) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.drops => {
                Ok(bufs.iter().map(|buf| buf.len()).sum())
            }
            written => written,
        }
    }
}

/// A [`Toy`] with a fault.
pub(crate) struct Faulty {
    toy: Toy<Socket>,
    fault: Fault,
    /// The output of [`Fault::HoldsAll`] that the toy has not taken.
    held: Vec<u8>,
    handshakes: usize,
}

impl Faulty {
    pub(crate) fn new(socket: OwnedFd, fault: Fault) -> Self {
        let socket = Socket {
            stream: socket.into(),
            drops: fault == Fault::LosesOutput,
            is_full: false,
        };
        Self {
            toy: Toy::new(socket),
            fault,
            held: Vec::new(),
            handshakes: 0,
        }
    }

    fn write_held(&mut self, io: &mut IoState) -> io::Result<()> {
        while !self.held.is_empty() {
            let taken = self.toy.try_write(io, &[IoSlice::new(&self.held)])?;
            self.held.drain(..taken);
        }
        self.toy.try_flush(io)
    }
}

impl AsFd for Faulty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.toy.as_fd()
    }
}

impl Stream for Faulty {
    const LAYERED: bool = true;

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        if matches!(self.fault, Fault::WritesFirst | Fault::WaitsToWrite) {
            self.toy.try_flush(io)?;
        }
        match self.toy.try_read(io, buf) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => match self.fault {
                Fault::EndsWhenCut => Ok(0),
                Fault::IgnoresCut => Err(ErrorKind::WouldBlock.into()),
                _ => Err(error),
            },
            read => read,
        }
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.to_vec()).collect();
        match self.fault {
            Fault::Reorders => bytes.reverse(),
            Fault::HoldsAll => {
                self.held.extend_from_slice(&bytes);
                return match self.write_held(io) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                    _ => Ok(bytes.len()),
                };
            }
            _ => {}
        }
        let taken = self.toy.try_write(io, &[IoSlice::new(&bytes)])?;
        match self.fault {
            Fault::DoublesRefused if self.toy.buffered_output() > 0 => {
                return Err(ErrorKind::WouldBlock.into());
            }
            Fault::CountsMore => return Ok(taken + 1),
            _ => {}
        }
        Ok(taken)
    }

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        self.handshakes += 1;
        let shaken = self.toy.try_handshake(io);
        match self.fault {
            Fault::GivesUp if shaken.is_err() && self.handshakes > 1 => {
                Err(ErrorKind::InvalidData.into())
            }
            Fault::Blocks if shaken.is_err() => {
                poll(&mut [PollFd::new(&self.toy, PollFlags::IN)], None)?;
                shaken
            }
            _ => shaken,
        }
    }

    fn try_flush(&mut self, io: &mut IoState) -> io::Result<()> {
        let flushed = self.write_held(io);
        if self.fault == Fault::FlushesEarly {
            return Ok(());
        }
        flushed
    }

    fn try_shutdown(&mut self, io: &mut IoState) -> io::Result<Shutdown> {
        match self.fault {
            Fault::SkipsEnd => self.toy.inner.try_shutdown(io),
            Fault::EndsEarly => {
                self.toy.inner.is_full = true;
                let _ = self.toy.try_shutdown(io);
                self.toy.inner.is_full = false;
                Ok(Shutdown::Done)
            }
            _ => self.toy.try_shutdown(io),
        }
    }

    fn wants(&self, interest: Interest) -> Interest {
        match self.fault {
            Fault::WantsToWrite => interest | Interest::WRITABLE,
            Fault::WaitsToWrite if self.toy.buffered_output() > 0 => Interest::WRITABLE,
            Fault::ForgetsOutput if !interest.is_none() => interest,
            _ => self.toy.wants(interest),
        }
    }

    fn has_buffered_input(&self) -> bool {
        match self.fault {
            Fault::ForgetsInput => false,
            Fault::ClaimsInput => true,
            _ => self.toy.has_buffered_input(),
        }
    }

    fn buffered_output(&self) -> usize {
        if self.fault == Fault::ForgetsOutput {
            return 0;
        }
        self.toy.buffered_output() + self.held.len()
    }
}

/// A bare stream for which every error is the end.
pub(crate) struct Deaf(TcpStream);

impl Deaf {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl AsFd for Deaf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Deaf {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.try_read(io, buf) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(0),
            read => read,
        }
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(io, bufs)
    }
}
