//! The count of callbacks that ran, and the number of calls of a callback in a turn.

use std::cell::Cell;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Capacity, CloseReason, Context, Event, Handler, Interest, Io, ManualClock, Metrics, Next,
    PanicPolicy, Priority, Reactor, Sender, Then, notification_queue,
};

use crate::{Result, read_all, readable, set_event, sets, turn_now};

/// The number of calls of user code, except hooks.
type Ran = usize;

/// A handler that is notified of its end.
struct Object;

impl<T: io::Read + std::os::fd::AsFd> Handler<Ran, T> for Object {
    fn ready(&mut self, source: &mut Io<T>, cx: &mut Context<'_, Ran>) -> io::Result<Next> {
        *cx.state += 1;
        read_all(source).map(|_| Next::Remove)
    }

    fn closed(&mut self, _: CloseReason, cx: &mut Context<'_, Ran>) {
        *cx.state += 1;
    }
}

/// Counts a call of the handler of a queue.
fn count<T>(_: Option<T>, cx: &mut Context<'_, Ran>) -> io::Result<Next> {
    *cx.state += 1;
    Ok(Next::Keep)
}

/// Returns the calls of a turn, from the metrics before and after it.
fn sum(before: Metrics, after: Metrics) -> u64 {
    let total = |metrics: Metrics| metrics.calls + metrics.timers + metrics.deferred + metrics.idle;
    total(after) - total(before)
}

/// Registers a queue with ten values, of which a turn handles `at_a_time`.
fn ten_values(reactor: &mut Reactor<Ran>, at_a_time: usize) -> Result<Sender<u32>> {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let key = reactor.consume(receiver, count)?;
    reactor.set_name(key, "ten values")?;
    reactor.set_max_messages_per_turn(key, at_a_time)?;
    (0..10).try_for_each(|value| sender.try_send(value))?;
    Ok(sender)
}

fn calls_of(reactor: &Reactor<Ran>, name: &str) -> Option<u64> {
    reactor
        .registrations()
        .find(|registration| registration.name == name)
        .map(|registration| registration.calls)
}

/// Registers one of everything that runs in a turn. Returns the values that have to stay open.
fn one_of_everything(
    reactor: &mut Reactor<Ran>,
    at_a_time: usize,
) -> Result<Box<dyn std::any::Any>> {
    reactor.before_wait(|_| Ok(Next::Keep));
    reactor.after_wait(|_| Ok(Next::Keep));
    let (object, told) = readable()?;
    reactor.add_handler(object, Interest::READABLE, Object)?;
    let (source, mut far) = UnixStream::pair()?;
    let source = reactor.add(source, Interest::READABLE, |source, cx| {
        *cx.state += 1;
        if cx.readiness().is_readable() {
            read_all(source).map(|_| Next::Keep)
        } else {
            Ok(Next::Keep)
        }
    })?;
    far.write_all(b"x")?;
    reactor.set_timeout(source, Some(Duration::ZERO))?;
    let values = ten_values(reactor, at_a_time)?;
    reactor.on_event(&set_event(), |cx| count(Some(()), cx))?;
    reactor.after(Duration::ZERO, |cx| {
        *cx.state += 1;
        Ok(Then::Done)
    });
    reactor.defer(|cx| *cx.state += 1);
    let remote = reactor.remote()?;
    for _ in 0..3 {
        remote.post(|cx| *cx.state += 1)?;
    }
    let mut turns = 0;
    reactor.idle(move |cx| {
        (turns, *cx.state) = (turns + 1, *cx.state + 1);
        Ok(if turns < 3 { Next::Keep } else { Next::Remove })
    });
    Ok(Box::new((told, far, values, remote)))
}

#[test]
fn a_turn_counts_the_callbacks_that_ran_and_the_metrics_add_up() -> Result {
    for (at_a_time, policy) in [
        (1024, PanicPolicy::Propagate),
        (3, PanicPolicy::RemoveHandler),
    ] {
        let clock = ManualClock::new();
        let mut reactor = Reactor::<Ran>::builder()
            .clock(clock)
            .on_panic(policy)
            .build()?;
        let _open = one_of_everything(&mut reactor, at_a_time)?;
        let (mut total, mut turns) = (0, 0);
        while total == 0 || turns < 12 {
            let (mut ran, before) = (0, reactor.metrics());
            let counted = turn_now(&mut reactor, &mut ran);
            assert_eq!(
                (counted, sum(before, reactor.metrics())),
                (ran, ran as u64),
                "turn {turns}"
            );
            (total, turns) = (total + ran, turns + 1);
        }
        // The handler and its end, the source and its timeout, values, event, timer, deferred,
        // posted, idle.
        assert_eq!(total, 2 + 2 + 10 + 1 + 1 + 1 + 3 + 3);
        let metrics = reactor.metrics();
        assert_eq!(
            (
                metrics.calls,
                metrics.timers,
                metrics.deferred,
                metrics.idle
            ),
            (14, 1, 5, 3)
        );
        assert_eq!(
            (
                calls_of(&reactor, "ten values"),
                calls_of(&reactor, "remote")
            ),
            (Some(10), Some(3))
        );
    }
    Ok(())
}

#[test]
fn advance_counts_as_the_turns_that_it_takes_do() -> Result {
    let mut reactor = Reactor::<Ran>::builder()
        .clock(ManualClock::new())
        .build()?;
    let _open = one_of_everything(&mut reactor, 4)?;
    let mut ran = 0;
    assert_eq!(
        reactor.advance(&mut ran, Duration::from_secs(1))? as u64,
        sum(Metrics::default(), reactor.metrics())
    );
    while turn_now(&mut reactor, &mut ran) > 0 {}
    assert_eq!(
        (ran as u64, ran),
        (sum(Metrics::default(), reactor.metrics()), 23)
    );
    Ok(())
}

#[test]
fn a_callback_that_panics_has_run_and_later_ones_have_not() -> Result {
    type Add = fn(&mut Reactor<Ran>) -> Result<Box<dyn std::any::Any>>;
    let cases: [Add; 3] = [
        |reactor| {
            let (sender, receiver) = notification_queue(Capacity::Unbounded);
            reactor.consume(receiver, |value, cx: &mut Context<'_, Ran>| {
                *cx.state += 1;
                assert!(value != Some(2), "as the test wants");
                Ok(Next::Keep)
            })?;
            (1..4).try_for_each(|value| sender.try_send(value))?;
            Ok(Box::new(sender))
        },
        |reactor| {
            for value in 1..4 {
                reactor.defer(move |cx| {
                    *cx.state += 1;
                    assert!(value != 2, "as the test wants");
                });
            }
            Ok(Box::new(()))
        },
        |reactor| {
            let remote = reactor.remote()?;
            for value in 1..4 {
                remote.post(move |cx| {
                    *cx.state += 1;
                    assert!(value != 2, "as the test wants");
                })?;
            }
            Ok(Box::new(remote))
        },
    ];
    for add in cases {
        let mut reactor = Reactor::<Ran>::new()?;
        let _open = add(&mut reactor)?;
        let mut ran = 0;
        catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut ran))).unwrap_err();
        assert_eq!(
            (ran as u64, ran),
            (sum(Metrics::default(), reactor.metrics()), 2)
        );
    }
    Ok(())
}

#[test]
fn posts_and_values_count_as_work_and_timeouts_of_queues_do_not() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Ran>::builder().clock(clock.clone()).build()?;
    let idle = Rc::new(Cell::new(0));
    let counts = Rc::clone(&idle);
    reactor.idle(move |_| {
        counts.set(counts.get() + 1);
        Ok(Next::Keep)
    });
    let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
    let queue = reactor.consume(receiver, count)?;
    let remote = reactor.remote()?;
    let mut ran = 0;
    remote.post(|_| {})?;
    assert_eq!((turn_now(&mut reactor, &mut ran), idle.get()), (1, 0));
    sender.try_send(())?;
    assert_eq!((turn_now(&mut reactor, &mut ran), idle.get()), (1, 0));
    reactor.set_timeout(queue, Some(Duration::ZERO))?;
    assert_eq!(
        (turn_now(&mut reactor, &mut ran), idle.get()),
        (1, 1),
        "the idle callback"
    );
    assert_eq!((ran, reactor.metrics().calls), (1, 1));
    Ok(())
}

/// Returns the calls in a turn of each handler that a timer of the turn has work for.
fn calls_a_turn(
    reactor: &mut Reactor<Ran>,
    again: impl Fn() + 'static,
    turns: usize,
) -> Vec<usize> {
    reactor.after(Duration::ZERO, move |_| {
        again();
        Ok(Then::After(Duration::ZERO))
    });
    let mut ran = vec![0; turns];
    for ran in &mut ran {
        turn_now(reactor, ran);
    }
    ran
}

#[test]
fn an_event_handler_is_called_once_a_turn_though_a_timer_sets_it_again() -> Result {
    type Add = fn(&mut Reactor<Ran>, &Event) -> Result;
    let cases: [Add; 3] = [
        |reactor, event| {
            reactor
                .on_event(event, |cx| count(Some(()), cx))
                .map(drop)
                .map_err(Into::into)
        },
        |reactor, event| {
            reactor
                .on_any(&[event], |_, cx| count(Some(()), cx))
                .map(drop)
                .map_err(Into::into)
        },
        |reactor, event| {
            reactor
                .on_all(&[event], |cx| count(Some(()), cx))
                .map(drop)
                .map_err(Into::into)
        },
    ];
    for add in cases {
        for priority in [Priority::Normal, Priority::High] {
            let event = Event::semaphore(1, 9);
            let mut reactor = Reactor::<Ran>::new()?;
            add(&mut reactor, &event)?;
            let key = reactor
                .registrations()
                .next()
                .ok_or("it is registered")?
                .key;
            reactor.set_priority(key, priority)?;
            let setter = event.clone();
            assert_eq!(
                calls_a_turn(&mut reactor, move || assert!(sets(&setter)), 5),
                [1; 5],
                "{priority}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_queue_handles_no_more_than_its_limit_in_a_turn() -> Result {
    for background in [false, true] {
        let mut reactor = Reactor::<Ran>::new()?;
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        let queue = reactor.consume(receiver, count)?;
        reactor.set_max_messages_per_turn(queue, 2)?;
        if background {
            reactor.set_background(queue)?;
        }
        sender.try_send(0)?;
        let sends = sender.clone();
        let sent = move || (0..2).for_each(|value| sends.try_send(value).unwrap());
        assert_eq!(
            calls_a_turn(&mut reactor, sent, 5),
            [2; 5],
            "what is left over and what is new share it"
        );
        assert_eq!(sender.len(), 1);
        let sleeps = reactor.metrics().sleeps;
        reactor.turn(&mut 0, None)?;
        assert_eq!(
            reactor.metrics().sleeps,
            sleeps,
            "it does not sleep on what is left"
        );
    }
    Ok(())
}
