//! Listeners whose server stops. Such a listener accepts the clients that have already connected,
//! and then ends.
//!
//! The list is kept apart from the listener, because the handler of the listener may be running
//! when its server is stopped.

use std::time::{Duration, Instant};

use reactor::{Key, Registry};

/// The stopping listeners of a loop, each with its deadline, or `None` without a deadline.
#[derive(Default)]
struct Stopping(Vec<(Key, Option<Instant>)>);

/// Lets a listener accept the waiting clients and then end. If it is called more than once, the
/// earliest deadline counts.
pub(super) fn begin<S>(registry: &mut Registry<S>, listener: Key, grace: Duration) {
    if grace.is_zero() {
        let _ = registry.remove(listener); // an error means that it has ended
        return;
    }
    // The timeout calls the listener even if its interest is empty.
    if registry
        .set_timeout(listener, Some(Duration::ZERO))
        .is_err()
    {
        return;
    }
    let by = registry.now().checked_add(grace);
    let earlier = end(registry, listener);
    let by = earlier.flatten().into_iter().chain(by).min();
    registry.local::<Stopping>().0.push((listener, by));
}

/// Removes a listener from the list. Returns its deadline if it was stopping.
pub(super) fn end<S>(registry: &mut Registry<S>, listener: Key) -> Option<Option<Instant>> {
    let stops = &mut registry.local::<Stopping>().0;
    let place = stops.iter().position(|(key, _)| *key == listener)?;
    Some(stops.swap_remove(place).1)
}

/// Returns the rest of the grace period of a stopping listener.
pub(super) fn grace_left<S>(registry: &mut Registry<S>, listener: Key) -> Option<Duration> {
    let now = registry.now();
    let (_, by) = registry
        .local::<Stopping>()
        .0
        .iter()
        .find(|(key, _)| *key == listener)?;
    Some(by.map_or(Duration::MAX, |by| by.saturating_duration_since(now)))
}
