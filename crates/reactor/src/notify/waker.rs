//! Actions of other threads on a loop that carry no message: to wake it, and to keep it alive.

use std::panic::Location;

use super::address::LoopHub;
use crate::primitives::Arc;

/// Wakes a loop, from any thread and from a signal handler.
///
/// ```
/// use reactor::{Next, Reactor};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// # fn main() -> std::io::Result<()> {
/// let asked = Arc::new(AtomicBool::new(false));
/// let mut reactor = Reactor::<()>::new()?;
/// let remote = reactor.remote()?;
/// let (waker, alive) = (remote.waker(), remote.keep_alive());
/// let flag = Arc::clone(&asked);
/// reactor.before_wait(move |cx| {
///     if flag.load(Ordering::Acquire) {
///         cx.registry.stop();
///     }
///     Ok(Next::Keep)
/// });
/// std::thread::spawn(move || {
///     asked.store(true, Ordering::Release);
///     waker.wake(); // the hook runs, and sees the flag
/// });
/// reactor.run(&mut ())?;
/// drop(alive);
/// # Ok(())
/// # }
/// ```
#[doc(alias("Ping", "ev_async", "uv_async_t"))]
#[derive(Clone, Debug)]
pub struct Waker {
    hub: Arc<LoopHub>,
}

impl Waker {
    pub(super) const fn new(hub: Arc<LoopHub>) -> Self {
        Self { hub }
    }

    /// Wakes the loop so that it takes one more turn. All hooks of that turn begin after this call.
    /// So call it after changing state that a hook reads, and the hook sees the change.
    ///
    /// A sleeping loop ends its sleep. If the loop is in the middle of a turn, it takes another
    /// turn without sleeping. This holds at any point of the turn, and for calls from the loop's
    /// own callbacks. Concurrent wakes are coalesced into one turn.
    ///
    /// Safe in a signal handler (`signal-safety(7)`).
    ///
    /// # Cost
    /// A few atomic operations, and one `write` if the loop sleeps. No lock and no allocation.
    pub fn wake(&self) {
        self.hub.wake();
    }
}

/// A token that any thread may hold. Until it is dropped, [`Reactor::run`](crate::Reactor::run)
/// does not return for want of registrations.
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
