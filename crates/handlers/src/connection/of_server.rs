//! The connections that a server has accepted. The server closes them gracefully when it stops.
//!
//! A connection that was accepted can be opened as a stream of any type, with a handler of any
//! type. So the server reaches its connections by requests, which need no types.

use reactor::{Context, Io, Key, Registry};

use super::connection::Connection;
use super::handler::ConnectionHandler;
use super::later::defer_for;
use super::registration::Registration;
use super::state::Flags;
use super::stream::Stream;
use crate::server::{GracefulClose, ServerId};

/// A request of a server to one of its connections. Other registrations ignore it.
pub(super) struct ServerRequest {
    from: ServerId,
    wants: Wants,
}

enum Wants {
    Pause,
    Close(GracefulClose),
}

/// Gracefully closes all connections of this loop that `server` has accepted, later this turn or
/// next turn.
pub(crate) fn close_accepted<S>(registry: &mut Registry<S>, server: ServerId, how: GracefulClose) {
    for key in keys(registry) {
        close_if_accepted_by(registry, key, server, how);
    }
}

/// Pauses reading of all connections of this loop that `server` has accepted, at once.
pub(crate) fn pause_accepted<S>(cx: &mut Context<'_, S>, server: ServerId) {
    for key in keys(cx.registry) {
        let mut pause = ServerRequest {
            from: server,
            wants: Wants::Pause,
        };
        // An error needs no handling. If the handler is running, the deferred callback that closes
        // the connection also pauses it.
        let _ = cx.request(key, &mut pause);
    }
}

/// Gracefully closes the connection `key` if `server` has accepted it, later this turn or next
/// turn.
///
/// The close is deferred, because a connection that has not opened yet opens for it. If its handler
/// panics then, neither the caller nor other connections end.
pub(super) fn close_if_accepted_by<S>(
    registry: &mut Registry<S>,
    key: Key,
    server: ServerId,
    how: GracefulClose,
) {
    defer_for(registry, key, move |cx| {
        let mut close = ServerRequest {
            from: server,
            wants: Wants::Close(how),
        };
        let _ = cx.request(key, &mut close); // an error means that it has ended meanwhile
    });
}

fn keys<S>(registry: &Registry<S>) -> Vec<Key> {
    registry.registrations().map(|info| info.key).collect()
}

impl<H> Registration<H> {
    /// Serves a request of a server, if that has accepted this connection.
    pub(super) fn serve_request<S, T: Stream>(
        &mut self,
        request: &ServerRequest,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
    ) where
        H: ConnectionHandler<S>,
    {
        if self.state.accepted_by_id() != Some(request.from) {
            return;
        }
        match request.wants {
            Wants::Pause => self.pause_as_accepted(),
            Wants::Close(how) => self.access(io, cx, |_, connection, _cx| {
                connection.close_as_accepted(how);
            }),
        }
    }

    fn pause_as_accepted(&mut self) {
        if !self.state.flags.has(Flags::OTHER_SIDE) {
            self.state.flags.insert(Flags::PAUSED);
        }
    }
}

impl<S> Connection<'_, S> {
    fn close_as_accepted(&mut self, how: GracefulClose) {
        if self.state.flags.has(Flags::OTHER_SIDE) {
            return self.close_within(how.grace);
        }
        if !how.reads {
            self.pause_reading();
        }
        self.close_gracefully(how.grace);
    }
}
