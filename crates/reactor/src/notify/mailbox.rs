//! The mailbox: values on their way from any thread to one consumer.
//!
//! The consumer takes all there is by a swap of two buffers, so the lock is held for a push or for a swap, and no memory
//! is allocated once both have grown. It does not wait for the lock to take: a sender that was put aside by the
//! scheduler while it held it must not stop a loop.
//!
//! INVARIANT (notified): while `notified` is set the consumer knows, or is on its way to know, that there is something.
//! It is set under the lock by the sender that then notifies the consumer, and cleared under the lock by the consumer
//! that finds nothing.

use std::collections::VecDeque;

use super::primitives::{
    Arc, AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, TryLockError, fence,
};
use super::room::{Notify, Position, RoomWaiters};

/// Buffers for more values than this are given back when there is nothing.
const KEPT_CAPACITY: usize = 4096;

/// What the values of a mailbox lie in.
pub(crate) trait Batch: Default {
    /// Whether the consumer only hands its values on: they run later, and are counted when they do.
    const RUN_LATER: bool = false;

    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
    /// Drops the first value: whether there was one.
    fn drop_next(&mut self) -> bool;
}

/// A [`Batch`] that takes values of type `T`.
pub(crate) trait Accept<T>: Batch {
    fn accept(&mut self, value: T);
}

impl<T> Batch for VecDeque<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn drop_next(&mut self) -> bool {
        self.pop_front().is_some()
    }
}

impl<T> Accept<T> for VecDeque<T> {
    #[inline]
    fn accept(&mut self, value: T) {
        self.push_back(value);
    }
}

#[derive(Debug)]
pub(crate) struct Mailbox<B, A> {
    inner: Mutex<Inner<B, A>>,
    /// How many values the consumer has taken and not handled yet.
    taken: AtomicUsize,
    senders: AtomicUsize,
    capacity: usize,
    /// Whether a sender waits for room: changed under the lock, and looked at without it by the consumer.
    is_waited_for: AtomicBool,
}

#[derive(Debug)]
struct Inner<B, A> {
    values: B,
    /// Where the consumer is notified.
    address: Option<Arc<A>>,
    notified: bool,
    closed: bool,
    waiters: RoomWaiters,
}

/// Why a value did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

/// What a consumer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Values, which it has now.
    Values,
    /// Nothing; it is notified when there is something.
    Nothing,
    /// Nothing, and no sender is left.
    Ended,
    /// A sender is at it this very moment: to be looked at again.
    Busy,
}

impl<B: Batch, A> Mailbox<B, A> {
    /// An empty mailbox with one sender.
    pub(crate) fn new(capacity: usize) -> Self {
        let waiters = RoomWaiters::default();
        let inner = Inner {
            values: B::default(),
            address: None,
            notified: false,
            closed: false,
            waiters,
        };
        Self {
            inner: Mutex::new(inner),
            taken: AtomicUsize::new(0),
            senders: AtomicUsize::new(1),
            capacity,
            is_waited_for: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<B, A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a value. Returns the address of a consumer that is to be notified, or the value if it is refused.
    #[inline]
    pub(crate) fn push<T>(&self, value: T) -> Result<Option<Arc<A>>, (T, Refused)>
    where
        B: Accept<T>,
    {
        self.push_below(self.capacity, || 0, value)
    }

    /// Adds a value, if there are fewer than `max` by then, those included that `elsewhere` counts: where the consumer
    /// counts what it has taken, and before it counts it no longer here.
    #[inline]
    pub(crate) fn push_below<T>(
        &self,
        max: usize,
        elsewhere: impl FnOnce() -> usize,
        value: T,
    ) -> Result<Option<Arc<A>>, (T, Refused)>
    where
        B: Accept<T>,
    {
        let mut inner = self.lock();
        if inner.closed {
            return Err((value, Refused::Closed));
        }
        if inner.values.len() + self.taken.load(Ordering::Acquire) + elsewhere() >= max {
            return Err((value, Refused::Full));
        }
        inner.values.accept(value);
        Ok(inner.notify_once())
    }

    /// How many values have not been handled yet.
    pub(crate) fn len(&self) -> usize {
        self.lock().values.len() + self.taken.load(Ordering::Acquire)
    }

    /// Whether the consumer has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// One more sender.
    pub(crate) fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// One sender less: whom to tell, if it was the last.
    pub(crate) fn remove_sender(&self) -> Option<Arc<A>> {
        // Under the lock, so that a consumer that finds nothing knows whether anything can still come.
        let mut inner = self.lock();
        if self.senders.fetch_sub(1, Ordering::Relaxed) > 1 {
            None
        } else {
            inner.notify_once()
        }
    }

    /// By the consumer: from now on it is notified at `address`. Whether there is something already.
    pub(crate) fn attach(&self, address: Arc<A>) -> bool {
        let mut inner = self.lock();
        inner.address = Some(address);
        inner.notified = inner.values.len() > 0 || self.senders.load(Ordering::Relaxed) == 0;
        inner.notified
    }

    /// By the consumer: swaps all values into `batch`, which is empty.
    pub(crate) fn take(&self, batch: &mut B) -> Taken {
        let mut inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Taken::Busy,
        };
        if inner.values.len() == 0 {
            inner.notified = false;
            let ended = self.senders.load(Ordering::Relaxed) == 0;
            let spare = if inner.values.capacity() > KEPT_CAPACITY {
                std::mem::take(&mut inner.values)
            } else {
                B::default()
            };
            if inner.waiters.is_empty() {
                drop(inner);
            } else {
                self.notify_senders(inner);
            }
            drop(spare);
            if batch.capacity() > KEPT_CAPACITY {
                *batch = B::default();
            }
            return if ended { Taken::Ended } else { Taken::Nothing };
        }
        std::mem::swap(&mut inner.values, batch);
        self.set_taken(batch.len());
        Taken::Values
    }

    /// By the consumer: how many of the values that it has taken are left to be handled. What it has done with the others
    /// is seen by those who see this.
    #[inline]
    pub(crate) fn set_taken(&self, left: usize) {
        self.taken.store(left, Ordering::Release);
    }

    /// By the consumer, at its end: nothing more goes in.
    pub(crate) fn shut(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let address = inner.address.take();
        self.notify_senders(inner); // the senders that wait are refused now
        drop(address); // it may be the last to hold the hub
    }

    /// By the consumer, at its end: what is left, and nothing more goes in.
    pub(crate) fn close(&self) -> B {
        self.shut();
        self.set_taken(0);
        let mut inner = self.lock();
        let (values, leftovers) = (
            std::mem::take(&mut inner.values),
            inner.waiters.take_leftovers(),
        );
        drop(inner);
        leftovers.into_iter().for_each(|leftover| leftover());
        values
    }
}

impl<B: Batch, A> Mailbox<B, A> {
    /// Where the consumer is notified; `None` before it is registered, and after its end.
    pub(crate) fn address(&self) -> Option<Arc<A>> {
        self.lock().address.clone()
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// By a sender that was refused: calls `notify` once, when there is room or the consumer has ended, which may be
    /// within this call. It has a turn then, until [`end_turn`](Self::end_turn). Returns a number for
    /// [`stop_waiting`](Self::stop_waiting).
    #[cold]
    pub(crate) fn notify_of_room(&self, position: Position, notify: Notify) -> u64 {
        let mut inner = self.lock();
        let id = inner.waiters.add(position, notify);
        self.is_waited_for.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // before the look at what the consumer has left: see `offer_room`
        self.notify_senders(inner);
        id
    }

    /// By a sender that waits no longer. Returns whether it has a turn, since it was notified.
    pub(crate) fn stop_waiting(&self, id: u64) -> bool {
        let mut inner = self.lock();
        let removed = inner.waiters.remove(id);
        self.is_waited_for
            .store(!inner.waiters.is_empty(), Ordering::Relaxed);
        drop(inner);
        removed.is_none()
    }

    /// By a sender that was notified, and has tried again or will not.
    #[cold]
    pub(crate) fn end_turn(&self) {
        let mut inner = self.lock();
        inner.waiters.end_turn();
        self.notify_senders(inner);
    }

    /// By the consumer, when it leaves values that it has taken: the senders that wait may have room by those it has
    /// handled.
    ///
    /// Without the lock, unless a sender waits. Either the consumer sees that, or the sender sees what was handled.
    pub(crate) fn offer_room(&self) {
        if self.capacity == usize::MAX {
            return;
        }
        fence(Ordering::SeqCst);
        if self.is_waited_for.load(Ordering::Relaxed) {
            self.notify_senders(self.lock());
        }
    }

    /// Notifies as many senders that wait as there is room for, or all of them where the consumer has ended; the lock
    /// is not held while one is notified. What they leave is dropped when none is left to be notified, and at the end
    /// of the consumer by that, when all ways in are closed.
    #[cold]
    fn notify_senders<'a>(&'a self, mut inner: MutexGuard<'a, Inner<B, A>>) {
        if !inner.waiters.begin_notifying() {
            return;
        }
        loop {
            let used = inner.values.len() + self.taken.load(Ordering::Acquire);
            let room = if inner.closed {
                usize::MAX
            } else {
                self.capacity.saturating_sub(used)
            };
            let next = inner.waiters.next_turn(room);
            self.is_waited_for
                .store(!inner.waiters.is_empty(), Ordering::Relaxed);
            let Some(notify) = next else { break };
            drop(inner);
            let leftover = notify();
            inner = self.lock();
            inner.waiters.keep(leftover);
        }
        if !inner.closed {
            let leftovers = inner.waiters.take_leftovers();
            drop(inner);
            leftovers.into_iter().for_each(|leftover| leftover());
        }
    }
}

impl<T, A> Mailbox<VecDeque<T>, A> {
    /// Adds values until one is refused; those that are not in are left. Whom to tell.
    pub(crate) fn push_many(
        &self,
        values: &mut VecDeque<T>,
    ) -> (Option<Arc<A>>, Result<(), Refused>) {
        let mut inner = self.lock();
        if inner.closed {
            return (None, Err(Refused::Closed));
        }
        let room = self
            .capacity
            .saturating_sub(inner.values.len() + self.taken.load(Ordering::Relaxed));
        let count = room.min(values.len());
        inner.values.extend(values.drain(..count));
        let tell = if count > 0 { inner.notify_once() } else { None };
        (
            tell,
            if values.is_empty() {
                Ok(())
            } else {
                Err(Refused::Full)
            },
        )
    }
}

impl<B, A> Inner<B, A> {
    /// Whom to tell that there is something, if nobody has.
    #[inline]
    fn notify_once(&mut self) -> Option<Arc<A>> {
        if self.notified {
            return None;
        }
        let address = self.address.clone();
        self.notified = address.is_some();
        address
    }
}
