//! Contexts outside of callbacks, and the reason why `run` returns.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{DeferredKey, Exit, Key, ManualClock, Missed, Next, Reactor, ReasonToRun, Then};

#[test]
fn an_entered_closure_has_state_and_registry_and_takes_no_turn() {
    let mut reactor = Reactor::<Vec<u8>>::new().unwrap();
    let mut state = vec![1];
    let turns = reactor.metrics().turns;
    let key = reactor.enter(&mut state, |cx| {
        assert_eq!(
            (cx.key(), cx.timer(), cx.readiness().is_empty()),
            (Key::NULL, None, true)
        );
        cx.state.push(2);
        cx.registry.defer(|cx| cx.state.push(3))
    });
    assert_eq!(
        (state.clone(), reactor.metrics().turns),
        (vec![1, 2], turns)
    );
    reactor.cancel_deferred(key).unwrap();
    reactor.run(&mut state).unwrap();
    assert_eq!(state, [1, 2]);
}

#[test]
fn a_panic_of_an_entered_closure_leaves_the_reactor_intact() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let entered = catch_unwind(AssertUnwindSafe(|| {
        reactor.enter(&mut (), |_| panic!("the caller's"))
    }));
    assert!(entered.is_err());
    reactor.defer(|cx| cx.registry.stop());
    assert!(matches!(
        reactor.run(&mut ()).unwrap(),
        Exit::Stopped { .. }
    ));
}

#[test]
fn run_names_the_line_of_the_first_stop() {
    let mut reactor = Reactor::<()>::new().unwrap();
    reactor.defer(|cx| cx.registry.stop());
    let first = line!() - 1;
    reactor.defer(|cx| cx.registry.stop());
    let Exit::Stopped {
        origin: Some(origin),
        ..
    } = reactor.run(&mut ()).unwrap()
    else {
        panic!("it was stopped")
    };
    assert_eq!((origin.file(), origin.line()), (file!(), first));
    assert_eq!(
        reactor.run(&mut ()).unwrap(),
        Exit::NothingLeft,
        "a stop is for one run"
    );
}

#[test]
fn a_stop_by_another_thread_has_its_line_too() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let remote = reactor.remote().unwrap();
    remote.stop().unwrap();
    let line = line!() - 1;
    let Exit::Stopped {
        origin: Some(origin),
        ..
    } = reactor.run(&mut ()).unwrap()
    else {
        panic!("it was stopped")
    };
    assert_eq!((origin.file(), origin.line()), (file!(), line));
}

#[test]
fn run_until_ends_at_its_deadline_or_before_it_with_the_loop() {
    let second = Duration::from_secs(1);
    let mut reactor = Reactor::<u32>::builder()
        .clock(ManualClock::jumping())
        .build()
        .unwrap();
    let timer = reactor.every(second, Missed::Skip, |cx| {
        *cx.state += 1;
        Ok(Next::Keep)
    });
    let began = reactor.now();
    let mut ticks = 0;
    assert_eq!(
        reactor
            .run_until(began + second * 5 / 2, &mut ticks)
            .unwrap(),
        Exit::Deadline
    );
    assert_eq!(
        (ticks, reactor.now()),
        (2, began + second * 5 / 2),
        "no tick too many, and no time"
    );
    assert_eq!(
        reactor.run_until(began, &mut ticks).unwrap(),
        Exit::Deadline
    );
    assert_eq!(ticks, 2, "a deadline that has passed: nothing runs");
    reactor.after(second, |cx| {
        cx.registry.stop();
        Ok(Then::Done)
    });
    assert!(matches!(
        reactor.run_until(began + second * 9, &mut ticks).unwrap(),
        Exit::Stopped { .. }
    ));
    reactor.cancel(timer).unwrap();
    assert_eq!(
        reactor.run_until(began + second * 99, &mut ticks).unwrap(),
        Exit::NothingLeft
    );
    assert!(reactor.now() < began + second * 9);
}

#[test]
fn run_until_does_not_wait_where_a_hook_takes_the_last_away() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let key = reactor
        .add(reader, reactor::Interest::READABLE, |_, _| Ok(Next::Keep))
        .unwrap();
    reactor.before_wait(move |cx| {
        cx.registry.remove(key)?;
        Ok(Next::Remove)
    });
    let deadline = reactor.now() + Duration::from_secs(3600);
    assert_eq!(
        reactor.run_until(deadline, &mut ()).unwrap(),
        Exit::NothingLeft
    );
}

#[test]
fn the_loop_has_work_exactly_while_there_is_a_reason_to_run() {
    let mut reactor = Reactor::<()>::new().unwrap();
    let agree = |reactor: &Reactor<()>, expected: bool| {
        assert_eq!(
            (
                reactor.has_work(),
                reactor.reasons_to_run().next().is_some()
            ),
            (expected, expected)
        );
    };
    agree(&reactor, false);
    let deferred = reactor.defer(|_| {});
    agree(&reactor, true);
    reactor.cancel_deferred(deferred).unwrap();
    agree(&reactor, false);
    let timer = reactor.after(Duration::MAX, |_| Ok(Then::Done));
    agree(&reactor, true);
    reactor.set_timer_background(timer).unwrap();
    agree(&reactor, false);
}

#[test]
fn a_cancelled_callback_does_not_run_and_is_not_counted() {
    let ran = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::<()>::new().unwrap();
    let keys: Vec<_> = (0..5)
        .map(|number| {
            let ran = Rc::clone(&ran);
            reactor.defer(move |_| ran.borrow_mut().push(number))
        })
        .collect();
    for cancelled in [1, 3, 0, 4] {
        reactor.cancel_deferred(keys[cancelled]).unwrap();
        assert!(reactor.cancel_deferred(keys[cancelled]).is_err(), "once");
    }
    let left = reactor
        .reasons_to_run()
        .filter(|reason| matches!(reason, ReasonToRun::Deferred { .. }))
        .count();
    assert_eq!(
        (left, Rc::strong_count(&ran)),
        (1, 2),
        "what it had captured is gone"
    );
    assert_eq!(reactor.turn(&mut (), Some(Duration::ZERO)).unwrap(), 1);
    assert_eq!((ran.take(), reactor.metrics().deferred), (vec![2], 1));
    for key in keys {
        assert!(
            reactor.cancel_deferred(key).is_err(),
            "{key} has run, or was cancelled"
        );
    }
    let next = reactor.defer(|_| {});
    reactor.cancel_deferred(next).unwrap();
    assert_eq!(reactor.run(&mut ()).unwrap(), Exit::NothingLeft);
    assert_eq!(reactor.metrics().deferred, 1);
}

#[test]
fn a_callback_cancels_the_next_one_of_the_same_turn_and_not_itself() {
    let mut reactor = Reactor::<Vec<u8>>::new().unwrap();
    let own = Rc::new(RefCell::new(None));
    let next = Rc::new(RefCell::new(None));
    let (of_first, of_second) = (Rc::clone(&own), Rc::clone(&next));
    *own.borrow_mut() = Some(reactor.defer(move |cx| {
        cx.state.push(1);
        assert!(
            cx.registry
                .cancel_deferred(of_first.take().unwrap())
                .is_err(),
            "it runs"
        );
        cx.registry
            .cancel_deferred(of_second.take().unwrap())
            .unwrap();
    }));
    *next.borrow_mut() = Some(reactor.defer(|cx| cx.state.push(2)));
    reactor.defer(|cx| cx.state.push(3));
    let mut ran = Vec::new();
    assert_eq!(reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap(), 2);
    assert_eq!(ran, [1, 3]);
}

#[test]
fn what_is_deferred_in_the_place_of_a_cancelled_one_runs_next_turn() {
    let mut reactor = Reactor::<Vec<u8>>::new().unwrap();
    let cancelled: Rc<Cell<Option<[DeferredKey; 2]>>> = Rc::default();
    let of_first = Rc::clone(&cancelled);
    reactor.defer(move |cx| {
        cx.registry.defer(|cx| cx.state.push(4));
        for key in of_first.take().unwrap() {
            cx.registry.cancel_deferred(key).unwrap();
        }
        cx.state.push(1);
    });
    cancelled.set(Some(
        [2, 3].map(|number| reactor.defer(move |cx| cx.state.push(number))),
    ));
    let mut ran = Vec::new();
    assert_eq!(reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap(), 1);
    assert_eq!((&*ran, reactor.metrics().deferred), (&[1][..], 1));
    assert_eq!(reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap(), 1);
    assert_eq!((&*ran, reactor.metrics().deferred), (&[1, 4][..], 2));
}

#[test]
fn a_callback_that_cancels_what_it_has_deferred_has_run_itself() {
    let mut reactor = Reactor::<Vec<u8>>::new().unwrap();
    reactor.defer(|cx| {
        let of_itself = [2, 3, 4].map(|number| cx.registry.defer(move |cx| cx.state.push(number)));
        of_itself
            .into_iter()
            .for_each(|key| cx.registry.cancel_deferred(key).unwrap());
        cx.state.push(1);
    });
    let mut ran = Vec::new();
    assert_eq!(reactor.turn(&mut ran, Some(Duration::ZERO)).unwrap(), 1);
    assert_eq!(
        (&*ran, reactor.metrics().deferred, reactor.has_work()),
        (&[1][..], 1, false)
    );
}

#[test]
fn run_until_sleeps_through_where_the_clock_stands() {
    let mut reactor = Reactor::<()>::builder()
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let remote = reactor.remote().unwrap();
    let _alive = remote.keep_alive();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30)); // far longer than the time to the deadline
        remote.stop().unwrap();
    });
    let deadline = reactor.now() + Duration::from_nanos(1);
    assert!(matches!(
        reactor.run_until(deadline, &mut ()),
        Ok(Exit::Stopped { .. })
    ));
    assert!(reactor.metrics().turns <= 2, "{}", reactor.metrics().turns);
    stopping.join().unwrap();
}

#[test]
fn what_is_done_between_two_runs_is_no_part_of_a_turn() {
    let mut reactor = Reactor::<u64>::new().unwrap();
    let ticks = reactor.every(Duration::from_micros(1), Missed::Skip, |cx| {
        *cx.state = cx.registry.turn_number();
        cx.registry.stop();
        Ok(Next::Keep)
    });
    let mut turn = 0;
    let long = Duration::from_millis(50);
    for with_deadline in [true, false] {
        // On a busy machine the turn itself may be a long one: then another is taken.
        loop {
            let began = Instant::now();
            reactor.run(&mut turn).unwrap();
            if began.elapsed() < long {
                break;
            }
        }
        let before = turn;
        std::thread::sleep(long + Duration::from_millis(10));
        if with_deadline {
            let far = reactor.now() + Duration::from_secs(3600);
            reactor.run_until(far, &mut turn).unwrap();
        } else {
            reactor.run(&mut turn).unwrap();
        }
        assert_eq!(
            reactor.end_of_turn(before),
            None,
            "with a deadline: {with_deadline}"
        );
    }
    reactor.cancel(ticks).unwrap();
}

#[test]
fn a_cancelled_callback_behind_one_that_panics_is_no_work() {
    let mut reactor = Reactor::<()>::new().unwrap();
    reactor.defer(|_| panic!("on purpose"));
    let behind = reactor.defer(|_| ());
    reactor.cancel_deferred(behind).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| reactor.run(&mut ()))).is_err());
    assert_eq!(
        (reactor.has_work(), reactor.reasons_to_run().count()),
        (false, 0)
    );
}
