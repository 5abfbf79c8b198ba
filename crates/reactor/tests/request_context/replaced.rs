//! Contexts that are replaced: by the callback itself, through the key, and in nested scopes.

use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Capacity, Interest, Next, PanicPolicy, Reactor, RequestContext, Then, notification_queue,
};
use support::ms;

use crate::ways::{Body, LONG_ENOUGH, State, WAYS};
use crate::{
    Here, IN_ONE, IN_TWO, NOWHERE, Result, assert_nothing_is_current, here, on_clock, request,
};

/// Takes turns until each way has called its callback several times.
fn advance(reactor: &mut Reactor<State>, state: &mut State) {
    for _ in 0..LONG_ENOUGH.as_millis() {
        reactor.advance(state, Duration::ZERO).unwrap();
        reactor.advance(state, ms(1)).unwrap();
    }
}

#[test]
fn a_context_set_in_a_callback_is_current_at_once_and_may_be_kept() -> Result {
    for way in WAYS
        .iter()
        .filter(|way| !["closing", "with_handler", "request"].contains(&way.name))
    {
        for other in [Some(request(2)), None] {
            let (mut reactor, clock) = on_clock::<State>(PanicPolicy::Propagate)?;
            let (context, watch) = request(1);
            let (to, there) = match &other {
                Some((context, _)) => (context.clone(), IN_TWO),
                None => (RequestContext::NONE, NOWHERE),
            };
            let body = Body::new(move |cx, _| {
                cx.set_context(to.clone());
                assert_eq!(here(), there);
                Ok(Next::Keep)
            });
            let handed = context.scope(|| (way.hand_on)(&mut reactor, body))?;
            drop(context);
            let mut state = State::new(clock);
            advance(&mut reactor, &mut state);
            assert_nothing_is_current(way.name);
            let is_kept = handed.name.keeps_context();
            assert!(
                !is_kept || state.seen.len() > 1,
                "{} was called again",
                way.name
            );
            for (call, seen) in state.seen.iter().enumerate() {
                let expected = if call > 0 && is_kept { there } else { IN_ONE };
                assert_eq!(*seen, expected, "{}, call {call}", way.name);
            }
            if is_kept {
                assert!(!watch.is_alive(), "{} keeps the first context", way.name);
            }
            drop(handed.held);
            drop(reactor);
            let (context, watch) = other.unzip();
            drop(context);
            assert!(watch.is_none_or(|watch| !watch.is_alive()), "{}", way.name);
        }
    }
    Ok(())
}

#[test]
fn a_context_set_by_key_is_that_of_the_next_call() -> Result {
    for way in WAYS {
        let (mut reactor, clock) = on_clock::<State>(PanicPolicy::Propagate)?;
        let (one, watch) = request(1);
        let (two, _) = request(2);
        let body = Body::new(|_, _| Ok(Next::Keep));
        let handed = one.scope(|| (way.hand_on)(&mut reactor, body))?;
        drop(one);
        if handed.name.set_context(&mut reactor, two) {
            assert!(!watch.is_alive(), "{} keeps the context before", way.name);
            let mut state = State::new(clock);
            advance(&mut reactor, &mut state);
            assert!(!state.seen.is_empty(), "{} was called", way.name);
            assert!(
                state.seen.iter().all(|here| *here == IN_TWO),
                "{}: {:?}",
                way.name,
                state.seen
            );
            assert!(handed.name.set_context(&mut reactor, RequestContext::NONE));
            state.seen.clear();
            advance(&mut reactor, &mut state);
            assert!(
                state.seen.iter().all(|here| *here == NOWHERE),
                "{}: {:?}",
                way.name,
                state.seen
            );
        }
        drop(reactor); // a call is answered
        drop(handed.held);
    }
    Ok(())
}

#[test]
fn a_queue_that_sets_its_context_by_key_has_it_for_the_next_value() -> Result {
    let (mut reactor, _) = on_clock::<Vec<Here>>(PanicPolicy::Propagate)?;
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    reactor.consume(receiver, |value, cx| {
        cx.state.push(here());
        if value == Some(1) {
            let key = cx.key();
            cx.registry.set_context(key, request(2).0)?;
            assert_eq!(cx.state.pop(), Some(here()), "not before the next call");
        }
        Ok(Next::Keep)
    })?;
    let (one, _watch) = request(1);
    (1..=2).try_for_each(|value| sender.try_send(value))?;
    one.scope(|| sender.try_send(3))?;
    sender.try_send(4)?;
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [IN_TWO, IN_ONE, IN_TWO]);
    Ok(())
}

#[test]
fn a_context_set_for_a_value_of_a_queue_ends_with_the_value() -> Result {
    let (mut reactor, _) = on_clock::<Vec<Here>>(PanicPolicy::Propagate)?;
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let (one, _watch) = request(1);
    let consume = || {
        reactor.consume(receiver, |value: Option<u32>, cx| {
            cx.state.push(here());
            if value == Some(1) {
                cx.set_context(request(2).0);
                assert_eq!(here(), IN_TWO);
            }
            Ok(Next::Keep)
        })
    };
    one.scope(consume)?;
    (1..=2).try_for_each(|value| sender.try_send(value))?;
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [IN_ONE, IN_ONE]);
    assert_nothing_is_current("after the queue");
    Ok(())
}

#[test]
fn a_scope_restores_what_was_current_whatever_is_set_in_it() -> Result {
    let (mut reactor, _) = on_clock::<Vec<Here>>(PanicPolicy::Propagate)?;
    let ((one, one_lives), (two, two_lives)) = (request(1), request(2));
    one.scope(|| {
        reactor.defer(move |cx| {
            let entered = tracing::info_span!(parent: None, "entered").entered();
            two.scope(|| {
                cx.state.push(here());
                RequestContext::NONE.scope(|| cx.state.push(here()));
                cx.set_context(RequestContext::NONE.with(()));
                cx.state.push(here());
            });
            cx.state.push(here());
            drop(entered);
            cx.state.push(here());
        });
    });
    drop(one);
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    let in_entered = Here(Some(1), Some("entered"));
    assert_eq!(seen, [IN_TWO, NOWHERE, NOWHERE, in_entered, IN_ONE]);
    assert_nothing_is_current("after the turn");
    assert!(!one_lives.is_alive() && !two_lives.is_alive());
    Ok(())
}

/// The accesses of a callback to another registration.
mod accesses {
    use std::any::Any;
    use std::io;

    use reactor::{Context, Handler, Io, Key};

    use super::*;

    struct Accessed;

    impl Handler<Vec<Here>, UnixStream> for Accessed {
        fn ready(
            &mut self,
            _: &mut Io<UnixStream>,
            cx: &mut Context<'_, Vec<Here>>,
        ) -> io::Result<Next> {
            cx.state.push(here());
            Ok(Next::Remove)
        }

        fn request(
            &mut self,
            _: &mut Io<UnixStream>,
            _: &mut dyn Any,
            cx: &mut Context<'_, Vec<Here>>,
        ) {
            cx.set_context(request(2).0);
            cx.state.push(here());
        }
    }

    /// Runs `access` in a timer of the first request. Returns what was current.
    fn access(
        access: impl Fn(&mut Context<'_, Vec<Here>>, Key) + 'static,
    ) -> Result<(Vec<Here>, Option<u32>)> {
        let (mut reactor, _) = on_clock::<Vec<Here>>(PanicPolicy::Propagate)?;
        let (near, mut far) = UnixStream::pair()?;
        let key = reactor.add_handler(near, Interest::READABLE, Accessed)?;
        let (one, _watch) = request(1);
        let timer = one.scope(|| {
            reactor.after(ms(1), move |cx| {
                access(cx, key);
                cx.state.push(here());
                Ok(Then::After(Duration::from_secs(1)))
            })
        });
        let mut seen = Vec::new();
        reactor.advance(&mut seen, ms(1))?;
        let _ = far.write_all(b"x"); // it may be removed
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
        let of_timer = reactor.timer_context(timer)?;
        Ok((
            seen,
            of_timer.get::<crate::Request>().map(|request| request.0),
        ))
    }

    #[test]
    fn a_context_set_in_an_access_is_that_of_the_accessed_registration() -> Result {
        let by_request = access(|cx, key| cx.request(key, &mut ()).unwrap())?;
        assert_eq!(by_request, (vec![IN_ONE, IN_ONE, IN_TWO], Some(1)));
        let with_handler = access(|cx, key| {
            cx.with_handler(key, |_: &mut Io<UnixStream>, _: &mut Accessed, cx| {
                cx.set_context(request(2).0);
            })
            .unwrap();
        })?;
        assert_eq!(with_handler, (vec![IN_ONE, IN_TWO], Some(1)));
        Ok(())
    }

    #[test]
    fn a_context_set_in_an_access_after_a_removal_changes_nothing() -> Result {
        let removed = access(|cx, key| {
            cx.with_handler(key, |_: &mut Io<UnixStream>, _: &mut Accessed, cx| {
                cx.registry.remove(key).unwrap();
                cx.set_context(request(2).0);
            })
            .unwrap();
        })?;
        assert_eq!(
            removed,
            (vec![IN_ONE], Some(1)),
            "neither the caller nor its timer"
        );
        Ok(())
    }
}

#[test]
fn the_requests_of_a_connection_each_end_with_the_next_one() -> Result {
    let mut reactor = Reactor::<Vec<u32>>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let watches = Rc::new(Cell::new(Vec::new()));
    let made = Rc::clone(&watches);
    reactor.add(near, Interest::READABLE, move |near, cx| {
        std::io::Read::read(near, &mut [0; 1])?;
        let (context, watch) = request(1);
        made.set(made.take().into_iter().chain([watch]).collect());
        cx.set_context(context);
        Ok(Next::Keep)
    })?;
    let mut state = Vec::new();
    for requests in 1..=3 {
        far.write_all(b"x")?;
        reactor.turn(&mut state, Some(support::PATIENCE))?;
        let all = watches.take();
        let alive: Vec<_> = all.iter().map(crate::Watch::is_alive).collect();
        assert_eq!(alive, [vec![false; requests - 1], vec![true]].concat());
        watches.set(all);
    }
    Ok(())
}
