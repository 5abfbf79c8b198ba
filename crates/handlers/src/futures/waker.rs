//! Wakers: how any thread asks the loop to poll a task.
//!
//! A wake on the thread of the loop marks the task as woken and adds it to a list of that thread,
//! without a lock and without an atomic operation that others could contend for. A wake on another
//! thread sends the key of the task through the queue of the loop. In both cases a task that is
//! woken already is not added again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::task::{Wake, Waker};

use reactor::Sender;

use super::ending::keep_first;
use super::of_thread;
use super::requests::Message;
use super::sent::Sent;
use super::tasks::TaskKey;
use crate::carried::for_no_request;

/// Wakes all of `wakers`, also if one of them panics. Then its panic goes on.
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    let mut first = None;
    for waker in wakers {
        let woken = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        keep_first(&mut first, woken);
    }
    if let Some(panic) = first.filter(|_| !std::thread::panicking()) {
        resume_unwind(panic);
    }
}

/// The part of an executor that all threads share: the queue into its loop.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sender: Sender<Message>,
}

impl Shared {
    /// Sends a message to the loop, unless the loop is gone.
    pub(super) fn send(&self, message: Message) {
        // The executor serves all requests: a message must keep none of them alive.
        let _ = for_no_request(|| self.sender.try_send(message));
    }
}

/// The part of a task that its wakers share.
#[derive(Debug)]
pub(super) struct WakeState {
    /// A [`TaskKey`]. A waker that outlives its task has a stale key.
    key: AtomicU64,
    sent: Sent,
    shared: Arc<Shared>,
}

impl WakeState {
    fn wake_task(&self) {
        let key = TaskKey::from_bits(self.key.load(Ordering::Relaxed));
        let is_local = of_thread::with(&self.shared, |local| local.wake(key)).is_some();
        if !is_local && self.sent.mark() {
            self.shared.send(Message::Wake(key));
        }
    }
}

impl Wake for WakeState {
    fn wake(self: Arc<Self>) {
        self.wake_task();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_task();
    }
}

/// A waker together with its state. A poll needs only the waker, which comes first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct TaskWaker {
    waker: Waker,
    state: Arc<WakeState>,
}

impl TaskWaker {
    pub(super) fn new(key: TaskKey, shared: &Arc<Shared>) -> Self {
        let state = Arc::new(WakeState {
            key: AtomicU64::new(key.to_bits()),
            sent: Sent::default(),
            shared: Arc::clone(shared),
        });
        Self {
            waker: Waker::from(Arc::clone(&state)),
            state,
        }
    }

    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Records that the loop has taken the key out of the queue.
    pub(super) fn receive(&self) {
        self.state.sent.clear();
    }

    /// Makes it the waker of another task. Nothing else may refer to it.
    #[inline]
    pub(super) fn reuse(&self, key: TaskKey) {
        self.state.key.store(key.to_bits(), Ordering::Relaxed);
        // A key that is still in the queue is stale.
        self.state.sent.reset();
    }

    /// Returns `true` if nothing else refers to it, so that another task can have it.
    #[inline]
    pub(super) fn is_unused(&self) -> bool {
        // Its own two references. Nobody can make a third one from nothing.
        let is_unused = Arc::strong_count(&self.state) == 2;
        if is_unused {
            // The last use of a dropped waker lies before the use for another task.
            fence(Ordering::Acquire);
        }
        is_unused
    }
}
