//! The executors of a thread, and the current one of them.
//!
//! A waker, a handle or a future knows the address of its executor's [`Shared`] part, and looks for
//! it among the executors of this thread. So a thread may have several loops. A simulation runs all
//! of its threads on one real thread, and exchanges the values of this file when it suspends one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

#[cfg(feature = "simulation")]
use super::fairness;
use super::local::Local;
use super::waker::Shared;

thread_local! {
    /// The executors of this thread.
    static EXECUTORS: RefCell<Vec<Rc<Local>>> = const { RefCell::new(Vec::new()) };
    /// The executor whose pass is running, or whose task is being dropped.
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// Adds an executor to its thread.
pub(super) fn add(local: Rc<Local>) {
    EXECUTORS.with_borrow_mut(|executors| executors.push(local));
}

/// Removes an executor from its thread. From now on its wakers have no effect.
pub(super) fn remove(local: &Local) {
    let _ = EXECUTORS.try_with(|executors| {
        executors
            .borrow_mut()
            .retain(|other| !std::ptr::eq(&**other, local));
    });
}

/// Makes an executor the current one of its thread, until the returned value is dropped.
pub(super) fn enter(local: &Rc<Local>) -> Entered {
    let entered = Some(Rc::clone(local));
    let outer = CURRENT.try_with(|current| current.replace(entered));
    Entered {
        outer: outer.ok().flatten(),
    }
}

/// An executor that is the current one of its thread.
pub(super) struct Entered {
    outer: Option<Rc<Local>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let _ = CURRENT.try_with(|current| current.replace(outer));
    }
}

/// Returns the executor whose shared part is `shared`, if it belongs to this thread.
pub(super) fn find(shared: &Arc<Shared>) -> Option<Rc<Local>> {
    with(shared, Rc::clone)
}

/// Calls `use_it` with the executor whose shared part is `shared`, if it belongs to this thread.
/// `use_it` must not call the user.
pub(super) fn with<R>(shared: &Arc<Shared>, use_it: impl FnOnce(&Rc<Local>) -> R) -> Option<R> {
    EXECUTORS
        .try_with(|executors| {
            executors
                .borrow()
                .iter()
                .find(|local| Arc::ptr_eq(&local.shared, shared))
                .map(use_it)
        })
        .ok()
        .flatten()
}

/// Returns the executor whose task is being polled or dropped on this thread. The caller lets go of
/// it before the poll ends.
pub(super) fn current() -> Option<Rc<Local>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
        .filter(|local| local.polling().is_some())
}

/// The values that each thread has for itself.
#[cfg(feature = "simulation")]
#[derive(Default)]
pub(crate) struct OfThread {
    executors: Vec<Rc<Local>>,
    current: Option<Rc<Local>>,
    operations_left: fairness::Left,
}

/// Replaces the values of this thread. Returns the values that it had before.
#[cfg(feature = "simulation")]
pub(crate) fn replace_of_thread(values: OfThread) -> OfThread {
    OfThread {
        executors: EXECUTORS.replace(values.executors),
        current: CURRENT.replace(values.current),
        operations_left: fairness::replace(values.operations_left),
    }
}
