//! Listeners whose server stops: they accept who has connected already, and end.
//!
//! The list is apart from the listener, which may be running when its server is stopped.

use std::time::{Duration, Instant};

use reactor::{Key, Registry};

/// The listeners of a loop that are to end, each with the time by which it does; `None` for no time.
#[derive(Default)]
struct Stopping(Vec<(Key, Option<Instant>)>);

/// Has a listener accept who waits, and end; of several times the earliest holds.
pub(super) fn begin<S>(registry: &mut Registry<S>, listener: Key, grace: Duration) {
    if grace.is_zero() {
        let _ = registry.remove(listener); // it may be gone
        return;
    }
    // It is called for that, whatever its interest is.
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

/// Forgets a listener: by when it was to end, if it was.
pub(super) fn end<S>(registry: &mut Registry<S>, listener: Key) -> Option<Option<Instant>> {
    let stops = &mut registry.local::<Stopping>().0;
    let place = stops.iter().position(|(key, _)| *key == listener)?;
    Some(stops.swap_remove(place).1)
}

/// How much is left of the grace of a listener that is to end.
pub(super) fn grace_left<S>(registry: &mut Registry<S>, listener: Key) -> Option<Duration> {
    let now = registry.now();
    let (_, by) = registry
        .local::<Stopping>()
        .0
        .iter()
        .find(|(key, _)| *key == listener)?;
    Some(by.map_or(Duration::MAX, |by| by.saturating_duration_since(now)))
}
