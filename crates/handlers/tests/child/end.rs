//! The end of a child: it is reported once, with its status, for each of many children.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use handlers::child;
use reactor::{Context, Interest, Io, Next, Reactor, Registry};
use rustix::process::{WaitOptions, waitpid};

use crate::{
    PATIENCE, Result, Seen, is_there, is_watched, note, raw_pid, run, sh, spawn, turn_until,
    wait_for_end, waiting,
};

#[test]
fn the_exit_code_or_signal_is_reported_once_and_run_waits_for_it() -> Result {
    let mut reactor = Reactor::new()?;
    let coded = spawn(&mut reactor, &mut sh("exit 7"))?;
    let killed = spawn(&mut reactor, &mut sh("kill -KILL $$"))?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    seen.exits.sort_by_key(|exit| exit.status.code());
    let told: Vec<_> = seen
        .exits
        .iter()
        .map(|exit| (exit.pid, exit.status.code(), exit.status.signal()))
        .collect();
    assert_eq!(
        told,
        [(killed.pid, None, Some(9)), (coded.pid, Some(7), None)]
    );
    assert!(!is_watched(&reactor, coded.pid) && !is_watched(&reactor, killed.pid));
    assert!(
        !is_there(coded.pid) && !is_there(killed.pid),
        "both are reaped"
    );
    Ok(())
}

#[test]
fn a_child_that_ended_before_the_watch_is_still_reported() -> Result {
    let mut reactor = Reactor::new()?;
    let ended = sh("exit 3").spawn()?;
    wait_for_end(ended.id())?;
    child::watch(&mut reactor, ended, note)?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.code(), Some(3));
    Ok(())
}

#[test]
fn the_resource_usage_of_a_child_is_reported() -> Result {
    let mut reactor = Reactor::new()?;
    let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    spawn(&mut reactor, &mut sh(busy))?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    let usage = seen.exits[0].usage;
    assert!(
        usage.user > Duration::from_millis(1) && usage.user < PATIENCE,
        "{usage:?}"
    );
    assert!(
        (100 << 10..1 << 40).contains(&usage.max_rss_bytes),
        "{usage:?}"
    );
    Ok(())
}

#[test]
fn a_child_is_finished_after_any_result_of_its_callback() -> Result {
    for kind in [
        ErrorKind::WouldBlock,
        ErrorKind::Interrupted,
        ErrorKind::Other,
    ] {
        let mut reactor = Reactor::<Seen>::new()?;
        child::spawn(&mut reactor, &mut sh("exit 3"), move |exit, cx| {
            note(exit, cx)?;
            Err(kind.into())
        })?;
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| !seen.exits.is_empty())?;
        assert_eq!(
            (seen.exits.len(), seen.errors.len(), reactor.len()),
            (1, 0, 0),
            "{kind}"
        );
    }
    Ok(())
}

#[test]
fn a_child_in_the_background_keeps_no_loop_alive() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut waiting("exec cat"))?;
    reactor.set_background(child.key.key())?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert!(seen.exits.is_empty());
    drop(child.stdin);
    turn_until(&mut reactor, &mut seen, |seen| seen.exits.len() == 1)
}

#[test]
fn a_child_that_other_code_has_reaped_is_reported_as_an_error() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut sh("exit 0"))?;
    assert!(waitpid(Some(raw_pid(child.pid)), WaitOptions::empty())?.is_some());
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    let said = seen.errors[0].to_string();
    assert!(
        said.contains("(sh)") && said.contains("other code has reaped the child"),
        "{said}"
    );
    assert!(!is_watched(&reactor, child.pid));

    let mut reaped = sh("exit 0").spawn()?;
    reaped.wait()?;
    let refused = child::watch(&mut reactor, reaped, note).expect_err("there is nothing to watch");
    assert!(refused.to_string().contains("child "), "{refused}");
    Ok(())
}

#[test]
fn two_loops_have_children_of_their_own() -> Result {
    let loops: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(|| {
                let mut reactor = Reactor::new().expect("a reactor");
                for code in 0..20 {
                    spawn(&mut reactor, &mut sh(&format!("exit {code}"))).expect("a child");
                }
                let mut seen = Seen::default();
                run(&mut reactor, &mut seen).expect("it runs");
                let mut codes: Vec<_> = seen
                    .exits
                    .iter()
                    .filter_map(|exit| exit.status.code())
                    .collect();
                codes.sort_unstable();
                codes
            })
        })
        .collect();
    for one in loops {
        assert_eq!(one.join().expect("no panic"), (0..20).collect::<Vec<_>>());
    }
    Ok(())
}

const CHILDREN: usize = 1000;
const AT_A_TIME: usize = 50;

/// The state of the flood below: the children that were started, and how they ended.
#[derive(Default)]
struct Flood {
    started: usize,
    wrong: Vec<String>,
    /// Bytes echoed meanwhile.
    echoed: u64,
    pids: Vec<u32>,
}

/// Starts the next child. Its end starts another one.
fn start_next(registry: &mut Registry<Flood>, number: usize) -> io::Result<u32> {
    let script = if number % 10 == 9 {
        "kill -TERM $$".to_owned()
    } else {
        format!("exit {}", number % 200)
    };
    let expected = if number % 10 == 9 {
        (None, Some(15))
    } else {
        (Some((number % 200) as i32), None)
    };
    let child = child::spawn(registry, &mut sh(&script), move |exit, cx| {
        let status = exit?.status;
        if (status.code(), status.signal()) != expected {
            cx.state.wrong.push(format!("{number}: {status}"));
        }
        if cx.state.started < CHILDREN {
            let next = cx.state.started;
            cx.state.started += 1;
            let pid = start_next(cx.registry, next)?;
            cx.state.pids.push(pid);
        }
        Ok(())
    })?;
    Ok(child.pid)
}

/// No zombie is left, and children that other code started are not reaped.
#[test]
fn the_status_of_each_of_a_thousand_children_under_load_is_right() -> Result {
    let mut ended_first = sh("exit 41").spawn()?; // started by other code, which reaps them
    let mut ends_last = waiting("read line; exit 42").spawn()?;
    let mut reactor = Reactor::new()?;
    let (mut one, other) = UnixStream::pair()?;
    one.write_all(b"x")?;
    for end in [one, other] {
        let echo = |stream: &mut Io<UnixStream>, cx: &mut Context<'_, Flood>| {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            cx.state.echoed += 1;
            stream.write_all(&byte)?;
            Ok(Next::Keep)
        };
        let key = reactor.add(end, Interest::READABLE, echo)?;
        reactor.set_background(key)?;
    }
    let mut flood = Flood::default();
    for number in 0..AT_A_TIME {
        flood.started += 1;
        let pid = start_next(&mut reactor, number)?;
        flood.pids.push(pid);
    }
    run(&mut reactor, &mut flood)?;
    assert_eq!((flood.started, flood.pids.len()), (CHILDREN, CHILDREN));
    assert_eq!(flood.wrong, [""; 0]);
    assert!(
        flood.echoed + 1 >= reactor.metrics().turns,
        "{} echoes: neighbours are served each turn",
        flood.echoed
    );
    assert_eq!(children_in_state_z(&flood.pids), [0; 0]);
    assert_eq!(ended_first.wait()?.code(), Some(41));
    assert_eq!(ends_last.try_wait()?, None);
    drop(ends_last.stdin.take());
    assert_eq!(ends_last.wait()?.code(), Some(42));
    Ok(())
}

/// Returns the `pids` that are zombies of this process.
fn children_in_state_z(pids: &[u32]) -> Vec<u32> {
    let is_zombie = |pid: &u32| {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return false;
        };
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' '); // after the name
        let (state, parent) = (fields.next(), fields.next());
        state == Some("Z") && parent.and_then(|pid| pid.parse().ok()) == Some(std::process::id())
    };
    pids.iter().copied().filter(is_zombie).collect()
}
