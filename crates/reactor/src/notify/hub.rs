//! The hub: where the senders of all queues of a loop meet it.

use std::collections::VecDeque;
use std::thread::ThreadId;

use super::gate::Gate;
use super::primitives::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, PoisonError, TryLockError};

/// What ends the wait of a loop.
pub(crate) trait Signal {
    fn signal(&self);
}

/// Which of the queues, by their `K`, have something; and the gate.
#[derive(Debug)]
pub(crate) struct Hub<K, W> {
    gate: Gate,
    /// Whether the loop has to look: something is on the list, or somebody wants a turn.
    posted: AtomicBool,
    announced: Mutex<Vec<K>>,
    signal: W,
    signals: AtomicU64,
    keep_alives: AtomicUsize,
    /// How many posted closures are among the deferred callbacks of the loop, which alone changes it.
    handed_over: AtomicUsize,
    /// Whether somebody wants the loop to stop who could not say so by a message.
    stop: AtomicBool,
    loop_thread: ThreadId,
}

impl<K, W: Signal> Hub<K, W> {
    /// The hub of the loop of this thread.
    pub(crate) fn new(signal: W) -> Self {
        Self {
            gate: Gate::new(),
            posted: AtomicBool::new(false),
            announced: Mutex::new(Vec::new()),
            signal,
            signals: AtomicU64::new(0),
            keep_alives: AtomicUsize::new(0),
            handed_over: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            loop_thread: std::thread::current().id(),
        }
    }

    /// By any thread: a queue has something. Until the loop takes it, nobody needs to say so again.
    pub(crate) fn announce(&self, queue: K) {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.push(queue);
        self.post();
        drop(announced);
        self.ring();
    }

    /// By any thread: the loop is to take a turn. No lock and no allocation: atomics, and a write if the loop sleeps.
    #[inline]
    pub(crate) fn wake(&self) {
        self.post();
        self.ring();
    }

    /// The loop has to look. An exchange and not a store: where several post before the loop collects, it passes on what each of
    /// them has done before.
    #[inline]
    fn post(&self) {
        self.posted.swap(true, Ordering::AcqRel);
    }

    #[inline]
    fn ring(&self) {
        if self.gate.knock() {
            self.signals.fetch_add(1, Ordering::Relaxed);
            self.signal.signal();
        }
    }

    /// Whether the loop has to look.
    #[inline]
    pub(crate) fn is_posted(&self) -> bool {
        self.posted.load(Ordering::Relaxed)
    }

    /// By the loop, before it waits: whether it may. If not, there is something to collect.
    #[inline]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.gate.close();
        let may_sleep = !self.is_posted();
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
    /// put aside by the scheduler there, the loop does not wait for it, and looks again next turn.
    pub(crate) fn collect(&self, into: &mut VecDeque<K>) {
        if !self.posted.swap(false, Ordering::Acquire) {
            return;
        }
        match self.announced.try_lock() {
            Ok(mut announced) => into.extend(announced.drain(..)),
            Err(TryLockError::Poisoned(poisoned)) => into.extend(poisoned.into_inner().drain(..)),
            Err(TryLockError::WouldBlock) => self.post(),
        }
    }

    /// By any thread: the loop is to stop, whatever has become of its queues.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
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
    pub(crate) fn note_handed_over(&self, closures: usize) {
        self.handed_over.store(closures, Ordering::Relaxed);
    }

    /// How often the loop has been woken by its eventfd.
    pub(crate) fn signals(&self) -> u64 {
        self.signals.load(Ordering::Relaxed)
    }

    pub(crate) const fn loop_thread(&self) -> ThreadId {
        self.loop_thread
    }

    /// Whether the loop may not end: somebody keeps it alive, or has something for it. In this order: what was posted
    /// before the last one let go is seen.
    pub(crate) fn is_expected(&self) -> bool {
        self.keep_alives.load(Ordering::Acquire) > 0 || self.is_posted()
    }

    pub(crate) fn keep_alive(&self) {
        self.keep_alives.fetch_add(1, Ordering::Relaxed);
    }

    /// The last one to let go wakes the loop, to see that it may end.
    pub(crate) fn let_go(&self) {
        if self.keep_alives.fetch_sub(1, Ordering::Release) == 1 {
            self.wake();
        }
    }
}
