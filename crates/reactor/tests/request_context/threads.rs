//! Contexts that go to other threads, and the end of a thread.

use std::cell::RefCell;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use reactor::{
    Context, LoopPool, LoopThread, PanicPolicy, Reactor, Registry, RequestContext, Then,
};

use crate::{Here, IN_ONE, NOWHERE, Result, here, on_clock, request};

fn note(cx: &mut Context<'_, Vec<Here>>) {
    cx.state.push(here());
}

fn set_up(registry: &mut Registry<Vec<Here>>) -> std::io::Result<Vec<Here>> {
    registry.after(Duration::ZERO, |cx| {
        note(cx);
        Ok(Then::Done)
    });
    Ok(vec![here()])
}

#[test]
fn a_loop_on_its_own_thread_is_set_up_in_the_context_of_its_maker() -> Result {
    let (context, watch) = request(1);
    let thread = context.scope(|| LoopThread::spawn("loop", set_up))?;
    context.scope(|| thread.remote().post(note))?;
    thread.remote().post(note)?;
    drop(context);
    while thread.remote().call(|cx| cx.state.len())? < 4 {}
    assert_eq!(thread.remote().call(|_| here())?, NOWHERE);
    let mut seen = thread.stop()?;
    seen.sort_by_key(|here| here.0);
    assert_eq!(seen, [NOWHERE, IN_ONE, IN_ONE, IN_ONE]);
    assert!(!watch.is_alive());
    Ok(())
}

#[test]
fn a_pool_of_loops_and_a_broadcast_run_in_the_context_of_their_caller() -> Result {
    let (context, watch) = request(1);
    let pool = context.scope(|| LoopPool::spawn(2, "loop", |_, registry| set_up(registry)))?;
    context.scope(|| pool.broadcast(note))?;
    drop(context);
    for number in 0..2 {
        let remote = pool.get(number).ok_or("it is there")?;
        while remote.call(|cx| cx.state.len())? < 3 {}
    }
    for seen in pool.stop()? {
        assert_eq!(seen, [IN_ONE; 3]);
    }
    assert!(!watch.is_alive());
    Ok(())
}

#[test]
fn a_loop_that_does_not_start_keeps_no_context() {
    let (context, watch) = request(1);
    let refused = |_: &mut Registry<()>| -> std::io::Result<()> {
        assert_eq!(here(), IN_ONE);
        Err(std::io::Error::other("as the test wants"))
    };
    assert!(
        context
            .scope(|| LoopThread::spawn("loop", refused))
            .is_err()
    );
    drop(context);
    assert!(!watch.is_alive());
}

/// Uses contexts when its thread has no current one any more.
struct AtTheEnd(std::sync::mpsc::Sender<Vec<bool>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let mut ran = false;
        let context = RequestContext::NONE.with(7_u8);
        let mut reactor = Reactor::<Vec<bool>>::new().unwrap();
        let mut seen = vec![RequestContext::current().is_none()];
        context.scope(|| {
            ran = true;
            reactor.defer(|cx| {
                cx.set_context(RequestContext::NONE.with(1_u8));
                cx.state.push(true);
            });
        });
        reactor.turn(&mut seen, Some(Duration::ZERO)).unwrap();
        seen.push(ran);
        self.0.send(seen).unwrap();
    }
}

#[test]
fn a_thread_that_ends_has_no_context_and_runs_callbacks_without() -> Result {
    thread_local! {
        static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
    }
    let (sender, results) = channel();
    thread::spawn(move || {
        // Made before the current context, so that it is dropped after it.
        LAST.with(|last| *last.borrow_mut() = Some(AtTheEnd(sender)));
        RequestContext::NONE
            .with(1_u8)
            .scope(|| assert!(!RequestContext::current().is_none()));
    })
    .join()
    .map_err(|_| "the thread panicked")?;
    assert_eq!(results.recv()?, [true, true, true]);
    Ok(())
}

#[test]
fn a_loop_within_a_callback_of_another_loop_leaves_its_context() -> Result {
    let (mut outer, _) = on_clock::<Vec<Here>>(PanicPolicy::Propagate)?;
    let (context, watch) = request(1);
    context.scope(|| {
        outer.defer(|cx| {
            let mut inner = Reactor::<Vec<Here>>::new().unwrap();
            RequestContext::NONE.scope(|| inner.defer(note));
            inner.defer(note);
            inner.run(cx.state).unwrap();
            note(cx);
        });
    });
    drop(context);
    let mut seen = Vec::new();
    outer.run(&mut seen)?;
    assert_eq!(seen, [NOWHERE, IN_ONE, IN_ONE]);
    assert!(!watch.is_alive());
    Ok(())
}
