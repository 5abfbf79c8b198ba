//! Spinning before sleeping. The bounds are longer than any test, so that nothing depends on the
//! machine's speed.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use reactor::{
    Capacity, Interest, ManualClock, Metrics, Next, Reactor, Spin, Then, notification_queue,
};

use crate::{PATIENCE, Result, read_all};

/// Sends to a loop that spins, and waits for each answer. Returns the metrics of the loop.
fn ping_pong(spin: Spin, rounds: usize) -> Result<Metrics> {
    let (to_loop, at_loop) = notification_queue::<usize>(Capacity::Unbounded);
    let begun = Barrier::new(2);
    let mut reactor = Reactor::<Vec<usize>>::builder().spin(spin).build()?;
    thread::scope(|scope| {
        let (answer, answers) = std::sync::mpsc::channel();
        let begun = &begun;
        scope.spawn(move || {
            begun.wait();
            for round in 0..rounds {
                to_loop.try_send(round).unwrap();
                assert_eq!(answers.recv(), Ok(round));
            }
        });
        reactor.consume(at_loop, move |value, cx| {
            cx.state.extend(value);
            value
                .map_or(Ok(()), |value| answer.send(value))
                .map_err(std::io::Error::other)?;
            Ok(Next::Keep)
        })?;
        begun.wait();
        let mut values = Vec::new();
        reactor.run(&mut values)?;
        assert_eq!(values.len(), rounds);
        Ok(reactor.metrics())
    })
}

#[test]
fn a_loop_that_spins_is_reached_without_a_system_call() -> Result {
    let metrics = ping_pong(Spin::Fixed(PATIENCE), 100)?;
    assert_eq!((metrics.wakeups, metrics.idle_spins), (0, 0), "{metrics:?}");
    Ok(())
}

#[test]
fn a_loop_that_adapts_begins_to_spin_when_work_comes_soon() -> Result {
    let metrics = ping_pong(Spin::Adaptive(PATIENCE), 100)?;
    assert!(metrics.wakeups <= 2 && metrics.spins > 0, "{metrics:?}");
    Ok(())
}

#[test]
fn a_loop_that_only_waits_for_time_does_not_learn_to_spin() -> Result {
    let mut reactor = Reactor::<()>::builder()
        .spin(Spin::Adaptive(PATIENCE))
        .build()?;
    for _ in 0..5 {
        reactor.after(Duration::from_millis(1), |_| Ok(Then::Done));
        reactor.turn(&mut (), Some(Duration::from_micros(1)))?;
        reactor.run(&mut ())?;
    }
    assert_eq!(reactor.metrics().spins, 0);
    Ok(())
}

#[test]
fn a_loop_that_spins_sees_its_sources_and_its_timers() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Vec<&str>>::builder()
        .spin(Spin::Fixed(PATIENCE))
        .build()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        cx.state.push("read");
        read_all(near).map(|_| Next::Remove)
    })?;
    let began = std::time::Instant::now();
    let mut log = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || far.write_all(b"x"));
        reactor.run(&mut log)
    })?;
    reactor.after(Duration::from_millis(5), |cx| {
        cx.state.push("timer");
        Ok(Then::Done)
    });
    reactor.run(&mut log)?;
    assert_eq!(log, ["read", "timer"]);
    assert!(
        began.elapsed() < PATIENCE,
        "it does not spin past a deadline"
    );
    Ok(())
}

#[test]
fn a_turn_s_own_timeout_bounds_its_spin_and_a_manual_clock_forbids_it() -> Result {
    let mut reactor = Reactor::<()>::builder()
        .spin(Spin::Fixed(PATIENCE))
        .build()?;
    let began = std::time::Instant::now();
    reactor.turn(&mut (), Some(Duration::from_millis(2)))?;
    reactor.turn(&mut (), Some(Duration::ZERO))?;
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(
        (reactor.metrics().spins, reactor.metrics().idle_spins),
        (1, 1)
    );

    let mut manual = Reactor::<()>::builder()
        .spin(Spin::Fixed(PATIENCE))
        .clock(ManualClock::jumping())
        .build()?;
    manual.after(Duration::from_secs(3600), |_| Ok(Then::Done));
    manual.run(&mut ())?;
    assert_eq!(manual.metrics().spins, 0);
    Ok(())
}

#[test]
fn a_spin_of_any_length_is_a_spin() -> Result {
    for time in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_secs(3600),
        Duration::MAX,
    ] {
        for spin in [Spin::Fixed(time), Spin::Adaptive(time)] {
            let mut reactor = Reactor::<u32>::builder().spin(spin).build()?;
            for timeout in [
                Duration::ZERO,
                Duration::from_nanos(1),
                Duration::from_millis(1),
            ] {
                reactor.turn(&mut 0, Some(timeout))?;
            }
            for timeout in [None, Some(Duration::MAX)] {
                reactor.after(Duration::from_nanos(1), |cx| {
                    *cx.state += 1;
                    Ok(Then::Done)
                });
                let mut ran = 0;
                while ran == 0 {
                    reactor.turn(&mut ran, timeout)?;
                }
            }
            let may_spin = !time.is_zero() && matches!(spin, Spin::Fixed(_));
            assert_eq!(reactor.metrics().spins > 0, may_spin, "{spin:?}");
        }
    }
    Ok(())
}

#[test]
fn time_spun_of_a_timeout_or_to_a_deadline_is_not_slept_again() -> Result {
    let mut reactor = Reactor::<()>::builder()
        .spin(Spin::Fixed(Duration::MAX))
        .build()?;
    for _ in 0..2 {
        reactor.turn(&mut (), Some(Duration::from_millis(2)))?;
    }
    reactor.after(Duration::from_millis(2), |_| Ok(Then::Done));
    assert_eq!(reactor.turn(&mut (), Some(Duration::from_secs(3600)))?, 1);
    let metrics = reactor.metrics();
    // A turn that begins too late for its deadline does not spin.
    assert_eq!(
        (
            metrics.turns,
            metrics.sleeps + metrics.spins,
            metrics.spins - metrics.idle_spins
        ),
        (3, 3, 0)
    );
    Ok(())
}
