//! Event objects: waited for by threads and by loops, one, any and all.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Event, Interest, Next, Reactor, Signalled};
use support::in_time;

use crate::{PATIENCE, Result, set_event, sets, turn_now};

/// A check without a wait, and a wait that has to end.
const NOW: Option<Duration> = Some(Duration::ZERO);
const SOON: Option<Duration> = Some(PATIENCE);

#[test]
fn each_kind_of_event_releases_as_many_waiters_as_it_should() {
    let manual = Event::manual_reset();
    assert!(!manual.wait(NOW) && sets(&manual) && !sets(&manual));
    assert!(manual.wait(NOW) && manual.wait(None), "all");
    manual.reset();
    assert!(!manual.wait(NOW));

    let auto = set_event();
    assert!(auto.is_set() && !sets(&auto), "set twice is set once");
    assert!(auto.wait(NOW) && !auto.wait(NOW), "one");
    assert!(sets(&auto));
    auto.reset();
    assert!(!auto.wait(NOW));

    let semaphore = Event::semaphore(5, 2);
    assert!(
        semaphore.wait(NOW) && semaphore.wait(NOW) && !semaphore.wait(NOW),
        "up to its greatest count"
    );
    assert!(sets(&semaphore) && sets(&semaphore) && !sets(&semaphore));
    semaphore.reset();
    assert!(!semaphore.is_set());
}

#[test]
fn wait_any_returns_the_lowest_set_event_and_consumes_only_that() {
    let events: Vec<_> = (0..20).map(|_| Event::auto_reset()).collect();
    let all: Vec<_> = events.iter().collect();
    assert_eq!(Event::wait_any(&all, NOW), None);
    events[17].set();
    events[3].set();
    assert_eq!(
        [(); 3].map(|()| Event::wait_any(&all, NOW)),
        [Some(3), Some(17), None]
    );
    assert_eq!(Event::wait_any(&[], None), None, "nothing to wait for");
}

#[test]
fn all_takes_all_or_none_also_when_its_time_is_over() {
    let (first, second, manual) = (set_event(), Event::semaphore(1, 9), Event::manual_reset());
    assert!(!Event::wait_all(
        &[&first, &second, &manual],
        Some(Duration::from_millis(1))
    ));
    assert!(first.is_set() && second.is_set(), "nothing was taken");
    manual.set();
    assert!(Event::wait_all(&[&first, &second, &manual], NOW));
    assert_eq!(
        [&first, &second, &manual].map(Event::is_set),
        [false, false, true]
    );
    second.set();
    assert!(!Event::wait_all(&[&second, &second], NOW), "one is not two");
    second.set();
    assert!(Event::wait_all(&[&second, &second], NOW) && !second.is_set());
    assert!(Event::wait_all(&[], NOW), "all of none");
}

#[test]
fn a_set_ends_the_waits_that_it_should() -> Result {
    let (event, other) = (Event::auto_reset(), Event::manual_reset());
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
fn a_pulse_does_not_stay_set() -> Result {
    for event in [
        Event::manual_reset(),
        Event::auto_reset(),
        Event::semaphore(0, 3),
    ] {
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
    let manual = Event::manual_reset();
    manual.set();
    manual.pulse();
    assert!(!manual.is_set());
    Ok(())
}

/// 64 philosophers, each with a fork shared with either neighbour. Both are taken at once.
#[test]
fn waits_for_all_are_atomic_among_64_threads_and_none_is_forgotten() -> Result {
    const THREADS: usize = 64;
    const MEALS: usize = 500;
    let forks: Arc<Vec<_>> = Arc::new((0..THREADS).map(|_| set_event()).collect());
    let held: Arc<Vec<_>> = Arc::new((0..THREADS).map(|_| AtomicBool::new(false)).collect());
    let meals = Arc::new(AtomicUsize::new(0));
    let philosophers: Vec<_> = (0..THREADS)
        .map(|left| {
            let (forks, held, meals) = (Arc::clone(&forks), Arc::clone(&held), Arc::clone(&meals));
            let right = (left + 1) % THREADS;
            thread::spawn(move || {
                for _ in 0..MEALS {
                    assert!(
                        Event::wait_all(&[&forks[left], &forks[right]], SOON),
                        "a false timeout"
                    );
                    for fork in [left, right] {
                        assert!(
                            !held[fork].swap(true, Ordering::AcqRel),
                            "a neighbour has it"
                        );
                    }
                    meals.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now(); // so that the neighbours have to wait
                    for fork in [right, left] {
                        held[fork].store(false, Ordering::Release);
                        assert!(sets(&forks[fork]), "it was taken");
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
    let (tokens, never) = (Event::semaphore(0, u32::MAX), Event::manual_reset());
    let taken = Arc::new(AtomicUsize::new(0));
    let done = Event::manual_reset();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (tokens, never, done, taken) = (
                tokens.clone(),
                never.clone(),
                done.clone(),
                Arc::clone(&taken),
            );
            thread::spawn(move || {
                loop {
                    let brief = Some(Duration::from_micros(number * 20));
                    assert!(
                        !Event::wait_all(&[&tokens, &never], brief),
                        "it cannot have both"
                    );
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
    assert_eq!(
        (taken.load(Ordering::Relaxed), tokens.is_set()),
        (SETS, false)
    );
    Ok(())
}

#[test]
fn a_thread_waits_for_events_and_for_fds_at_once() -> Result {
    let (reader, mut writer) = pipe()?;
    let event = Event::auto_reset();
    let wait = |timeout| Event::wait_any_or_readable(&[&event], &[reader.as_fd()], timeout);
    assert_eq!(wait(NOW)?, None);
    assert_eq!(wait(Some(Duration::from_millis(1)))?, None);
    writer.write_all(b"x")?;
    assert_eq!(wait(None)?, Some(Signalled::Readable(0)));
    event.set();
    assert_eq!(wait(None)?, Some(Signalled::Event(0)), "events first");
    assert_eq!(
        wait(None)?,
        Some(Signalled::Readable(0)),
        "and it has passed through that"
    );

    let (idle, _kept) = pipe()?;
    let other = event.clone();
    let thread = thread::spawn(move || sets(&other));
    assert_eq!(
        Event::wait_any_or_readable(&[&event], &[idle.as_fd()], SOON)?,
        Some(Signalled::Event(0))
    );
    assert!(thread.join().map_err(|_| "it panicked")?);
    Ok(())
}

#[test]
fn a_loop_is_notified_of_any_and_of_all_events() -> Result {
    let (first, second) = (Event::auto_reset(), set_event());
    let (both, stop) = ([set_event(), Event::auto_reset()], Event::manual_reset());
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
    assert!(
        ![&first, &second, &both[0], &both[1]]
            .into_iter()
            .any(Event::is_set)
    );
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
fn an_event_passed_and_not_handled_is_set_again_when_the_loop_ends() -> Result {
    let (event, all) = (
        Event::semaphore(0, 9),
        [Event::auto_reset(), Event::auto_reset()],
    );
    let mut reactor = Reactor::<()>::new()?;
    reactor.on_event(&event, |_| Ok(Next::Keep))?;
    reactor.on_all(&[&all[0], &all[1]], |_| Ok(Next::Keep))?;
    event.set();
    event.set();
    let waits = all.clone();
    let waiter = thread::spawn(move || Event::wait_all(&[&waits[0], &waits[1]], SOON));
    assert!(sets(&all[0]) && sets(&all[1]));
    drop(reactor);
    assert!(
        waiter.join().map_err(|_| "it panicked")?,
        "in either order of the two"
    );
    assert!(
        event.wait(NOW) && event.wait(NOW) && !event.wait(NOW),
        "as often as it was set"
    );
    Ok(())
}

#[test]
fn an_event_that_a_loop_returns_keeps_a_later_set_reset_or_pulse() -> Result {
    type Change = fn(&Event);
    let changes: [(Change, bool); 4] = [
        (|_| (), true),
        (|event| assert!(sets(event)), true),
        (Event::reset, false),
        (Event::pulse, false),
    ];
    for (change, is_set) in changes {
        let event = Event::auto_reset();
        event.reset(); // before the set, which it does not concern
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
    let (event, over) = (
        Event::semaphore(0, u32::MAX),
        Arc::new(AtomicBool::new(false)),
    );
    let (setter, ends) = (event.clone(), Arc::clone(&over));
    let thread = thread::spawn(move || {
        let mut count = 0;
        while !ends.load(Ordering::Relaxed) {
            // Set one at a time, so that a set finds a registration that waits, and often one that
            // is being removed.
            if !setter.is_set() && sets(&setter) {
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
    passed += std::iter::repeat_with(|| event.wait(NOW))
        .take_while(|passed| *passed)
        .count();
    assert_eq!(passed, set);
    Ok(())
}

#[test]
fn a_refused_registration_consumes_no_event() -> Result {
    let event = set_event();
    let mut reactor = Reactor::<()>::builder().max_registrations(0).build()?;
    assert!(reactor.on_event(&event, |_| Ok(Next::Keep)).is_err());
    assert!(event.wait(NOW) && !event.wait(NOW));
    Ok(())
}

#[test]
fn thousands_of_waiters_are_released_in_linear_time() -> Result {
    const WAITERS: usize = 20_000;
    let event = Event::manual_reset();
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

/// It is called each turn while its event stays set.
#[test]
fn an_event_callback_that_would_block_is_called_again_next_turn() -> Result {
    let event = Event::manual_reset();
    event.set();
    let mut reactor = Reactor::<u32>::new()?;
    reactor.on_event(&event, |cx| {
        *cx.state += 1;
        Err(if *cx.state < 3 {
            std::io::ErrorKind::WouldBlock.into()
        } else {
            std::io::Error::other("enough")
        })
    })?;
    let mut calls = 0;
    for turns in 1..=3 {
        turn_now(&mut reactor, &mut calls);
        assert_eq!(calls, turns);
    }
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_thread_passes_events_only_when_all_events_and_fds_are_ready() -> Result {
    for last in 0..4 {
        let ([reader, other], mut writers) = pipes()?;
        let (auto, count) = (Event::auto_reset(), Event::semaphore(1, 9));
        let wait = |timeout| {
            Event::wait_all_and_readable(
                &[&auto, &count, &count],
                &[reader.as_fd(), other.as_fd()],
                timeout,
            )
        };
        for step in 1..=4 {
            assert!(
                !wait(NOW)? && !wait(Some(Duration::from_millis(1)))?,
                "{step} steps before {last}"
            );
            match (last + step) % 4 {
                fd @ (0 | 1) => writers[fd].write_all(b"x")?,
                2 => assert!(sets(&auto), "it was passed through"),
                _ => assert!(sets(&count), "it counts two"),
            }
        }
        assert!(wait(NOW)? && !auto.is_set() && !count.is_set());
    }
    Ok(())
}

#[test]
fn a_wait_for_all_and_fds_takes_events_alone_fds_alone_and_neither() -> Result {
    let ([reader, _other], mut writers) = pipes()?;
    let wait =
        |events: &[&Event], fds: &[BorrowedFd<'_>]| Event::wait_all_and_readable(events, fds, NOW);
    assert!(wait(&[&set_event()], &[])? && !wait(&[&Event::auto_reset()], &[])?);
    assert!(!wait(&[], &[reader.as_fd()])?);
    writers[0].write_all(b"x")?;
    assert!(wait(&[], &[reader.as_fd()])? && wait(&[], &[])?);
    Ok(())
}

/// Returns two pipes, with their reading ends apart.
fn pipes() -> Result<([PipeReader; 2], [PipeWriter; 2])> {
    let ((reader, writer), (other, other_writer)) = (pipe()?, pipe()?);
    Ok(([reader, other], [writer, other_writer]))
}

#[test]
fn a_wait_for_all_and_fds_ends_whichever_comes_last() -> Result {
    for event_comes_last in [false, true] {
        let (reader, mut writer) = pipe()?;
        let event = Event::auto_reset();
        let waits = event.clone();
        let wait =
            thread::spawn(move || Event::wait_all_and_readable(&[&waits], &[reader.as_fd()], SOON));
        for sets_event in [!event_comes_last, event_comes_last] {
            for _ in 0..100 {
                thread::yield_now(); // most often the waiter waits by then
            }
            if sets_event {
                assert!(sets(&event))
            } else {
                writer.write_all(b"x")?
            }
        }
        assert!(wait.join().map_err(|_| "it panicked")?? && !event.is_set());
    }
    Ok(())
}

#[test]
fn events_that_a_wait_for_all_and_fds_does_not_use_go_to_others() -> Result {
    let (silent, _writer) = pipe()?;
    let (event, started) = (Event::auto_reset(), Event::auto_reset());
    let (waits, starts) = (event.clone(), started.clone());
    let wait = thread::spawn(move || {
        assert!(!Event::wait_all_and_readable(
            &[&waits],
            &[silent.as_fd()],
            NOW
        )?);
        starts.set();
        Event::wait_all_and_readable(
            &[&waits],
            &[silent.as_fd()],
            Some(Duration::from_millis(50)),
        )
    });
    assert!(started.wait(SOON));
    for _ in 0..1000 {
        assert!(
            sets(&event) && event.wait(NOW),
            "it was passed through for nothing"
        );
    }
    assert!(!wait.join().map_err(|_| "it panicked")??);
    Ok(())
}

#[test]
fn a_loop_is_called_when_all_events_and_fds_are_ready_and_not_before() -> Result {
    for last in 0..4 {
        let ([reader, other], mut writers) = pipes()?;
        let (auto, manual) = (Event::auto_reset(), Event::manual_reset());
        let mut reactor = Reactor::<usize>::new()?;
        reactor.on_all_and_readable(&[&auto, &manual], &[reader.as_fd(), other.as_fd()], |cx| {
            *cx.state += 1;
            Ok(Next::Keep)
        })?;
        let mut calls = 0;
        for step in 1..=4 {
            for _ in 0..3 {
                assert_eq!(
                    turn_now(&mut reactor, &mut calls),
                    0,
                    "{step} steps before {last}"
                );
            }
            match (last + step) % 4 {
                fd @ (0 | 1) => writers[fd].write_all(b"x")?,
                2 => assert!(sets(&auto), "it was passed through"),
                _ => assert!(sets(&manual)),
            }
        }
        assert_eq!(turn_now(&mut reactor, &mut calls), 1);
        assert_eq!(
            (turn_now(&mut reactor, &mut calls), auto.is_set()),
            (0, false),
            "the event is missing again"
        );
        assert_eq!(
            (calls, reactor.metrics().calls),
            (1, 1),
            "what only looks is no call"
        );
    }
    Ok(())
}

#[test]
fn a_handler_of_events_and_fds_is_called_again_while_all_are_ready() -> Result {
    let ([reader, _other], [mut writer, _other_writer]) = pipes()?;
    let event = Event::semaphore(0, 9);
    let mut reactor = Reactor::<usize>::new()?;
    let mut reads = reader.try_clone()?;
    let key = reactor.on_all_and_readable(&[&event], &[reader.as_fd()], move |cx| {
        *cx.state += 1;
        reads.read_exact(&mut [0])?;
        Err(std::io::ErrorKind::WouldBlock.into()) // has no meaning here
    })?;
    let (mut calls, updates) = (0, reactor.metrics().kernel_updates);
    let turns = |reactor: &mut Reactor<usize>, calls: &mut usize| {
        (0..5).for_each(|_| _ = turn_now(reactor, calls))
    };
    writer.write_all(b"xyz")?;
    assert!((0..4).all(|_| sets(&event)));
    turns(&mut reactor, &mut calls);
    assert_eq!(
        (calls, event.is_set()),
        (3, true),
        "there were three bytes to read"
    );
    reactor.set_interest(key, Interest::NONE)?;
    writer.write_all(b"x")?;
    turns(&mut reactor, &mut calls);
    assert_eq!(calls, 3, "it is paused");
    reactor.set_interest(key, Interest::READABLE)?;
    turns(&mut reactor, &mut calls);
    assert_eq!(
        (calls, event.is_set(), reactor.metrics().kernel_updates),
        (4, false, updates)
    );
    reactor.remove(key)?;
    drop((writer, reactor));
    assert_eq!(
        (&reader).read(&mut [0])?,
        0,
        "it is in blocking mode as before"
    );
    Ok(())
}

#[test]
fn a_loop_waits_for_events_alone_and_for_fds_alone() -> Result {
    let ([reader, _other], [mut writer, _other_writer]) = pipes()?;
    writer.write_all(b"x")?;
    let mut reactor = Reactor::<Vec<&str>>::new()?;
    let cases: [(&str, &[&Event], &[BorrowedFd<'_>]); 4] = [
        ("events", &[&set_event()], &[]),
        ("fds", &[], &[reader.as_fd()]),
        ("an event that is not set", &[&Event::auto_reset()], &[]),
        ("nothing", &[], &[]),
    ];
    for (name, events, fds) in cases {
        reactor.on_all_and_readable(events, fds, move |cx| {
            cx.state.push(name);
            Ok(Next::Remove)
        })?;
    }
    let mut called = Vec::new();
    turn_now(&mut reactor, &mut called);
    turn_now(&mut reactor, &mut called);
    called.sort_unstable();
    assert_eq!(called, ["events", "fds"]);
    Ok(())
}

#[test]
fn a_loop_that_waits_for_all_and_fds_sleeps_while_one_is_missing() -> Result {
    let (reader, mut writer) = pipe()?;
    let (registered, mut peer) = std::os::unix::net::UnixStream::pair()?;
    writer.write_all(b"x")?;
    peer.write_all(b"x")?;
    let event = set_event();
    let mut reactor = Reactor::<usize>::new()?;
    let fds = [reader.as_fd(), registered.as_fd()];
    reactor.on_all_and_readable(&[&event, &event], &fds, |cx| {
        *cx.state += 1;
        Ok(Next::Remove)
    })?;
    // The same fd as a source of its own.
    reactor.add(registered, Interest::NONE, |_, _| Ok(Next::Remove))?;
    let mut calls = 0;
    turn_now(&mut reactor, &mut calls);
    let events = reactor.metrics().events;
    for _ in 0..20 {
        assert_eq!(turn_now(&mut reactor, &mut calls), 0, "an idle turn");
    }
    assert_eq!(
        (calls, reactor.metrics().events),
        (0, events),
        "the kernel had nothing to report"
    );
    assert_eq!(reactor.len(), 2);
    Ok(())
}

#[test]
fn a_set_by_another_thread_ends_the_sleep_of_a_loop_that_has_the_fds() {
    in_time("a loop that waits for an event beside fds", || {
        handle_fifty_sets().unwrap()
    });
}

fn handle_fifty_sets() -> Result {
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"x")?;
    // epoll refuses it, and poll reports it as readable.
    let file = std::fs::File::open("/dev/null")?;
    let event = Event::auto_reset();
    let mut reactor = Reactor::<usize>::new()?;
    reactor.on_all_and_readable(&[&event], &[reader.as_fd(), file.as_fd()], |cx| {
        *cx.state += 1;
        Ok(if *cx.state < 50 {
            Next::Keep
        } else {
            Next::Remove
        })
    })?;
    let setter = event.clone();
    let thread = thread::spawn(move || {
        let mut count = 0;
        while count < 50 {
            count += usize::from(sets(&setter));
            thread::yield_now();
        }
    });
    let mut calls = 0;
    reactor.run(&mut calls)?;
    thread.join().map_err(|_| "it panicked")?;
    assert_eq!((calls, event.is_set()), (50, false));
    Ok(())
}

#[test]
fn a_pass_that_is_undone_is_for_the_next_wait() -> Result {
    let (auto, semaphore, manual) = (
        Event::auto_reset(),
        Event::semaphore(2, 2),
        Event::manual_reset(),
    );
    let passes = |event: &Event| (0..3).filter(|_| event.wait(NOW)).count();
    auto.set();
    manual.set();
    for _ in 0..2 {
        let passed = [&auto, &semaphore, &manual].map(|event| event.wait(NOW));
        assert_eq!(passed, [true; 3]);
        for event in [&auto, &semaphore, &manual] {
            event.undo_pass();
        }
    }
    assert_eq!([&auto, &semaphore, &manual].map(passes), [1, 2, 3]);
    manual.reset();
    manual.undo_pass();
    assert!(!manual.is_set(), "a pass has not changed it");
    semaphore.undo_pass();
    let waits = thread::spawn({
        let auto = auto.clone();
        move || auto.wait(SOON)
    });
    auto.undo_pass();
    assert!(waits.join().unwrap() && !auto.is_set());
    Ok(())
}
