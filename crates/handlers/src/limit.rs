//! Limits on the number of open connections. One limit can hold for several listeners and loops.
//!
//! Each connection holds a [`Permit`]. A listener that gets no permit pauses. When a permit is
//! dropped, on any thread, the listener is notified through a notification queue.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reactor::Sender;

use crate::carried::for_no_request;

/// A limit on the number of connections that are open at once. All clones share one count, so one
/// limit can apply to several listeners, even on different loops. Pass it to
/// [`ListenOptions::limit`](crate::ListenOptions::limit).
///
/// ```
/// use handlers::ConnectionLimit;
///
/// let limit = ConnectionLimit::new(1);
/// let permit = limit.try_acquire();
/// assert!(permit.is_some());
/// assert!(limit.try_acquire().is_none());
/// drop(permit); // as at the end of a connection
/// assert_eq!(limit.open(), 0);
/// ```
#[derive(Clone)]
pub struct ConnectionLimit(Arc<LimitState>);

struct LimitState {
    max: AtomicUsize,
    open: AtomicUsize,
    /// The number of listeners that pause. It is read before the list of listeners, because reading
    /// the list needs the lock.
    waiting: AtomicUsize,
    listeners: Mutex<Vec<Sender<()>>>,
}

impl ConnectionLimit {
    /// Returns a limit of at most `max` open connections.
    pub fn new(max: usize) -> Self {
        let (max, open, waiting) = (
            AtomicUsize::new(max),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        Self(Arc::new(LimitState {
            max,
            open,
            waiting,
            listeners: Mutex::default(),
        }))
    }

    /// Sets the limit to `max`, for all clones. Use it, for example, after your program has read
    /// its configuration again.
    ///
    /// This method never closes an open connection. If more than `max` connections are open, no new
    /// connection is accepted until enough of them have ended. If the new limit leaves room,
    /// listeners that the old limit has paused accept connections again.
    ///
    /// ```
    /// use handlers::ConnectionLimit;
    ///
    /// let limit = ConnectionLimit::new(1);
    /// let first = limit.try_acquire();
    /// limit.set_max(2);
    /// assert!(limit.try_acquire().is_some());
    /// ```
    pub fn set_max(&self, max: usize) {
        self.0.max.store(max, Ordering::SeqCst);
        self.0.tell_listeners();
    }

    /// Returns the number of open connections. Each [`Permit`] that is not dropped counts as one
    /// connection.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Returns a permit for one more connection, or `None` if the limit is reached. When the permit
    /// is dropped, another connection can open in its place.
    pub fn try_acquire(&self) -> Option<Permit> {
        // `SeqCst`, here and in `acquire_or_wait`, `set_max` and `drop`: either the thread that
        // makes room sees the waiting listener, or the listener sees the room.
        let more = |open| (open < self.0.max.load(Ordering::SeqCst)).then_some(open + 1);
        self.0
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(Permit(Arc::clone(&self.0)))
    }

    /// Returns a permit even if the limit is reached, for a part of a connection that outlives the
    /// permit of the connection.
    #[cfg(feature = "futures")]
    pub(crate) fn hold(&self) -> Permit {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Permit(Arc::clone(&self.0))
    }

    /// Returns a permit for one more connection. If the limit is reached, returns `None`, and
    /// notifies `listener` once there is room.
    pub(crate) fn acquire_or_wait(&self, listener: &Sender<()>) -> Option<Permit> {
        if let Some(permit) = self.try_acquire() {
            return Some(permit);
        }
        let mut listeners = self.0.listeners();
        // Forget the listeners that were removed while they waited.
        listeners.retain(|listener| !listener.is_disconnected());
        listeners.push(listener.clone());
        self.0.waiting.store(listeners.len(), Ordering::SeqCst);
        let permit = self.try_acquire()?; // a permit was returned meanwhile
        listeners.pop();
        self.0.waiting.store(listeners.len(), Ordering::SeqCst);
        Some(permit)
    }
}

impl LimitState {
    fn listeners(&self) -> MutexGuard<'_, Vec<Sender<()>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies all listeners that pause that there may be room.
    fn tell_listeners(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            for_no_request(|| self.tell_waiting_listeners()); // the room is for all clients
        }
    }

    fn tell_waiting_listeners(&self) {
        // Notify all of them, and not only one: the first may have been removed and does not react,
        // while the others would go on waiting.
        let mut listeners = self.listeners();
        self.waiting.store(0, Ordering::SeqCst);
        for listener in listeners.drain(..) {
            let _ = listener.try_send(()); // fails only if the listener is gone
        }
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }
}

/// Permission for one open connection under a [`ConnectionLimit`]. [`ConnectionLimit::try_acquire`]
/// returns a permit. When the permit is dropped, on any thread, another connection can open in its
/// place.
pub struct Permit(Arc<LimitState>);

impl Permit {
    /// Returns the limit that the permit counts for.
    #[cfg(feature = "futures")]
    pub(crate) fn limit(&self) -> ConnectionLimit {
        ConnectionLimit(Arc::clone(&self.0))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.tell_listeners();
    }
}

impl fmt::Debug for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimit")
            .field("max", &self.0.max())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("max", &self.0.max())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};
    use std::{hint, thread};

    use reactor::{Capacity, Receiver, notification_queue};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Returns a waiting listener. Its queue shows how often it was notified.
    fn waiter() -> (Sender<()>, Receiver<()>) {
        notification_queue(Capacity::Unbounded)
    }

    #[test]
    fn all_waiters_are_notified_once_of_room_also_if_some_have_gone() {
        let limit = ConnectionLimit::new(1);
        let [(one, _one), (gone, receiver), (other, _other)] = [waiter(), waiter(), waiter()];
        let permit = limit.acquire_or_wait(&one);
        assert!(permit.is_some());
        for sender in [&one, &gone, &other] {
            assert!(limit.acquire_or_wait(sender).is_none());
        }
        drop(receiver);
        assert_eq!((one.len(), other.len()), (0, 0), "there is no room yet");
        drop(permit);
        assert_eq!((one.len(), other.len()), (1, 1));
        drop(limit.acquire_or_wait(&one));
        assert_eq!((one.len(), other.len()), (1, 1), "nobody waits any more");
    }

    #[test]
    fn a_waiter_that_has_gone_is_forgotten_by_the_next_wait() {
        let limit = ConnectionLimit::new(0);
        for _ in 0..10 {
            assert!(limit.acquire_or_wait(&waiter().0).is_none());
        }
        assert_eq!(limit.0.listeners().len(), 1);
    }

    #[test]
    fn a_place_given_back_while_a_waiter_begins_to_wait_is_never_missed() {
        const ROUNDS: usize = 10_000;
        let (limit, arrived) = (ConnectionLimit::new(1), AtomicUsize::new(0));
        let began = Instant::now();
        let spin_until = |done: &dyn Fn() -> bool| {
            for turn in 0_u32.. {
                if done() {
                    break;
                }
                assert!(
                    began.elapsed() < PATIENCE,
                    "a place was given back, and no listener was notified"
                );
                if turn % 1024 == 1023 {
                    thread::yield_now();
                }
                hint::spin_loop();
            }
        };
        // Both begin each round at the same moment: by two more arrivals.
        let meet = |round: usize| {
            arrived.fetch_add(1, Ordering::SeqCst);
            spin_until(&|| arrived.load(Ordering::SeqCst) >= 2 * round);
        };
        let gives_back = || {
            for round in 1..=ROUNDS {
                let permit = limit.try_acquire();
                meet(2 * round - 1);
                // Drops the permit earlier and later than the other thread begins to wait.
                (0..round % 256).for_each(|_| hint::spin_loop());
                drop(permit);
                meet(2 * round);
            }
        };
        let waits = || {
            for round in 1..=ROUNDS {
                let (sender, _receiver) = waiter();
                meet(2 * round - 1);
                let permit = limit.acquire_or_wait(&sender);
                spin_until(&|| permit.is_some() || !sender.is_empty());
                drop(permit);
                meet(2 * round);
            }
        };
        thread::scope(|scope| {
            scope.spawn(gives_back);
            scope.spawn(waits);
        });
        assert_eq!(limit.open(), 0);
    }
}
