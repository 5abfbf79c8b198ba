//! Watches: the reports of an arrival, and the ends of a watch.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use handlers::signal::{self, Signal};
use reactor::{Next, Reactor};
use rustix::process::kill_process;
use signal_hook::low_level::raise;

use crate::{PATIENCE, Result, Seen, real_time, turn_until, watch};

#[test]
fn all_watches_of_all_loops_are_notified() -> Result {
    let (mut one, mut other) = (Reactor::new()?, Reactor::new()?);
    watch(&mut one, &[Signal::USR1])?;
    watch(&mut one, &[Signal::USR1])?;
    watch(&mut other, &[Signal::USR1])?;
    kill_process(rustix::process::getpid(), rustix::process::Signal::USR1)?; // to any thread
    let (mut seen_by_one, mut seen_by_other) = (Vec::new(), Vec::new());
    turn_until(&mut one, &mut seen_by_one, |seen| seen.len() == 2)?;
    turn_until(&mut other, &mut seen_by_other, |seen| seen.len() == 1)?;
    assert_eq!(
        one.turn(&mut seen_by_one, Some(Duration::ZERO))?,
        0,
        "once each"
    );
    Ok(())
}

#[test]
fn the_sender_is_reported() -> Result {
    let mut reactor = Reactor::<Vec<signal::Arrival>>::new()?;
    signal::watch(&mut reactor, [Signal::USR2], |arrival, cx| {
        cx.state.push(*arrival);
        Ok(Next::Keep)
    })?;
    let mut sender = Command::new("sh")
        .args(["-c", "kill -USR2 $PPID"])
        .spawn()?;
    assert!(sender.wait()?.success());
    let mut arrivals = Vec::new();
    reactor.turn(&mut arrivals, Some(PATIENCE))?;
    let told = arrivals
        .first()
        .and_then(|arrival| arrival.sender)
        .ok_or("no sender")?;
    assert_eq!(
        (told.pid, told.uid),
        (sender.id(), rustix::process::getuid().as_raw())
    );
    Ok(())
}

#[test]
fn arrivals_are_reported_by_number_and_coalesce_while_the_loop_is_busy() -> Result {
    let (low, high) = (real_time(1), real_time(2));
    let mut reactor = Reactor::new()?;
    watch(&mut reactor, &[high, low])?;
    for _ in 0..100 {
        raise(high.as_raw())?;
        raise(low.as_raw())?;
    }
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [[low.as_raw(); 5], [high.as_raw(); 5]].concat());
    raise(low.as_raw())?;
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(
        seen[10..],
        [low.as_raw()],
        "one that comes after is told after"
    );
    Ok(())
}

#[test]
fn arrivals_beyond_the_limit_of_a_turn_are_reported_next_turn() -> Result {
    let signals: Vec<_> = (5..20).map(real_time).collect();
    let mut reactor = Reactor::new()?;
    watch(&mut reactor, &signals)?;
    for signal in &signals {
        for _ in 0..5 {
            raise(signal.as_raw())?;
        }
    }
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen.len(), 64);
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen.len(), 75);
    assert_eq!(
        reactor.turn(&mut seen, Some(Duration::ZERO))?,
        0,
        "and then it rests"
    );
    assert!(seen.is_sorted());
    Ok(())
}

#[test]
fn a_watch_keeps_no_loop_alive_and_costs_no_call_without_a_signal() -> Result {
    let mut reactor = Reactor::new()?;
    watch(&mut reactor, &[real_time(3)])?;
    let mut seen = Vec::new();
    reactor.run(&mut seen)?;
    assert_eq!((seen.len(), reactor.metrics().calls), (0, 0));
    Ok(())
}

#[test]
fn after_its_removal_a_watch_reports_nothing_and_leaves_nothing() -> Result {
    let mut reactor = Reactor::new()?;
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    let key = watch(&mut reactor, &[Signal::WINCH])?;
    raise(Signal::WINCH.as_raw())?;
    reactor.remove(key)?;
    assert!(reactor.is_empty());
    raise(Signal::WINCH.as_raw())?;
    let mut seen = Vec::new();
    assert_eq!(reactor.turn(&mut seen, Some(Duration::ZERO))?, 0);
    // Other tests open and close descriptors meanwhile, so this looks for those that a hundred
    // watches would leave.
    for _ in 0..100 {
        let key = watch(&mut reactor, &[Signal::WINCH])?;
        reactor.remove(key)?;
    }
    assert!(std::fs::read_dir("/proc/self/fd")?.count() < open + 100);
    Ok(())
}

/// This includes signals that have arrived already.
#[test]
fn a_watch_removed_in_its_callback_gets_no_further_signal() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (by_key, by_outcome, by_error) = (real_time(20), real_time(21), real_time(22));
    signal::watch(&mut reactor, [by_key], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        cx.registry.remove(cx.key())?;
        Ok(Next::Keep)
    })?;
    signal::watch(&mut reactor, [by_outcome], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Ok(Next::Remove)
    })?;
    signal::watch(&mut reactor, [by_error], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Err(io::Error::other("enough"))
    })?;
    watch(&mut reactor, &[by_key, by_outcome, by_error])?; // so that their default is not taken
    for signal in [by_key, by_outcome, by_error] {
        raise(signal.as_raw())?;
        raise(signal.as_raw())?;
    }
    let mut seen = Vec::new();
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            [by_key.as_raw(); 3],
            [by_outcome.as_raw(); 3],
            [by_error.as_raw(); 3]
        ]
        .concat()
    );
    assert_eq!(reactor.len(), 1);
    Ok(())
}

#[test]
fn would_block_and_interrupted_end_nothing() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    signal::watch(&mut reactor, [real_time(4)], |arrival, cx| {
        cx.state.push(arrival.signal.as_raw());
        Err(if cx.state.len() % 2 == 0 {
            ErrorKind::WouldBlock
        } else {
            ErrorKind::Interrupted
        }
        .into())
    })?;
    let mut seen = Vec::new();
    for number in 1..4 {
        raise(real_time(4).as_raw())?;
        raise(real_time(4).as_raw())?;
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
        assert_eq!(seen.len(), 2 * number);
    }
    assert_eq!((reactor.len(), reactor.metrics().kernel_updates), (1, 1));
    Ok(())
}

/// Nothing is watched then, not even the other signals of the call.
#[test]
fn the_error_of_a_signal_that_cannot_be_watched_names_it() -> Result {
    let mut reactor = Reactor::new()?;
    for (number, named) in [
        (
            9,
            "SIGKILL cannot be watched: the kernel does not allow catching it",
        ),
        (
            19,
            "SIGSTOP cannot be watched: the kernel does not allow catching it",
        ),
        (
            11,
            "SIGSEGV cannot be watched: it reports a fault of the running thread",
        ),
        (0, "signal 0 cannot be watched: not a signal number"),
        (-3, "signal -3 cannot be watched"),
        (65, "signal 65 cannot be watched"),
        (i32::MAX, "signal 2147483647 cannot be watched"),
        (32, "sigaction(signal 32): Invalid argument"), // reserved by the C library
    ] {
        let error = signal::watch(
            &mut reactor,
            [Signal::CONT, Signal::from_raw(number)],
            |_, _| Ok(Next::Keep),
        )
        .expect_err("it cannot be caught");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(reactor.is_empty());
    let mut seen = Seen::new();
    watch(&mut reactor, &[Signal::CONT])?; // the valid signal is unaffected
    raise(Signal::CONT.as_raw())?;
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, [Signal::CONT.as_raw()]);
    Ok(())
}

#[test]
fn the_callback_of_a_shutdown_runs_once_with_the_first_signal() -> Result {
    let asked = Rc::new(Cell::new(None));
    let noted = Rc::clone(&asked);
    let mut reactor = Reactor::<()>::new()?;
    signal::shutdown_on(
        &mut reactor,
        [real_time(23), real_time(24)],
        move |arrival, cx| {
            noted.set(Some(arrival.signal));
            cx.registry.stop();
        },
    )?;
    raise(real_time(24).as_raw())?;
    reactor.after(PATIENCE, |_| Ok(reactor::Then::Done)); // something to stop
    reactor.run(&mut ())?;
    assert_eq!(asked.get(), Some(real_time(24)));
    assert_eq!(reactor.len(), 1, "it stays, for the second one");
    Ok(())
}
