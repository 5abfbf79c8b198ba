//! The connections that a listener has accepted, which it closes gracefully when it stops.

use std::time::Duration;

use reactor::{Context, Io, Key, Registry};

use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::later::defer_for;
use super::registration::Registration;
use super::stream::Stream;

/// How connections are closed gracefully.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GracefulClose {
    pub(crate) grace: Duration,
    /// Whether input that has come is answered too.
    pub(crate) reads: bool,
}

/// Closes all connections gracefully that `listener` has accepted; later this turn or next.
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
    }
}

/// Has all connections that `listener` has accepted read nothing more, from now on.
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
        // A connection whose handler is running, or of other types, is left to the deferred callback that closes it.
        let _ = cx.with_handler(key, pause);
    }
}

/// Closes the connection `key` gracefully, if `listener` has accepted it; later this turn or next.
///
/// By a deferred callback: one that has not opened yet does so for this, and a handler that panics then takes neither
/// who asks with it nor the others.
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
        // What has ended meanwhile, or is of other types, is none of them.
        let _ = ConnectionKey::<S>::of::<T, H>(key).with(cx, |connection, _cx| {
            if connection.state.accepted_by() == listener {
                if !how.reads {
                    connection.pause_reading();
                }
                connection.close_gracefully(how.grace);
            }
        });
    });
}
