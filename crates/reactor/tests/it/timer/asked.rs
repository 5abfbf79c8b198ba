//! Timeouts after a pause: the kernel is polled, and the sources are served, before a timeout is
//! reported.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Interest, Key, ManualClock, Next, PanicPolicy, Priority, Reactor, Then};
use support::{Slow, add_slow_handler};

use super::ms;
use crate::{Result, read_all, readable, turn_now};

/// The reason of each call, with the place of its source.
type Calls = Vec<(usize, &'static str)>;

const TIMEOUT: Duration = ms(1000);
const PAUSE: Duration = ms(10_000);

/// A source with a timeout. Its handler sets the timeout again after each read.
fn add_patient(reactor: &mut Reactor<Calls>, near: UnixStream, place: usize) -> Result<Key> {
    let key = reactor.add(near, Interest::READABLE, move |near, cx| {
        let bytes = read_all(near)?;
        if !bytes.is_empty() {
            cx.registry.set_timeout(cx.key(), Some(TIMEOUT))?;
            cx.state.push((place, "data"));
        }
        if cx.readiness().is_timeout() {
            cx.state.push((place, "timeout"));
        }
        Ok(Next::Keep)
    })?;
    reactor.set_timeout(key, Some(TIMEOUT))?;
    Ok(key)
}

fn places(calls: &Calls, what: &str) -> Vec<usize> {
    let mut places: Vec<_> = calls
        .iter()
        .filter(|(_, called_for)| *called_for == what)
        .map(|(at, _)| *at)
        .collect();
    places.sort_unstable();
    places
}

/// Returns a reactor whose first source is slow, and may read the clock again.
fn with_a_slow_handler(
    max_events_per_turn: usize,
    clock: &ManualClock,
    refreshes: bool,
) -> Result<(Reactor<Calls>, UnixStream)> {
    let builder = Reactor::builder()
        .clock(clock.clone())
        .max_events_per_turn(max_events_per_turn);
    let mut reactor = builder.build()?;
    let mut far = add_slow_handler(
        &mut reactor,
        clock,
        Slow {
            pause: PAUSE,
            refreshes,
        },
    )?;
    far.write_all(b"x")?;
    Ok((reactor, far))
}

#[test]
fn after_a_slow_callback_a_source_with_waiting_bytes_has_no_timeout() -> Result {
    let batches = [1, 2, 3, 7, 19, 20, 1024];
    for (batch, refreshes) in batches
        .into_iter()
        .flat_map(|batch| [(batch, true), (batch, false)])
    {
        let clock = ManualClock::new();
        let (mut reactor, _slow) = with_a_slow_handler(batch, &clock, refreshes)?;
        let mut peers = Vec::new();
        for place in 0..20 {
            let (near, mut far) = UnixStream::pair()?;
            add_patient(&mut reactor, near, place)?;
            if place % 5 != 0 {
                far.write_all(b"in time")?;
            }
            peers.push(far);
        }
        let mut calls = Calls::new();
        for _ in 0..50 {
            turn_now(&mut reactor, &mut calls);
        }
        assert_eq!(
            places(&calls, "timeout"),
            [0, 5, 10, 15],
            "by batches of {batch}, {refreshes}"
        );
        assert_eq!(places(&calls, "data").len(), 16);
        clock.advance(TIMEOUT - ms(1));
        turn_now(&mut reactor, &mut calls);
        assert_eq!(places(&calls, "timeout").len(), 4);
        clock.advance(ms(1));
        turn_now(&mut reactor, &mut calls);
        assert_eq!(
            places(&calls, "timeout").len(),
            20,
            "all of them are silent by now"
        );
    }
    Ok(())
}

#[test]
fn a_timeout_waits_for_one_sweep_of_busy_sources_and_a_timer_for_none() -> Result {
    for (batch, turns) in [(1, 5), (2, 3), (3, 3), (4, 1), (8, 1)] {
        let clock = ManualClock::new();
        let mut reactor = Reactor::<Calls>::builder()
            .clock(clock.clone())
            .max_events_per_turn(batch)
            .build()?;
        let (silent, _peer) = UnixStream::pair()?;
        add_patient(&mut reactor, silent, 9)?;
        for place in 0..3 {
            // Each call causes the next event: the kernel always has one.
            let (near, mut far) = readable()?;
            reactor.add(near, Interest::READABLE, move |near, cx| {
                read_all(near)?;
                far.write_all(b"again")?;
                cx.state.push((place, "data"));
                Ok(Next::Keep)
            })?;
        }
        reactor.after(TIMEOUT, |cx| {
            cx.state.push((9, "timer"));
            Ok(Then::Done)
        });
        let mut calls = Calls::new();
        turn_now(&mut reactor, &mut calls);
        clock.advance(TIMEOUT);
        turn_now(&mut reactor, &mut calls);
        assert_eq!(places(&calls, "timer"), [9], "in the first turn");
        let mut taken = 1;
        while places(&calls, "timeout").is_empty() {
            assert!(
                taken < turns,
                "not told after {taken} turns with batches of {batch}"
            );
            assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
            turn_now(&mut reactor, &mut calls);
            taken += 1;
        }
    }
    Ok(())
}

#[test]
fn timeouts_held_back_are_reported_although_timers_fill_every_turn() -> Result {
    let clock = ManualClock::new();
    let (mut reactor, _slow) = with_a_slow_handler(2, &clock, true)?;
    let mut peers = Vec::new();
    for place in 0..3 {
        let (near, far) = UnixStream::pair()?;
        add_patient(&mut reactor, near, place)?;
        peers.push(far);
    }
    for place in 0..1500 {
        reactor.after(TIMEOUT, move |cx| {
            cx.state.push((place, "timer"));
            Ok(if cx.state.len() < 3000 {
                Then::After(Duration::ZERO)
            } else {
                Then::Done
            })
        });
    }
    let mut calls = Calls::new();
    for _ in 0..3 {
        turn_now(&mut reactor, &mut calls);
    }
    assert_eq!(
        places(&calls, "timeout"),
        [0, 1, 2],
        "though timers fill every turn"
    );
    assert_eq!(places(&calls, "timer").len(), 3 * 1024 - 3);
    Ok(())
}

#[test]
fn a_timeout_that_is_held_back_can_be_set_again_or_removed() -> Result {
    type Change = fn(&mut Reactor<Calls>, Key) -> std::result::Result<(), reactor::Error>;
    let changes: [(Change, usize); 5] = [
        (|_, _| Ok(()), 1),
        (|reactor, key| reactor.set_timeout(key, Some(TIMEOUT)), 0),
        (
            |reactor, key| reactor.set_timeout(key, Some(Duration::MAX)),
            0,
        ),
        (|reactor, key| reactor.set_timeout(key, None), 0),
        (|reactor, key| reactor.remove(key), 0),
    ];
    for (number, (change, told)) in changes.into_iter().enumerate() {
        let clock = ManualClock::new();
        let (mut reactor, _slow) = with_a_slow_handler(1, &clock, true)?;
        let (near, _far) = UnixStream::pair()?;
        let key = add_patient(&mut reactor, near, 0)?;
        let mut calls = Calls::new();
        turn_now(&mut reactor, &mut calls);
        assert_eq!(
            (calls.len(), reactor.prepare_to_wait()),
            (0, Some(Duration::ZERO)),
            "it is held back"
        );
        change(&mut reactor, key)?;
        for _ in 0..3 {
            turn_now(&mut reactor, &mut calls);
        }
        assert_eq!(places(&calls, "timeout").len(), told, "change {number}");
        assert_ne!(
            reactor.prepare_to_wait(),
            Some(Duration::ZERO),
            "the loop may sleep again"
        );
    }
    Ok(())
}

#[test]
fn a_source_that_waits_for_its_turn_is_served_before_its_timeout() -> Result {
    for has_priorities in [false, true] {
        let clock = ManualClock::new();
        let builder = Reactor::<Calls>::builder()
            .clock(clock.clone())
            .max_calls_per_turn(8);
        let mut reactor = builder.build()?;
        let pause_ends = clock.now() + PAUSE;
        let mut peers = Vec::new();
        for place in 0..40 {
            let (near, far) = readable()?;
            peers.push(far);
            let key = reactor.add(near, Interest::READABLE, move |near, cx| {
                let is_timeout = cx.readiness().is_timeout();
                cx.state
                    .push((place, if is_timeout { "timeout" } else { "call" }));
                if cx.now() >= pause_ends {
                    near.read_exact(&mut [0])?; // the byte was there all the time
                    cx.registry.set_timeout(cx.key(), Some(TIMEOUT))?;
                }
                Ok(Next::Keep)
            })?;
            reactor.set_timeout(key, Some(TIMEOUT))?;
            if has_priorities {
                reactor.set_priority(
                    key,
                    [Priority::High, Priority::Normal, Priority::Low][place % 3],
                )?;
            }
        }
        let mut calls = Calls::new();
        turn_now(&mut reactor, &mut calls);
        clock.advance(PAUSE);
        for _ in 0..20 {
            turn_now(&mut reactor, &mut calls);
        }
        assert_eq!(
            places(&calls, "timeout"),
            [0; 0],
            "with priorities: {has_priorities}"
        );
    }
    Ok(())
}

#[test]
fn a_source_that_is_always_ready_still_gets_its_timeout() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Calls>::builder()
        .clock(clock.clone())
        .max_calls_per_turn(8)
        .build()?;
    let mut peers = Vec::new();
    for place in 0..20 {
        let (near, far) = readable()?;
        peers.push(far);
        let key = reactor.add(near, Interest::READABLE, move |_, cx| {
            cx.state
                .extend(cx.readiness().is_timeout().then_some((place, "timeout")));
            Ok(Next::Keep) // unread
        })?;
        reactor.set_timeout(key, Some(TIMEOUT))?;
    }
    let mut calls = Calls::new();
    turn_now(&mut reactor, &mut calls);
    clock.advance(TIMEOUT);
    for _ in 0..9 {
        turn_now(&mut reactor, &mut calls);
    }
    assert_eq!(
        places(&calls, "timeout"),
        (0..20).collect::<Vec<_>>(),
        "each once"
    );
    Ok(())
}

#[test]
fn a_source_without_interest_gets_its_timeout_in_the_turn_it_is_due() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Calls>::builder().clock(clock.clone()).build()?;
    let (near, _far) = readable()?;
    let key = reactor.add(near, Interest::NONE, |_, cx| {
        cx.state.push((0, "timeout"));
        Ok(Next::Keep)
    })?;
    reactor.set_timeout(key, Some(TIMEOUT))?;
    let mut calls = Calls::new();
    turn_now(&mut reactor, &mut calls);
    clock.advance(TIMEOUT);
    assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    assert_eq!(calls, [(0, "timeout")]);
    Ok(())
}

#[test]
fn events_left_by_a_panic_are_served_before_a_timeout_is_reported() -> Result {
    let clock = ManualClock::new();
    let builder = Reactor::<Calls>::builder()
        .clock(clock.clone())
        .on_panic(PanicPolicy::Propagate);
    let mut reactor = builder.build()?;
    let (near, _bomb) = readable()?;
    let pause = clock.clone();
    reactor.add(
        near,
        Interest::READABLE,
        move |_, _| -> std::io::Result<Next> {
            pause.advance(PAUSE);
            std::panic::resume_unwind(Box::new("quiet"))
        },
    )?;
    let mut peers = Vec::new();
    for place in 0..3 {
        let (near, mut far) = UnixStream::pair()?;
        add_patient(&mut reactor, near, place)?;
        far.write_all(b"in time")?;
        peers.push(far);
    }
    let mut calls = Calls::new();
    let turn = std::panic::AssertUnwindSafe(|| turn_now(&mut reactor, &mut calls));
    assert!(std::panic::catch_unwind(turn).is_err());
    for _ in 0..3 {
        turn_now(&mut reactor, &mut calls);
    }
    assert_eq!(
        (places(&calls, "data"), places(&calls, "timeout")),
        (vec![0, 1, 2], vec![])
    );
    Ok(())
}

#[test]
fn after_a_slow_hook_the_kernel_is_polled_before_a_timeout_is_reported() -> Result {
    type SlowPart = fn(&mut Reactor<Calls>, Box<dyn Fn()>);
    let parts: [SlowPart; 2] = [
        |reactor, pause| {
            reactor.after_wait(move |cx| {
                pause();
                cx.registry.refresh_now();
                Ok(Next::Remove)
            });
        },
        |reactor, pause| {
            reactor.after(ms(1), move |cx| {
                pause();
                cx.registry.refresh_now();
                Ok(Then::Done)
            });
        },
    ];
    for part in parts {
        let clock = ManualClock::new();
        let mut reactor = Reactor::<Calls>::builder().clock(clock.clone()).build()?;
        let (near, far) = UnixStream::pair()?;
        add_patient(&mut reactor, near, 0)?;
        let paused = Rc::new(Cell::new(false));
        let (time, has_paused) = (clock.clone(), Rc::clone(&paused));
        part(
            &mut reactor,
            Box::new(move || {
                time.advance(PAUSE);
                (&far).write_all(b"in time").unwrap();
                has_paused.set(true);
            }),
        );
        clock.advance(ms(1));
        let mut calls = Calls::new();
        for _ in 0..3 {
            turn_now(&mut reactor, &mut calls);
        }
        assert_eq!((paused.get(), &calls[..]), (true, &[(0, "data")][..]));
    }
    Ok(())
}

#[test]
fn a_timeout_is_reported_by_the_turn_that_has_slept_until_it() -> Result {
    for high_resolution in [false, true] {
        let builder = Reactor::<Calls>::builder();
        let mut reactor = if high_resolution {
            builder.high_resolution()
        } else {
            builder
        }
        .build()?;
        let (near, _far) = UnixStream::pair()?;
        let key = add_patient(&mut reactor, near, 0)?;
        for _ in 0..3 {
            let mut calls = Calls::new();
            reactor.set_timeout(key, Some(ms(2)))?;
            assert_eq!(
                (reactor.turn(&mut calls, None)?, &calls[..]),
                (1, &[(0, "timeout")][..])
            );
        }
    }
    Ok(())
}

#[test]
fn a_timeout_that_was_set_in_a_long_turn_counts_from_its_end() -> Result {
    for (took, told_after) in [
        (ms(49), TIMEOUT - ms(49)),
        (ms(50), TIMEOUT),
        (PAUSE, TIMEOUT),
    ] {
        let clock = ManualClock::new();
        let mut reactor = Reactor::<Calls>::builder().clock(clock.clone()).build()?;
        let (near, mut far) = UnixStream::pair()?;
        let key = add_patient(&mut reactor, near, 0)?;
        reactor.set_timeout(key, None)?;
        far.write_all(b"x")?;
        let time = clock.clone();
        reactor.defer(move |cx| {
            cx.now(); // fixes the time of its turn
            time.advance(took);
            let (turn, ends) = (
                cx.registry.turn_number(),
                (took >= ms(50)).then(|| time.now()),
            );
            cx.registry
                .defer(move |cx| assert_eq!(cx.registry.end_of_turn(turn), ends));
        });
        let mut calls = Calls::new();
        turn_now(&mut reactor, &mut calls);
        turn_now(&mut reactor, &mut calls);
        clock.advance(told_after - ms(1));
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, [(0, "data")], "after {took:?}");
        clock.advance(ms(1));
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, [(0, "data"), (0, "timeout")], "after {took:?}");
    }
    Ok(())
}

#[test]
fn time_between_turns_does_not_count_as_a_pause() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Calls>::builder().clock(clock.clone()).build()?;
    let (near, mut far) = UnixStream::pair()?;
    add_patient(&mut reactor, near, 0)?;
    far.write_all(b"x")?;
    let mut calls = Calls::new();
    turn_now(&mut reactor, &mut calls);
    clock.advance(TIMEOUT);
    turn_now(&mut reactor, &mut calls);
    assert_eq!(calls, [(0, "data"), (0, "timeout")]);
    Ok(())
}

#[test]
fn more_long_turns_than_are_remembered_leave_the_latest() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<u64>>::builder()
        .clock(clock.clone())
        .build()?;
    let (near, _far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::NONE, |_, _| Ok(Next::Keep))?;
    reactor.set_timeout(key, Some(ms(3_600_000)))?;
    let (mut turns, began) = (Vec::new(), clock.now());
    for _ in 0..70 {
        let time = clock.clone();
        reactor.defer(move |cx| {
            cx.now(); // fixes the time of its turn
            cx.state.push(cx.registry.turn_number());
            time.advance(ms(60));
        });
        reactor.turn(&mut turns, Some(Duration::ZERO))?;
    }
    assert_eq!(turns, (1..=70).collect::<Vec<_>>());
    for turn in turns {
        let ended = (turn > 6).then(|| began + ms(60) * turn as u32);
        assert_eq!(reactor.end_of_turn(turn), ended);
    }
    Ok(())
}

#[test]
fn of_a_turn_in_parts_the_end_of_the_last_long_part_is_known() -> Result {
    for (parts, known) in [
        (&[49, 49, 49][..], None),
        (&[50, 10], Some(50)),
        (&[10, 60, 20], Some(70)),
        (&[60, 10, 60], Some(130)),
    ] {
        let clock = ManualClock::new();
        let mut reactor = Reactor::<()>::builder().clock(clock.clone()).build()?;
        let began = clock.now();
        for (number, took) in parts.iter().enumerate() {
            let time = clock.clone();
            reactor.defer(move |cx| {
                if number == 0 {
                    cx.now(); // fixes the time of the turn
                } else {
                    cx.registry.refresh_now();
                }
                time.advance(ms(*took));
            });
        }
        reactor.turn(&mut (), Some(Duration::ZERO))?;
        reactor.turn(&mut (), Some(Duration::ZERO))?;
        let known = known.map(|after| began + ms(after));
        assert_eq!(reactor.end_of_turn(1), known, "{parts:?}");
    }
    Ok(())
}

#[test]
fn run_knows_the_end_of_a_long_turn_by_the_system_clock() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (near, _far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::NONE, |_, _| Ok(Next::Keep))?;
    reactor.set_timeout(key, Some(ms(3_600_000)))?;
    reactor.set_background(key)?;
    let checked = Rc::new(Cell::new(false));
    let has_checked = Rc::clone(&checked);
    reactor.defer(move |cx| {
        let (turn, began) = (cx.registry.turn_number(), cx.now());
        std::thread::sleep(ms(60)); // a real clock
        cx.registry.defer(move |cx| {
            let ended = cx.registry.end_of_turn(turn).unwrap();
            assert!(ended >= began + ms(60) && ended <= cx.now());
            has_checked.set(true);
        });
    });
    reactor.run(&mut ())?;
    assert!(checked.get());
    Ok(())
}

/// The last wait was before the source was added, so it says nothing of its silence.
#[test]
fn a_source_with_a_timeout_of_zero_is_called_for_its_bytes_first() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<&str>>::builder().clock(clock).build()?;
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    let mut near = Some(near);
    let (driver, mut other) = UnixStream::pair()?;
    other.write_all(b"x")?;
    reactor.add(driver, Interest::READABLE, move |driver, cx| {
        driver.read_exact(&mut [0; 1])?;
        let Some(near) = near.take() else {
            return Ok(Next::Keep);
        };
        let key = cx.registry.add(near, Interest::READABLE, |near, cx| {
            if cx.readiness().is_timeout() {
                cx.state.push("timeout");
                return Ok(Next::Remove);
            }
            near.read_exact(&mut [0; 1])?;
            cx.state.push("bytes");
            Ok(Next::Keep)
        })?;
        cx.registry.set_timeout(key, Some(Duration::ZERO))?;
        Ok(Next::Keep)
    })?;
    let mut said = Vec::new();
    for _ in 0..4 {
        reactor.turn(&mut said, Some(Duration::ZERO))?;
    }
    assert_eq!(said, ["bytes", "timeout"]);
    Ok(())
}
