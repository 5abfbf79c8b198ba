//! Children whose watch or loop is gone: they run on, and are reaped.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use handlers::child;
use reactor::{ManualClock, Reactor};

use crate::{
    PATIENCE, Result, Seen, is_there, is_watched, note, note_lines, raw_pid, run, sh, spawn,
    turn_until, wait_for, wait_for_end, waiting,
};

#[test]
fn a_child_of_a_removed_watch_runs_on_and_is_reaped_in_the_background() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut waiting("exec cat"))?;
    reactor.remove(child.key.key())?;
    assert!(
        child.key.kill(&mut reactor).is_err(),
        "the key is stale at once"
    );
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?; // returns: nothing in the foreground is left
    assert!(is_watched(&reactor, child.pid));
    assert_eq!(
        rustix::process::test_kill_process(raw_pid(child.pid)),
        Ok(())
    );
    drop((child.stdin, child.stdout));
    let began = Instant::now();
    while is_watched(&reactor, child.pid) {
        assert!(began.elapsed() < PATIENCE);
        reactor.turn(&mut seen, Some(PATIENCE))?;
    }
    assert!(!is_there(child.pid), "no zombie");
    assert!(seen.exits.is_empty(), "no callback is called");
    Ok(())
}

#[test]
fn a_watch_removed_while_its_child_is_ending_still_kills_it_in_time() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut child = spawn(
        &mut reactor,
        &mut waiting("trap '' TERM; echo ready; exec cat"),
    )?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate(&mut reactor, Duration::from_secs(5))?;
    reactor.remove(child.key.key())?;
    reactor.advance(&mut seen, Duration::from_secs(5))?;
    run(&mut reactor, &mut seen)?; // waits for the child and for its output
    assert_eq!(seen.outputs_ended, 1);
    assert!(!is_there(child.pid));
    Ok(())
}

/// Creates and drops loops until nothing is left of a child.
#[track_caller]
fn expect_reaped_by_later_loops(pid: u32) -> Result {
    wait_for_end(pid)?;
    let began = Instant::now();
    while is_there(pid) {
        assert!(began.elapsed() < PATIENCE, "a zombie stays");
        let mut reactor = Reactor::new()?;
        // This loop, or one of another test, takes over the child.
        spawn(&mut reactor, &mut sh("exit 0"))?;
        let mut seen = Seen::default();
        run(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn children_of_a_dropped_reactor_run_on_and_the_next_reactor_reaps_them() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let mut command = waiting("read line; echo $line");
    let child = spawn(&mut reactor, &mut command)?;
    drop(reactor);
    child.stdin.ok_or("stdin")?.write_all(b"alive\n")?;
    let stdout = child.stdout.ok_or("stdout")?;
    wait_for(&stdout)?;
    assert_eq!(io::read_to_string(stdout)?, "alive\n");
    expect_reaped_by_later_loops(child.pid)
}

#[test]
fn a_dropped_reactor_kills_the_children_that_were_being_terminated() -> Result {
    let mut reactor = Reactor::new()?;
    let mut child = spawn(
        &mut reactor,
        &mut waiting("trap '' TERM; echo ready; exec cat"),
    )?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child
        .key
        .terminate(&mut reactor, Duration::from_secs(3600))?;
    drop(reactor);
    expect_reaped_by_later_loops(child.pid) // although its input is open
}

/// Later loops reap it.
#[test]
fn a_child_dropped_with_the_error_of_its_watch_runs_on() -> Result {
    let mut reactor = Reactor::<Seen>::builder().max_registrations(0).build()?;
    let mut child = waiting("exec cat").spawn()?;
    let (pid, stdin) = (child.id(), child.stdin.take());
    let watched = child::watch(&mut reactor, child, note).map_err(io::Error::from);
    assert!(watched.is_err() && is_there(pid));
    drop(stdin); // ends the child
    wait_for_end(pid)?;
    expect_reaped_by_later_loops(pid)
}
