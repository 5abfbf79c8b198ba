//! Work that a connection does later this turn or next turn, in a deferred callback.
//!
//! A deferred callback names the types of the connection. It does not hold a `ConnectionKey<S>`,
//! because a deferred closure is `'static`, and `S` would have to be `'static` too.

use reactor::{Context, Key, Registry};

use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::stream::Stream;

/// Opens the connection, delivers unconsumed bytes, or sends the queue, with the deferred
/// callbacks.
pub(super) fn run_later<S, T: Stream, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    key: Key,
) {
    defer_for(registry, key, move |cx| {
        ConnectionKey::<S>::of::<T, H>(key).run(cx)
    });
}

/// Defers a callback that calls the handler of the connection `key`. If the callback is slow or
/// panics, it is reported with the line that has opened the connection.
pub(super) fn defer_for<S>(
    registry: &mut Registry<S>,
    key: Key,
    callback: impl FnOnce(&mut Context<'_, S>) + 'static,
) {
    if let Ok(origin) = registry.origin(key) {
        registry.defer_from(origin, callback);
    }
}

/// Notifies the connection next turn. By then the kernel has reported all input that has arrived by
/// now.
pub(super) fn ask_kernel_first<S, T: Stream, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    key: Key,
) {
    let asked = move |cx: &mut Context<'_, S>| {
        // A connection that has ended meanwhile needs no notification.
        let _ = ConnectionKey::<S>::of::<T, H>(key)
            .with(cx, |connection, _cx| connection.state.kernel_was_asked());
    };
    // Deferred twice: the deferred callbacks of this turn may not have run yet.
    defer_for(registry, key, move |cx| defer_for(cx.registry, key, asked));
}
