//! Values from a callback of the loop to a future on its thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use reactor::Registry;

use crate::futures::executor;

struct State<T> {
    values: RefCell<VecDeque<T>>,
    has_ended: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl<T> State<T> {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The end of the future.
pub(super) struct Feed<T>(Rc<State<T>>);

/// The end of the callback. When it is dropped, the future gets the values that are left, and then
/// the end.
pub(in crate::futures) struct Feeder<T>(Rc<State<T>>);

pub(super) fn feed<T>() -> (Feeder<T>, Feed<T>) {
    let state = Rc::new(State {
        values: RefCell::default(),
        has_ended: Cell::new(false),
        waker: Cell::default(),
    });
    (Feeder(Rc::clone(&state)), Feed(state))
}

impl<T> Feed<T> {
    /// Returns the next value, or `None` after the last one.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.take() {
            return Poll::Ready(Some(value));
        }
        if self.0.has_ended.get() {
            return Poll::Ready(None);
        }
        let _old = self.0.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Takes the next value without a wait.
    pub(super) fn take(&self) -> Option<T> {
        self.0.values.borrow_mut().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.values.borrow().is_empty()
    }
}

impl<T> Feeder<T> {
    pub(super) fn push(&self, value: T) {
        self.0.values.borrow_mut().push_back(value);
        self.0.wake();
    }

    /// Returns the number of values that the future has not taken.
    pub(super) fn len(&self) -> usize {
        self.0.values.borrow().len()
    }

    /// Returns the number of values that the future has not taken and of which `is_one` is true.
    #[cfg(feature = "signal")]
    pub(super) fn count(&self, mut is_one: impl FnMut(&T) -> bool) -> usize {
        let values = self.0.values.borrow();
        values.iter().filter(|value| is_one(value)).count()
    }

    /// Returns `true` if the future was dropped, so that nothing takes a value.
    pub(super) fn is_unheard(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    fn is_awaited(&self) -> bool {
        let waker = self.0.waker.take();
        let is_awaited = waker.is_some();
        self.0.waker.set(waker);
        is_awaited
    }
}

impl<T> Drop for Feeder<T> {
    fn drop(&mut self) {
        self.0.has_ended.set(true);
        self.0.wake();
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("has_ended", &self.0.has_ended)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Feeder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").finish_non_exhaustive()
    }
}

/// Calls `push`, which wakes the future of `feeder`, in a callback of the loop. So the wake needs
/// no message.
pub(super) fn in_callback<S: 'static, T>(
    registry: &mut Registry<S>,
    feeder: &Feeder<T>,
    push: impl FnOnce(),
) {
    if feeder.is_awaited()
        && let Some(executor) = executor::find(registry)
    {
        executor.wake_in_callback(registry, push);
    } else {
        push();
    }
}
