//! The attempts to connect of all upstreams of a loop, so that a stop can cancel them.
//!
//! An attempt owns the driver of its upstream, so the state of the upstream cannot own the attempt.
//! The loop owns it.

use reactor::Registry;

use crate::connection::Connecting;

/// The pending attempts of a loop, by the number of their upstream.
struct Attempts<S>(Vec<(usize, Connecting<S>)>);

impl<S> Default for Attempts<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Records the attempt of an upstream.
pub(super) fn record<S: 'static>(
    registry: &mut Registry<S>,
    upstream: usize,
    connecting: Connecting<S>,
) {
    if connecting.is_pending() {
        registry
            .local::<Attempts<S>>()
            .0
            .push((upstream, connecting));
    }
}

/// Forgets the attempt of an upstream, which is over.
pub(super) fn forget<S: 'static>(registry: &mut Registry<S>, upstream: usize) {
    drop(take(registry, upstream));
}

/// Cancels the attempt of an upstream. Its handler is notified with the deferred callbacks.
pub(super) fn cancel<S: 'static>(registry: &mut Registry<S>, upstream: usize) {
    if let Some(connecting) = take(registry, upstream) {
        connecting.cancel(registry);
    }
}

fn take<S: 'static>(registry: &mut Registry<S>, upstream: usize) -> Option<Connecting<S>> {
    let attempts = &mut registry.local::<Attempts<S>>().0;
    let place = attempts.iter().position(|(of, _)| *of == upstream)?;
    Some(attempts.swap_remove(place).1)
}
