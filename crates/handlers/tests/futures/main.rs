//! Futures on the loop, by a clock that jumps to the next timer.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod budget;
mod cancelling;
mod counts;
mod descriptors;
mod ends;
mod io;
mod joining;
mod keeping_alive;
mod lifetimes;
mod listing;
mod panics;
mod requests;
mod sleeping;
mod sources;
mod spawning;
mod threads;
mod timing;
mod wakers;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use reactor::{ManualClock, PanicPolicy, Reactor};

fn reactor<S: 'static>() -> Reactor<S> {
    let builder = Reactor::builder().clock(ManualClock::jumping());
    builder.build().expect("a loop")
}

/// Returns a loop that goes on after a panic.
fn catching<S: 'static>() -> Reactor<S> {
    let builder = Reactor::builder().clock(ManualClock::jumping());
    builder
        .on_panic(PanicPolicy::RemoveHandler)
        .build()
        .expect("a loop")
}

/// Takes one turn that does not wait.
fn turn<S>(reactor: &mut Reactor<S>, state: &mut S) {
    reactor.turn(state, Some(Duration::ZERO)).expect("a turn");
}

/// A value that can be waited for once, and its waker.
#[derive(Clone, Default)]
struct Signal {
    is_set: Rc<Cell<bool>>,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl Signal {
    fn set(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait(&self) -> impl Future<Output = ()> + use<> {
        let this = self.clone();
        poll_fn(move |cx| {
            if this.is_set.get() {
                return Poll::Ready(());
            }
            this.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
    }
}

/// Pushes its name when it is dropped.
struct Dropped {
    name: &'static str,
    log: Rc<RefCell<Vec<&'static str>>>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.log.borrow_mut().push(self.name);
    }
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
