//! A loop whose callbacks do at random what a registry offers, with threads that do at random what
//! a `Remote` offers, and a model that knows what must follow.
//!
//! Ground rule of the model: callbacks of this daemon take little time, so whatever is asked of the
//! loop happens within [`REACTION`]. A late effect was forgotten, and came with the next event.

mod acts;
mod causes;
mod model;
mod sources;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Capacity, Exit, ManualClock, Next, PanicPolicy, Reactor, Registry, Spin, notification_queue,
};
use simulation::{Faults, Handle, Seeds, now, random};

use self::acts::{act, act_and_stay, callback, pause};
use self::model::{
    EVENTS, HOOKS, Joins, LONGEST_DELAY, Left, MANUAL_RESET, Model, THREADS, Token, WOKEN_TURN,
    expect_soon, new_model,
};
use self::sources::{add_sources, write_to_sources};
use crate::draw::{
    duration, forget_failures, has_failed, hide_wanted_panics, is_wanted, once_in, size,
};

/// Registers what every daemon of this kind has, and what looks at the model in each turn.
fn set_up(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let remote = registry.remote().unwrap();
    model.waker.replace(Some(remote.waker()));
    model.remote.replace(Some(remote));
    // The loop may have caught a panic of the model.
    registry.before_wait(|cx| {
        if has_failed() {
            cx.registry.stop();
        }
        Ok(Next::Keep)
    });
    registry.before_wait(|cx| {
        let model = Rc::clone(cx.state);
        model.begin_woken_turn();
        model.expect_nothing_forgotten();
        model.turn.set(cx.registry.metrics().turns);
        if let Some(stopped) = model.stopped.get() {
            expect_soon(stopped, "the end of a stopped loop");
        }
        model.fewest_tokens.set(model.tokens.get());
        model.had_work.set(model.left.get() > 0);
        model
            .clock_before
            .set(model.clock.as_ref().map(ManualClock::now));
        pause();
        Ok(Next::Keep)
    });
    registry.after_wait(|cx| {
        let model = Rc::clone(cx.state);
        model.keep_all(WOKEN_TURN);
        let took = now() - model.nothing_since.get();
        assert!(
            !model.had_work.get()
                || model.left.get() > 0
                || model.has_timeout.get()
                || took < HOOKS,
            "a loop from which its hooks took all work slept for {took:?}"
        );
        let clock = model.clock.as_ref().map(ManualClock::now);
        assert!(
            model.fewest_tokens.get() == 0 || clock == model.clock_before.get(),
            "the clock jumps while another thread is awaited"
        );
        if clock != model.clock_before.get() {
            // The loop slept by its own clock, which the simulation does not see.
            simulation::note("the clock jumps");
        }
        let queue = cx.registry.registrations();
        let queue = queue
            .filter(|registration| registration.key == model.queue.get())
            .map(|registration| registration.calls)
            .next();
        assert_eq!(queue, Some(model.handled.get()), "calls of the queue");
        pause();
        Ok(Next::Keep)
    });
    for (number, kind) in EVENTS.into_iter().enumerate() {
        let key = registry
            .on_event(&model.events[number], move |cx| {
                let turn = cx.registry.metrics().turns;
                let last = cx.state.event_turns[number].replace(turn);
                assert!(
                    last < turn,
                    "the handler of an event is called twice in a turn"
                );
                let promise = cx.state.outstanding(kind);
                cx.state.keep(promise.expect("an event was set"));
                cx.state.ran.set(cx.state.ran.get() + 1);
                pause();
                act_and_stay(cx);
                if number == MANUAL_RESET {
                    go_on_with_manual_reset(cx.state);
                }
                Ok(Next::Keep)
            })
            .unwrap();
        registry.set_background(key).unwrap();
    }
    let capacity = if once_in(2) {
        Capacity::Unbounded
    } else {
        Capacity::Bounded(1 + size(8))
    };
    let (sender, receiver) = notification_queue(capacity);
    model.sender.replace(Some(sender));
    let queue = registry
        .consume(receiver, |value, cx| {
            let model = Rc::clone(cx.state);
            let first = model.sent.borrow_mut().pop_front();
            assert_eq!(first, value, "values come in their order");
            model.handled.set(model.handled.get() + 1);
            model.keep(value.unwrap());
            model.ran.set(model.ran.get() + 1);
            pause();
            act_and_stay(cx);
            Ok(Next::Keep)
        })
        .unwrap();
    registry.set_background(queue).unwrap();
    registry
        .set_max_messages_per_turn(queue, 1 + size(16))
        .unwrap();
    model.queue.set(queue);
}

/// At the end of a call for the manual-reset event: mostly resets it. If it stays set, the handler
/// is called again.
fn go_on_with_manual_reset(model: &Model) {
    if !once_in(4) {
        model.events[MANUAL_RESET].reset();
    }
    expect_call_if_set(model);
}

/// The loop looks at the manual-reset event when the call returns. A set within the call leads to
/// no further call if the event has been reset since.
fn expect_call_if_set(model: &Model) {
    let outstanding = model.outstanding(EVENTS[MANUAL_RESET]);
    match (model.events[MANUAL_RESET].is_set(), outstanding) {
        (true, None) => {
            model.promise(EVENTS[MANUAL_RESET]);
        }
        (false, Some(promise)) => {
            model.promises.borrow_mut().remove(&promise);
        }
        _ => {}
    }
}

/// Another thread: does what a `Remote`, a `Waker` and a `Sender` offer.
fn act_from_outside(model: &Rc<Model>) {
    let mut token = None;
    for _ in 0..10 {
        simulation::sleep(duration(Duration::from_secs(20)));
        if model.is_over.get() {
            return;
        }
        match random(12) {
            0 | 1 => model.wake(),
            2 | 3 => model.post(),
            4 => (0..size(12)).for_each(|_| model.post()),
            5 => model.send(),
            6 => (0..size(12)).for_each(|_| model.send()),
            7 => model.set_event(),
            8 => token = Token::new(model),
            9 => token = None,
            10 => model.call(),
            11 if once_in(4) => {
                let remote = model.remote.borrow().clone();
                if let Some(remote) = remote {
                    model.stops_posted.set(true);
                    model.stop();
                    let _ = remote.stop(); // the loop may be gone
                }
            }
            _ => {}
        }
        if let Some(remote) = &*model.remote.borrow() {
            model.expect_pending(remote);
        }
    }
    drop(token);
}

/// Runs the loop until it ends, by `run` or turn by turn.
fn drive(reactor: &mut Reactor<Rc<Model>>, model: &Rc<Model>) {
    let turns = once_in(2);
    let mut state = Rc::clone(model);
    loop {
        let driven = catch_unwind(AssertUnwindSafe(|| {
            if turns {
                return turn_by_turn(reactor, model);
            }
            reactor.run(&mut state)
        }));
        match driven {
            Ok(result) => {
                assert!(!has_failed(), "a callback found a fault");
                expect_right_end(&result, model);
                // A turn with a timeout lets time pass although nothing is left.
                let may_panic = model.panics && !model.catches;
                if model.clock.is_some() && model.stopped.get().is_none() && !may_panic {
                    take_turn(reactor, &mut state, Duration::from_secs(10)).unwrap();
                }
                return;
            }
            Err(panic) => {
                model.cut_turn.set(reactor.metrics().turns);
                expect_wanted(Err(panic), model);
            }
        }
    }
}

/// Swallows a panic that the daemon wants, and resumes every other one.
fn expect_wanted(result: std::thread::Result<()>, model: &Model) {
    if let Err(payload) = result {
        if model.catches || !is_wanted(&*payload) {
            std::panic::resume_unwind(payload);
        }
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    }
}

fn turn_by_turn(
    reactor: &mut Reactor<Rc<Model>>,
    model: &Rc<Model>,
) -> Result<Exit, reactor::Error> {
    let mut state = Rc::clone(model);
    while reactor.has_work() && !reactor.is_stopping() {
        take_turn(reactor, &mut state, duration(LONGEST_DELAY))?;
    }
    reactor.take_failure().map_or(Ok(Exit::NothingLeft), Err)
}

fn take_turn(
    reactor: &mut Reactor<Rc<Model>>,
    state: &mut Rc<Model>,
    timeout: Duration,
) -> Result<(), reactor::Error> {
    let model = Rc::clone(state);
    model.ran.set(0);
    model.has_timeout.set(true);
    let began = now();
    model.most_tokens.set(model.tokens.get());
    let ran = reactor.turn(state, Some(timeout))?;
    if model.clock.is_some() && model.most_tokens.get() == 0 {
        expect_soon(began, "a turn by a clock that jumps");
    }
    let is_counted = ran == model.ran.get() || model.stops_posted.get();
    assert!(is_counted, "{ran} of {} callbacks ran", model.ran.get());
    model.nothing_since.set(now());
    Ok(())
}

fn expect_right_end(result: &Result<Exit, reactor::Error>, model: &Model) {
    model.expect_nothing_forgotten();
    let failed = matches!(result, Err(reactor::Error::Failed(_)));
    assert_eq!(failed, model.failed.get(), "{result:?}");
    if let (false, None) = (failed, model.stopped.get()) {
        assert!(!matches!(result, Ok(Exit::Stopped { .. })), "{result:?}");
        assert_eq!(model.left.get(), 0, "the loop ends and something is left");
        expect_soon(model.nothing_since.get(), "the end of a loop without work");
    }
    if let Some(stopped) = model.stopped.get() {
        expect_soon(stopped, "the end of a stopped loop");
    }
}

fn daemon() {
    forget_failures();
    let model = new_model();
    let mut builder = Reactor::builder()
        .max_events_per_turn(1 + size(64))
        .max_calls_per_turn(size(64))
        .on_panic(if model.catches {
            PanicPolicy::RemoveHandler
        } else {
            PanicPolicy::Propagate
        });
    if let Some(clock) = &model.clock {
        builder = builder.clock(clock.clone());
    } else if once_in(4) {
        builder = builder.spin(Spin::Fixed(Duration::from_micros(5)));
    }
    let mut reactor = builder.build().unwrap();
    set_up(&mut reactor, &model);
    let writer = (model.clock.is_none() && once_in(4)).then(|| {
        let (model, peers) = (Rc::clone(&model), add_sources(&mut reactor, &model));
        simulation::thread("writer", move || write_to_sources(&model, peers))
    });
    let first = Left::new(&model);
    let alive = reactor.remote().unwrap().keep_alive();
    model.tokens.set(1);
    let threads = if once_in(3) { 0 } else { 1 + random(THREADS) };
    let threads = (0..threads).map(|number| {
        let model = Rc::clone(&model);
        simulation::thread(&format!("thread {number}"), move || {
            act_from_outside(&model);
        })
    });
    let mut threads: VecDeque<_> = threads.collect();
    // Some threads belong to callbacks that live as long as the loop.
    for _ in 0..random(3) {
        let joins = Joins(threads.pop_front());
        reactor.before_wait(move |cx| {
            let _ = &joins;
            (0..2).for_each(|_| act_and_stay(cx));
            Ok(Next::Keep)
        });
    }
    reactor.defer(|cx| {
        (0..size(12)).for_each(|_| act(cx));
        callback(cx);
    });
    drop(alive);
    model.tokens.set(model.tokens.get() - 1);
    drop(first);

    drive(&mut reactor, &model);
    model.is_over.set(true);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
    expect_wanted(dropped, &model);
    threads.into_iter().chain(writer).for_each(Handle::join);
    // The tokens hold the model, and the model holds the tokens.
    drop(model.own_tokens.take());
    drop((model.remote.take(), model.waker.take(), model.sender.take()));
}

#[test]
fn a_loop_does_what_is_asked_of_it_in_time_and_once() {
    hide_wanted_panics();
    let mut faults = Faults::slow();
    // Time passes only where the model lets it pass.
    (faults.stops, faults.preemptions) = (0, 0);
    Seeds::new(0..100).faults(faults).check(|| {
        simulation::process("daemon", daemon).join();
    });
}
