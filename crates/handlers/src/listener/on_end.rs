//! Ends of listeners, told to those who asked for it.
//!
//! The acceptor knows its callback by a queue, not by type: what a loop keeps for its handlers cannot name the loop's
//! state.

use reactor::{
    Capacity, CloseReason, Context, Error, Key, Next, Registry, Sender, notification_queue,
};

/// The listeners of a loop whose end is to be told: each with its queue, and the registration of that.
#[derive(Default)]
struct EndCallbacks(Vec<(Key, Sender<CloseReason>, Key)>);

/// Calls `callback` once when the listener `listener` has ended, with the reason.
///
/// A listener ends by itself, with [`CloseReason::Failed`], if its socket stops listening: by `shutdown(2)`, also of another
/// process that has it, a service manager for example; if it is paused or waits for room, when it accepts again. It
/// ends with [`CloseReason::Panicked`] if its callback panics and the policy removes it. A server that is stopped ends with
/// [`CloseReason::ByHandler`] or [`CloseReason::ByKey`]. Connections that were accepted go on in each case.
///
/// The callback runs with the messages of the loop, this turn or next turn, and before
/// [`Reactor::run`](reactor::Reactor::run) returns since nothing is left. Nothing is kept alive until then. A second
/// callback for the same listener takes the place of the first. One allocation, and the `eventfd` of the loop if it has
/// none.
///
/// # Errors
/// [`Error::StaleKey`] if the listener has ended already; as [`Registry::consume`].
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
    let (tells, told) = notification_queue(Capacity::Unbounded);
    let mut callback = Some(callback);
    let queue = registry.consume(told, move |reason, cx| {
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
    ends.push((listener, tells, queue));
    if let Some((_, _, queue)) = before {
        registry.remove(queue)?;
    }
    Ok(())
}

/// Tells that a listener has ended.
pub(super) fn report<S>(registry: &mut Registry<S>, listener: Key, reason: CloseReason) {
    let ends = &mut registry.local::<EndCallbacks>().0;
    let Some(place) = ends.iter().position(|(key, ..)| *key == listener) else {
        return;
    };
    let (_, tells, queue) = ends.swap_remove(place);
    if registry.set_foreground(queue).is_ok() {
        let _ = tells.try_send(reason); // its queue is there, and has no limit
    }
}
