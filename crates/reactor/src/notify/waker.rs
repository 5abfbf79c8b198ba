//! What other threads do to a loop without a message: wake it, and keep it alive.

use std::panic::Location;
use std::sync::Arc;

use super::address::LoopHub;

/// Wakes a loop, from any thread and from a signal handler.
#[doc(alias("Ping", "ev_async", "uv_async_t"))]
#[derive(Clone, Debug)]
pub struct Waker {
    hub: Arc<LoopHub>,
}

impl Waker {
    pub(super) const fn new(hub: Arc<LoopHub>) -> Self {
        Self { hub }
    }

    /// Wakes the loop so that it takes a turn whose hooks all begin after this call. Call it after changing state that
    /// a hook reads.
    ///
    /// A loop that sleeps ends its sleep. A loop that is at a turn takes another one without sleeping, at whatever
    /// place of the turn this comes, also from one of its own callbacks. Wakes that come together are coalesced into
    /// one turn.
    ///
    /// Safe in a signal handler: a few atomic operations, and one `write` if the loop sleeps (`signal-safety(7)`); no
    /// lock and no allocation.
    pub fn wake(&self) {
        self.hub.wake();
    }
}

/// As long as it lives, [`Reactor::run`](crate::Reactor::run) does not end for want of registrations. For any thread.
#[doc(alias("EVLOOP_NO_EXIT_ON_EMPTY"))]
#[derive(Debug)]
pub struct KeepAlive {
    hub: Arc<LoopHub>,
    origin: &'static Location<'static>,
}

impl KeepAlive {
    pub(super) fn new(hub: Arc<LoopHub>, origin: &'static Location<'static>) -> Self {
        hub.keep_alive();
        hub.holders.record(origin);
        Self { hub, origin }
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.hub.holders.forget(self.origin);
        self.hub.release();
    }
}
