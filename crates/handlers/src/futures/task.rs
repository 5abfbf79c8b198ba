//! A task in the table: its code without its types, its waker, and what the list of tasks shows.

use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::join::LocalTask;
use super::spawn::Task;
use super::waker::TaskWaker;
use crate::carried::CallerContext;

/// A task in the table, or a place for one.
pub(super) struct Entry<S> {
    /// `None` while the task is polled, and without a task.
    pub(super) code: Option<Code<S>>,
    /// `None` while the task is polled. A place without a task may keep the waker of the last one,
    /// for the next one.
    pub(super) waker: Option<TaskWaker>,
    /// The context in which the task was spawned. None while the task is polled.
    pub(super) context: CallerContext,
    pub(super) origin: &'static Location<'static>,
    pub(super) polls: u64,
    pub(super) is_background: bool,
}

impl<S> Default for Entry<S> {
    fn default() -> Self {
        Self {
            code: None,
            waker: None,
            context: CallerContext::default(),
            origin: Location::caller(),
            polls: 0,
            is_background: false,
        }
    }
}

/// The parts of a task that leave the table while the task is polled.
pub(super) struct Body<S> {
    pub(super) code: Code<S>,
    pub(super) waker: TaskWaker,
    pub(super) context: CallerContext,
}

impl<S> Entry<S> {
    /// Takes the parts that are polled. Returns `None` if the task is being polled.
    #[inline]
    pub(super) fn take_body(&mut self) -> Option<Body<S>> {
        let code = self.code.take()?;
        let waker = self.waker.take()?;
        let context = mem::take(&mut self.context);
        Some(Body {
            code,
            waker,
            context,
        })
    }

    /// Returns the type name of the future; `"(running)"` while it is polled.
    pub(super) fn type_name(&self) -> &'static str {
        self.code
            .as_ref()
            .map_or("(running)", |code| code.type_name())
    }
}

/// The code of a task.
pub(super) enum Code<S> {
    /// It ends with a callback that has the state.
    WithState(Pin<Box<dyn Task<S>>>),
    /// It was spawned where the state type is not known.
    Local(Pin<Box<dyn LocalTask>>),
}

impl<S> Code<S> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::WithState(task) => task.as_mut().poll(cx),
            Self::Local(task) => task.as_mut().poll(cx),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::WithState(task) => task.type_name(),
            Self::Local(task) => task.type_name(),
        }
    }

    pub(super) fn set_panicked(&mut self, message: &str) {
        match self {
            Self::WithState(task) => task.as_mut().set_panicked(message),
            Self::Local(task) => task.as_mut().set_panicked(message),
        }
    }

    /// Calls the callback of a task whose future has ended.
    pub(super) fn finish(&mut self, cx: &mut reactor::Context<'_, S>) {
        match self {
            Self::WithState(task) => task.as_mut().finish(cx),
            Self::Local(_) => (),
        }
    }
}
