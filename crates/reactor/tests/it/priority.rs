//! Priorities: an order within the turn, and a share for every source.

use std::io::Write;

use reactor::{Context, Interest, Next, Priority, Reactor};

use crate::{Result, add_counting_reader, note, readable, turn_now};

#[test]
fn ready_sources_are_called_in_order_of_priority_each_once_a_turn() -> Result {
    let mut reactor = Reactor::<Vec<&'static str>>::new()?;
    let mut peers = Vec::new();
    let levels = [
        ("low", Priority::Low),
        ("normal", Priority::Normal),
        ("high", Priority::High),
    ];
    for (name, priority) in levels.into_iter().cycle().take(6) {
        let (near, far) = readable()?;
        peers.push(far);
        let key = reactor.add(near, Interest::READABLE, note(name))?;
        reactor.set_priority(key, priority)?;
    }
    let mut words = Vec::new();
    for _ in 0..3 {
        words.clear();
        assert_eq!(turn_now(&mut reactor, &mut words), 6);
        assert_eq!(words, ["high", "high", "normal", "normal", "low", "low"]);
    }
    Ok(())
}

#[test]
fn lower_priorities_keep_their_share_of_a_bounded_turn() -> Result {
    let mut reactor = Reactor::<[usize; 3]>::builder()
        .max_calls_per_turn(8)
        .build()?;
    let mut peers = Vec::new();
    for (place, priority) in [Priority::High, Priority::Normal, Priority::Low]
        .into_iter()
        .enumerate()
    {
        for _ in 0..10 {
            let (near, far) = readable()?;
            peers.push(far);
            let key = reactor.add(
                near,
                Interest::READABLE,
                move |_, cx: &mut Context<'_, [usize; 3]>| {
                    cx.state[place] += 1;
                    Ok(Next::Keep)
                },
            )?;
            reactor.set_priority(key, priority)?;
        }
    }
    let mut calls = [0; 3];
    for turn in 1..=10 {
        assert_eq!(turn_now(&mut reactor, &mut calls), 8);
        assert_eq!(calls, [5 * turn, 2 * turn, turn]);
    }
    Ok(())
}

#[test]
fn each_event_is_delivered_after_any_change_of_priority() -> Result {
    let mut reactor = Reactor::new()?;
    let (key, mut far) = add_counting_reader(&mut reactor, 0)?;
    let mut calls = vec![0];
    for priority in [
        Priority::High,
        Priority::Low,
        Priority::Normal,
        Priority::Normal,
    ] {
        reactor.set_priority(key, priority)?;
        far.write_all(b"x")?;
        assert_eq!(turn_now(&mut reactor, &mut calls), 1, "{priority}");
        assert_eq!(turn_now(&mut reactor, &mut calls), 0, "{priority}");
    }
    Ok(())
}
