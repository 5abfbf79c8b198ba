//! The mailbox: values on their way from any thread to one consumer.
//!
//! The consumer takes all values by a swap of two buffers. So the lock is held for a push or for a
//! swap, and no memory is allocated once both buffers have grown. The consumer does not wait for
//! the lock when it takes values: a sender that was preempted while it held the lock must not stop
//! a loop.
//!
//! INVARIANT (notified): while `notified` is set the consumer knows that there are values, or a
//! notification is on its way. It is set under the lock by the sender that then notifies the
//! consumer, and cleared under the lock by the consumer that finds nothing.

use std::collections::VecDeque;

use super::room::{Notify, Position, RoomWaiters};
use crate::primitives::{
    Arc, AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, TryLockError, fence,
};

/// A buffer for more values than this is freed when there are no values.
const KEPT_CAPACITY: usize = 4096;

/// The buffer of a mailbox.
pub(crate) trait Batch: Default {
    /// `true` if the consumer only hands its values on. They run later, and are counted then.
    const RUN_LATER: bool = false;

    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
    /// Drops the first value. Returns `true` if there was one.
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
    /// The number of values that the consumer has taken and not handled yet.
    taken: AtomicUsize,
    senders: AtomicUsize,
    capacity: usize,
    /// `true` while a sender waits for room. It is changed under the lock, and the consumer reads
    /// it without the lock.
    is_waited_for: AtomicBool,
}

#[derive(Debug)]
struct Inner<B, A> {
    values: B,
    /// The address at which the consumer is notified.
    address: Option<Arc<A>>,
    notified: bool,
    /// `true` once no value is accepted.
    closed: bool,
    /// `true` once the consumer has taken the leftovers of the senders for the last time.
    ended: bool,
    waiters: RoomWaiters,
}

/// Why a value was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

/// The result of a look of the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The consumer has taken values.
    Values,
    /// There are no values. The consumer is notified when one comes.
    Nothing,
    /// There are no values, and no sender is left.
    Ended,
    /// A sender holds the lock. Look again.
    Busy,
}

impl<B: Batch, A> Mailbox<B, A> {
    /// Makes an empty mailbox with one sender.
    pub(crate) fn new(capacity: usize) -> Self {
        let waiters = RoomWaiters::default();
        let inner = Inner {
            values: B::default(),
            address: None,
            notified: false,
            closed: false,
            ended: false,
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

    /// Adds a value. Returns the address of a consumer that is to be notified, or the value if it
    /// is refused.
    #[inline]
    pub(crate) fn push<T>(&self, value: T) -> Result<Option<Arc<A>>, (T, Refused)>
    where
        B: Accept<T>,
    {
        self.push_below(self.capacity, || 0, value)
    }

    /// Adds a value if there are fewer than `max` values. The number that `elsewhere` returns is
    /// counted too: values that the consumer has taken. The consumer counts a value there before it
    /// stops counting the value here.
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

    /// Returns the number of values that have not been handled yet.
    pub(crate) fn len(&self) -> usize {
        self.lock().values.len() + self.taken.load(Ordering::Acquire)
    }

    /// Returns `true` if the consumer has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Counts one more sender.
    pub(crate) fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one sender less. If it was the last, returns the address of a consumer that is to be
    /// notified.
    pub(crate) fn remove_sender(&self) -> Option<Arc<A>> {
        // Under the lock, so that a consumer that finds nothing knows whether a value can still
        // come.
        let mut inner = self.lock();
        if self.senders.fetch_sub(1, Ordering::Relaxed) > 1 {
            None
        } else {
            inner.notify_once()
        }
    }

    /// Sets the address at which the consumer is notified from now on. Returns `true` if there are
    /// values already, or no sender is left.
    pub(crate) fn attach(&self, address: Arc<A>) -> bool {
        let mut inner = self.lock();
        inner.address = Some(address);
        inner.notified = inner.values.len() > 0 || self.senders.load(Ordering::Relaxed) == 0;
        inner.notified
    }

    /// Swaps all values into `batch`, which is empty. Called by the consumer.
    pub(crate) fn take(&self, batch: &mut B) -> Taken {
        let mut inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Taken::Busy,
        };
        if inner.values.len() == 0 {
            inner.notified = false;
            let ended = self.senders.load(Ordering::Relaxed) == 0;
            // A burst may have left a large buffer. It is freed without the lock.
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

    /// Sets how many of the taken values are left to be handled. Called by the consumer. A reader
    /// of this number sees the effects of the handled values.
    #[inline]
    pub(crate) fn set_taken(&self, left: usize) {
        self.taken.store(left, Ordering::Release);
    }

    /// Closes the mailbox to new values. Called by the consumer at its end.
    pub(crate) fn shut(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let address = inner.address.take();
        self.notify_senders(inner); // the senders that wait are refused now
        drop(address); // it may be the last to hold the hub
    }

    /// Closes the mailbox to new values and returns the values that are left. Called by the
    /// consumer at its end.
    pub(crate) fn close(&self) -> B {
        self.shut();
        self.set_taken(0);
        let mut inner = self.lock();
        inner.ended = true;
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
    /// Returns the address at which the consumer is notified. Returns `None` before the consumer is
    /// registered, and after its end.
    pub(crate) fn address(&self) -> Option<Arc<A>> {
        self.lock().address.clone()
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Calls `notify` once, when there is room or the consumer has ended, which may be within this
    /// call. Called by a sender that was refused. From the notification on, the sender has a turn,
    /// until [`end_turn`](Self::end_turn). Returns a number for
    /// [`stop_waiting`](Self::stop_waiting).
    #[cold]
    pub(crate) fn notify_of_room(&self, position: Position, notify: Notify) -> u64 {
        let mut inner = self.lock();
        let id = inner.waiters.add(position, notify);
        self.is_waited_for.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // before the count of taken values is read: see `offer_room`
        self.notify_senders(inner);
        id
    }

    /// Ends the wait of a sender. Returns `true` if the sender has a turn, since it was notified.
    pub(crate) fn stop_waiting(&self, id: u64) -> bool {
        let mut inner = self.lock();
        let removed = inner.waiters.remove(id);
        self.is_waited_for
            .store(!inner.waiters.is_empty(), Ordering::Relaxed);
        drop(inner);
        removed.is_none()
    }

    /// Ends the turn of a sender that was notified and has tried again, or will not try.
    #[cold]
    pub(crate) fn end_turn(&self) {
        let mut inner = self.lock();
        inner.waiters.end_turn();
        self.notify_senders(inner);
    }

    /// Lets waiting senders use the room of the values that have been handled. Called by the
    /// consumer when it leaves other values that it has taken.
    ///
    /// It takes no lock unless a sender waits. Either the consumer sees that a sender waits, or the
    /// sender sees which values were handled.
    pub(crate) fn offer_room(&self) {
        if self.capacity == usize::MAX {
            return;
        }
        fence(Ordering::SeqCst);
        if self.is_waited_for.load(Ordering::Relaxed) {
            self.notify_senders(self.lock());
        }
    }

    /// Notifies as many waiting senders as there is room for, or all of them if the consumer has
    /// ended. The lock is not held while a sender is notified. The leftovers of the senders are
    /// dropped when no sender is left to be notified. The exception is the end of the consumer: it
    /// drops the leftovers itself, once the mailbox is closed. Those that come still later are
    /// dropped here. A leftover may hold a sender, and so the mailbox that it would be left in.
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
            // `notify` may run code of the user and take the lock: it must not be held here.
            let next = inner.waiters.next_turn(room);
            self.is_waited_for
                .store(!inner.waiters.is_empty(), Ordering::Relaxed);
            let Some(notify) = next else { break };
            drop(inner);
            let leftover = notify();
            inner = self.lock();
            inner.waiters.keep(leftover);
        }
        if !inner.closed || inner.ended {
            let leftovers = inner.waiters.take_leftovers();
            drop(inner);
            leftovers.into_iter().for_each(|leftover| leftover());
        }
    }
}

impl<V, A> Mailbox<VecDeque<V>, A> {
    /// Adds values, each as `wrap` returns it, until one is refused, and leaves the rest in
    /// `values`. Also returns the address of a consumer that is to be notified.
    pub(crate) fn push_many<T>(
        &self,
        values: &mut VecDeque<T>,
        wrap: impl FnMut(T) -> V,
    ) -> (Option<Arc<A>>, Result<(), Refused>) {
        let mut inner = self.lock();
        if inner.closed {
            return (None, Err(Refused::Closed));
        }
        let room = self
            .capacity
            .saturating_sub(inner.values.len() + self.taken.load(Ordering::Relaxed));
        let count = room.min(values.len());
        inner.values.extend(values.drain(..count).map(wrap));
        let address = if count > 0 { inner.notify_once() } else { None };
        (
            address,
            if values.is_empty() {
                Ok(())
            } else {
                Err(Refused::Full)
            },
        )
    }
}

impl<B, A> Inner<B, A> {
    /// Returns the address of the consumer if the consumer has to be notified, and marks it as
    /// notified.
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
