//! Children terminated and signalled through their keys: with grace and without, alone and with
//! their group.

use std::io::{ErrorKind, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::Duration;

use handlers::child::{self, Spawned};
use handlers::signal::Signal;
use reactor::{Error, ManualClock, Reactor};

use crate::{Result, Seen, note_lines, run, sh, spawn, turn_until, wait_for_end, waiting};

#[test]
fn a_child_that_ignores_sigterm_is_killed_after_its_grace_and_not_before() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut child = spawn(
        &mut reactor,
        &mut waiting("trap '' TERM; echo ready; exec cat"),
    )?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate(&mut reactor, Duration::from_secs(5))?;
    // The earlier of two deadlines counts.
    child
        .key
        .terminate(&mut reactor, Duration::from_secs(3600))?;
    reactor.advance(&mut seen, Duration::from_millis(4999))?;
    child.stdin.as_ref().ok_or("stdin")?.write_all(b"alive\n")?;
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.lines == ["ready", "alive"]
    })?;
    assert!(seen.exits.is_empty());
    reactor.advance(&mut seen, Duration::from_millis(1))?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.exits.is_empty())?;
    assert_eq!(seen.exits[0].status.signal(), Some(9));
    Ok(())
}

#[test]
fn a_child_that_heeds_sigterm_is_not_killed() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let mut child = spawn(
        &mut reactor,
        &mut waiting("trap 'exit 5' TERM; echo ready; read line"),
    )?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    // A jumping clock would skip any other grace at once.
    child.key.terminate(&mut reactor, Duration::MAX)?;
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.code(), Some(5));
    Ok(())
}

/// It is an error once the end has been reported.
#[test]
fn ending_a_child_that_has_ended_does_nothing() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut sh("exit 4"))?;
    wait_for_end(child.pid)?;
    child.key.terminate(&mut reactor, Duration::ZERO)?;
    child.key.kill(&mut reactor)?;
    assert_eq!(child.key.pid(&mut reactor)?, child.pid);
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.code(), Some(4));
    let late = child
        .key
        .terminate(&mut reactor, Duration::ZERO)
        .expect_err("its end has been told");
    assert!(
        matches!(late, Error::StaleKey(key) if key == child.key.key()),
        "{late}"
    );
    assert_eq!(child.key.to_string(), child.key.key().to_string());
    Ok(())
}

#[test]
fn a_child_is_out_of_reach_from_within_the_callback_of_its_end() -> Result {
    let mut reactor = Reactor::<Option<ErrorKind>>::new()?;
    let key = std::rc::Rc::new(std::cell::Cell::new(None));
    let told = std::rc::Rc::clone(&key);
    let child = child::spawn(&mut reactor, &mut sh("exit 0"), move |_exit, cx| {
        let key: child::ChildKey = told.get().expect("it is set before the loop runs");
        *cx.state = key.kill(cx.registry).err().map(|error| error.kind());
        Ok(())
    })?;
    key.set(Some(child.key));
    let mut refused = None;
    run(&mut reactor, &mut refused)?;
    assert_eq!(refused, Some(ErrorKind::NotFound));
    Ok(())
}

#[test]
fn a_signal_without_a_name_is_refused_and_one_with_a_name_is_sent() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut waiting("exec cat"))?;
    for signal in [
        Signal::from_raw(0),
        Signal::from_raw(99),
        Signal::real_time(1).ok_or("there are 30")?,
    ] {
        let refused = child
            .key
            .signal(&mut reactor, signal)
            .expect_err("no safe way to send it");
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
        assert!(
            refused
                .to_string()
                .contains(&format!("child {}", child.pid)),
            "{refused}"
        );
    }
    child.key.signal(&mut reactor, Signal::HUP)?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.signal(), Some(1));
    Ok(())
}

/// Starts a group whose leader ignores `SIGTERM`, with another process that reads the input. Waits
/// until it is ready.
fn stubborn_group(reactor: &mut Reactor<Seen>) -> Result<(Spawned, Seen)> {
    let mut command = waiting("trap '' TERM; exec 3<&0; cat <&3 & echo ready; wait");
    let mut child = spawn(reactor, command.process_group(0))?;
    note_lines(reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    Ok((child, seen))
}

#[test]
fn a_whole_group_is_killed_with_its_leader() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (child, mut seen) = stubborn_group(&mut reactor)?;
    child
        .key
        .terminate_group(&mut reactor, Duration::from_secs(1))?;
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    // The output ends with the last process that can write to it, while the input of all is open.
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.outputs_ended == 1 && seen.exits.len() == 1
    })?;
    assert_eq!(seen.exits[0].status.signal(), Some(9));
    Ok(())
}

#[test]
fn a_group_is_killed_in_time_also_if_its_leader_alone_is_terminated_later() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (child, mut seen) = stubborn_group(&mut reactor)?;
    child
        .key
        .terminate_group(&mut reactor, Duration::from_secs(1))?;
    child.key.terminate(&mut reactor, Duration::from_secs(2))?;
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.outputs_ended == 1 && seen.exits.len() == 1
    })?;
    Ok(())
}

#[test]
fn a_child_that_leads_no_group_is_not_taken_for_one_that_does() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut waiting("exec cat"))?;
    let refused = child
        .key
        .terminate_group(&mut reactor, Duration::ZERO)
        .expect_err("it is in our group");
    assert!(
        matches!(refused, Error::Call { call: "kill", .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("process_group(0)"),
        "{refused}"
    );
    drop(child.stdin);
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert!(
        seen.exits[0].status.success(),
        "no escalation is left of it"
    );
    Ok(())
}
