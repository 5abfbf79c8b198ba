//! Relays: two connections, each of which sends the bytes of the other.
//!
//! Ground rule: a stream that has not ended never looks complete to its receiver. Each side owes
//! its peer the rest of the other side's stream. The rest counts as a pending response until the
//! end of that stream has been passed on. So a graceful close waits for it, and a side that ends
//! before is reset.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Context, Key};

use super::connect::Connecting;
use super::connection::Connection;
use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::reason::CloseReason;
use super::write::Flow;

/// A side is closed if its other side is gone and its peer has taken no byte for this long. The
/// time is long because a slow reader can take minutes to empty a good part of the kernel's
/// buffers. The kernel takes no more bytes before that.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The handler of one of two connections that are piped into each other. Bytes that arrive on one
/// are written to the other. If the peer of one side does not take them, the other side is not read
/// further. An end of stream is passed on, and so is a reset.
///
/// All bytes that have arrived on one side are passed on, whatever happens to that side. They are
/// sent up to the last one, at the pace of the other peer. If the sender had ended its stream, an
/// end of stream follows. Otherwise a reset follows:
/// - if the sender reset its connection,
/// - if its side was closed by a timeout or by its key,
/// - at the end of the grace period of its [server](crate::ServerKey::stop), or at the deadline of
///   any other [graceful close](Connection::close_gracefully). Until then both streams go on. The
///   deadline of one side is that of both: bytes that are still queued then are dropped.
///
/// Once a side has ended, or both streams have, a peer that takes no byte for five minutes is not
/// waited for any longer, and is reset. A Unix socket has no reset, so a stream that breaks off
/// there ends like any other.
///
/// If more than [`max_write_queue`](crate::ConnectionOptions::max_write_queue) bytes would be
/// queued for a side, they cannot be passed on, and both sides are reset. Keep `max_write_queue`
/// above the high watermark by at least one read: 64 KiB, or
/// [`max_bytes_per_turn`](crate::ConnectionOptions::max_bytes_per_turn) if that is less. The
/// defaults satisfy this.
///
/// Open each handler of the [pair](Self::pair) like any other handler, for example one of them with
/// [`Connection::connect`]. Nothing is read until both are open.
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
    /// Whether everything from this side has been passed on, up to its end.
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

    /// Makes this side cancel `attempt`, the pending connect of the other side, if this side ends
    /// before the other one is open.
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
        // A side that has just ended calls `on_close` later.
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
        connection
            .state
            .set_other_side_accepted_by(other.unwrap_or(Key::NULL));
        // The queue is filled by the other side, so a full queue must pause the other side only.
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
            // Bytes are missing in the middle, so neither side can be told that the stream has
            // ended.
            Some(Err(error)) if error.kind() == ErrorKind::QuotaExceeded => {
                tracing::warn!(%error, "relay cannot queue received bytes: resetting both sides");
                connection.abort();
            }
            // The other side has ended or can no longer be written to. The bytes have no receiver.
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

    /// Keeps the unread bytes until the other side has room. If the peer there takes nothing, it is
    /// not waited for without end.
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
            // Only the queued bytes are left to send, unless both peers can still exchange bytes.
            if !is_whole || !other.is_read_ended() {
                other.close_unless_stalled(STALL_TIMEOUT, !is_whole);
            }
        });
    }
}

impl<S> fmt::Debug for Relay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("side", &self.own)
            .finish_non_exhaustive()
    }
}
