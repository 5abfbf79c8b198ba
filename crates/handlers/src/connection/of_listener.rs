//! The connections that a listener has accepted. The listener closes them gracefully when its
//! server stops.

use std::any::TypeId;
use std::net::TcpStream;
use std::time::Duration;

use reactor::{Context, Io, Key, Registry};

use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::later::defer_for;
use super::registration::Registration;
use super::state::Flags;
use super::stream::Stream;

/// The way in which connections are closed gracefully.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GracefulClose {
    pub(crate) grace: Duration,
    /// `true` if input that has arrived is answered too.
    pub(crate) reads: bool,
}

/// Gracefully closes all connections that `listener` has accepted, later this turn or next turn.
pub(crate) fn close_accepted<S, T, H>(registry: &mut Registry<S>, listener: Key, how: GracefulClose)
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let keys: Vec<Key> = registry
        .registrations()
        .map(|registration| registration.key)
        .collect();
    for key in keys {
        close_if_accepted_by::<S, T, H>(registry, key, listener, how);
        // The other side of a relay may be of another family. A key of a wrong type does nothing.
        if TypeId::of::<T>() != TypeId::of::<TcpStream>() {
            close_if_accepted_by::<S, TcpStream, H>(registry, key, listener, how);
        }
    }
}

/// Pauses reading of all connections that `listener` has accepted, at once.
pub(crate) fn pause_accepted<S, T, H>(cx: &mut Context<'_, S>, listener: Key)
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let keys: Vec<Key> = cx
        .registry
        .registrations()
        .map(|registration| registration.key)
        .collect();
    for key in keys {
        let pause = |_: &mut Io<T>, to: &mut Registration<H>, _: &mut Context<'_, S>| {
            to.pause_if_accepted_by(listener)
        };
        // An error needs no handling. If the handler is running, the deferred callback that closes
        // the connection also pauses it. If the connection has other types, it is not one of them.
        let _ = cx.with_handler(key, pause);
    }
}

/// Gracefully closes the connection `key` if `listener` has accepted it, later this turn or next
/// turn.
///
/// The close is deferred, because a connection that has not opened yet opens for it. If its handler
/// panics then, neither the caller nor other connections end.
pub(crate) fn close_if_accepted_by<S, T, H>(
    registry: &mut Registry<S>,
    key: Key,
    listener: Key,
    how: GracefulClose,
) where
    T: Stream,
    H: ConnectionHandler<S>,
{
    defer_for(registry, key, move |cx| {
        // An error means that the connection has ended meanwhile, or that it has other types and is
        // not one of them.
        let _ = ConnectionKey::<S>::of::<T, H>(key).with(cx, |connection, _cx| {
            if connection.state.accepted_by() != listener {
                // Another listener has accepted it, or none.
            } else if connection.state.flags.has(Flags::OTHER_SIDE) {
                connection.close_within(how.grace);
            } else {
                if !how.reads {
                    connection.pause_reading();
                }
                connection.close_gracefully(how.grace);
            }
        });
    });
}
