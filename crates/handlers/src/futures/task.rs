//! A task in the table: its code without its types, its waker, and what the list of tasks shows.

use std::cell::{Cell, RefCell, RefMut};
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::join::Joined;
use super::spawn::Task;
use super::waker::TaskWaker;
use crate::carried::CallerContext;

/// The place of a task. Its fields stay in this order: a poll needs the first ones, in one line of
/// the cache.
#[repr(C)]
pub(super) struct Slot<S> {
    pub(super) polls: Cell<u64>,
    /// Borrowed while the task is polled.
    pub(super) body: RefCell<Body<S>>,
    pub(super) handle: Cell<Handle>,
    pub(super) is_background: Cell<bool>,
    /// The waker of the task that awaits this one.
    pub(super) awaited_by: Cell<Option<Waker>>,
    pub(super) origin: Cell<&'static Location<'static>>,
}

/// The handle of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handle {
    /// No handle can ask for the result.
    None,
    /// A handle may ask for the result.
    Waits,
    /// The task has ended. Its key is stale, and its place holds the result.
    HasResult,
}

/// The parts of a task that a poll uses, in the order of their use.
#[repr(C)]
pub(super) struct Body<S> {
    /// `None` without a task.
    pub(super) code: Option<Code<S>>,
    /// A place without a task may keep the waker of the last one, for the next one.
    pub(super) waker: Option<TaskWaker>,
    /// The context in which the task was spawned.
    pub(super) context: CallerContext,
}

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self {
            polls: Cell::new(0),
            body: RefCell::default(),
            handle: Cell::new(Handle::None),
            awaited_by: Cell::new(None),
            origin: Cell::new(Location::caller()),
            is_background: Cell::new(false),
        }
    }
}

impl<S> Default for Body<S> {
    fn default() -> Self {
        Self {
            code: None,
            waker: None,
            context: CallerContext::default(),
        }
    }
}

impl<S> Slot<S> {
    /// Counts a poll, and returns what it needs. Returns `None` if the task is being polled, or has
    /// ended.
    #[inline]
    pub(super) fn begin_poll(&self) -> Option<RefMut<'_, Body<S>>> {
        let body = self.body.try_borrow_mut().ok()?;
        self.polls.set(self.polls.get() + 1);
        Some(body)
    }

    /// Wakes `waker` when the task ends, instead of the one that awaited it before.
    pub(super) fn await_by(&self, waker: &Waker) {
        let before = self.awaited_by.take();
        if before.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.awaited_by.set(before);
        } else {
            self.awaited_by.set(Some(waker.clone()));
        }
    }

    /// Ends the claim of the handle. Returns the waker of the task that awaited this one, for the
    /// caller to drop.
    pub(super) fn detach(&self) -> Option<Waker> {
        self.handle.set(Handle::None);
        self.awaited_by.take()
    }

    /// Returns the type name of the future; `"(running)"` while it is polled.
    pub(super) fn type_name(&self) -> &'static str {
        let body = self.body.try_borrow().ok();
        let code = body.as_ref().and_then(|body| body.code.as_ref());
        code.map_or("(running)", Code::type_name)
    }
}

/// The future of a task, whatever its type.
pub(super) trait Pollable {
    /// Returns `Ready` when the future has ended and was dropped.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// Returns the type name of the future.
    fn type_name(&self) -> &'static str;
}

/// The code of a task.
pub(super) enum Code<S> {
    /// It ends with a callback that has the state.
    WithState(Pin<Box<dyn Task<S>>>),
    /// A handle may ask for its result.
    Joined(Pin<Box<dyn Joined>>),
}

impl<S> Code<S> {
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WithState(task) => task.as_mut().poll(cx),
            Self::Joined(task) => task.as_mut().poll(cx),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::WithState(task) => task.type_name(),
            Self::Joined(task) => task.type_name(),
        }
    }
}
