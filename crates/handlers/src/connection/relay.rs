//! Relays: two connections whose bytes go from each to the other.
//!
//! Ground rule: a stream that has not come to its own end never looks as if it had. Each side owes its peer the rest of
//! the other side's stream, as an answer that is made elsewhere, until the end of that has been passed on: so a finish
//! waits for it, and a side that ends before ends by a reset.

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

/// A side whose other side is gone, and whose peer has taken no byte for so long, is closed. Long, since a slow reader
/// may take minutes to empty a good part of the kernel's buffers, before which the kernel takes no more.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The handler of one of two connections that are piped into each other: what comes from one is written to the other. A
/// side whose peer does not take it is read no further; an end of stream is passed on, and so is a reset.
///
/// All bytes that have come from a side are passed on, whatever becomes of that side: they arrive up to the last one,
/// at the pace of the other peer. Behind them comes the end of the stream if the peer had sent it, and a reset if it
/// had not: where the peer reset its connection, and where this side was closed by a timeout, by its key, or at the end
/// of the grace of its [server](crate::ServerKey::stop), which until then lets both streams go on. A peer that takes no
/// byte for five minutes is waited for no longer, and reset. A Unix socket knows no reset, so there a stream that
/// breaks off ends like any other.
///
/// Bytes beyond [`max_write_queue`](crate::ConnectionOptions::max_write_queue) of a side cannot be passed on, and reset both. Keep
/// it above the high watermark by at least one read (64 KiB, or
/// [`max_bytes_per_turn`](crate::ConnectionOptions::max_bytes_per_turn) if that is less), as it is by default.
///
/// Each of the [pair](Self::pair) is opened like any other handler, one of them by [`Connection::connect`] perhaps:
/// nothing is read until both are open.
///
/// ```no_run
/// use std::net::{SocketAddr, TcpStream};
/// use handlers::{Connection, ConnectionOptions, Relay};
/// use reactor::Context;
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
    /// The attempt to open the other side.
    attempt: RefCell<Option<Connecting<S>>>,
}

struct Side<S> {
    stage: Stage<S>,
    /// Whether all that comes from this side has been passed on, up to its end.
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
    /// The handlers of the two sides.
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

    /// Has this side give up the attempt to connect the other one, if this side ends before that is open.
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

    /// Lends the other connection, if it is open.
    fn with_other<R>(
        &self,
        cx: &mut Context<'_, S>,
        access: impl FnOnce(&mut Connection<'_, S>) -> R,
    ) -> Option<R> {
        let Stage::Open(other) = self.other().stage else {
            return None;
        };
        other.with(cx, |connection, _cx| access(connection)).ok() // one that has just ended will say so
    }
}

impl<S: 'static> Relay<S> {
    /// All that comes from this side has been passed on, and so is that it is all.
    fn pass_end_on(&self, cx: &mut Context<'_, S>) {
        self.with_other(cx, |other| {
            other.end_response();
            other.shutdown();
        });
    }
}

impl<S: 'static> ConnectionHandler<S> for Relay<S> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let is_whole = connection.is_read_ended(); // there are streams that are only written to
        self.set_own(Stage::Open(connection.key()), is_whole);
        connection.read_while_full(); // what is queued comes from the other side, and holds up that one
        match self.other() {
            Side { is_whole: true, .. } => connection.shutdown(),
            _ => connection.begin_response(), // the other side's stream, up to its end
        }
        match self.other().stage {
            Stage::NotOpen => connection.pause_reading(),
            Stage::Open(_) if is_whole => self.pass_end_on(cx),
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
            // With bytes left out of the middle, neither side may believe that the stream has come to its end.
            Some(Err(error)) if error.kind() == ErrorKind::QuotaExceeded => {
                tracing::warn!(%error, "a relay cannot queue what has come, and resets both sides");
                connection.abort();
            }
            // It has ended, or can no longer be written to: what comes is for nobody.
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
        _connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.set_own(self.own().stage, true);
        self.pass_end_on(cx);
        Ok(())
    }

    /// The bytes that had come stay until the other side has room. A peer there that takes nothing is not waited for
    /// without end.
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
            // What is to be sent is all that is left, if there are still two who want to hear each other.
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
