//! The hub: the state that the senders of all queues of a loop share with the loop.
//!
//! Senders post news and wakes. Both stay until the loop takes them, and keep the loop from
//! sleeping.
//!
//! - News: a queue has values, or the loop is to stop. A turn collects news after its sources.
//! - A wake: a turn is wanted. A turn takes the wake before its hooks begin. A wake that comes
//!   later in a turn belongs to the next turn.

use std::collections::VecDeque;

use super::gate::Gate;
use super::holders::Holders;
use crate::primitives::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering, PoisonError, ThreadId,
    TryLockError,
};
use crate::sys::thread::Identity;

/// A queue is on the list, or the loop is to stop: see [`Hub::collect`].
const NEWS: u8 = 1;
/// A turn is wanted whose hooks have not begun yet: see [`Hub::take_wake`].
const WAKE: u8 = 2;

/// Ends the wait of a loop.
pub(crate) trait Signal {
    fn signal(&self);
}

/// The queues that have values, by their `K`, and the gate.
#[derive(Debug)]
pub(crate) struct Hub<K, W> {
    gate: Gate,
    /// [`NEWS`], [`WAKE`], both or neither. The loop may not sleep unless it is zero.
    pending: AtomicU8,
    notified: Mutex<Vec<K>>,
    signal: W,
    signals: AtomicU64,
    keep_alives: AtomicUsize,
    /// The number of posted closures among the deferred callbacks of the loop. Only the loop
    /// changes it.
    handed_over: AtomicUsize,
    /// The source lines that keep the loop alive.
    pub(crate) holders: Holders,
    /// `true` if a thread asks the loop to stop, and could not post a closure that does.
    stop: AtomicBool,
    loop_thread: Identity,
}

impl<K, W: Signal> Hub<K, W> {
    /// Makes the hub of the loop of this thread.
    pub(crate) fn new(signal: W) -> Self {
        Self {
            gate: Gate::new(),
            pending: AtomicU8::new(0),
            notified: Mutex::new(Vec::new()),
            signal,
            signals: AtomicU64::new(0),
            keep_alives: AtomicUsize::new(0),
            handed_over: AtomicUsize::new(0),
            holders: Holders::default(),
            stop: AtomicBool::new(false),
            loop_thread: Identity::current(),
        }
    }

    /// Marks a queue as non-empty. Callable from any thread. It need not be called again until the
    /// loop takes the queue.
    pub(crate) fn notify(&self, queue: K) {
        let mut notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
        notified.push(queue);
        self.set_pending(NEWS);
        drop(notified);
        self.wake_if_asleep();
    }

    /// Asks the loop to take a turn. Callable from any thread. Costs a few atomic operations, and
    /// one write if the loop sleeps. No lock and no allocation.
    #[inline]
    pub(crate) fn wake(&self) {
        self.set_pending(WAKE);
        self.wake_if_asleep();
    }

    /// Keeps the loop from sleeping until it has taken `what`. A read-modify-write rather than a
    /// store: the acquire of the loop then synchronises with every thread that posted before, not
    /// only with the last one.
    #[inline]
    fn set_pending(&self, what: u8) {
        self.pending.fetch_or(what, Ordering::AcqRel);
    }

    #[inline]
    fn wake_if_asleep(&self) {
        if self.gate.claim_wake() {
            self.signals.fetch_add(1, Ordering::Relaxed);
            self.signal.signal();
        }
    }

    /// Returns `true` if the loop may not sleep.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// Returns `true` if there is something to collect.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.pending.load(Ordering::Relaxed) & NEWS != 0
    }

    /// Returns `true` if a wake has not been taken yet.
    #[inline]
    pub(crate) fn has_wake(&self) -> bool {
        self.pending.load(Ordering::Relaxed) & WAKE != 0
    }

    /// Takes the wake. Called by the loop before hooks that are to see the changes made before a
    /// wake. Returns `true` if there was one.
    pub(crate) fn take_wake(&self) -> bool {
        self.has_wake() && self.pending.fetch_and(!WAKE, Ordering::Acquire) & WAKE != 0
    }

    /// Posts the wake again. Called by the loop if a turn was cut short: the hooks that did not run
    /// are to run next turn.
    pub(crate) fn put_wake_back(&self) {
        self.set_pending(WAKE);
    }

    /// Closes the gate before a wait of the loop. Returns `true` if the loop may sleep. If not,
    /// something is posted.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.gate.close();
        let may_sleep = !self.has_pending();
        if !may_sleep {
            self.gate.open();
        }
        may_sleep
    }

    /// Opens the gate after a sleep of the loop.
    #[inline]
    pub(crate) fn wake_up(&self) {
        self.gate.open();
    }

    /// Moves the queues that have values to `into`. Called by the loop. If a sender holds the lock
    /// of the list, perhaps preempted, the loop does not wait for it but looks again next turn. A
    /// wake stays, since the hooks of this turn have begun.
    pub(crate) fn collect(&self, into: &mut VecDeque<K>) {
        let pending = self.pending.swap(0, Ordering::Acquire);
        if pending & WAKE != 0 {
            self.set_pending(WAKE);
        }
        if pending & NEWS == 0 {
            return;
        }
        match self.notified.try_lock() {
            Ok(mut notified) => into.extend(notified.drain(..)),
            Err(TryLockError::Poisoned(poisoned)) => into.extend(poisoned.into_inner().drain(..)),
            Err(TryLockError::WouldBlock) => self.set_pending(NEWS),
        }
    }

    /// Asks the loop to stop, even if its queues have been removed. Callable from any thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.set_pending(NEWS);
        self.wake_if_asleep();
    }

    /// Returns `true` if the loop is to stop, and clears the request.
    pub(crate) fn is_to_stop(&self) -> bool {
        self.stop.swap(false, Ordering::Acquire)
    }

    /// Returns how many posted closures the loop has taken from their queue that have not run yet.
    /// A reader of this number sees the effects of the closures that have run.
    #[inline]
    pub(crate) fn handed_over(&self) -> usize {
        self.handed_over.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn set_handed_over(&self, closures: usize) {
        self.handed_over.store(closures, Ordering::Release);
    }

    /// Returns how often the loop has been woken by its eventfd.
    pub(crate) fn signals(&self) -> u64 {
        self.signals.load(Ordering::Relaxed)
    }

    pub(crate) const fn loop_thread(&self) -> ThreadId {
        self.loop_thread.id()
    }

    /// Returns `true` on the thread of the loop.
    pub(crate) fn is_loop_thread(&self) -> bool {
        Identity::current() == self.loop_thread
    }

    /// Returns `true` if the loop may not end: a token keeps it alive, or something is posted. The
    /// tokens are read first, so that a message posted before the last token was dropped is seen.
    pub(crate) fn must_stay_alive(&self) -> bool {
        self.keep_alives.load(Ordering::Acquire) > 0 || self.has_pending()
    }

    pub(crate) fn keep_alive(&self) {
        self.keep_alives.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops one token. The last one wakes the loop, so that it sees that it may end.
    pub(crate) fn release(&self) {
        if self.keep_alives.fetch_sub(1, Ordering::Release) == 1 {
            self.wake();
        }
    }
}
