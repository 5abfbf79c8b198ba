//! Actions of callbacks: each begins or ends something, and the model records it.

use std::io::{self};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Next, Registry, Then, TimerKey};
use simulation::{now, random};

use super::model::{Cx, Hook, LONGEST_DELAY, Left, MANUAL_RESET, Model, Timer, Token, expect_soon};
use super::sources::{set_priority, set_timeout};
use crate::draw::{duration, once_in, panic, size};

/// Every callback but a hook: counts it, lets other threads run, and acts.
pub(super) fn callback(cx: &mut Cx<'_>) {
    cx.state.ran.set(cx.state.ran.get() + 1);
    act_some(cx);
}

pub(super) fn act_some(cx: &mut Cx<'_>) {
    pause();
    for _ in 0..size(4) {
        act(cx);
    }
    pause();
    if cx.state.panics && once_in(50) {
        cx.state.cut_turn.set(cx.state.turn.get());
        panic();
    }
}

/// Acts in a handler or hook that has to stay: a destructor that panics would end it.
pub(super) fn act_and_stay(cx: &mut Cx<'_>) {
    if cx.state.catches || !cx.state.panics {
        (0..size(3)).for_each(|_| act(cx));
    }
}

pub(super) fn pause() {
    if once_in(4) {
        simulation::sleep(duration(Duration::from_millis(2)));
    }
}

pub(super) fn act(cx: &mut Cx<'_>) {
    let model = Rc::clone(cx.state);
    let Some(budget) = model.budget.get().checked_sub(1) else {
        return take_away(cx.registry, &model);
    };
    model.budget.set(budget);
    match random(24) {
        0..=2 => arm(cx.registry, &model),
        3 => cancel_timer(cx.registry, &model),
        4 => reset_timer(cx.registry, &model),
        5 | 6 => defer(cx.registry, &model),
        7 => cancel_deferred(cx.registry, &model),
        8 | 9 => add_hook(cx.registry, &model),
        10 => remove_hook(cx.registry, &model),
        11 => hold_token(cx.registry, &model),
        12 | 13 => drop(model.own_tokens.take()),
        14 => model.wake(),
        15 => model.set_event(),
        16 => model.post(),
        17 => model.send(),
        18 if once_in(20) => {
            model.stop();
            cx.registry.stop();
        }
        19 if once_in(20) => {
            model.stop();
            model.failed.set(true);
            cx.registry.stop_with(io::Error::other("as the seed wants"));
        }
        20 => model.set_event(),
        21 => model.events[MANUAL_RESET].reset(),
        22 => set_timeout(cx.registry, &model),
        23 => set_priority(cx.registry, &model),
        _ => {}
    }
}

/// Acts for a loop that begins nothing new: ends something that it began, or nothing.
pub(super) fn take_away(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    match random(10) {
        0..=5 => cancel_timer(registry, model),
        6 => cancel_deferred(registry, model),
        7 => remove_hook(registry, model),
        8 => drop(model.own_tokens.take()),
        _ => {}
    }
}

/// Keeps the loop alive for a time. A clock that jumps would stand still for ever.
pub(super) fn hold_token(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    if model.clock.is_none() {
        model.own_tokens.borrow_mut().extend(Token::new(model));
        let left = Left::new(model);
        registry.after(duration(LONGEST_DELAY), move |cx| {
            let _ = &left;
            cx.state.ran.set(cx.state.ran.get() + 1);
            drop(cx.state.own_tokens.take());
            Ok(Then::Done)
        });
    }
}

pub(super) fn arm(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let (number, delay) = (model.number(), duration(LONGEST_DELAY));
    let deadline = registry.now() + delay;
    let (left, captured) = (Left::new(model), model.capture());
    let key = registry.after(delay, move |cx| {
        let _captured = (&left, &captured);
        run_timer(number, cx)
    });
    let essential = once_in(20);
    if essential {
        registry.set_timer_essential(key).unwrap();
    }
    let timer = Timer {
        key,
        deadline,
        arming: number,
        armed: now(),
        essential,
    };
    model.timers.borrow_mut().insert(number, timer);
}

pub(super) fn run_timer(number: u64, cx: &mut Cx<'_>) -> io::Result<Then> {
    let model = Rc::clone(cx.state);
    let timer = model.timers.borrow_mut().remove(&number);
    let timer = timer.expect("a timer that has ended does not run");
    assert!(cx.now() >= timer.deadline, "a timer is early");
    if model.clock.is_none() {
        expect_soon(timer.deadline.max(timer.armed), "a timer");
    }
    let turn = cx.registry.metrics().turns;
    let order = (turn, timer.deadline, timer.arming);
    assert!(
        model.last_timer.replace(Some(order)) < Some(order),
        "timers run in their order"
    );
    let is_failing = once_in(12);
    let is_essential = timer.essential && model.catches;
    let fails = is_essential.then(|| FailsIfUnwound(Rc::clone(&model)));
    if is_failing {
        return fail_after(callback, timer.essential, cx);
    }
    callback(cx);
    drop(fails);
    if once_in(2) {
        return Ok(Then::Done);
    }
    let delay = duration(LONGEST_DELAY);
    let timer = Timer {
        deadline: cx.now() + delay,
        arming: model.number(),
        armed: now(),
        ..timer
    };
    model.timers.borrow_mut().insert(number, timer);
    Ok(Then::After(delay))
}

/// Fails after `callback`. If `callback` panics, no error is returned, and none stops the loop.
pub(super) fn fail_after(
    callback: impl FnOnce(&mut Cx<'_>),
    is_essential: bool,
    cx: &mut Cx<'_>,
) -> io::Result<Then> {
    callback(cx);
    if is_essential {
        cx.state.failed.set(true);
        cx.state.stop();
    }
    Err(io::Error::other("as the seed wants"))
}

/// Expects a failure of the loop if a panic unwinds through an essential callback.
pub(super) struct FailsIfUnwound(pub(super) Rc<Model>);

impl Drop for FailsIfUnwound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.set(true);
            self.0.stop();
        }
    }
}

/// Draws one of the armed timers.
pub(super) fn draw_timer(model: &Model) -> Option<(u64, TimerKey)> {
    let timers = model.timers.borrow();
    let place = random(timers.len() as u64) as usize;
    timers
        .iter()
        .nth(place)
        .map(|(number, timer)| (*number, timer.key))
}

pub(super) fn cancel_timer(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    if let Some((number, key)) = draw_timer(model) {
        model.timers.borrow_mut().remove(&number);
        registry.cancel(key).unwrap();
    }
}

pub(super) fn reset_timer(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    if let Some((number, key)) = draw_timer(model) {
        let delay = duration(LONGEST_DELAY);
        let deadline = registry.now() + delay;
        registry.reset(key, delay).unwrap();
        let arming = model.number();
        if let Some(timer) = model.timers.borrow_mut().get_mut(&number) {
            (timer.deadline, timer.arming) = (deadline, arming);
            timer.armed = now();
        }
    }
}

pub(super) fn defer(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let (left, captured, promise) = (
        Left::new(model),
        model.capture(),
        model.promise("a deferred callback"),
    );
    let key = registry.defer(move |cx| {
        let _captured = (left, captured);
        let first = cx.state.deferred.borrow_mut().pop_front();
        assert_eq!(first.map(|(number, _)| number), Some(promise));
        cx.state.keep(promise);
        callback(cx);
    });
    model.deferred.borrow_mut().push_back((promise, key));
}

pub(super) fn cancel_deferred(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let cancelled = model.deferred.borrow_mut().pop_back();
    if let Some((promise, key)) = cancelled {
        model.promises.borrow_mut().remove(&promise);
        registry.cancel_deferred(key).unwrap();
    }
}

pub(super) fn add_hook(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let (number, kind, captured) = (model.number(), random(5), model.capture());
    let is_idle = kind == 4;
    let left = is_idle.then(|| Left::new(model));
    let hook = move |cx: &mut Cx<'_>| {
        let _captured = (&left, &captured);
        run_hook(number, is_idle, cx)
    };
    let key = match kind {
        0 | 1 => registry.before_wait(hook),
        2 | 3 => registry.after_wait(hook),
        _ => registry.idle(hook),
    };
    let hook = Hook {
        key: Some(key),
        last_turn: None,
    };
    model.hooks.borrow_mut().insert(number, hook);
}

pub(super) fn run_hook(number: u64, is_idle: bool, cx: &mut Cx<'_>) -> io::Result<Next> {
    let model = Rc::clone(cx.state);
    let turn = cx.registry.metrics().turns;
    let hook = model.hooks.borrow_mut().remove(&number);
    let hook = hook.expect("a hook that was removed does not run");
    if is_idle {
        model.ran.set(model.ran.get() + 1);
    } else if let Some(last) = hook.last_turn {
        assert!(
            turn == last + 1 || last <= model.cut_turn.get(),
            "a hook runs once a turn"
        );
    }
    let last_turn = Some(turn);
    model
        .hooks
        .borrow_mut()
        .insert(number, Hook { last_turn, ..hook });
    let kept = {
        let result = catch_unwind(AssertUnwindSafe(|| act_some(cx)));
        if let Err(panic) = result {
            model.hooks.borrow_mut().remove(&number);
            std::panic::resume_unwind(panic);
        }
        model.hooks.borrow_mut().contains_key(&number)
    };
    if kept && once_in(if is_idle { 4 } else { 12 }) {
        model.hooks.borrow_mut().remove(&number);
        return Ok(Next::Remove);
    }
    Ok(Next::Keep)
}

pub(super) fn remove_hook(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let drawn = {
        let hooks = model.hooks.borrow();
        let place = random(hooks.len() as u64) as usize;
        hooks
            .iter()
            .nth(place)
            .and_then(|(number, hook)| hook.key.map(|key| (*number, key)))
    };
    if let Some((number, key)) = drawn {
        model.hooks.borrow_mut().remove(&number);
        registry.remove_hook(key).unwrap();
    }
}
