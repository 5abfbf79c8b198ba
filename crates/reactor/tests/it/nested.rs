//! A reactor within another loop: the outer loop gets the time of the next timer, and the fd that
//! ends the wait.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use reactor::{Capacity, Interest, ManualClock, Next, Reactor, Then, notification_queue};

use crate::{PATIENCE, Result, add_counting_reader, turn_now, turn_until};

/// Returns a loop whose callbacks count in three places, within another loop that runs it.
fn nest(mut inner: Reactor<Vec<u32>>) -> Result<Reactor<Vec<u32>>> {
    let wait = inner.prepare_to_wait();
    let mut outer = Reactor::new()?;
    let key = outer.add(inner, Interest::READABLE, |inner, cx| {
        inner.get_mut().turn(cx.state, Some(Duration::ZERO))?;
        cx.registry
            .set_timeout(cx.key(), inner.get_mut().prepare_to_wait())?;
        Err(ErrorKind::WouldBlock.into())
    })?;
    outer.set_timeout(key, wait)?;
    Ok(outer)
}

#[test]
fn a_nested_loop_runs_its_sources_its_timers_and_values_of_threads() -> Result {
    let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
    let mut inner = Reactor::<Vec<u32>>::new()?;
    let (_, mut far) = add_counting_reader(&mut inner, 0)?;
    inner.after(Duration::from_millis(1), |cx| {
        cx.state[1] += 1;
        Ok(Then::Done)
    });
    inner.consume(receiver, |_, cx| {
        cx.state[2] += 1;
        Ok(Next::Keep)
    })?;
    let mut outer = nest(inner)?;
    let mut counts = vec![0; 3];
    turn_until(&mut outer, &mut counts, |counts| counts[1] == 1);
    for round in 1..=3 {
        far.write_all(b"x")?;
        turn_until(&mut outer, &mut counts, |counts| counts[0] == round);
        thread::scope(|scope| scope.spawn(|| sender.try_send(())).join()).unwrap()?;
        turn_until(&mut outer, &mut counts, |counts| counts[2] == round);
    }
    assert_eq!(counts, [3, 1, 3]);
    Ok(())
}

#[test]
fn a_prepared_loop_is_woken_by_one_write_and_a_turning_one_by_none() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<Vec<u32>>::new()?;
    reactor.consume(receiver, |value, cx| {
        cx.state.extend(value);
        Ok(Next::Keep)
    })?;
    let mut values = Vec::new();
    for (value, signals) in [(0, 1), (2, 2)] {
        assert_eq!(reactor.prepare_to_wait(), None);
        sender.try_send(value)?;
        sender.try_send(value + 1)?;
        assert_eq!(reactor.metrics().wakeups, signals);
        assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
        turn_now(&mut reactor, &mut values);
    }
    assert_eq!(reactor.prepare_to_wait(), None);
    turn_now(&mut reactor, &mut values);
    sender.try_send(4)?;
    assert_eq!(reactor.metrics().wakeups, 2, "it is awake");
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
    assert_eq!(values, [0, 1, 2, 3]);
    Ok(())
}

/// It returns zero while work is pending.
#[test]
fn prepare_to_wait_returns_the_time_to_the_next_timer() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<()>::builder().clock(clock.clone()).build()?;
    assert_eq!(reactor.prepare_to_wait(), None);
    reactor.after(Duration::from_micros(1500), |_| Ok(Then::Done));
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::from_micros(1500)));
    clock.advance(Duration::from_millis(1));
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::from_micros(500)));
    clock.advance(Duration::from_millis(1));
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
    assert_eq!(turn_now(&mut reactor, &mut ()), 1);
    assert_eq!(reactor.prepare_to_wait(), None);
    reactor.defer(|_| {});
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
    turn_now(&mut reactor, &mut ());
    assert_eq!(reactor.prepare_to_wait(), None);
    reactor.stop();
    assert_eq!(reactor.prepare_to_wait(), Some(Duration::ZERO));
    Ok(())
}

#[test]
fn a_source_that_is_still_ready_ends_the_wait_for_a_loop() -> Result {
    let mut inner = Reactor::<Vec<u32>>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    inner.add(near, Interest::READABLE, |near, cx| {
        cx.state[0] += near.read(&mut [0])? as u32;
        Ok(Next::Keep)
    })?;
    far.write_all(b"four")?;
    let mut outer = nest(inner)?;
    let mut counts = vec![0];
    while counts[0] < 4 {
        // One byte a turn: the kernel reports only the first.
        outer.turn(&mut counts, Some(PATIENCE))?;
    }
    Ok(())
}
