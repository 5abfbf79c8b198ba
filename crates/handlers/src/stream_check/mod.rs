//! A check of any stream, for the tests of users: both ends of a conversation on one loop, and
//! between them a wire that does what networks do.
//!
//! Ground rule: nothing waits for time to pass. The loop has a manual clock, and the wire moves its
//! bytes between two turns. So a stream that waits for nothing is seen at once. Only bytes that the
//! wire cannot move at once are waited for: those before a reset, and those of a simulation.

mod fault;
mod observed;
mod party;
mod run;
mod scenarios;
mod setup;
mod watchdog;
mod wire;

use std::os::fd::OwnedFd;

pub use self::fault::{StreamFault, StreamRule};
use self::run::Opening;
use self::scenarios::Check;
use self::watchdog::Watchdog;
use crate::Stream;

/// The stream under test, and its peer.
const SIDES: [usize; 2] = [0, 1];

const fn other(side: usize) -> usize {
    1 - side
}

const fn name(side: usize) -> &'static str {
    if side == 0 { "the stream" } else { "the peer" }
}

/// A check of a stream of your own against the contract of [`Stream`]. Use it in the tests of the
/// stream.
///
/// Two connections exchange bytes on one loop: one on the stream under test, and one on the stream
/// of its peer, for example the server and the client of TLS. Between their sockets is a wire. The
/// scenarios are:
///
/// - Both sides send at once: nothing, one byte, some bytes, more than the kernel holds. The bytes
///   travel in large pieces, one at a time, and in pieces of drawn lengths. Either side ends first,
///   or both end at once.
/// - The limits of the connection are small: 1 or 777 bytes in a turn, low watermarks.
/// - Reading is paused after each call, while the stream may hold input.
/// - The peer reads nothing for a time. The other direction goes on.
/// - The handler closes the connection.
/// - The handshake stalls.
/// - The wire is cut, reset or half-closed, after each byte of a short conversation. A conversation
///   of more than 128 bytes in one direction, such as a TLS handshake, is broken after 128 of
///   them: the last 64, and 64 that are spread over the rest.
///
/// Each scenario must go as [`StreamRule`] says. Nothing depends on time, except for a reset and
/// for a method that blocks.
///
/// ```
/// use std::io::{self, IoSlice};
/// use std::net::TcpStream;
/// use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
/// use handlers::{Stream, StreamCheck};
/// use reactor::IoState;
///
/// /// A stream whose bytes are all inverted.
/// struct Inverted(TcpStream);
///
/// impl AsFd for Inverted {
///     fn as_fd(&self) -> BorrowedFd<'_> {
///         self.0.as_fd()
///     }
/// }
///
/// impl Stream for Inverted {
///     fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
///         let count = self.0.try_read(io, buf)?;
///         buf[..count].iter_mut().for_each(|byte| *byte = !*byte);
///         Ok(count)
///     }
///
///     fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
///         let bytes = bufs.iter().flat_map(|buf| buf.iter());
///         let inverted: Vec<u8> = bytes.map(|byte| !byte).collect();
///         self.0.try_write(io, &[IoSlice::new(&inverted)])
///     }
/// }
///
/// fn inverted(socket: OwnedFd) -> Inverted {
///     Inverted(socket.into())
/// }
///
/// # fn main() -> Result<(), handlers::StreamFault> {
/// StreamCheck::new().run(inverted, inverted)?;
/// # Ok(())
/// # }
/// ```
///
/// # In a simulation
/// The check can also run within a simulation, on simulated sockets: all of them are of TCP. Its
/// network must not reset connections by itself. The scenarios take some hours of virtual time. A
/// method that blocks is not found.
///
/// # Cost
/// 250 to 900 pairs of streams, 5 MB of bytes, and a thread that watches for methods that block. A
/// check of a stream with little work of its own takes about a second in a debug build. A check of
/// a stream whose handshake takes 5 ms takes some seconds.
#[derive(Clone, Debug, Default)]
pub struct StreamCheck {
    has_end: bool,
    seed: u64,
}

impl StreamCheck {
    /// Makes a check of a stream without an end of its own.
    pub const fn new() -> Self {
        Self {
            has_end: false,
            seed: 0,
        }
    }

    /// Declares that the stream has an end of its own, such as the `close_notify` of TLS. The check
    /// then fails if the stream looks complete after its socket has ended without it. Default: the
    /// end of the socket is the end of the stream.
    #[must_use = "returns the changed check"]
    pub const fn with_end(mut self) -> Self {
        self.has_end = true;
        self
    }

    /// Sets the seed from which the lengths of pieces are drawn. Default: 0.
    #[must_use = "returns the changed check"]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs all scenarios. `stream` makes a stream under test, and `peer` makes the stream that it
    /// speaks with. The rules hold for both. Both can be read and written, and can close their
    /// write side alone.
    ///
    /// Each function is called several hundred times, each time with a connected stream socket. In
    /// most scenarios this is a Unix socket, so a call that only TCP has, such as
    /// `TcpStream::set_nodelay`, fails. [`TcpStream::from`](std::net::TcpStream) and
    /// [`UnixStream::from`](std::os::unix::net::UnixStream) make a stream of the socket.
    ///
    /// A method that blocks is found after three seconds: the sockets of the wire are then shut
    /// down. If the method still does not return, `run` does not return either.
    ///
    /// # Errors
    /// [`StreamFault`] for the first rule that is broken, with the scenario.
    pub fn run<T: Stream, P: Stream>(
        &self,
        mut stream: impl FnMut(OwnedFd) -> T,
        mut peer: impl FnMut(OwnedFd) -> P,
    ) -> Result<(), StreamFault> {
        let mut check = Check {
            has_end: self.has_end,
            seed: self.seed,
            watchdog: Watchdog::start().map_err(StreamFault::System)?,
            open: [
                &mut |opening: Opening<'_>| opening.open(&mut stream),
                &mut |opening: Opening<'_>| opening.open(&mut peer),
            ],
        };
        check.run()
    }
}
