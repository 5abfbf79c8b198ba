//! Relays: two connections whose bytes go from each to the other.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use reactor::Context;

use super::key::ConnectionKey;
use super::lent::Connection;
use super::{CloseReason, ConnectionHandler, Flow};

/// How long the other side may take to send what it has, once one side is gone.
const GRACE: Duration = Duration::from_secs(5);

/// The handler of one of two connections that are piped into each other: what comes from one is written to the other. A
/// side whose peer does not take it is read no further; an end of stream is passed on, and so is a reset.
///
/// A side that is closed by us, by a timeout or with the [server](crate::ServerKey::stop) that has accepted it, ends the other in order
/// after what is queued: what had not come by then is missing there. A failure of one side is a reset of the other, unless all
/// that it had to send was passed on before: then the other is closed in order.
///
/// Each of the [pair](Self::pair) is opened like any other handler, one of them by [`connect`](super::connect) perhaps: nothing is
/// read until both are open.
///
/// ```no_run
/// use std::net::{SocketAddr, TcpStream};
/// use handlers::{ConnectionOptions, Relay, connect, open};
/// use reactor::Context;
///
/// fn forward(client: TcpStream, to: SocketAddr, cx: &mut Context<'_, ()>) -> std::io::Result<()> {
///     let (client_side, server_side) = Relay::pair();
///     let options = ConnectionOptions::new();
///     open(cx.registry, client, &options, client_side)?;
///     connect(cx.registry, [to], &options, server_side);
///     Ok(())
/// }
/// ```
pub struct Relay<S> {
    sides: Rc<[Cell<Side<S>>; 2]>,
    own: usize,
    /// Whether all that comes from this side has been passed on, up to its end.
    is_whole: bool,
}

enum Side<S> {
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

impl<S> Relay<S> {
    /// The handlers of the two sides.
    pub fn pair() -> (Self, Self) {
        let sides = Rc::new([Cell::new(Side::NotOpen), Cell::new(Side::NotOpen)]);
        (Self { sides: Rc::clone(&sides), own: 0, is_whole: false }, Self { sides, own: 1, is_whole: false })
    }

    fn other(&self) -> Side<S> {
        self.sides[1 - self.own].get()
    }

    /// Lends the other connection, if it is open.
    fn with_other<R>(&self, cx: &mut Context<'_, S>, visitor: impl FnOnce(&mut Connection<'_, S>) -> R) -> Option<R> {
        let Side::Open(other) = self.other() else { return None };
        other.with(cx, |connection, _cx| visitor(connection)).ok() // one that has just ended will say so
    }
}

impl<S: 'static> ConnectionHandler<S> for Relay<S> {
    fn on_open(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.sides[self.own].set(Side::Open(connection.key()));
        self.is_whole = connection.is_read_ended(); // there are streams that are only written to
        connection.read_while_full(); // what is queued comes from the other side, and holds up that one
        match self.other() {
            Side::NotOpen => connection.pause_reading(),
            Side::Open(_) => drop(self.with_other(cx, |other| other.resume_reading())),
            Side::Closed => connection.close(),
        }
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
            // It has failed, or has ended its direction: what comes is for nobody.
            Some(Err(_)) | None => {}
        }
        Ok(data.len())
    }

    fn on_drain(&mut self, _connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.with_other(cx, |other| other.resume_reading());
        Ok(())
    }

    fn on_end(&mut self, _rest: &[u8], _connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        self.is_whole = true;
        self.with_other(cx, |other| other.shutdown());
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let was_open = matches!(self.sides[self.own].replace(Side::Closed), Side::Open(_));
        self.with_other(cx, |other| match reason {
            // Both directions were passed on: what is queued is all that is left, however long that takes.
            CloseReason::Finished if other.is_read_ended() => {}
            // A stream that was cut must not look as if it had come to its end. Who does not read any more, which is what a
            // broken pipe says, may have answered before, and said so by an end.
            CloseReason::Failed(error) if was_open && !(self.is_whole && error.kind() == ErrorKind::BrokenPipe) => {
                other.abort();
            }
            CloseReason::Aborted => other.abort(),
            _ => other.close_after_flush(GRACE),
        });
    }
}

impl<S> fmt::Debug for Relay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("side", &self.own).finish_non_exhaustive()
    }
}
