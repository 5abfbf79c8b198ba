//! Each way in which work is handed on, in each case: what is current in the callback, in the lines
//! that the loop writes about it, and after it, and that nothing keeps the context.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use reactor::{Missed, Next, PanicPolicy, Reactor, RequestContext};
use support::ms;

use crate::ways::{Body, Handed, LONG_ENOUGH, Name, State, WAYS, Way};
use crate::{
    Here, IN_ONE, NOWHERE, Result, Watch, assert_nothing_is_current, here, log, on_clock, request,
};

/// A loop with callbacks of all places that have no context.
struct Bench {
    reactor: Reactor<State>,
    state: State,
}

impl Bench {
    fn new(policy: PanicPolicy) -> Result<Self> {
        let (mut reactor, clock) = on_clock::<State>(policy)?;
        // These run before and after each callback of the test.
        reactor.before_wait(|cx| {
            cx.state.between.push(here());
            if cx.registry.metrics().turns % 2 == 0 {
                cx.registry.defer(|cx| cx.state.between.push(here())); // else the turn may be idle
            }
            Ok(Next::Keep)
        });
        reactor.after_wait(|cx| {
            cx.state.between.push(here());
            Ok(Next::Keep)
        });
        reactor.idle(|cx| {
            cx.state.between.push(here());
            Ok(Next::Keep)
        });
        reactor.every(ms(1), Missed::Skip, |cx| {
            cx.state.between.push(here());
            Ok(Next::Keep)
        });
        let state = State::new(clock);
        log().take_lines();
        Ok(Self { reactor, state })
    }

    /// Takes turns until each way has called its callback. Panics of callbacks are left out.
    fn settle(&mut self) {
        let Self { reactor, state, .. } = self;
        for _ in 0..LONG_ENOUGH.as_millis() {
            for time in [Duration::ZERO, Duration::ZERO, ms(1)] {
                let turns = AssertUnwindSafe(|| reactor.advance(state, time));
                if let Ok(result) = catch_unwind(turns) {
                    result.unwrap();
                }
                assert_nothing_is_current("after a turn");
            }
        }
        assert!(
            self.state.between.len() > 10,
            "the callbacks without a context ran"
        );
        let between = self.state.between.iter().all(|here| *here == NOWHERE);
        assert!(between, "{:?}", self.state.between);
    }

    /// Hands work on in `context`.
    fn hand_on(&mut self, way: &Way, context: &RequestContext, body: Body) -> Result<Handed> {
        let handed = context.scope(|| (way.hand_on)(&mut self.reactor, body))?;
        assert_nothing_is_current("after the scope");
        Ok(handed)
    }

    /// Ends what was handed on, if it has not ended, and what the loop keeps until a turn.
    fn end(&mut self, name: Name) {
        name.end(&mut self.reactor);
        self.settle();
    }
}

/// Runs each way in a context. `check` gets what its callback has seen.
fn each_way(
    policy: PanicPolicy,
    body: &Body,
    check: impl Fn(&mut Bench, &Way, Name) -> Result,
) -> Result {
    for way in WAYS {
        let mut bench = Bench::new(policy)?;
        let (context, watch) = request(1);
        let handed = bench.hand_on(way, &context, body.clone())?;
        drop(context);
        bench.settle();
        check(&mut bench, way, handed.name)?;
        drop(handed.held);
        bench.end(handed.name);
        assert_ended(&bench, &watch, way);
    }
    Ok(())
}

#[track_caller]
fn assert_ended(bench: &Bench, watch: &Watch, way: &Way) {
    assert!(
        !watch.is_alive(),
        "{} keeps its context alive in {:#?}",
        way.name,
        bench.reactor
    );
}

/// Asserts that each call has seen `expected`, and that there was a call.
#[track_caller]
fn assert_seen(bench: &Bench, way: &Way, expected: Here) {
    let seen = &bench.state.seen;
    assert!(!seen.is_empty(), "{} was not called", way.name);
    assert!(
        seen.iter().all(|here| *here == expected),
        "{}: {seen:?}",
        way.name
    );
}

fn keep() -> Body {
    Body::new(|_, _| Ok(Next::Keep))
}

#[test]
fn a_context_is_current_in_the_callback_and_nothing_after_it() -> Result {
    each_way(PanicPolicy::Propagate, &keep(), |bench, way, _| {
        assert_seen(bench, way, IN_ONE);
        Ok(())
    })
}

#[test]
fn work_that_is_handed_on_without_a_context_runs_without_one() -> Result {
    for way in WAYS {
        let mut bench = Bench::new(PanicPolicy::Propagate)?;
        let handed = (way.hand_on)(&mut bench.reactor, keep())?;
        // What is current while the loop runs is not that of the work.
        let (context, _watch) = request(1);
        let reactor = &mut bench.reactor;
        context.scope(|| {
            for time in [0, 0, 1, 1].map(ms) {
                reactor.advance(&mut bench.state, time).unwrap();
                assert_eq!(here(), IN_ONE, "{}: restored after a turn", way.name);
            }
        });
        assert_seen(&bench, way, NOWHERE);
        bench.settle();
        drop(handed.held);
    }
    Ok(())
}

#[test]
fn a_callback_that_removes_itself_keeps_its_context_until_it_returns() -> Result {
    let body = Body::new(|cx, name| {
        name.end(cx.registry);
        assert_eq!(here(), IN_ONE);
        Ok(Next::Keep)
    });
    each_way(PanicPolicy::Propagate, &body, |bench, way, name| {
        if !matches!(name, Name::Once | Name::Deferred(_)) {
            assert_eq!(bench.state.seen, [IN_ONE], "{}", way.name);
        }
        Ok(())
    })
}

#[test]
fn a_callback_that_ends_by_its_result_ends_its_context() -> Result {
    let body = Body::new(|_, _| Ok(Next::Remove));
    for way in WAYS {
        let mut bench = Bench::new(PanicPolicy::Propagate)?;
        let (context, watch) = request(1);
        let handed = bench.hand_on(way, &context, body.clone())?;
        drop(context);
        bench.settle();
        assert_seen(&bench, way, IN_ONE);
        let held = handed.held_after_its_end();
        assert_ended(&bench, &watch, way); // before anything else is dropped
        drop(held);
    }
    Ok(())
}

#[test]
fn a_panic_leaves_no_context_behind_and_is_logged_in_it() -> Result {
    let body = Body::new(|_, _| panic!("as the test wants"));
    for policy in [PanicPolicy::Propagate, PanicPolicy::RemoveHandler] {
        each_way(policy, &body, |bench, way, _| {
            assert_seen(bench, way, IN_ONE);
            let lines = log().take_lines();
            let told = lines
                .iter()
                .filter(|(_, text)| text.contains("callback panicked"));
            let spans: Vec<_> = told.map(|(span, _)| *span).collect();
            match (policy, way.name) {
                (PanicPolicy::Propagate, _) | (_, "closing") => assert!(spans.is_empty()),
                _ => assert!(
                    !spans.is_empty() && spans.iter().all(|span| *span == Some("one")),
                    "{}: {spans:?}",
                    way.name
                ),
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_failure_is_logged_in_the_context() -> Result {
    let body = Body::new(|_, _| Err(io::Error::other("as the test wants")));
    each_way(PanicPolicy::Propagate, &body, |_, way, name| {
        let lines = log().take_lines();
        let told: Vec<_> = lines
            .iter()
            .filter(|(_, text)| text.contains("failed and"))
            .collect();
        let is_a_value = ["try_send", "send_many", "send_within"].contains(&way.name);
        let expected = usize::from(name.may_fail() || is_a_value);
        assert_eq!(told.len(), expected, "{}: {told:?}", way.name);
        assert!(
            told.iter().all(|(span, _)| *span == Some("one")),
            "{}: {told:?}",
            way.name
        );
        Ok(())
    })
}

#[test]
fn a_slow_callback_is_logged_in_its_context() -> Result {
    for way in WAYS.iter().filter(|way| way.name != "closing") {
        let mut bench = Bench::new(PanicPolicy::Propagate)?;
        // After a slow turn each callback is timed.
        bench.reactor.defer(|cx| cx.state.clock.advance(ms(600)));
        bench.settle();
        let body = Body::new(|cx, _| {
            cx.state.clock.advance(ms(600));
            Ok(Next::Keep)
        });
        log().take_lines();
        let (context, _watch) = request(1);
        let handed = bench.hand_on(way, &context, body)?;
        bench.settle();
        let lines = log().take_lines();
        let told: Vec<_> = lines
            .iter()
            .filter(|(_, text)| text.contains("slow callback"))
            .collect();
        assert!(!told.is_empty(), "{}", way.name);
        // A call of a queue may have been for many values, so it is slow in the name of the queue.
        let is_a_value = ["try_send", "send_many", "send_within"].contains(&way.name);
        let expected = (!is_a_value).then_some("one");
        assert!(
            told.iter().all(|(span, _)| *span == expected),
            "{}: {told:?}",
            way.name
        );
        drop(handed.held);
    }
    Ok(())
}

#[test]
fn what_is_cancelled_before_its_call_drops_its_context_at_once() -> Result {
    for way in WAYS {
        let mut bench = Bench::new(PanicPolicy::Propagate)?;
        let (context, watch) = request(1);
        let handed = bench.hand_on(way, &context, keep())?;
        drop(context);
        if matches!(handed.name, Name::Once) {
            bench.settle(); // it cannot be cancelled
        } else {
            assert!(watch.is_alive(), "{}", way.name);
            handed.name.end(&mut bench.reactor);
            assert_eq!(bench.state.seen, [], "{}", way.name);
        }
        assert_nothing_is_current(way.name);
        if way.name == "add_handler" {
            bench.settle(); // the handler is notified
        }
        let held = handed.held_after_its_end();
        assert_ended(&bench, &watch, way);
        drop(held);
    }
    Ok(())
}

#[test]
fn a_loop_that_is_dropped_drops_all_contexts() -> Result {
    for way in WAYS {
        for has_run in [false, true] {
            if way.name == "call" && !has_run {
                continue; // the call is answered, and its thread owns the context until then
            }
            let mut bench = Bench::new(PanicPolicy::Propagate)?;
            let (context, watch) = request(1);
            let handed = bench.hand_on(way, &context, keep())?;
            drop(context);
            if has_run {
                bench.settle();
            }
            drop(bench);
            assert_nothing_is_current(way.name);
            drop(handed.held);
            assert!(!watch.is_alive(), "{}, after a run: {has_run}", way.name);
        }
    }
    Ok(())
}

#[test]
fn a_span_that_was_entered_is_carried_as_a_context_is() -> Result {
    for way in WAYS {
        let mut bench = Bench::new(PanicPolicy::Propagate)?;
        let span = tracing::info_span!(parent: None, "entered");
        let handed = span.in_scope(|| (way.hand_on)(&mut bench.reactor, keep()))?;
        assert_nothing_is_current(way.name);
        bench.settle();
        assert_seen(&bench, way, Here(None, Some("entered")));
        let id = span.id().unwrap();
        drop(span);
        drop(handed.held);
        bench.end(handed.name);
        assert!(!log().is_open(&id), "{}: the span is kept open", way.name);
    }
    Ok(())
}
