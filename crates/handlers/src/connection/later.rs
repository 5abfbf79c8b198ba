//! What a connection does later this turn or next, by a deferred callback.
//!
//! A deferred callback names the types of the connection: a key with the type of the state would have to outlive the
//! state.

use reactor::{Context, Key, Registry};

use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::stream::Stream;

/// Opens the connection, delivers what was left, or sends what is queued, with the deferred callbacks.
pub(super) fn run_later<S, T: Stream, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    key: Key,
) {
    defer_for(registry, key, move |cx| {
        ConnectionKey::<S>::of::<T, H>(key).run(cx)
    });
}

/// Defers a callback that calls the handler of the connection `key`. A slow or panicking one is reported with the line
/// that has opened the connection.
pub(super) fn defer_for<S>(
    registry: &mut Registry<S>,
    key: Key,
    callback: impl FnOnce(&mut Context<'_, S>) + 'static,
) {
    if let Ok(origin) = registry.origin(key) {
        registry.defer_from(origin, callback);
    }
}

/// Notifies the connection next turn, when the kernel has reported what had come by now.
pub(super) fn ask_kernel_first<S, T: Stream, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    key: Key,
) {
    let asked = move |cx: &mut Context<'_, S>| {
        // A connection that has ended meanwhile needs no notice.
        let _ = ConnectionKey::<S>::of::<T, H>(key)
            .with(cx, |connection, _cx| connection.state.kernel_was_asked());
    };
    // The deferred callbacks of this turn may be still to come.
    defer_for(registry, key, move |cx| defer_for(cx.registry, key, asked));
}
