//! The end of a child and of its group: which processes are terminated, how often, and which
//! remain.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use handlers::child::{self, RestartPolicy, Spawned, SupervisorEvent};
use handlers::signal::Signal;
use reactor::{ManualClock, Reactor};
use support::DescriptorLimit;

use crate::{
    PATIENCE, Result, Seen, is_there, note_lines, run, spawn, turn_until, wait_for_end, waiting,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A child that leads a group.
fn leader(script: &str) -> Command {
    let mut command = waiting(script);
    command.process_group(0);
    command
}

/// Waits for a line from fd 3, and prints `$1` at it. The line is read by another process: a shell
/// that reads it by itself may overlook a signal until the line has come, and `wait` does not. The
/// reader has ignored the signal by then, since a shell loses a signal that comes as it forks.
const LINE: &str = "line() { (trap \"\" TERM; printf \"$1\"; exec head -n1 <&3 >/dev/null) & p=$!; \
    while wait $p; [ $? -gt 128 ]; do :; done; }; ";

/// Prints `term` at each `SIGTERM`, and goes on until it reads a line.
fn counting() -> Command {
    leader(&format!(
        "exec 3<&0; {LINE} trap 'echo term' TERM; line 'ready\\n'; echo done"
    ))
}

/// Like `counting`, with another process that reads from the input first.
fn two_counting() -> Command {
    let other =
        format!("{LINE} trap \"echo term of other\" TERM; line \"ready\\n\"; echo other is done");
    leader(&format!(
        "exec 3<&0; {LINE} trap 'echo term' TERM; sh -c '{other}' & \
         while wait $!; [ $? -gt 128 ]; do :; done; echo alone; line; echo done"
    ))
}

fn count(seen: &Seen, line: &str) -> usize {
    seen.lines.iter().filter(|said| *said == line).count()
}

fn say_line(child: &Spawned) -> Result {
    Ok(child.stdin.as_ref().ok_or("stdin")?.write_all(b"\n")?)
}

/// Starts the child, and waits until it is ready.
fn start(reactor: &mut Reactor<Seen>, seen: &mut Seen, mut command: Command) -> Result<Spawned> {
    let mut child = spawn(reactor, &mut command)?;
    note_lines(reactor, &mut child)?;
    turn_until(reactor, seen, |seen| count(seen, "ready") == 1)?;
    Ok(child)
}

#[test]
fn a_child_that_is_terminated_in_several_ways_gets_one_sigterm() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let child = start(&mut reactor, &mut seen, counting())?;
    for _ in 0..2 {
        child.key.terminate_group(&mut reactor, HOUR)?;
        child.key.terminate(&mut reactor, HOUR)?;
        turn_until(&mut reactor, &mut seen, |seen| count(seen, "term") >= 1)?;
    }
    say_line(&child)?; // the shell takes a signal sent earlier before the line
    turn_until(&mut reactor, &mut seen, |seen| {
        !seen.exits.is_empty() && seen.outputs_ended == 1
    })?;
    assert_eq!(seen.lines, ["ready", "term", "done"]);
    Ok(())
}

#[test]
fn a_stopped_supervisor_sends_no_second_sigterm_to_its_group() -> Result {
    let mut reactor = Reactor::<Seen>::builder()
        .clock(ManualClock::new())
        .build()?;
    let key = child::supervise(
        &mut reactor,
        RestartPolicy::always(),
        || Ok(counting()),
        |news, cx| {
            match news {
                SupervisorEvent::Started(child) => cx.state.children.push(child),
                SupervisorEvent::Exited { restart_in, .. } => {
                    cx.state.news.push(format!("{restart_in:?}"))
                }
                other => cx.state.news.push(format!("{other:?}")),
            }
            Ok(())
        },
    );
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.children.is_empty())?;
    let mut child = seen.children.remove(0);
    note_lines(&mut reactor, &mut child)?;
    turn_until(&mut reactor, &mut seen, |seen| count(seen, "ready") == 1)?;
    child.key.terminate_group(&mut reactor, HOUR)?;
    turn_until(&mut reactor, &mut seen, |seen| count(seen, "term") == 1)?;
    key.stop(&mut reactor, HOUR)?;
    key.stop(&mut reactor, HOUR)?;
    say_line(&child)?;
    turn_until(&mut reactor, &mut seen, |seen| {
        !seen.news.is_empty() && seen.outputs_ended == 1
    })?;
    assert_eq!(
        (seen.lines, seen.news),
        (
            ["ready", "term", "done"].map(str::to_owned).to_vec(),
            vec!["None".into()]
        )
    );
    Ok(())
}

#[test]
fn terminating_the_group_later_leaves_out_a_child_terminated_alone() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let child = start(&mut reactor, &mut seen, two_counting())?;
    child.key.terminate(&mut reactor, HOUR)?;
    turn_until(&mut reactor, &mut seen, |seen| count(seen, "term") >= 1)?;
    assert_eq!(count(&seen, "term of other"), 0);
    for _ in 0..2 {
        child.key.terminate_group(&mut reactor, HOUR)?;
        turn_until(&mut reactor, &mut seen, |seen| {
            count(seen, "term of other") >= 1
        })?;
    }
    say_line(&child)?;
    turn_until(&mut reactor, &mut seen, |seen| count(seen, "alone") == 1)?;
    say_line(&child)?;
    turn_until(&mut reactor, &mut seen, |seen| {
        !seen.exits.is_empty() && seen.outputs_ended == 1
    })?;
    assert_eq!(
        seen.lines,
        [
            "ready",
            "term",
            "term of other",
            "other is done",
            "alone",
            "done"
        ]
    );
    Ok(())
}

#[test]
fn a_stopped_child_gets_its_sigterm() -> Result {
    for group in [false, true] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let mut seen = Seen::default();
        let child = start(
            &mut reactor,
            &mut seen,
            leader("trap 'exit 5' TERM; exec 3<&0; sh -c 'echo ready; exec cat <&3' & wait"),
        )?;
        child.key.signal(&mut reactor, Signal::STOP)?;
        if group {
            child.key.terminate_group(&mut reactor, HOUR)?;
        } else {
            child.key.terminate(&mut reactor, HOUR)?;
        }
        turn_until(&mut reactor, &mut seen, |seen| !seen.exits.is_empty())?;
        assert_eq!(seen.exits[0].status.code(), Some(5), "group: {group}");
    }
    Ok(())
}

/// The leader of the group ends at once, another process ends as `other` says. Both share the
/// pipes.
fn ends_before_its_group(other: &str) -> Command {
    leader(&format!(
        "exec 3<&0; trap 'exit 0' TERM; {LINE} sh -c '{LINE} {other}' & wait"
    ))
}

const IGNORES: &str = "trap \"\" TERM; echo ready; exec cat <&3";

#[test]
fn the_rest_of_a_group_is_killed_when_the_grace_is_over() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let child = start(&mut reactor, &mut seen, ends_before_its_group(IGNORES))?;
    child
        .key
        .terminate_group(&mut reactor, Duration::from_secs(1))?;
    wait_for_end(child.pid)?;
    for _ in 0..10 {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
    }
    assert_eq!(
        (seen.exits.len(), seen.outputs_ended),
        (0, 0),
        "the number of the group is kept"
    );
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.outputs_ended == 1 && seen.exits.len() == 1
    })?;
    assert!(seen.exits[0].status.success());
    assert!(!is_there(child.pid), "it is no zombie");
    Ok(())
}

#[test]
fn a_group_that_outlives_its_leader_may_end_within_its_grace() -> Result {
    let gently =
        "trap \"line; echo gently; exit\" TERM; sh -c \"echo ready; exec sleep 1000\" & wait";
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let child = start(&mut reactor, &mut seen, ends_before_its_group(gently))?;
    child.key.terminate_group(&mut reactor, HOUR)?;
    wait_for_end(child.pid)?;
    for _ in 0..10 {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
    }
    assert!(seen.exits.is_empty());
    say_line(&child)?;
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.outputs_ended == 1 && seen.exits.len() == 1
    })?;
    assert_eq!(seen.lines, ["ready", "gently"]);
    run(&mut reactor, &mut seen)?; // nothing is left that keeps the loop alive
    Ok(())
}

const WITHOUT_DESCRIPTORS: &str = "HANDLERS_CHILD_WITHOUT_DESCRIPTORS";

#[test]
fn without_a_free_descriptor_the_rest_of_a_group_has_its_grace() -> Result {
    if let Ok(free) = std::env::var(WITHOUT_DESCRIPTORS) {
        return lack_descriptors_within_the_grace(free.parse()?);
    }
    for free in ["0", "1"] {
        // A limit holds for all threads, so that the test runs in a process of its own.
        let output = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "group::without_a_free_descriptor_the_rest_of_a_group_has_its_grace",
            ])
            .env(WITHOUT_DESCRIPTORS, free)
            .output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{free} free: {told}");
    }
    Ok(())
}

fn lack_descriptors_within_the_grace(free: usize) -> Result {
    lack_descriptors(free, |reactor, seen, child, limit| {
        drop(limit);
        assert!(seen.exits.is_empty());
        reactor.advance(seen, Duration::from_secs(2))?; // beyond the pause of the watch
        say_line(child)
    })?;
    // The grace ends before there is a descriptor again.
    lack_descriptors(free, |reactor, seen, _child, limit| {
        reactor.advance(seen, HOUR)?;
        turn_until(reactor, seen, |seen| seen.exits.len() == 1)?;
        drop(limit);
        Ok(())
    })
}

type Meanwhile = fn(&mut Reactor<Seen>, &mut Seen, &Spawned, DescriptorLimit) -> Result;

fn lack_descriptors(free: usize, meanwhile: Meanwhile) -> Result {
    let gently = "trap \"line; exit\" TERM; sh -c \"echo ready; exec sleep 1000\" & wait";
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let child = start(&mut reactor, &mut seen, ends_before_its_group(gently))?;
    child.key.terminate_group(&mut reactor, HOUR)?;
    wait_for_end(child.pid)?;
    let limit = DescriptorLimit::leaving(free)?;
    for _ in 0..20 {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
    }
    meanwhile(&mut reactor, &mut seen, &child, limit)?;
    turn_until(&mut reactor, &mut seen, |seen| {
        seen.outputs_ended == 1 && seen.exits.len() == 1
    })?;
    run(&mut reactor, &mut seen)
}

#[test]
fn the_rest_of_a_group_is_killed_also_if_its_watch_is_removed() -> Result {
    for drop_reactor in [false, true] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let mut seen = Seen::default();
        let child = start(&mut reactor, &mut seen, ends_before_its_group(IGNORES))?;
        child
            .key
            .terminate_group(&mut reactor, Duration::from_secs(1))?;
        wait_for_end(child.pid)?;
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
        let other = processes_of_group(child.pid)?;
        assert!(!other.is_empty());
        if drop_reactor {
            drop(reactor);
        } else {
            reactor.remove(child.key.key())?;
            reactor.advance(&mut seen, Duration::from_secs(1))?;
            turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1)?;
            run(&mut reactor, &mut seen)?;
        }
        let began = Instant::now();
        while !processes_of_group(child.pid)?.is_empty() {
            assert!(began.elapsed() < PATIENCE, "{other:?} is left");
            std::thread::yield_now();
        }
    }
    Ok(())
}

#[test]
fn a_group_whose_leader_ends_by_itself_is_left_alone() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let child = start(
        &mut reactor,
        &mut seen,
        leader("exec 3<&0; sh -c 'echo ready; exec cat' <&3 & exit 0"),
    )?;
    turn_until(&mut reactor, &mut seen, |seen| seen.exits.len() == 1)?;
    child.stdin.as_ref().ok_or("stdin")?.write_all(b"alive\n")?;
    turn_until(&mut reactor, &mut seen, |seen| count(seen, "alive") == 1)?;
    drop(child.stdin);
    run(&mut reactor, &mut seen)
}

/// Returns the running processes of the group, from `/proc`.
fn processes_of_group(group: u32) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        let Ok(stat) = std::fs::read_to_string(path) else {
            continue;
        };
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        if fields.get(2).is_some_and(|of| *of == group.to_string()) && fields[0] != "Z" {
            found.push(stat);
        }
    }
    Ok(found)
}
