//! Actions of other threads on a loop that carry no message: they wake the loop, or keep it alive.

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

    /// Wakes the loop so that it takes one more [turn](crate::Reactor::turn). The
    /// [hooks](crate::Registry::before_wait) of that further turn all begin after the call of
    /// `wake`. So if you change state that a hook reads and then call `wake`, the hook sees the
    /// change.
    ///
    /// If the loop sleeps, it ends its sleep. If the loop is in the middle of a turn, it takes
    /// another turn without sleeping, even if one of its own callbacks has called `wake`. Several
    /// wakes may be answered by one turn.
    ///
    /// Safe in a signal handler (`signal-safety(7)`).
    ///
    /// # Cost
    /// A few atomic operations. One `write` if the loop sleeps. No lock and no allocation.
    pub fn wake(&self) {
        self.hub.wake();
    }
}

/// A token that any thread may hold, returned by [`Remote::keep_alive`](crate::Remote::keep_alive).
/// Until the token is dropped, [`Reactor::run`](crate::Reactor::run) does not return
/// [`Exit::NothingLeft`](crate::Exit::NothingLeft). `run` still returns after a
/// [`stop`](crate::Registry::stop), and still returns errors.
///
/// ```
/// use reactor::{Exit, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<()>::new()?;
/// let remote = reactor.remote()?;
/// let alive = remote.keep_alive();
/// let worker = std::thread::spawn(move || {
///     let _ = remote.post(|_cx| println!("the loop still runs")); // it cannot be gone
///     drop(alive);
/// });
/// assert_eq!(reactor.run(&mut ())?, Exit::NothingLeft); // after the worker has dropped the token
/// worker.join().expect("it does not panic");
/// # Ok(())
/// # }
/// ```
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
