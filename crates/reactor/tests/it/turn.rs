//! The phases of a turn: their order, their bounds, and the end of the loop.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Context, Error, Interest, Next, Reactor};

use crate::{Result, add_counting_reader, note, readable, turn_now, turn_until};

type Words = Vec<&'static str>;

fn say(word: &'static str) -> impl FnOnce(&mut Context<'_, Words>) {
    move |cx| cx.state.push(word)
}

/// Callbacks that they defer themselves run next turn.
#[test]
fn deferred_callbacks_run_in_order_after_the_sources() -> Result {
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<Words>::new()?;
    reactor.defer(say("one"));
    reactor.defer(|cx| {
        cx.state.push("two");
        cx.registry.defer(say("next turn"));
    });
    reactor.add(near, Interest::READABLE, |_, cx| {
        cx.state.push("source");
        cx.registry.defer(say("three"));
        Ok(Next::Remove)
    })?;
    let mut words = Words::new();
    assert_eq!(turn_now(&mut reactor, &mut words), 4);
    assert_eq!(words, ["source", "one", "two", "three"]);
    assert_eq!(
        reactor.turn(&mut words, None)?,
        1,
        "it does not wait while something is deferred"
    );
    assert_eq!(words.last(), Some(&"next turn"));
    assert_eq!(reactor.metrics().deferred, 4);
    Ok(())
}

#[test]
fn a_callback_that_defers_itself_for_ever_starves_no_source() -> Result {
    fn again(cx: &mut Context<'_, Vec<u32>>) {
        cx.registry.defer(again);
    }
    let mut reactor = Reactor::new()?;
    reactor.defer(again);
    let (_, mut far) = add_counting_reader(&mut reactor, 0)?;
    far.write_all(b"x")?;
    let mut calls = vec![0];
    assert_eq!(turn_now(&mut reactor, &mut calls), 2);
    assert_eq!(calls, [1]);
    Ok(())
}

#[test]
fn stop_before_run_makes_run_return_at_once() -> Result {
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<Words>::new()?;
    reactor.add(near, Interest::READABLE, note("called"))?;
    reactor.stop();
    assert!(reactor.is_stopping());
    let mut words = Words::new();
    reactor.run(&mut words)?;
    assert_eq!(
        (words.len(), reactor.metrics().turns, reactor.is_stopping()),
        (0, 0, false)
    );
    Ok(())
}

#[test]
fn stop_ends_the_run_after_the_turn_and_the_reactor_can_run_again() -> Result {
    let mut reactor = Reactor::<Words>::new()?;
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (near, far) = readable()?;
        peers.push(far);
        reactor.add(near, Interest::READABLE, |_, cx| {
            cx.state.push("source");
            cx.registry.stop();
            cx.registry.defer(say("deferred"));
            Ok(Next::Keep)
        })?;
    }
    let mut words = Words::new();
    reactor.run(&mut words)?;
    assert_eq!(
        words,
        [
            "source", "source", "source", "deferred", "deferred", "deferred"
        ]
    );
    reactor.run(&mut words)?;
    assert_eq!(words.len(), 12);
    Ok(())
}

#[test]
fn stop_from_a_deferred_callback_ends_the_run() -> Result {
    let (near, _far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Words>::new()?;
    reactor.add(near, Interest::READABLE, note("never"))?;
    reactor.defer(|cx| cx.registry.stop());
    reactor.defer(say("the rest of the turn"));
    let mut words = Words::new();
    reactor.run(&mut words)?;
    assert_eq!(words, ["the rest of the turn"]);
    Ok(())
}

#[test]
fn a_registration_in_the_background_does_not_keep_run_alive() -> Result {
    let (near, _far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Words>::new()?;
    let key = reactor.add(near, Interest::READABLE, note("never"))?;
    reactor.set_background(key)?;
    reactor.set_background(key)?;
    reactor.run(&mut Words::new())?;
    reactor.set_foreground(key)?;
    reactor.set_foreground(key)?;
    reactor.set_background(key)?;
    reactor.remove(key)?;
    let (near, mut far) = UnixStream::pair()?;
    reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Remove))?;
    reactor.defer(move |_| far.write_all(b"x").unwrap());
    reactor.run(&mut Words::new())?; // would return at once with a wrong count
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn the_state_may_borrow() -> Result {
    struct Borrowing<'a> {
        name: &'a str,
        seen: &'a mut Vec<String>,
    }
    let name = String::from("on the stack");
    let mut seen = Vec::new();
    let mut reactor = Reactor::new()?;
    let (near, _far) = readable()?;
    reactor.add(
        near,
        Interest::READABLE,
        |_, cx: &mut Context<'_, Borrowing<'_>>| {
            cx.state.seen.push(cx.state.name.to_owned());
            Ok(Next::Remove)
        },
    )?;
    reactor.run(&mut Borrowing {
        name: &name,
        seen: &mut seen,
    })?;
    drop(reactor);
    assert_eq!(seen, ["on the stack"]);
    Ok(())
}

#[test]
fn a_turn_is_not_over_before_its_timeout() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    for timeout in [Duration::from_nanos(1), Duration::from_micros(1500)] {
        let began = Instant::now();
        assert_eq!(reactor.turn(&mut (), Some(timeout))?, 0);
        assert!(began.elapsed() >= timeout);
    }
    Ok(())
}

#[test]
fn hooks_run_before_and_after_every_wait_and_may_remove_each_other() -> Result {
    let mut reactor = Reactor::<Words>::new()?;
    let doomed = reactor.before_wait(|cx| {
        cx.state.push("doomed");
        Ok(Next::Keep)
    });
    reactor.before_wait(move |cx| {
        cx.state.push("before");
        cx.registry
            .remove_hook(doomed)
            .map_or(Ok(Next::Keep), |()| Ok(Next::Keep))
    });
    reactor.before_wait(|cx| {
        cx.state.push("once");
        Ok(Next::Remove)
    });
    reactor.after_wait(|cx| {
        cx.state.push("after");
        Ok(Next::Keep)
    });
    reactor.after_wait(|cx| {
        cx.state.push("broken");
        Err(io::Error::other("broken"))
    });
    reactor.after_wait(|cx| {
        cx.state.push("waiting");
        Err(io::ErrorKind::WouldBlock.into())
    });
    let mut words = Words::new();
    reactor.defer(say("deferred"));
    turn_now(&mut reactor, &mut words);
    assert_eq!(
        words,
        [
            "doomed", "before", "once", "after", "broken", "waiting", "deferred"
        ]
    );
    assert_eq!(reactor.metrics().failures, 1);
    words.clear();
    turn_now(&mut reactor, &mut words);
    assert_eq!(words, ["before", "after", "waiting"]);
    assert!(matches!(
        reactor.remove_hook(doomed),
        Err(Error::StaleKey(_))
    ));
    reactor.run(&mut words)?; // hooks do not keep the loop alive
    Ok(())
}

#[test]
fn idle_callbacks_run_only_in_turns_without_other_work() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut reactor = Reactor::<Words>::new()?;
    reactor.add(near, Interest::READABLE, |near, cx| {
        crate::read_all(near)?;
        cx.state.push("source");
        Ok(Next::Keep)
    })?;
    reactor.idle(|cx| {
        cx.state.push("idle");
        Ok(if cx.state.len() < 6 {
            Next::Keep
        } else {
            Next::Remove
        })
    });
    let mut words = Words::new();
    reactor.turn(&mut words, None)?; // does not wait
    far.write_all(b"x")?;
    reactor.turn(&mut words, None)?;
    reactor.defer(say("deferred"));
    reactor.turn(&mut words, None)?;
    for _ in 0..3 {
        reactor.turn(&mut words, None)?;
    }
    assert_eq!(
        words,
        ["idle", "source", "deferred", "idle", "idle", "idle"]
    );
    assert_eq!(
        turn_now(&mut reactor, &mut words),
        0,
        "the idle callback has ended"
    );
    Ok(())
}

#[test]
fn an_idle_callback_that_was_removed_keeps_nothing_awake() -> Result {
    let mut reactor = Reactor::<Words>::new()?;
    let idle = reactor.idle(|_| Ok(Next::Keep));
    reactor.before_wait(|_| Ok(Next::Keep));
    assert_eq!(reactor.turn(&mut Words::new(), None)?, 1);
    let unused = reactor.idle(|_| Ok(Next::Keep));
    reactor.remove_hook(unused)?;
    reactor.remove_hook(idle)?;
    let (timeout, began) = (Duration::from_millis(5), Instant::now());
    assert_eq!(reactor.turn(&mut Words::new(), Some(timeout))?, 0);
    assert!(began.elapsed() >= timeout);
    Ok(())
}

#[test]
fn more_ready_sources_than_a_turn_may_call_take_turns() -> Result {
    let mut reactor = Reactor::<Vec<u32>>::builder()
        .max_calls_per_turn(8)
        .build()?;
    let mut peers = Vec::new();
    for place in 0..20 {
        let (near, far) = readable()?;
        peers.push(far);
        reactor.add(
            near,
            Interest::READABLE,
            move |_, cx: &mut Context<'_, Vec<u32>>| {
                cx.state[place] += 1;
                Ok(Next::Keep)
            },
        )?;
    }
    let mut calls = vec![0; 20];
    assert_eq!(
        turn_now(&mut reactor, &mut calls),
        20,
        "what the kernel reports is bounded by its list"
    );
    for _ in 0..5 {
        assert_eq!(turn_now(&mut reactor, &mut calls), 8);
    }
    assert_eq!(calls, [3; 20], "five turns of eight calls are two for each");
    Ok(())
}

#[test]
fn events_beyond_one_wait_are_left_to_the_next() -> Result {
    let mut reactor = Reactor::<Vec<u32>>::builder()
        .max_events_per_turn(0)
        .build()?;
    let (_, mut one) = add_counting_reader(&mut reactor, 0)?;
    let (_, mut two) = add_counting_reader(&mut reactor, 1)?;
    one.write_all(b"x")?;
    two.write_all(b"x")?;
    let mut calls = vec![0; 2];
    assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    assert_eq!(turn_now(&mut reactor, &mut calls), 1);
    assert_eq!(calls, [1, 1]);
    Ok(())
}

#[test]
fn every_callback_of_a_turn_sees_the_time_of_one_clock_reading() -> Result {
    let mut reactor = Reactor::<Vec<Instant>>::new()?;
    for _ in 0..3 {
        reactor.defer(|cx| cx.state.push(cx.now()));
    }
    let mut times = Vec::new();
    turn_now(&mut reactor, &mut times);
    assert!(times[0] == times[1] && times[1] == times[2]);
    assert_eq!(reactor.metrics().clock_reads, 1);
    reactor.defer(|cx| cx.state.push(cx.now()));
    turn_now(&mut reactor, &mut times);
    assert!(times[3] >= times[0]);
    turn_now(&mut reactor, &mut times);
    assert_eq!(
        reactor.metrics().clock_reads,
        2,
        "a turn without a question reads no clock"
    );
    let (now, then) = (reactor.now(), reactor.now());
    assert!(then >= now);
    assert_eq!(
        reactor.metrics().clock_reads,
        4,
        "between turns every question is answered anew"
    );
    Ok(())
}

#[test]
fn a_handler_may_do_everything_to_the_registry_while_it_runs() -> Result {
    let (near, _far) = readable()?;
    let (other, _other_far) = readable()?;
    let mut reactor = Reactor::<Words>::new()?;
    let other = reactor.add(other, Interest::READABLE, note("other"))?;
    let mut newcomer = Some(readable()?);
    reactor.add(near, Interest::READABLE, move |_, cx| {
        let key = cx.key();
        cx.registry
            .set_interest(key, Interest::READABLE | Interest::WRITABLE)?;
        cx.registry.set_priority(key, reactor::Priority::Low)?;
        cx.registry.set_name(key, "busy")?;
        cx.registry.set_background(key)?;
        assert_eq!(
            cx.registry
                .registrations()
                .filter(|registration| registration.name == "busy")
                .count(),
            1
        );
        cx.registry.set_interest(other, Interest::NONE)?;
        if let Some((near, far)) = newcomer.take() {
            cx.registry.add(near, Interest::READABLE, move |_, cx| {
                let _open = &far;
                cx.state.push("newcomer");
                cx.registry.stop();
                Ok(Next::Keep)
            })?;
        }
        cx.registry.defer(|cx| cx.state.push("deferred"));
        cx.registry.remove(key)?;
        assert!(!cx.registry.contains(key));
        Ok(Next::Keep)
    })?;
    let mut words = Words::new();
    turn_until(&mut reactor, &mut words, |words| {
        words.contains(&"newcomer")
    });
    assert!(words.contains(&"deferred"));
    assert_eq!(reactor.len(), 2);
    Ok(())
}

#[test]
fn a_child_inherits_no_fd_of_the_reactor() -> Result {
    let mut reactor = Reactor::<()>::builder().high_resolution().build()?;
    let _remote = reactor.remote()?;
    reactor.at_wall(std::time::SystemTime::now(), |_| Ok(reactor::Then::Done))?;
    let listed = std::process::Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(
        listed.contains("/proc/") && !listed.contains("anon_inode"),
        "{listed}"
    );
    Ok(())
}

#[test]
fn a_loop_has_one_value_of_each_type_and_drops_it_at_its_end() -> Result {
    #[derive(Default)]
    struct Counted(Rc<()>, u32);
    let mut reactor = Reactor::<()>::new()?;
    let alive = Rc::clone(&reactor.local::<Counted>().0);
    reactor.defer(|cx| {
        cx.registry.local::<Counted>().1 += 1;
        *cx.registry.local::<u32>() += 10;
    });
    reactor.run(&mut ())?;
    assert_eq!(
        (
            reactor.local::<Counted>().1,
            *reactor.local::<u32>(),
            *reactor.local::<u64>()
        ),
        (1, 10, 0)
    );
    assert_eq!(Rc::strong_count(&alive), 2);
    drop(reactor);
    assert_eq!(Rc::strong_count(&alive), 1);
    Ok(())
}
