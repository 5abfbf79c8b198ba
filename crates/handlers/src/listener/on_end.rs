//! Callbacks for the end of a listener.
//!
//! The acceptor reaches its callback through a queue, and not by type. A callback names the state
//! type of the loop, and the data that a loop keeps for its handlers cannot do so.

use reactor::{
    Capacity, CloseReason, Context, Error, Key, Next, Registry, Sender, notification_queue,
};

use crate::carried::for_no_request;

/// The listeners of a loop that have such a callback. Each entry holds the listener, its queue and
/// the registration of the queue.
#[derive(Default)]
struct EndCallbacks(Vec<(Key, Sender<CloseReason>, Key)>);

/// Calls `callback` once, with the reason, when the listener with the key `listener` has ended.
///
/// A listener ends for these reasons:
/// - [`CloseReason::Failed`]: its socket has stopped listening. The cause is a `shutdown(2)` in
///   this process, or in another process that shares the socket, such as a service manager. If the
///   listener is paused or at its limit, it ends only when it accepts again.
/// - [`CloseReason::Panicked`]: its callback panicked, and the policy is
///   [`PanicPolicy::RemoveHandler`](reactor::PanicPolicy::RemoveHandler).
/// - [`CloseReason::ByHandler`]: the server was [stopped](crate::ServerKey::stop) with a grace
///   period above zero.
/// - [`CloseReason::ByKey`]: the listener was [removed](Registry::remove), or its server was
///   stopped with a grace period of zero, or by
///   [`stop_without_reading`](crate::ServerKey::stop_without_reading).
///
/// If the server was stopped, its connections are closed too. In all other cases the accepted
/// connections stay open.
///
/// The callback runs in the turn in which the listener ends or in the next turn, like a callback of
/// [`Registry::consume`]. If the listener was the last thing that kept
/// [`Reactor::run`](reactor::Reactor::run) alive, the callback runs before `run` returns. Until the
/// listener ends, the callback does not keep `run` alive. If you call this function again for the
/// same listener, the new callback replaces the old one.
///
/// With the feature `request-context`, the callback runs in the context of this call, and not in
/// that of the listener.
///
/// # Cost
/// One allocation. Creates the `eventfd` of the loop if it has none.
///
/// # Errors
/// - [`Error::StaleKey`] if the listener has already ended.
/// - [`Error::Full`] at the registration limit of the loop.
/// - [`Error::Loop`] if the loop cannot get an `eventfd`.
///
/// [`Registry::consume`] describes these errors in detail.
///
/// ```
/// use handlers::{ConnectionOptions, ListenOptions, on_data, on_listener_end};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
/// let server = listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
///     Ok(on_data(|data, _connection, _cx| Ok(data.len())))
/// })?;
/// on_listener_end(&mut reactor, server.key(), |reason, cx| {
///     eprintln!("the listener has ended: {reason}");
///     cx.registry.stop();
/// })?;
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn on_listener_end<S>(
    registry: &mut Registry<S>,
    listener: Key,
    callback: impl FnOnce(CloseReason, &mut Context<'_, S>) + 'static,
) -> Result<(), Error> {
    if !registry.contains(listener) {
        return Err(Error::StaleKey(listener));
    }
    let (reasons, receiver) = notification_queue(Capacity::Unbounded);
    let mut callback = Some(callback);
    let queue = registry.consume(receiver, move |reason, cx| {
        if let (Some(reason), Some(callback)) = (reason, callback.take()) {
            callback(reason, cx);
        }
        Ok(Next::Remove)
    });
    let queue = queue.map_err(|refused| refused.error)?;
    registry.set_background(queue)?;
    let ends = &mut registry.local::<EndCallbacks>().0;
    let before = ends
        .iter()
        .position(|(key, ..)| *key == listener)
        .map(|place| ends.swap_remove(place));
    ends.push((listener, reasons, queue));
    if let Some((_, _, queue)) = before {
        registry.remove(queue)?;
    }
    Ok(())
}

/// Passes the reason to the callback of a listener that has ended.
pub(super) fn report<S>(registry: &mut Registry<S>, listener: Key, reason: CloseReason) {
    let ends = &mut registry.local::<EndCallbacks>().0;
    let Some(place) = ends.iter().position(|(key, ..)| *key == listener) else {
        return;
    };
    let (_, reasons, queue) = ends.swap_remove(place);
    if registry.set_foreground(queue).is_ok() {
        // The callback has the context of its own registration, and not that of the listener. The
        // queue exists and has no limit.
        let _ = for_no_request(|| reasons.try_send(reason));
    }
}
