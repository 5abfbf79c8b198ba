//! The hub: where the senders of all queues of a loop meet it.
//!
//! Two things are posted, each until the loop takes it, and neither lets it sleep: news, which a turn collects after its
//! sources, and a wake, which it takes before its hooks begin. A wake that comes later in a turn is the next turn's.

use std::collections::VecDeque;
use std::thread::{self, ThreadId};

use super::gate::Gate;
use super::holders::Holders;
use super::primitives::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Mutex, Ordering, PoisonError, TryLockError,
};

/// Something is on the list of queues, or the loop is to stop: [`Hub::collect`].
const NEWS: u8 = 1;
/// A turn is wanted whose hooks have not begun yet: [`Hub::take_wake`].
const WAKE: u8 = 2;

/// What ends the wait of a loop.
pub(crate) trait Signal {
    fn signal(&self);
}

/// Which of the queues, by their `K`, have something; and the gate.
#[derive(Debug)]
pub(crate) struct Hub<K, W> {
    gate: Gate,
    /// [`NEWS`], [`WAKE`], both or neither: whether the loop may not sleep.
    pending: AtomicU8,
    notified: Mutex<Vec<K>>,
    signal: W,
    signals: AtomicU64,
    keep_alives: AtomicUsize,
    /// How many posted closures are among the deferred callbacks of the loop, which alone changes it.
    handed_over: AtomicUsize,
    /// The lines that keep the loop alive.
    pub(crate) holders: Holders,
    /// Whether somebody wants the loop to stop who could not say so by a message.
    stop: AtomicBool,
    loop_thread: ThreadId,
}

impl<K, W: Signal> Hub<K, W> {
    /// The hub of the loop of this thread.
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
            loop_thread: thread::current().id(),
        }
    }

    /// By any thread: a queue has something. Until the loop takes it, nobody needs to say so again.
    pub(crate) fn notify(&self, queue: K) {
        let mut notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
        notified.push(queue);
        self.set_pending(NEWS);
        drop(notified);
        self.wake_if_asleep();
    }

    /// By any thread: the loop is to take a turn. No lock and no allocation: atomics, and a write if the loop sleeps.
    #[inline]
    pub(crate) fn wake(&self) {
        self.set_pending(WAKE);
        self.wake_if_asleep();
    }

    /// Keeps the loop from sleeping until it has taken `what`. A read-modify-write and not a store: where several post before the
    /// loop takes it, it passes on what each of them has done before.
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

    /// Whether the loop may not sleep.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// Whether there is something to collect.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.pending.load(Ordering::Relaxed) & NEWS != 0
    }

    /// Whether a wake has not been taken yet.
    #[inline]
    pub(crate) fn has_wake(&self) -> bool {
        self.pending.load(Ordering::Relaxed) & WAKE != 0
    }

    /// By the loop, before hooks that are to see what was changed before a wake. Returns whether there was one.
    pub(crate) fn take_wake(&self) -> bool {
        self.has_wake() && self.pending.fetch_and(!WAKE, Ordering::Acquire) & WAKE != 0
    }

    /// By the loop, where a turn was cut short: the hooks that did not run are to run next turn.
    pub(crate) fn put_wake_back(&self) {
        self.set_pending(WAKE);
    }

    /// By the loop, before it waits: whether it may. If not, something is posted.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.gate.close();
        let may_sleep = !self.has_pending();
        if !may_sleep {
            self.gate.open();
        }
        may_sleep
    }

    /// By the loop, after it has slept.
    #[inline]
    pub(crate) fn wake_up(&self) {
        self.gate.open();
    }

    /// By the loop: moves the queues that have something to `into`. Where a sender is at the list this very moment, or was
    /// put aside by the scheduler there, the loop does not wait for it, and looks again next turn. A wake stays: the hooks
    /// of this turn have begun.
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

    /// By any thread: the loop is to stop, whatever has become of its queues.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.set_pending(NEWS);
        self.wake_if_asleep();
    }

    /// Whether the loop is to stop; once.
    pub(crate) fn is_to_stop(&self) -> bool {
        self.stop.swap(false, Ordering::Acquire)
    }

    /// How many posted closures the loop has taken from their queue that have not run yet.
    #[inline]
    pub(crate) fn handed_over(&self) -> usize {
        self.handed_over.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_handed_over(&self, closures: usize) {
        self.handed_over.store(closures, Ordering::Relaxed);
    }

    /// How often the loop has been woken by its eventfd.
    pub(crate) fn signals(&self) -> u64 {
        self.signals.load(Ordering::Relaxed)
    }

    pub(crate) const fn loop_thread(&self) -> ThreadId {
        self.loop_thread
    }

    /// Whether this is the thread of the loop.
    pub(crate) fn is_loop_thread(&self) -> bool {
        thread::current().id() == self.loop_thread
    }

    /// Whether the loop may not end: somebody keeps it alive, or has something for it. In this order: what was posted
    /// before the last one let go is seen.
    pub(crate) fn must_stay_alive(&self) -> bool {
        self.keep_alives.load(Ordering::Acquire) > 0 || self.has_pending()
    }

    pub(crate) fn keep_alive(&self) {
        self.keep_alives.fetch_add(1, Ordering::Relaxed);
    }

    /// The last one to let go wakes the loop, to see that it may end.
    pub(crate) fn release(&self) {
        if self.keep_alives.fetch_sub(1, Ordering::Release) == 1 {
            self.wake();
        }
    }
}
