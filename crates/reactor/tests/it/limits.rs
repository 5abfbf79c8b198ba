//! Limits: each holds at 0, at 1 and at the greatest value of its type.

use std::io::Read;
use std::time::Duration;

use reactor::{
    Capacity, Error, Event, EventFd, Interest, ManualClock, Missed, Next, Reactor, Then,
    notification_queue,
};

use crate::{Result, readable, sets, turn_now};

const SIZES: [usize; 3] = [0, 1, usize::MAX];
const DURATIONS: [Duration; 3] = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];

#[test]
fn a_loop_with_any_limits_calls_every_ready_source() -> Result {
    for (events, calls) in SIZES
        .into_iter()
        .flat_map(|events| SIZES.map(|calls| (events, calls)))
    {
        let builder = Reactor::<usize>::builder()
            .max_events_per_turn(events)
            .max_calls_per_turn(calls);
        let mut reactor = builder.slow_after(Duration::MAX).build()?;
        let mut far = Vec::new();
        for _ in 0..20 {
            let (source, peer) = readable()?;
            far.push(peer);
            reactor.add(source, Interest::READABLE, |source, cx| {
                *cx.state += source.read(&mut [0; 8])?;
                Ok(Next::Remove)
            })?;
        }
        let mut read = 0;
        reactor.run(&mut read)?;
        assert_eq!(read, 20, "{events} events, {calls} calls");
    }
    Ok(())
}

#[test]
fn registrations_are_refused_beyond_their_maximum_and_not_before() -> Result {
    for max in SIZES {
        let mut reactor = Reactor::<()>::builder().max_registrations(max).build()?;
        for number in 0..3 {
            let (source, _far) = readable()?;
            match reactor.add(source, Interest::NONE, |_, _| Ok(Next::Keep)) {
                Ok(_) => assert!(number < max),
                Err(refused) => assert!(
                    number >= max && matches!(refused.error, Error::Full { .. }),
                    "{refused}"
                ),
            }
        }
    }
    Ok(())
}

#[test]
fn timers_of_any_length_run_in_time_or_never() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<usize>>::builder().clock(clock).build()?;
    let (source, _far) = readable()?;
    let key = reactor.add(source, Interest::NONE, |_, cx| {
        cx.state.push(9);
        Ok(Next::Keep)
    })?;
    for (number, length) in DURATIONS.into_iter().enumerate() {
        let timer = reactor.after(length, move |cx| {
            cx.state.push(number);
            Ok(Then::After(Duration::MAX))
        });
        reactor.set_timer_slack(timer, Duration::ZERO)?;
        let slack = reactor.after(Duration::MAX, |_| Ok(Then::Done));
        reactor.set_timer_slack(slack, length)?;
        reactor.reset(slack, length)?;
        reactor.cancel(slack)?;
        let periodic = reactor.every(length, Missed::Burst, |_| Ok(Next::Remove));
        reactor.set_timeout(key, Some(length))?;
        assert_eq!(
            reactor.remaining(periodic)?.is_none(),
            length == Duration::MAX
        );
    }
    let mut ran = Vec::new();
    reactor.advance(&mut ran, Duration::from_secs(1_000_000_000))?;
    assert_eq!(ran, [0, 1], "the timeout was set to never last");
    Ok(())
}

#[test]
fn a_queue_accepts_values_up_to_its_capacity_and_returns_the_rest() -> Result {
    for (capacity, room) in [
        (Capacity::Bounded(0), 0),
        (Capacity::Bounded(1), 1),
        (Capacity::Bounded(usize::MAX), 3),
        (Capacity::Unbounded, 3),
    ] {
        let mut reactor = Reactor::<Vec<u8>>::new()?;
        let (sender, receiver) = notification_queue(capacity);
        let key = reactor.consume(receiver, |value, cx| {
            cx.state.extend(value);
            Ok(Next::Keep)
        })?;
        let taken = (0..3)
            .filter(|value| sender.try_send(*value).is_ok())
            .count();
        assert_eq!(taken, room, "{capacity:?}");
        let mut values = Vec::new();
        for limit in SIZES {
            reactor.set_max_messages_per_turn(key, limit)?;
            turn_now(&mut reactor, &mut values);
        }
        assert_eq!(values.len(), room);
    }
    Ok(())
}

#[test]
fn events_and_counts_hold_at_their_bounds() -> Result {
    let full = Event::semaphore(u32::MAX, u32::MAX);
    assert!(!sets(&full) && full.is_set());
    let none = Event::semaphore(0, 0);
    assert!(!none.wait(Some(Duration::ZERO)));
    let event = EventFd::counter(u32::MAX)?;
    assert_eq!(event.read()?, u64::from(u32::MAX));
    event.set_nonblocking(true)?;
    event.add(0)?;
    assert!(event.read().is_err(), "nothing was added");
    assert!(event.add(u64::MAX).is_err(), "the kernel holds one less");
    event.add(u64::MAX - 1)?;
    assert!(event.add(1).is_err(), "it is full");
    assert_eq!(event.read()?, u64::MAX - 1);
    Ok(())
}
