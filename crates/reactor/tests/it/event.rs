//! Event objects: waited for by threads, by loops, one, any and all.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Event, Next, Reactor, Signalled};

use crate::{PATIENCE, Result, turn_now};

/// A look, and a wait that has to end.
const NOW: Option<Duration> = Some(Duration::ZERO);
const SOON: Option<Duration> = Some(PATIENCE);

#[test]
fn each_kind_lets_through_as_many_as_it_should() {
    let manual = Event::manual_reset(false);
    assert!(!manual.wait(NOW) && manual.set() && !manual.set());
    assert!(manual.wait(NOW) && manual.wait(None), "all");
    manual.reset();
    assert!(!manual.wait(NOW));

    let auto = Event::auto_reset(true);
    assert!(auto.is_set() && !auto.set(), "set twice is set once");
    assert!(auto.wait(NOW) && !auto.wait(NOW), "one");
    assert!(auto.set());
    auto.reset();
    assert!(!auto.wait(NOW));

    let semaphore = Event::semaphore(5, 2);
    assert!(semaphore.wait(NOW) && semaphore.wait(NOW) && !semaphore.wait(NOW), "up to its greatest count");
    assert!(semaphore.set() && semaphore.set() && !semaphore.set());
    semaphore.reset();
    assert!(!semaphore.is_set());
}

#[test]
fn any_gives_the_lowest_that_is_set_and_takes_only_that() {
    let events: Vec<_> = (0..20).map(|_| Event::auto_reset(false)).collect();
    let all: Vec<_> = events.iter().collect();
    assert_eq!(Event::wait_any(&all, NOW), None);
    events[17].set();
    events[3].set();
    assert_eq!([(); 3].map(|()| Event::wait_any(&all, NOW)), [Some(3), Some(17), None]);
    assert_eq!(Event::wait_any(&[], None), None, "nothing to wait for");
}

#[test]
fn all_takes_all_or_none_also_when_its_time_is_over() {
    let (first, second, manual) = (Event::auto_reset(true), Event::semaphore(1, 9), Event::manual_reset(false));
    assert!(!Event::wait_all(&[&first, &second, &manual], Some(Duration::from_millis(1))));
    assert!(first.is_set() && second.is_set(), "nothing was taken");
    manual.set();
    assert!(Event::wait_all(&[&first, &second, &manual], NOW));
    assert_eq!([&first, &second, &manual].map(Event::is_set), [false, false, true]);
    second.set();
    assert!(!Event::wait_all(&[&second, &second], NOW), "one is not two");
    second.set();
    assert!(Event::wait_all(&[&second, &second], NOW) && !second.is_set());
    assert!(Event::wait_all(&[], NOW), "all of none");
}

#[test]
fn a_set_ends_the_waits_that_it_should() -> Result {
    let (event, other) = (Event::auto_reset(false), Event::manual_reset(false));
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let (event, other) = (event.clone(), other.clone());
            thread::spawn(move || Event::wait_any(&[&other, &event], SOON))
        })
        .collect();
    event.set();
    while event.is_set() {
        thread::yield_now(); // until one of them has passed
    }
    other.set();
    let mut ended = Vec::new();
    for wait in waits {
        ended.extend(wait.join().map_err(|_| "it panicked")?);
    }
    ended.sort_unstable();
    assert_eq!(ended, [0, 0, 1]);
    Ok(())
}

#[test]
fn a_pulse_leaves_nothing_behind() -> Result {
    for event in [Event::manual_reset(false), Event::auto_reset(false), Event::semaphore(0, 3)] {
        event.pulse();
        assert!(!event.is_set());
        let waits = event.clone();
        let wait = thread::spawn(move || waits.wait(SOON));
        while !wait.is_finished() {
            event.pulse();
        }
        assert!(wait.join().map_err(|_| "it panicked")?);
        assert!(!event.is_set());
    }
    let manual = Event::manual_reset(true);
    manual.pulse();
    assert!(!manual.is_set());
    Ok(())
}

/// 64 philosophers, each with a fork shared with either neighbour, taken both at once.
#[test]
fn waits_for_all_are_atomic_among_64_threads_and_none_is_forgotten() -> Result {
    const THREADS: usize = 64;
    const MEALS: usize = 500;
    let forks: Arc<Vec<_>> = Arc::new((0..THREADS).map(|_| Event::auto_reset(true)).collect());
    let held: Arc<Vec<_>> = Arc::new((0..THREADS).map(|_| AtomicBool::new(false)).collect());
    let meals = Arc::new(AtomicUsize::new(0));
    let philosophers: Vec<_> = (0..THREADS)
        .map(|left| {
            let (forks, held, meals) = (Arc::clone(&forks), Arc::clone(&held), Arc::clone(&meals));
            let right = (left + 1) % THREADS;
            thread::spawn(move || {
                for _ in 0..MEALS {
                    assert!(Event::wait_all(&[&forks[left], &forks[right]], SOON), "a false timeout");
                    for fork in [left, right] {
                        assert!(!held[fork].swap(true, Ordering::AcqRel), "somebody else has it");
                    }
                    meals.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now(); // so that the neighbours have to wait
                    for fork in [right, left] {
                        held[fork].store(false, Ordering::Release);
                        assert!(forks[fork].set(), "it was taken");
                    }
                }
            })
        })
        .collect();
    for philosopher in philosophers {
        philosopher.join().map_err(|_| "it panicked")?;
    }
    assert_eq!(meals.load(Ordering::Relaxed), THREADS * MEALS);
    assert!(forks.iter().all(Event::is_set));
    Ok(())
}

#[test]
fn no_set_is_lost_between_waits_that_time_out_and_waits_for_more() -> Result {
    const SETS: usize = 20_000;
    let (tokens, never) = (Event::semaphore(0, u32::MAX), Event::manual_reset(false));
    let taken = Arc::new(AtomicUsize::new(0));
    let done = Event::manual_reset(false);
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (tokens, never, done, taken) = (tokens.clone(), never.clone(), done.clone(), Arc::clone(&taken));
            thread::spawn(move || {
                loop {
                    let brief = Some(Duration::from_micros(number * 20));
                    assert!(!Event::wait_all(&[&tokens, &never], brief), "it cannot have both");
                    match Event::wait_any(&[&tokens, &done], brief) {
                        Some(0) => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        Some(_) => return,
                        None => {}
                    }
                }
            })
        })
        .collect();
    for _ in 0..SETS {
        tokens.set();
    }
    let began = Instant::now();
    while taken.load(Ordering::Relaxed) < SETS && began.elapsed() < PATIENCE {
        thread::yield_now();
    }
    done.set();
    for thread in threads {
        thread.join().map_err(|_| "it panicked")?;
    }
    assert_eq!((taken.load(Ordering::Relaxed), tokens.is_set()), (SETS, false));
    Ok(())
}

#[test]
fn a_thread_waits_for_events_and_for_what_it_reads_at_once() -> Result {
    let (reader, mut writer) = std::io::pipe()?;
    let event = Event::auto_reset(false);
    let wait = |timeout| Event::wait_any_or_readable(&[&event], &[reader.as_fd()], timeout);
    assert_eq!(wait(NOW)?, None);
    assert_eq!(wait(Some(Duration::from_millis(1)))?, None);
    writer.write_all(b"x")?;
    assert_eq!(wait(None)?, Some(Signalled::Readable(0)));
    event.set();
    assert_eq!(wait(None)?, Some(Signalled::Event(0)), "events first");
    assert_eq!(wait(None)?, Some(Signalled::Readable(0)), "and it has passed through that");

    let (idle, _kept) = std::io::pipe()?;
    let sets = event.clone();
    let thread = thread::spawn(move || sets.set());
    assert_eq!(Event::wait_any_or_readable(&[&event], &[idle.as_fd()], SOON)?, Some(Signalled::Event(0)));
    assert!(thread.join().map_err(|_| "it panicked")?);
    Ok(())
}

#[test]
fn a_loop_is_told_of_one_of_any_and_of_all() -> Result {
    let (first, second) = (Event::auto_reset(false), Event::auto_reset(true));
    let (both, stop) = ([Event::auto_reset(true), Event::auto_reset(false)], Event::manual_reset(false));
    let mut reactor = Reactor::<Vec<String>>::new()?;
    let any = reactor.on_any(&[&first, &second], |index, cx| {
        cx.state.push(format!("any {index}"));
        Ok(Next::Keep)
    })?;
    reactor.on_all(&[&both[0], &both[1]], |cx| {
        cx.state.push("all".to_owned());
        Ok(Next::Keep)
    })?;
    reactor.on_event(&stop, |cx| {
        cx.state.push("stop".to_owned());
        cx.registry.stop();
        Ok(Next::Remove)
    })?;
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    assert_eq!(std::mem::take(&mut log), ["any 1"]);
    first.set();
    both[1].set();
    turn_now(&mut reactor, &mut log);
    log.sort_unstable();
    assert_eq!(std::mem::take(&mut log), ["all", "any 0"]);
    assert!(![&first, &second, &both[0], &both[1]].into_iter().any(Event::is_set));
    let thread = thread::spawn(move || {
        second.set();
        stop.set();
    });
    reactor.run(&mut log)?;
    thread.join().map_err(|_| "it panicked")?;
    assert_eq!(log, ["any 1", "stop"]);

    first.set(); // handed over, and not handled yet
    assert!(!first.is_set());
    reactor.remove(any)?;
    assert!(first.wait(NOW) && !first.wait(NOW), "it is set again, once");
    Ok(())
}

#[test]
fn what_a_loop_has_passed_and_not_handled_is_set_again_when_it_ends() -> Result {
    let (event, all) = (Event::semaphore(0, 9), [Event::auto_reset(false), Event::auto_reset(false)]);
    let mut reactor = Reactor::<()>::new()?;
    reactor.on_event(&event, |_| Ok(Next::Keep))?;
    reactor.on_all(&[&all[0], &all[1]], |_| Ok(Next::Keep))?;
    event.set();
    event.set();
    let waits = all.clone();
    let waiter = thread::spawn(move || Event::wait_all(&[&waits[0], &waits[1]], SOON));
    assert!(all[0].set() && all[1].set());
    drop(reactor);
    assert!(waiter.join().map_err(|_| "it panicked")?, "whoever of the two came first");
    assert!(event.wait(NOW) && event.wait(NOW) && !event.wait(NOW), "as often as it was set");
    Ok(())
}

#[test]
fn a_full_event_stays_full_and_a_reset_one_reset_when_a_loop_gives_back() -> Result {
    type Change = fn(&Event);
    let changes: [(Change, bool); 3] =
        [(|event| assert!(event.set()), true), (Event::reset, false), (Event::pulse, false)];
    for (change, is_set) in changes {
        let event = Event::auto_reset(false);
        let mut reactor = Reactor::<()>::new()?;
        let key = reactor.on_event(&event, |_| Ok(Next::Keep))?;
        event.set(); // handed over
        change(&event);
        reactor.remove(key)?;
        assert_eq!((event.wait(NOW), event.wait(NOW)), (is_set, false));
    }
    Ok(())
}

#[test]
fn registrations_that_come_and_go_neither_lose_nor_invent_a_set() -> Result {
    let (event, over) = (Event::semaphore(0, u32::MAX), Arc::new(AtomicBool::new(false)));
    let (sets, ends) = (event.clone(), Arc::clone(&over));
    let thread = thread::spawn(move || {
        let mut count = 0;
        while !ends.load(Ordering::Relaxed) {
            // One at a time, so that a set finds a registration that waits, and often one that is just going.
            if !sets.is_set() && sets.set() {
                count += 1;
            }
        }
        count
    });
    let mut reactor = Reactor::<()>::new()?;
    let mut passed = 0;
    for _ in 0..50_000 {
        let key = reactor.on_event(&event, |_| Ok(Next::Keep))?;
        reactor.remove(key)?;
        passed += usize::from(event.wait(NOW));
    }
    over.store(true, Ordering::Relaxed);
    let set: usize = thread.join().map_err(|_| "it panicked")?;
    passed += std::iter::repeat_with(|| event.wait(NOW)).take_while(|passed| *passed).count();
    assert_eq!(passed, set);
    Ok(())
}

#[test]
fn a_refused_registration_takes_nothing() -> Result {
    let event = Event::auto_reset(true);
    let mut reactor = Reactor::<()>::builder().registrations_max(0).build()?;
    assert!(reactor.on_event(&event, |_| Ok(Next::Keep)).is_err());
    assert!(event.wait(NOW) && !event.wait(NOW));
    Ok(())
}

#[test]
fn thousands_that_wait_are_let_through_in_linear_time() -> Result {
    const WAITERS: usize = 20_000;
    let event = Event::manual_reset(false);
    let mut reactor = Reactor::<usize>::new()?;
    for _ in 0..WAITERS {
        reactor.on_event(&event, |cx| {
            *cx.state += 1;
            Ok(Next::Remove)
        })?;
    }
    event.set();
    let mut called = 0;
    reactor.run(&mut called)?;
    assert_eq!(called, WAITERS);
    Ok(())
}

#[test]
fn a_loop_goes_on_after_would_block_and_is_called_each_turn_for_what_stays_set() -> Result {
    let event = Event::manual_reset(true);
    let mut reactor = Reactor::<u32>::new()?;
    reactor.on_event(&event, |cx| {
        *cx.state += 1;
        Err(if *cx.state < 3 { std::io::ErrorKind::WouldBlock.into() } else { std::io::Error::other("enough") })
    })?;
    let mut calls = 0;
    for turns in 1..=3 {
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, turns);
    }
    assert!(reactor.is_empty());
    Ok(())
}
