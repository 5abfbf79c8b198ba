//! Values of contexts whose destructors panic, look at the current context, or send to the loop;
//! and what a loop arms for itself.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reactor::{
    Capacity, Handler, Interest, Io, Next, PanicPolicy, Reactor, Remote, RequestContext, Then,
    notification_queue,
};
use support::ms;

use crate::ways::{Body, LONG_ENOUGH, State, WAYS};
use crate::{Result, assert_nothing_is_current, on_clock, request};

/// Panics when it is dropped, and counts that.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(
            RequestContext::current().get::<Self>().is_none(),
            "it is not current any more"
        );
        self.0.fetch_add(1, Ordering::SeqCst);
        resume_unwind(Box::new("a bomb")); // without a message
    }
}

/// Runs each way in a context with two bombs, to its end, with the loop at last.
fn blow_up(policy: PanicPolicy, ends_by_panic: bool) -> Result {
    for way in WAYS.iter().filter(|way| way.name != "call") {
        let blown = Arc::new(AtomicUsize::new(0));
        let (mut reactor, clock) = on_clock::<State>(policy)?;
        let bomb = || Bomb(Arc::clone(&blown));
        let context = RequestContext::NONE.with(bomb()).with((bomb(), 2));
        let body = Body::new(move |_, _| {
            if ends_by_panic {
                resume_unwind(Box::new("the callback"));
            }
            Ok(Next::Remove)
        });
        let handed = context.scope(|| (way.hand_on)(&mut reactor, body))?;
        drop(context);
        assert_eq!(blown.load(Ordering::SeqCst), 0, "{}", way.name);
        let mut state = State::new(clock);
        for _ in 0..LONG_ENOUGH.as_millis() {
            for time in [Duration::ZERO, Duration::ZERO, ms(1)] {
                let turns = AssertUnwindSafe(|| reactor.advance(&mut state, time));
                let result = catch_unwind(turns);
                assert!(
                    result.is_ok() || policy == PanicPolicy::Propagate,
                    "{}",
                    way.name
                );
                assert_nothing_is_current(way.name);
            }
        }
        drop(handed.held);
        let dropping = AssertUnwindSafe(|| drop(reactor));
        let _ = catch_unwind(dropping); // a bomb may have waited for the end of the loop
        assert_eq!(
            blown.load(Ordering::SeqCst),
            2,
            "{}: both are dropped",
            way.name
        );
    }
    Ok(())
}

#[test]
fn values_whose_destructors_panic_are_all_dropped_and_end_no_loop() -> Result {
    for policy in [PanicPolicy::RemoveHandler, PanicPolicy::Propagate] {
        for ends_by_panic in [false, true] {
            blow_up(policy, ends_by_panic)?;
        }
    }
    Ok(())
}

#[test]
fn a_destructor_that_panics_does_not_stop_the_senders_that_wait_for_room() -> Result {
    let (mut reactor, _) = on_clock::<Vec<u32>>(PanicPolicy::RemoveHandler)?;
    let (sender, receiver) = notification_queue::<u32>(Capacity::Bounded(1));
    reactor.consume(receiver, |value, cx| {
        cx.state.extend(value);
        Ok(Next::Keep)
    })?;
    sender.try_send(1)?;
    let blown = Arc::new(AtomicUsize::new(0));
    let gone = Reactor::<()>::new()?;
    let remote = {
        let mut gone = gone;
        let remote = gone.remote()?;
        RequestContext::NONE
            .with(Bomb(Arc::clone(&blown)))
            .scope(|| {
                sender.on_room(&remote, |_| {}) // its loop is gone when there is room
            })?;
        remote
    };
    assert!(remote.is_gone());
    let (here, other) = (reactor.remote()?, sender.clone());
    sender.on_room(&here, move |cx| {
        other.try_send(2).unwrap();
        cx.state.push(0);
    })?;
    let mut seen = Vec::new();
    for _ in 0..4 {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
    }
    assert_eq!((seen, blown.load(Ordering::SeqCst)), (vec![1, 0, 2], 1));
    Ok(())
}

/// Posts to the loop when it is dropped, and waits for nothing.
struct Posts(Remote<Vec<bool>>);

impl Drop for Posts {
    fn drop(&mut self) {
        let is_current = !RequestContext::current().is_none();
        let _ = self.0.post(move |cx| cx.state.push(is_current)); // the loop may be gone
    }
}

#[test]
fn a_value_may_send_to_the_loop_when_it_is_dropped() -> Result {
    let (mut reactor, _) = on_clock::<Vec<bool>>(PanicPolicy::Propagate)?;
    let remote = reactor.remote()?;
    let context = || RequestContext::NONE.with(Posts(remote.clone()));
    context().scope(|| reactor.defer(|_| {}));
    let timer = context().scope(|| reactor.after(ms(1), |_| Ok(Then::Done)));
    reactor.cancel(timer)?;
    context().scope(|| remote.post(|_| {}))?;
    context().scope(|| reactor.after(ms(1), |_| Ok(Then::Done)));
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
    context()
        .scope(|| sender.send_many(&mut VecDeque::from([1, 2])))
        .unwrap_err();
    context().scope(|| sender.try_send(3)).unwrap_err();
    let mut seen = Vec::new();
    (0..3).try_for_each(|_| reactor.advance(&mut seen, ms(1)).map(drop))?;
    assert_eq!(seen, [false; 6]);
    Ok(())
}

#[test]
fn what_is_refused_keeps_no_context() -> Result {
    let (mut reactor, _) = on_clock::<()>(PanicPolicy::Propagate)?;
    let (context, watch) = request(1);
    let (remote, full) = (
        reactor.remote()?,
        notification_queue::<u32>(Capacity::Bounded(0)),
    );
    let (gone, receiver) = notification_queue::<u32>(Capacity::Unbounded);
    drop(receiver);
    let late = full.0.clone();
    context.scope(|| {
        assert!(late.try_send(1).is_err() && gone.try_send(1).is_err());
        assert!(gone.send_many(&mut VecDeque::from([1])).is_err());
        assert!(gone.send_within(1, ms(1)).is_err());
    });
    drop(reactor);
    context.scope(|| {
        assert!(remote.post(|_| {}).is_err() && remote.try_post(|_| {}).is_err());
        assert!(late.on_room(&remote, |_| {}).is_err());
    });
    drop(context);
    assert!(!watch.is_alive());
    Ok(())
}

#[test]
fn the_pause_of_a_fruitless_source_does_not_keep_its_context() -> Result {
    let (mut reactor, _) = on_clock::<()>(PanicPolicy::Propagate)?;
    let (context, watch) = request(1);
    let key = context.scope(|| {
        let file = std::fs::File::open("/proc/self/exe")?;
        reactor
            .add(file, Interest::READABLE, |_, _| {
                Err(ErrorKind::WouldBlock.into())
            })
            .map_err(io::Error::from)
    })?;
    drop(context);
    for _ in 0..12 {
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    assert_eq!(reactor.timers().count(), 1, "the source pauses");
    reactor.remove(key)?;
    assert!(
        !watch.is_alive(),
        "kept by {:?}",
        reactor.timers().collect::<Vec<_>>()
    );
    Ok(())
}

/// Notes whether its end is in its own context.
struct Ends(Option<u32>, Arc<AtomicUsize>);

impl<T> Handler<u32, T> for Ends {
    fn ready(&mut self, _: &mut Io<T>, cx: &mut reactor::Context<'_, u32>) -> io::Result<Next> {
        let key = cx.key();
        if *cx.state == 1 {
            cx.registry.remove(key)?;
        }
        resume_unwind(Box::new("as the test wants"));
    }

    fn closing(&mut self, _: &mut Io<T>) {
        assert_eq!(crate::here().0, self.0);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_end_of_a_registration_is_in_its_context_also_after_a_panic() -> Result {
    for removes_itself in [0, 1] {
        let ended = Arc::new(AtomicUsize::new(0));
        let (mut reactor, _) = on_clock::<u32>(PanicPolicy::Propagate)?;
        let ((one, watch), (near, mut far)) = (request(1), UnixStream::pair()?);
        let handler = Ends(Some(1), Arc::clone(&ended));
        one.scope(|| reactor.add_handler(near, Interest::READABLE, handler))?;
        drop(one);
        far.write_all(b"x")?;
        let turn = AssertUnwindSafe(|| reactor.turn(&mut { removes_itself }, Some(Duration::ZERO)));
        assert!(catch_unwind(turn).is_err());
        assert_eq!(
            ended.load(Ordering::SeqCst),
            1,
            "removes itself: {removes_itself}"
        );
        assert!(!watch.is_alive());
    }
    Ok(())
}

#[test]
fn the_end_of_a_registration_without_a_context_is_in_none() -> Result {
    let ended = Arc::new(AtomicUsize::new(0));
    let (mut reactor, _) = on_clock::<u32>(PanicPolicy::Propagate)?;
    let (one, _watch) = request(1);
    let mut add = || -> Result<_> {
        let (near, _far) = UnixStream::pair()?;
        Ok(reactor.add_handler(near, Interest::NONE, Ends(None, Arc::clone(&ended)))?)
    };
    let (key, _left) = (add()?, add()?);
    one.scope(|| {
        reactor.remove(key).unwrap();
        drop(reactor);
    });
    assert_eq!(ended.load(Ordering::SeqCst), 2);
    Ok(())
}
