//! The end of a loop while a call, a post or a send is under way: each is answered.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::thread::{JoinHandle, spawn};
use modelled::{
    CallError, Capacity, Exit, LoopGone, Next, Reactor, Remote, SendTimeoutError, Sender, join,
    notification_queue, spawn_loop,
};

use crate::model;

/// Joins a thread when it is dropped, as a value of a user may.
struct Joins<R>(Option<JoinHandle<R>>);

impl<R> Drop for Joins<R> {
    fn drop(&mut self) {
        self.0.take().map(join);
    }
}

/// Runs a loop that ends after one turn, while `thread` uses its remote. The first value that the
/// loop drops waits for the thread.
fn end_while(thread: impl FnOnce(Remote<usize>) + Send + 'static) -> usize {
    let mut reactor = Reactor::<usize>::new().unwrap();
    let (_sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
    let joins = Rc::new(Cell::new(None));
    let held = Rc::clone(&joins);
    let consuming = reactor.consume(receiver, move |_, _| {
        let _ = &held;
        Ok(Next::Keep)
    });
    consuming.unwrap();
    // Its queue is dropped after that of the sender.
    let remote = reactor.remote().unwrap();
    joins.set(Some(Joins(Some(spawn(move || thread(remote))))));
    drop(joins);
    let mut ran = 0;
    reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap();
    drop(reactor);
    ran
}

/// Fails if a loop that ends does not answer the calls in its queue, or closes it too late.
#[test]
fn a_call_is_answered_at_the_end_of_the_loop() {
    model(|| {
        let answered = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&answered);
        let ran = end_while(move |remote| {
            let result = remote.call(|cx| {
                *cx.state += 1;
                7
            });
            match result {
                Ok(7) => counts.store(1, Ordering::Relaxed),
                result => assert_eq!(result, Err(CallError::Lost)),
            }
        });
        assert_eq!(
            ran,
            answered.load(Ordering::Relaxed),
            "an answer without a call, or none"
        );
    });
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fails if values that a queue holds at its end are not dropped.
#[test]
fn a_posted_closure_runs_or_is_dropped_at_the_end_of_the_loop() {
    model(|| {
        let (dropped, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (captured, refuses) = (Counted(Arc::clone(&dropped)), Arc::clone(&refused));
        let ran = end_while(move |remote| {
            let posted = remote.post(move |cx| {
                *cx.state += 1;
                drop(captured);
            });
            refuses.store(usize::from(posted == Err(LoopGone)), Ordering::Relaxed);
        });
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert!(
            ran + refused.load(Ordering::Relaxed) <= 1,
            "refused, and has run"
        );
    });
}

fn full_queue() -> (Sender<u32>, modelled::Receiver<u32>) {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    sender.try_send(0).unwrap();
    (sender, receiver)
}

/// Fails if a queue that is closed does not notify the senders that wait.
#[test]
fn a_sender_that_waits_is_answered_at_the_end_of_the_loop() {
    model(|| {
        let (sender, receiver) = full_queue();
        let mut reactor = Reactor::<Vec<u32>>::new().unwrap();
        let joins = Joins(Some(spawn(move || {
            match sender.send_within(1, Duration::MAX) {
                Ok(()) => false,
                Err(SendTimeoutError::Disconnected(1)) => true,
                Err(error) => unreachable!("{error}"),
            }
        })));
        let consuming = reactor.consume(receiver, move |value: Option<u32>, cx| {
            let _ = &joins; // dropped with the handler
            cx.state.extend(value);
            Ok(Next::Keep)
        });
        consuming.unwrap();
        let mut handled = Vec::new();
        reactor.turn(&mut handled, Some(Duration::ZERO)).unwrap();
        drop(reactor);
        assert!(handled.is_empty() || handled == [0] || handled == [0, 1]);
    });
}

/// Fails if what is left after the end of a queue stays in its mailbox.
#[test]
fn a_callback_that_waits_for_room_is_dropped_with_its_loop() {
    model(|| {
        let (sender, receiver) = full_queue();
        let dropped = Arc::new(AtomicUsize::new(0));
        let captured = Counted(Arc::clone(&dropped));
        let mut reactor = Reactor::<usize>::new().unwrap();
        let remote = reactor.remote().unwrap();
        reactor.consume(receiver, |_, _| Ok(Next::Keep)).unwrap();
        let thread = spawn(move || {
            let _ = sender.on_room(&remote, move |cx| {
                *cx.state += 1;
                drop(captured);
            });
        });
        let mut ran = 0;
        reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap();
        drop(reactor);
        join(thread);
        assert_eq!(
            dropped.load(Ordering::Relaxed),
            1,
            "the callback is kept by nobody"
        );
    });
}

/// Fails if a queue that is closed does not notify the senders that wait.
#[test]
fn a_callback_that_waits_for_room_runs_when_the_other_loop_ends() {
    model(|| {
        let (sender, receiver) = full_queue();
        let other = spawn_loop(move || {
            let mut reactor = Reactor::<()>::new().unwrap();
            reactor.consume(receiver, |_, _| Ok(Next::Keep)).unwrap();
            drop(reactor);
        });
        let mut reactor = Reactor::<usize>::new().unwrap();
        let remote = reactor.remote().unwrap();
        let waiting = sender.on_room(&remote, |cx| *cx.state += 1);
        waiting.unwrap();
        let mut ran = 0;
        assert_eq!(reactor.run(&mut ran).unwrap(), Exit::NothingLeft);
        assert_eq!(ran, 1);
        join(other);
    });
}

/// Fails if a responder that a panic unwinds through does not answer.
#[test]
fn a_call_is_answered_although_a_panic_ends_a_run() {
    model(|| {
        let mut reactor = Reactor::<usize>::new().unwrap();
        let remote = reactor.remote().unwrap();
        let thread = spawn(move || {
            // The closure unwinds through the loop, and its caller is answered.
            let failed = remote.call(|_| -> () { resume_unwind(Box::new("a failure")) });
            assert_eq!(failed, Err(CallError::Panicked));
            let result = remote.call(|cx| *cx.state += 1);
            assert_eq!(result, Ok(()));
        });
        let mut ran = 0;
        let mut panics = 0;
        while ran == 0 {
            let turn = AssertUnwindSafe(|| reactor.turn(&mut ran, None).unwrap());
            panics += usize::from(catch_unwind(turn).is_err());
        }
        assert_eq!(panics, 1);
        join(thread);
    });
}

/// Fails if the loop counts its tokens after what is pending.
#[test]
fn a_panic_that_ends_a_run_loses_no_post_of_a_thread() {
    model(|| {
        let mut reactor = Reactor::<usize>::new().unwrap();
        let remote = reactor.remote().unwrap();
        let alive = remote.keep_alive();
        let thread = spawn(move || {
            remote.post(|cx| *cx.state += 1).unwrap();
            drop(alive);
        });
        reactor.defer(|_| resume_unwind(Box::new("a failure")));
        let mut ran = 0;
        let run = AssertUnwindSafe(|| reactor.run(&mut ran));
        assert!(catch_unwind(run).is_err());
        assert_eq!(reactor.run(&mut ran).unwrap(), Exit::NothingLeft);
        assert_eq!(ran, 1);
        join(thread);
    });
}
