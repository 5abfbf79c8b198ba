//! Remotes whose queue ends before their loop, and the counts of what is pending.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::spawn;
use modelled::{CallError, Capacity, Exit, Next, Reactor, TryPostError, join, notification_queue};

use crate::model;

/// Fails if a request to stop is dropped with the queue.
#[test]
fn a_stop_reaches_a_loop_that_removes_the_queue_of_its_remotes() {
    model(|| {
        let mut reactor = Reactor::<()>::new().unwrap();
        let remote = reactor.remote().unwrap();
        let _alive = remote.keep_alive();
        reactor.defer(|cx| {
            let key = cx.registry.remote_key().unwrap();
            cx.registry.remove(key).unwrap();
        });
        let thread = spawn(move || {
            let _ = remote.stop();
        });
        assert!(matches!(
            reactor.run(&mut ()).unwrap(),
            Exit::Stopped { .. }
        ));
        join(thread);
    });
}

/// Fails if a closure that is dropped before it runs does not answer.
#[test]
fn a_call_is_answered_if_the_queue_of_the_remotes_is_removed() {
    model(|| {
        let mut reactor = Reactor::<usize>::new().unwrap();
        let remote = reactor.remote().unwrap();
        let alive = remote.keep_alive();
        reactor.defer(|cx| {
            let key = cx.registry.remote_key().unwrap();
            cx.registry.remove(key).unwrap();
        });
        let thread = spawn(move || {
            let result = remote.call(|cx| *cx.state += 1);
            drop(alive);
            result
        });
        let mut ran = 0;
        assert_eq!(reactor.run(&mut ran).unwrap(), Exit::NothingLeft);
        let expected = if ran == 1 {
            Ok(())
        } else {
            Err(CallError::Lost)
        };
        assert_eq!(join(thread), expected);
    });
}

/// Fails if the count of closures that the loop has taken does not pass on their effects.
#[test]
fn no_closure_is_pending_only_after_all_have_run() {
    model(|| {
        let mut reactor = Reactor::<()>::new().unwrap();
        let remote = reactor.remote().unwrap();
        let alive = remote.keep_alive();
        let thread = spawn(move || {
            let has_run = Arc::new(AtomicBool::new(false));
            let runs = Arc::clone(&has_run);
            // Relaxed: the count itself passes it on.
            remote
                .post(move |_| runs.store(true, Ordering::Relaxed))
                .unwrap();
            assert!(remote.pending() > 0 || has_run.load(Ordering::Relaxed));
            drop(alive);
        });
        assert_eq!(reactor.run(&mut ()).unwrap(), Exit::NothingLeft);
        join(thread);
    });
}

/// Fails if closures that the loop has taken do not count.
#[test]
fn a_post_at_the_limit_is_accepted_only_after_the_last_has_run() {
    model(|| {
        let builder = Reactor::<usize>::builder().max_pending_posts(1);
        let mut reactor = builder.build().unwrap();
        let remote = reactor.remote().unwrap();
        let alive = remote.keep_alive();
        let thread = spawn(move || {
            let has_run = Arc::new(AtomicBool::new(false));
            let runs = Arc::clone(&has_run);
            let first = remote.try_post(move |cx| {
                *cx.state += 1;
                runs.store(true, Ordering::Relaxed);
            });
            assert!(first.is_ok());
            let second = match remote.try_post(|cx| *cx.state += 1) {
                Ok(()) => 1,
                Err(TryPostError::Full { .. }) => 0,
                Err(error) => unreachable!("{error}"),
            };
            assert!(second == 0 || has_run.load(Ordering::Relaxed));
            drop(alive);
            1 + second
        });
        let mut ran = 0;
        assert_eq!(reactor.run(&mut ran).unwrap(), Exit::NothingLeft);
        assert_eq!(ran, join(thread));
    });
}

/// Fails if the count of values that the loop has taken does not pass on their effects.
#[test]
fn a_queue_is_empty_only_after_all_values_were_handled() {
    model(|| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        let mut reactor = Reactor::<()>::new().unwrap();
        let handled = Arc::new(AtomicBool::new(false));
        let handles = Arc::clone(&handled);
        let consuming = reactor.consume(receiver, move |_: Option<()>, _| {
            handles.store(true, Ordering::Relaxed);
            Ok(Next::Keep)
        });
        consuming.unwrap();
        let thread = spawn(move || {
            sender.try_send(()).unwrap();
            assert!(!sender.is_empty() || handled.load(Ordering::Relaxed));
        });
        assert_eq!(reactor.run(&mut ()).unwrap(), Exit::NothingLeft);
        join(thread);
    });
}
