//! The end of a layered stream that has failed and has sent the reason to its peer.
//!
//! A socket that is closed with unread input is reset, and so is a peer that sends more. A reset
//! may overtake the reason. So a duplicate of the socket stays open: its write side is closed, and
//! its input is discarded until the peer closes its side. The connection itself ends at once.
//!
//! Ground rule: this is bounded in time and in bytes, and it counts for the connection limit.
//!
//! The idea is the `lingering_close` of nginx.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use reactor::{Context, Io};

use crate::connection::connection::Connection;
use crate::connection::handler::ConnectionHandler;
use crate::connection::open::{OpenedBy, open_by};
use crate::connection::options::ConnectionOptions;
use crate::connection::rate::RateLimit;
use crate::connection::registration::Registration;
use crate::connection::state::Writing;
use crate::connection::stream::Stream;
use crate::sockets;

/// The time within which the peer must read the reason and close.
const LINGER_TIME: Duration = Duration::from_secs(5);
/// The most bytes of the peer that are discarded in a second, and at once.
const DISCARDED_PER_SECOND: u64 = 1 << 20;
/// The most bytes that are discarded in a turn.
const DISCARDED_PER_TURN: usize = 64 << 10;

impl<H> Registration<H> {
    /// Lets the peer read why the stream has failed. If the process has no descriptor for that, the
    /// connection ends as it does after any other failure.
    #[cold]
    pub(in crate::connection) fn linger<S, T: Stream>(
        &mut self,
        io: &Io<T>,
        cx: &mut Context<'_, S>,
    ) {
        let line = cx.registry.origin(cx.key());
        let (Ok(line), Some(socket)) = (line, sockets::duplicate(io.as_fd())) else {
            return;
        };
        self.state.set_writing(Writing::Ended); // neither a reset nor an end of the stream follows
        let by = OpenedBy {
            line,
            server: self.state.accepted_by(),
            permit: self.state.take_permit(),
        };
        let options = ConnectionOptions::new()
            .max_bytes_per_turn(DISCARDED_PER_TURN)
            .read_rate(RateLimit::new(DISCARDED_PER_SECOND, DISCARDED_PER_SECOND));
        // A Unix socket too: the system calls are the same. An error: the peer gets a reset.
        let _ = open_by(cx.registry, TcpStream::from(socket), &options, Discard, by);
    }
}

/// The handler of a socket whose input is discarded.
struct Discard;

impl<S> ConnectionHandler<S> for Discard {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        connection.close_after_flush(LINGER_TIME);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }
}
