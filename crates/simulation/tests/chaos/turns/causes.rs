//! The causes of seeds that have failed: loops that do the same in every run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{ManualClock, Next, Reactor, Then};
use simulation::{Faults, Seeds};

use super::acts::fail_after;
use super::model::{EVENTS, LONGEST_DELAY, MANUAL_RESET, Model, new_model};
use super::{expect_call_if_set, expect_right_end, expect_wanted, set_up, take_turn};
use crate::draw::{hide_wanted_panics, panic};

#[test]
fn an_essential_timer_that_panics_before_its_error_stops_no_loop() {
    hide_wanted_panics();
    Seeds::new(0..1).faults(Faults::none()).check(|| {
        let mut model = new_model();
        if let Some(model) = Rc::get_mut(&mut model) {
            (model.catches, model.panics) = (false, true);
        }
        let mut reactor = Reactor::new().unwrap();
        let timer = reactor.after(Duration::ZERO, |cx| fail_after(|_| panic(), true, cx));
        reactor.set_timer_essential(timer).unwrap();
        let mut state = Rc::clone(&model);
        let unwound = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut state)));
        expect_wanted(unwound.map(drop), &model);
        expect_right_end(&reactor.run(&mut state), &model);
    });
}

#[test]
fn a_set_and_a_reset_within_a_call_for_the_event_lead_to_no_call() {
    Seeds::new(0..1).faults(Faults::none()).check(|| {
        let model = new_model();
        let mut reactor = Reactor::<Rc<Model>>::new().unwrap();
        reactor
            .on_event(&model.events[MANUAL_RESET], |cx| {
                let kind = EVENTS[MANUAL_RESET];
                let promise = cx.state.outstanding(kind);
                cx.state
                    .keep(promise.expect("a reset event leads to no call"));
                let event = &cx.state.events[MANUAL_RESET];
                event.reset();
                cx.state.promise(kind);
                event.set();
                event.reset();
                expect_call_if_set(cx.state);
                Ok(Next::Keep)
            })
            .unwrap();
        model.promise(EVENTS[MANUAL_RESET]);
        model.events[MANUAL_RESET].set();
        let mut state = Rc::clone(&model);
        for _ in 0..3 {
            reactor.turn(&mut state, Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(model.outstanding(EVENTS[MANUAL_RESET]), None);
    });
}

#[test]
fn many_turns_by_a_clock_that_jumps_are_no_spin() {
    Seeds::new(0..1).faults(Faults::none()).check(|| {
        let clock = ManualClock::jumping();
        let mut model = new_model();
        if let Some(model) = Rc::get_mut(&mut model) {
            model.clock = Some(clock.clone());
        }
        let mut reactor = Reactor::builder().clock(clock).build().unwrap();
        set_up(&mut reactor, &model);
        reactor.after(LONGEST_DELAY, |_cx| Ok(Then::Done));
        let mut state = Rc::clone(&model);
        for _ in 0..1000 {
            take_turn(&mut reactor, &mut state, Duration::from_millis(1)).unwrap();
        }
        drop(reactor);
        drop((model.remote.take(), model.waker.take(), model.sender.take()));
    });
}
