//! Relays: two connections, each of which sends the bytes of the other.
//!
//! Ground rule: a stream that has not ended never looks complete to its receiver. Each side owes
//! its peer the stream of the other side, up to its end. This counts as a pending response until
//! the end of that stream has been passed on. So a graceful close waits for it, and a side that
//! ends earlier is reset.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use reactor::Context;

use super::connect::Connecting;
use super::connection::Connection;
use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::reason::CloseReason;
use super::write::Flow;

/// The limit on a stall: see [`Relay`]. It is long because a slow reader can take minutes to empty
/// a good part of the kernel's buffers, and the kernel takes no more bytes before that.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The handler of one of two connections that pass all bytes on to each other. Each connection is a
/// *side* of the relay. The bytes that are read from one side are written to the other side. If the
/// peer of the other side does not take the bytes, the relay stops reading from the first side. The
/// end of a stream is passed on to the other side, and a reset is passed on too.
///
/// Below, the *first* side is the one that bytes come from, and the *other* side is the one that
/// they go to.
///
/// All bytes that were read from the first side are sent to the other peer, as fast as it takes
/// them, even if the first side has ended meanwhile. If the first peer has closed or reset its
/// connection, its unread bytes are also read and sent. If the first side is closed by a timeout or
/// through its key, its unread bytes are lost.
///
/// If the first peer has ended its stream, the other peer gets the end of the stream after the last
/// byte. In these cases the other peer gets a reset instead:
/// - The connection of the first peer failed, for example by a reset.
/// - The first side was closed by a timeout or through its key.
/// - The first side could not be connected.
/// - The server that has accepted one of the sides was [stopped](crate::ServerKey::stop), and the
///   grace period is over. During the grace period both streams continue, even if the accepted side
///   has ended before.
/// - The deadline of a [graceful close](Connection::close_gracefully) of one side is over. This
///   deadline holds for both sides. Bytes that are still queued at that time are dropped.
///
/// A Unix socket has no reset. Its peer gets the end of the stream, even if the stream was broken
/// off.
///
/// A relay waits for a slow peer, with one exception: if the first side has ended or failed, and
/// the other peer takes no byte for five minutes, the other side is closed. If bytes for this peer
/// are left, the other side is reset. The same limit holds for both sides if both peers have ended
/// their streams. To limit the time in all other cases, set
/// [`write_timeout`](crate::ConnectionOptions::write_timeout).
///
/// If more than [`max_write_queue`](crate::ConnectionOptions::max_write_queue) bytes would be
/// queued for a side, both sides are reset. To prevent this, set `max_write_queue` at least one
/// read above the high [watermark](crate::ConnectionOptions::watermarks). The size of a read is the
/// smaller of 64 KiB and [`max_bytes_per_turn`](crate::ConnectionOptions::max_bytes_per_turn). The
/// default options satisfy this rule.
///
/// Call [`pair`](Self::pair) and open a connection with each of the two handlers, for example one
/// with [`Connection::open`] and the other with [`Connection::connect`]. Nothing is read until both
/// connections are open. If the first side has a handshake, such as that of TLS, connect the other
/// side only after it: open the first connection with a [`BoxedHandler`](crate::BoxedHandler) that
/// connects in [`on_open`](ConnectionHandler::on_open), and that
/// [replaces](Connection::replace_handler) itself by the relay.
///
/// ```no_run
/// use std::net::{SocketAddr, TcpStream};
/// use handlers::{Connection, ConnectionOptions, Relay};
/// use reactor::{Context, Key};
///
/// fn forward(client: TcpStream, to: SocketAddr, cx: &mut Context<'_, ()>) -> std::io::Result<()> {
///     let (client_side, server_side) = Relay::pair();
///     let options = ConnectionOptions::new();
///     client_side.gives_up(Connection::connect(cx.registry, [to], &options, server_side));
///     Connection::open(cx.registry, client, &options, client_side)?;
///     Ok(())
/// }
/// ```
#[doc(alias("copy_bidirectional", "splice"))]
pub struct Relay<S> {
    sides: Rc<[Cell<Side<S>>; 2]>,
    own: usize,
    /// The pending connect of the other side.
    attempt: RefCell<Option<Connecting<S>>>,
}

struct Side<S> {
    stage: Stage<S>,
    /// `true` if everything from this side has been passed on, up to the end of its stream.
    is_whole: bool,
}

enum Stage<S> {
    NotOpen,
    Open(ConnectionKey<S>),
    Closed,
}

impl<S> Clone for Side<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Side<S> {}

impl<S> Clone for Stage<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Stage<S> {}

impl<S> Relay<S> {
    /// Returns the handlers of the two sides. See the example of [`Relay`].
    pub fn pair() -> (Self, Self) {
        let sides = Rc::new([0, 1].map(|_| {
            Cell::new(Side {
                stage: Stage::NotOpen,
                is_whole: false,
            })
        }));
        let side = |own| Self {
            sides: Rc::clone(&sides),
            own,
            attempt: RefCell::default(),
        };
        (side(0), side(1))
    }

    /// Hands `attempt`, the pending connect of the other side, to this side. If this side ends
    /// while the other side is still connecting, this side cancels `attempt`.
    pub fn gives_up(&self, attempt: Connecting<S>) {
        *self.attempt.borrow_mut() = Some(attempt);
    }

    fn own(&self) -> Side<S> {
        self.sides[self.own].get()
    }

    fn set_own(&self, stage: Stage<S>, is_whole: bool) {
        self.sides[self.own].set(Side { stage, is_whole });
    }

    fn other(&self) -> Side<S> {
        self.sides[1 - self.own].get()
    }

    /// Calls `access` with the other connection, if it is open.
    fn with_other<R>(
        &self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut Connection<'_, S>) -> R,
    ) -> Option<R> {
        let Stage::Open(other) = self.other().stage else {
            return None;
        };
        // An error means that the other side has ended. Its `on_close` runs later.
        other.with(cx, |connection, _cx| access(connection)).ok()
    }
}

impl<S: 'static> Relay<S> {
    /// Passes on the end of this side's stream, after all its bytes. If both streams have ended,
    /// only queued bytes are left, and a peer that takes none of them is not waited for without
    /// end.
    fn pass_end_on(&self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) {
        let have_both_ended = self.other().is_whole;
        if have_both_ended {
            connection.close_if_stalled_for(STALL_TIMEOUT);
        }
        self.with_other(cx, |other| {
            other.end_response();
            other.shutdown();
            if have_both_ended {
                other.close_if_stalled_for(STALL_TIMEOUT);
            }
        });
    }
}

impl<S: 'static> ConnectionHandler<S> for Relay<S> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let is_whole = connection.is_read_ended(); // true from the start for write-only streams
        self.set_own(Stage::Open(connection.key()), is_whole);
        // The grace of a server is that of both sides, also when one of them has ended.
        let own = connection.state.accepted_by();
        let other = self.with_other(cx, |other| {
            other.state.set_other_side_accepted_by(own);
            other.state.accepted_by()
        });
        connection.state.set_other_side_accepted_by(other.flatten());
        // The other side fills this queue, so a full queue must pause the other side and not this
        // one.
        connection.read_while_full();
        match self.other() {
            Side { is_whole: true, .. } => connection.shutdown(),
            _ => connection.begin_response(), // the other side's stream, up to its end
        }
        match self.other().stage {
            Stage::NotOpen => connection.pause_reading(),
            Stage::Open(_) if is_whole => self.pass_end_on(connection, cx),
            Stage::Open(_) => {}
            Stage::Closed => connection.close(),
        }
        self.with_other(cx, |other| other.resume_reading());
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        match self.with_other(cx, |other| other.write(data)) {
            Some(Ok(Flow::Open)) => {}
            Some(Ok(Flow::Full)) => connection.pause_reading(),
            // Bytes are missing in the middle, so neither peer may get an end of stream.
            Some(Err(error)) if error.kind() == ErrorKind::QuotaExceeded => {
                tracing::warn!(%error, "relay cannot queue received bytes: resetting both sides");
                connection.abort();
            }
            // The other side has ended, or can no longer be written to. The bytes have no receiver.
            Some(Err(_)) | None => {}
        }
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        _connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.with_other(cx, |other| other.resume_reading());
        Ok(())
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.set_own(self.own().stage, true);
        self.pass_end_on(connection, cx);
        Ok(())
    }

    /// Gives the other side the same deadline. Otherwise a server that stops would wait for it
    /// beyond its grace.
    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Some(deadline) = connection.close_deadline(cx.now()) {
            self.with_other(cx, |other| other.close_within(deadline));
        }
        Ok(())
    }

    /// Keeps the unread bytes until the other side has room. If the other peer takes none of them
    /// for too long, its side is closed.
    fn on_failure(
        &mut self,
        _error: &io::Error,
        _connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.with_other(cx, |other| other.close_if_stalled_for(STALL_TIMEOUT));
        Ok(())
    }

    fn on_close(&mut self, _reason: CloseReason, cx: &mut Context<'_, S>) {
        let is_whole = self.own().is_whole;
        self.set_own(Stage::Closed, is_whole);
        if let (Stage::NotOpen, Some(attempt)) = (self.other().stage, self.attempt.take()) {
            attempt.cancel(cx.registry);
        }
        self.with_other(cx, |other| {
            // The other side sends what is queued and then closes. If both streams have ended, it
            // does so by itself.
            if !is_whole || !other.is_read_ended() {
                other.close_unless_stalled(STALL_TIMEOUT, !is_whole);
            }
        });
    }
}

/// A side whose connection was never opened, because the socket was refused, ends here. Without
/// this, the other side would wait for it for ever.
impl<S> Drop for Relay<S> {
    fn drop(&mut self) {
        let own = self.own();
        if matches!(own.stage, Stage::NotOpen) {
            self.set_own(Stage::Closed, own.is_whole);
        }
    }
}

impl<S> fmt::Debug for Relay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("side", &self.own)
            .finish_non_exhaustive()
    }
}
