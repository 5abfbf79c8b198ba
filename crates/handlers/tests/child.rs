//! Real children: what they are told, what they get, and what is left of them.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use handlers::child::{self, Exit, News, Output, RestartPolicy, Spawned};
use handlers::signal::{self, Signal};
use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, on_data, open};
use reactor::{Context, Interest, Io, ManualClock, Next, Reactor, Registry};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the callbacks of a test note.
#[derive(Debug, Default)]
struct Seen {
    exits: Vec<Exit>,
    errors: Vec<io::Error>,
    lines: Vec<String>,
    outputs_ended: usize,
    news: Vec<String>,
    /// The children that a supervisor has started, with their pipes.
    children: Vec<Spawned>,
}

const PATIENCE: Duration = Duration::from_secs(20);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

/// A child that runs until its input ends, and says so when it does.
fn waiting(script: &str) -> Command {
    let mut command = sh(script);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn note(exit: io::Result<Exit>, cx: &mut Context<'_, Seen>) -> io::Result<()> {
    match exit {
        Ok(exit) => cx.state.exits.push(exit),
        Err(error) => cx.state.errors.push(error),
    }
    Ok(())
}

fn spawn(registry: &mut Registry<Seen>, command: &mut Command) -> io::Result<Spawned> {
    child::spawn(registry, command, note)
}

/// Notes what a child writes.
fn note_lines(registry: &mut Registry<Seen>, child: &mut Spawned) -> Result {
    let stdout = child.stdout.take().ok_or("its output is no pipe")?;
    child::lines(registry, stdout, 4096, |output, cx| {
        match output {
            Output::Line(line) => cx.state.lines.push(String::from_utf8_lossy(line).into_owned()),
            _ => cx.state.outputs_ended += 1,
        }
        Ok(())
    })?;
    Ok(())
}

/// Turns until `done`.
#[track_caller]
fn turn_until(reactor: &mut Reactor<Seen>, seen: &mut Seen, done: impl Fn(&Seen) -> bool) -> Result {
    let began = Instant::now();
    while !done(seen) {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {seen:?}");
        reactor.turn(seen, Some(Duration::from_millis(100)))?;
    }
    Ok(())
}

fn raw_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("it is not 0")
}

/// Runs the loop to its end, which is not left to hang if it does not come.
fn run<S: 'static>(reactor: &mut Reactor<S>, state: &mut S) -> Result {
    let remote = reactor.remote()?;
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        late && remote.stop().is_ok()
    });
    reactor.run(state)?;
    drop(ended);
    if watchdog.join().expect("it does not panic") {
        return Err(format!("it runs for {PATIENCE:?}: {reactor:?}").into());
    }
    Ok(())
}

/// Waits until `fd` is readable or hung up.
fn wait_for(fd: impl AsFd) -> Result {
    let patience = Timespec::try_from(PATIENCE)?;
    // A child of another test ends meanwhile, and one test watches SIGCHLD: poll(2) is not restarted after a signal.
    match retry_on_intr(|| poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)))? {
        0 => Err(format!("not within {PATIENCE:?}").into()),
        _ => Ok(()),
    }
}

/// Waits until a child has ended, and leaves it to be reaped.
fn wait_for_end(pid: u32) -> Result {
    match pidfd_open(raw_pid(pid), PidfdFlags::empty()) {
        Ok(pidfd) => wait_for(pidfd),
        Err(rustix::io::Errno::SRCH) => Ok(()), // and it has been reaped
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a loop watches a child. (It may have taken in children that other tests have left.)
fn is_watched<S>(reactor: &Reactor<S>, pid: u32) -> bool {
    let label = format!("child {pid} ");
    reactor.registrations().any(|registration| format!("{} ", registration.name).starts_with(&label))
}

/// Whether anything is left of a process, be it a zombie.
fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn the_exit_code_or_the_signal_is_told_once_and_run_waits_for_it() -> Result {
    let mut reactor = Reactor::new()?;
    let coded = spawn(&mut reactor, &mut sh("exit 7"))?;
    let killed = spawn(&mut reactor, &mut sh("kill -KILL $$"))?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    seen.exits.sort_by_key(|exit| exit.status.code());
    let told: Vec<_> = seen.exits.iter().map(|exit| (exit.pid, exit.status.code(), exit.status.signal())).collect();
    assert_eq!(told, [(killed.pid, None, Some(9)), (coded.pid, Some(7), None)]);
    assert!(!is_watched(&reactor, coded.pid) && !is_watched(&reactor, killed.pid));
    assert!(!is_there(coded.pid) && !is_there(killed.pid), "both are reaped");
    Ok(())
}

#[test]
fn a_child_that_has_ended_before_the_watch_is_told_all_the_same() -> Result {
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
fn what_a_child_took_is_told() -> Result {
    let mut reactor = Reactor::new()?;
    let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    spawn(&mut reactor, &mut sh(busy))?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    let usage = seen.exits[0].usage;
    assert!(usage.user > Duration::from_millis(1) && usage.user < PATIENCE, "{usage:?}");
    assert!((100 << 10..1 << 40).contains(&usage.rss_max_bytes), "{usage:?}");
    Ok(())
}

#[test]
fn a_megabyte_goes_through_a_child_and_back() -> Result {
    const LENGTH: usize = 1 << 20;
    let mut reactor = Reactor::<Vec<u8>>::new()?;
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let cat = child::spawn(&mut reactor, &mut command, |exit, _cx| {
        assert!(exit?.status.success());
        Ok(())
    })?;
    let sent: Vec<u8> = (0..LENGTH).map(|i| (i % 251) as u8).collect();
    open(&mut reactor, cat.stdin.ok_or("stdin")?, &ConnectionOptions::new(), Feed(sent.clone()))?;
    let keep = on_data(|data, _connection, cx: &mut Context<'_, Vec<u8>>| {
        cx.state.extend(data);
        Ok(data.len())
    });
    open(&mut reactor, cat.stdout.ok_or("stdout")?, &ConnectionOptions::new(), keep)?;
    let mut received = Vec::new();
    run(&mut reactor, &mut received)?;
    assert!(received == sent, "{} bytes came back", received.len());
    Ok(())
}

/// Writes all at once, and ends when it is sent.
struct Feed(Vec<u8>);

impl<S> ConnectionHandler<S> for Feed {
    fn on_open(&mut self, connection: &mut Connection<'_, S>, _cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = connection.write(&self.0)?;
        connection.shutdown();
        Ok(())
    }

    fn on_data(&mut self, _: &[u8], _: &mut Connection<'_, S>, _: &mut Context<'_, S>) -> io::Result<usize> {
        Ok(0)
    }
}

#[test]
fn the_lines_of_a_child_are_told_to_the_last_and_then_its_end() -> Result {
    let mut reactor = Reactor::new()?;
    let mut child = spawn(&mut reactor, sh("echo one; echo; printf two").stdout(Stdio::piped()))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!((seen.lines, seen.outputs_ended, seen.exits.len()), (vec!["one".into(), "".into(), "two".into()], 1, 1));
    Ok(())
}

#[test]
fn a_line_beyond_the_limit_ends_the_output_and_says_why() -> Result {
    let mut reactor = Reactor::<Vec<String>>::new()?;
    let mut command = sh("echo four; echo fives; echo more");
    let child = child::spawn(&mut reactor, command.stdout(Stdio::piped()), |_exit, _cx| Ok(()))?;
    child::lines(&mut reactor, child.stdout.ok_or("stdout")?, 4, |output, cx: &mut Context<'_, Vec<String>>| {
        cx.state.push(match output {
            Output::Line(line) => String::from_utf8_lossy(line).into_owned(),
            Output::Ended(CloseReason::Failed(error)) => error.to_string(),
            other => format!("{other:?}"),
        });
        Ok(())
    })?;
    let mut said = Vec::new();
    run(&mut reactor, &mut said)?;
    assert_eq!(said, ["four", "a line is longer than 4 bytes"]);
    Ok(())
}

#[test]
fn a_callback_of_lines_that_would_block_is_told_each_line_once_and_the_end() -> Result {
    for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
        let mut reactor = Reactor::<Seen>::new()?;
        let (mut writer, reader) = UnixStream::pair()?;
        child::lines(&mut reactor, reader, 4096, move |output, cx: &mut Context<'_, Seen>| {
            match output {
                Output::Line(line) => cx.state.lines.push(String::from_utf8_lossy(line).into_owned()),
                _ => cx.state.outputs_ended += 1,
            }
            Err(kind.into())
        })?;
        writer.write_all(b"one\ntwo\nlast")?;
        drop(writer);
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1 || seen.lines.len() > 3)?;
        assert_eq!((seen.lines, reactor.len()), (["one", "two", "last"].map(str::to_owned).to_vec(), 0), "{kind}");
    }
    Ok(())
}

#[test]
fn a_reader_of_lines_that_is_removed_in_its_callback_is_told_no_more_of_what_has_come() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (mut writer, reader) = UnixStream::pair()?;
    child::lines(&mut reactor, reader, 4096, |output, cx: &mut Context<'_, Seen>| {
        match output {
            Output::Line(line) => {
                cx.state.lines.push(String::from_utf8_lossy(line).into_owned());
                let _ = cx.registry.remove(cx.key());
            }
            _ => cx.state.outputs_ended += 1,
        }
        Ok(())
    })?;
    writer.write_all(b"one\ntwo\nlast")?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1)?;
    assert_eq!((seen.lines, reactor.len()), (vec!["one".to_owned()], 0));
    Ok(())
}

#[test]
fn a_child_is_done_with_whatever_its_callback_returns() -> Result {
    for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::Other] {
        let mut reactor = Reactor::<Seen>::new()?;
        child::spawn(&mut reactor, &mut sh("exit 3"), move |exit, cx| {
            note(exit, cx)?;
            Err(kind.into())
        })?;
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| !seen.exits.is_empty())?;
        assert_eq!((seen.exits.len(), seen.errors.len(), reactor.len()), (1, 0, 0), "{kind}");
    }
    Ok(())
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_when_its_grace_is_over_and_not_before() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut child = spawn(&mut reactor, &mut waiting("trap '' TERM; echo ready; exec cat"))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate(&mut reactor, Duration::from_secs(5))?;
    child.key.terminate(&mut reactor, Duration::from_secs(3600))?; // of two the earlier counts
    reactor.advance(&mut seen, Duration::from_millis(4999))?;
    child.stdin.as_ref().ok_or("stdin")?.write_all(b"alive\n")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready", "alive"])?;
    assert!(seen.exits.is_empty());
    reactor.advance(&mut seen, Duration::from_millis(1))?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.exits.is_empty())?;
    assert_eq!(seen.exits[0].status.signal(), Some(9));
    Ok(())
}

#[test]
fn a_child_that_heeds_sigterm_is_not_killed() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let mut child = spawn(&mut reactor, &mut waiting("trap 'exit 5' TERM; echo ready; read line"))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate(&mut reactor, Duration::MAX)?; // a jumping clock leaves no other grace any time
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.code(), Some(5));
    Ok(())
}

#[test]
fn to_end_a_child_that_has_ended_does_nothing_and_is_an_error_once_that_is_told() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut sh("exit 4"))?;
    wait_for_end(child.pid)?;
    child.key.terminate(&mut reactor, Duration::ZERO)?;
    child.key.kill(&mut reactor)?;
    assert_eq!(child.key.pid(&mut reactor)?, child.pid);
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.code(), Some(4));
    let late = child.key.terminate(&mut reactor, Duration::ZERO).expect_err("its end has been told");
    assert_eq!(late.kind(), ErrorKind::NotFound);
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
    for signal in [Signal::from_raw(0), Signal::from_raw(99), Signal::real_time(1).ok_or("there are 30")?] {
        let refused = child.key.signal(&mut reactor, signal).expect_err("no safe way to send it");
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    }
    child.key.signal(&mut reactor, Signal::HUP)?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.exits[0].status.signal(), Some(1));
    Ok(())
}

#[test]
fn a_whole_group_is_killed_with_its_leader() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut command = waiting("trap '' TERM; exec 3<&0; cat <&3 & echo ready; wait");
    let mut child = spawn(&mut reactor, command.process_group(0))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate_group(&mut reactor, Duration::from_secs(1))?;
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    // The output ends with the last who can write to it, while the input of all is open.
    turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1 && seen.exits.len() == 1)?;
    assert_eq!(seen.exits[0].status.signal(), Some(9));
    Ok(())
}

#[test]
fn a_group_that_is_to_be_killed_is_killed_also_where_its_leader_is_asked_once_more() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut command = waiting("trap '' TERM; exec 3<&0; cat <&3 & echo ready; wait");
    let mut child = spawn(&mut reactor, command.process_group(0))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate_group(&mut reactor, Duration::from_secs(1))?;
    child.key.terminate(&mut reactor, Duration::from_secs(2))?;
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1 && seen.exits.len() == 1)?;
    Ok(())
}

#[test]
fn a_child_that_leads_no_group_is_not_taken_for_one_that_does() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut waiting("exec cat"))?;
    let refused = child.key.terminate_group(&mut reactor, Duration::ZERO).expect_err("it is in our group");
    assert!(refused.to_string().contains("process_group(0)"), "{refused}");
    drop(child.stdin);
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert!(seen.exits[0].status.success(), "no escalation is left of it");
    Ok(())
}

const CHILDREN: usize = 1000;
const AT_A_TIME: usize = 50;

/// The state of the flood below: what was started and how it ended.
#[derive(Default)]
struct Flood {
    started: usize,
    wrong: Vec<String>,
    /// Bytes that went to and fro meanwhile.
    echoed: u64,
    pids: Vec<u32>,
}

/// Starts the next child, whose end starts another one.
fn start_next(registry: &mut Registry<Flood>, number: usize) -> io::Result<u32> {
    let script = if number % 10 == 9 { "kill -TERM $$".to_owned() } else { format!("exit {}", number % 200) };
    let expected = if number % 10 == 9 { (None, Some(15)) } else { (Some((number % 200) as i32), None) };
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

#[test]
fn of_a_thousand_children_under_load_every_status_is_right_no_zombie_is_left_and_others_are_not_reaped() -> Result {
    let mut ended_first = sh("exit 41").spawn()?; // by others, and theirs to reap
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
    assert!(flood.echoed + 1 >= reactor.metrics().turns, "{} echoes: neighbours are served each turn", flood.echoed);
    assert_eq!(children_in_state_z(&flood.pids), [0; 0]);
    assert_eq!(ended_first.wait()?.code(), Some(41));
    assert_eq!(ends_last.try_wait()?, None);
    drop(ends_last.stdin.take());
    assert_eq!(ends_last.wait()?.code(), Some(42));
    Ok(())
}

/// Those of `pids` that are zombies of this process.
fn children_in_state_z(pids: &[u32]) -> Vec<u32> {
    let is_zombie = |pid: &u32| {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' '); // behind the name
        let (state, parent) = (fields.next(), fields.next());
        state == Some("Z") && parent.and_then(|pid| pid.parse().ok()) == Some(std::process::id())
    };
    pids.iter().copied().filter(is_zombie).collect()
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
                let mut codes: Vec<_> = seen.exits.iter().filter_map(|exit| exit.status.code()).collect();
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

/// The value of a line of `/proc/pid/status`.
fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).expect("every status has it").trim()
}

#[test]
fn a_child_gets_the_default_mask_and_dispositions_and_none_of_our_descriptors_while_signals_are_watched() -> Result {
    let by_others = sh("ls /proc/self/fd").output()?; // what this process itself was given
    let before = std::fs::read_to_string("/proc/thread-self/status")?;
    let mut reactor = Reactor::new()?;
    reactor.remote()?;
    let signals = [Signal::HUP, Signal::USR1, Signal::CHLD, Signal::real_time(3).ok_or("there are 30")?];
    signal::watch(&mut reactor, signals, |_, _| Ok(Next::Keep))?;
    let other = spawn(&mut reactor, &mut waiting("exec cat"))?;

    let script = "ls /proc/self/fd; echo --; cat /proc/self/fdinfo/0 /proc/self/fdinfo/1; exec cat /proc/self/status";
    let mut child = spawn(&mut reactor, &mut waiting(script))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1)?;
    drop((child.stdin, other.stdin));
    run(&mut reactor, &mut seen)?;

    let said = seen.lines.join("\n");
    let (descriptors, rest) = said.split_once("\n--\n").ok_or("no --")?;
    assert_eq!(descriptors, String::from_utf8(by_others.stdout)?.trim_end());
    let modes: Vec<_> = rest.lines().filter_map(|line| line.strip_prefix("flags:")).collect();
    let non_blocking =
        |mode: &&str| u32::from_str_radix(mode.trim(), 8).is_ok_and(|mode| mode & libc::O_NONBLOCK as u32 != 0);
    assert_eq!((modes.len(), modes.iter().find(|mode| non_blocking(mode))), (2, None), "its ends block");
    assert_eq!(["SigBlk:", "SigCgt:"].map(|name| status_line(rest, name)), ["0000000000000000"; 2]);
    let ignored = |status| u64::from_str_radix(status_line(status, "SigIgn:"), 16);
    let (sigpipe, of_the_c_library) = (1 << 12, 0b11 << 31); // two that its posix_spawn ignores, to be caught by nobody
    assert_eq!(ignored(rest)? & !of_the_c_library, ignored(&before)? & !sigpipe & !of_the_c_library);
    Ok(())
}

#[test]
fn a_removed_watch_lets_its_child_go_on_and_reaps_it_in_the_background() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut waiting("exec cat"))?;
    reactor.remove(child.key.key())?;
    assert!(child.key.kill(&mut reactor).is_err(), "the key is stale at once");
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?; // returns: nothing in the foreground is left
    assert!(is_watched(&reactor, child.pid));
    assert_eq!(rustix::process::test_kill_process(raw_pid(child.pid)), Ok(()));
    drop((child.stdin, child.stdout));
    let began = Instant::now();
    while is_watched(&reactor, child.pid) {
        assert!(began.elapsed() < PATIENCE);
        reactor.turn(&mut seen, Some(PATIENCE))?;
    }
    assert!(!is_there(child.pid), "no zombie");
    assert!(seen.exits.is_empty(), "nobody is told");
    Ok(())
}

#[test]
fn a_watch_that_is_removed_while_its_child_is_ending_still_kills_it_in_time() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut child = spawn(&mut reactor, &mut waiting("trap '' TERM; echo ready; exec cat"))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate(&mut reactor, Duration::from_secs(5))?;
    reactor.remove(child.key.key())?;
    reactor.advance(&mut seen, Duration::from_secs(5))?;
    run(&mut reactor, &mut seen)?; // waits for it, and for its output
    assert_eq!(seen.outputs_ended, 1);
    assert!(!is_there(child.pid));
    Ok(())
}

/// Lets loops come and go until nothing is left of a child.
#[track_caller]
fn expect_reaped_by_later_loops(pid: u32) -> Result {
    wait_for_end(pid)?;
    let began = Instant::now();
    while is_there(pid) {
        assert!(began.elapsed() < PATIENCE, "a zombie stays");
        let mut reactor = Reactor::new()?;
        spawn(&mut reactor, &mut sh("exit 0"))?; // it, or that of another test, takes in what was left
        let mut seen = Seen::default();
        run(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn a_reactor_that_is_dropped_leaves_its_children_running_and_the_next_reaps_them() -> Result {
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
fn a_reactor_that_is_dropped_kills_the_children_that_it_was_to_kill() -> Result {
    let mut reactor = Reactor::new()?;
    let mut child = spawn(&mut reactor, &mut waiting("trap '' TERM; echo ready; exec cat"))?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.lines == ["ready"])?;
    child.key.terminate(&mut reactor, Duration::from_secs(3600))?;
    drop(reactor);
    expect_reaped_by_later_loops(child.pid) // although its input is open
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
fn a_child_that_others_have_reaped_is_told_as_an_error() -> Result {
    let mut reactor = Reactor::new()?;
    let child = spawn(&mut reactor, &mut sh("exit 0"))?;
    assert!(waitpid(Some(raw_pid(child.pid)), WaitOptions::empty())?.is_some());
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    let said = seen.errors[0].to_string();
    assert!(said.contains("(sh)") && said.contains("status went to somebody else"), "{said}");
    assert!(!is_watched(&reactor, child.pid));

    let mut reaped = sh("exit 0").spawn()?;
    reaped.wait()?;
    let refused = child::watch(&mut reactor, reaped, note).expect_err("there is nothing to watch");
    assert!(refused.to_string().contains("child "), "{refused}");
    Ok(())
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_that_names_it_and_says_what_to_do() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let missing = spawn(&mut reactor, &mut Command::new("no-such-program")).expect_err("there is none");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let said = missing.to_string();
    assert!(said.starts_with("spawn of \"no-such-program\": ") && said.contains("PATH"), "{said}");
    let folder = spawn(&mut reactor, &mut Command::new("/")).expect_err("it is a folder");
    assert_eq!(folder.kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[test]
fn a_child_that_cannot_be_watched_is_given_back() -> Result {
    let mut reactor = Reactor::<Seen>::builder().registrations_max(0).build()?;
    let refused = child::watch(&mut reactor, waiting("exec cat").spawn()?, note).expect_err("there is no room");
    assert_eq!(refused.error.kind(), ErrorKind::QuotaExceeded);
    let mut child = refused.child;
    drop(child.stdin.take().ok_or("it has its pipes")?);
    assert_eq!(child.wait()?.code(), Some(0), "it was left alone");
    Ok(())
}

#[test]
fn a_child_that_is_let_go_with_the_error_of_its_watch_goes_on_and_is_reaped_by_later_loops() -> Result {
    let mut reactor = Reactor::<Seen>::builder().registrations_max(0).build()?;
    let mut child = waiting("exec cat").spawn()?;
    let (pid, stdin) = (child.id(), child.stdin.take());
    let watched = child::watch(&mut reactor, child, note).map_err(io::Error::from);
    assert!(watched.is_err() && is_there(pid));
    drop(stdin); // which ends it
    wait_for_end(pid)?;
    expect_reaped_by_later_loops(pid)
}

#[test]
fn a_child_that_was_started_and_cannot_be_watched_is_killed() -> Result {
    let mut reactor = Reactor::<Seen>::builder().registrations_max(0).build()?;
    let ((its_input, _kept_open), (output, its_output)) = (io::pipe()?, io::pipe()?);
    let mut command = Command::new("cat");
    let refused = spawn(&mut reactor, command.stdin(its_input).stdout(its_output)).expect_err("there is no room");
    assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
    drop(command);
    wait_for(&output)?;
    assert_eq!(io::read_to_string(output)?, "", "it would live as long as its input");
    Ok(())
}

/// Supervises `command`, and notes the news.
fn supervise(
    reactor: &mut Reactor<Seen>,
    policy: RestartPolicy,
    mut command: impl FnMut() -> Command + 'static,
) -> child::SupervisorKey {
    child::supervise(
        reactor,
        policy,
        move || Ok(command()),
        |news, cx| {
            let news = match news {
                News::Started(child) => {
                    cx.state.children.push(child);
                    "started".to_owned()
                }
                News::Exited { exit, restart_in } => format!("{}, {restart_in:?}", exit?.status),
                News::NotStarted { error, restart_in } => format!("{:?}, {restart_in:?}", error.kind()),
                other => format!("{other:?}"),
            };
            cx.state.news.push(news);
            Ok(())
        },
    )
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_failing_child_is_started_again_after_delays_that_double_and_then_no_more() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let policy = RestartPolicy::on_failure().delay_first(SECOND).delay_max(3 * SECOND).restarts_max(3);
    let key = supervise(&mut reactor, policy, || sh("exit 3"));
    let mut seen = Seen::default();
    for (start, delay) in [1, 2, 3].into_iter().enumerate() {
        turn_until(&mut reactor, &mut seen, |seen| seen.news.len() == 2 * start + 2)?;
        reactor.advance(&mut seen, delay * SECOND - Duration::from_nanos(1))?;
        assert_eq!(seen.news.len(), 2 * start + 2, "not before its time");
        reactor.advance(&mut seen, Duration::from_nanos(1))?;
        assert_eq!(seen.children.len(), start + 2);
    }
    run(&mut reactor, &mut seen)?; // ends with the supervision
    let exits: Vec<_> = seen.news.iter().skip(1).step_by(2).collect();
    let expected = ["Some(1s)", "Some(2s)", "Some(3s)", "None"].map(|delay| format!("exit status: 3, {delay}"));
    assert_eq!(exits, expected.iter().collect::<Vec<_>>());
    assert_eq!(key.stop(&mut reactor, SECOND).expect_err("it has ended").kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn a_child_that_ran_long_enough_is_started_again_without_delay_for_its_past() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let policy = RestartPolicy::always().delay_first(SECOND).steady_after(10 * SECOND);
    supervise(&mut reactor, policy, || waiting("exec cat"));
    let mut seen = Seen::default();
    for (start, (ran, delay)) in [(0, 1), (9, 2), (10, 1), (0, 2)].into_iter().enumerate() {
        turn_until(&mut reactor, &mut seen, |seen| seen.children.len() == start + 1)?;
        reactor.advance(&mut seen, ran * SECOND)?;
        drop(seen.children[start].stdin.take());
        turn_until(&mut reactor, &mut seen, |seen| seen.news.len() == 2 * start + 2)?;
        assert_eq!(seen.news[2 * start + 1], format!("exit status: 0, Some({delay}s)"));
        reactor.advance(&mut seen, delay * SECOND)?;
    }
    Ok(())
}

#[test]
fn a_child_that_succeeds_is_not_started_again_unless_that_is_wanted() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let mut seen = Seen::default();
    supervise(&mut reactor, RestartPolicy::on_failure(), || sh("exit 0"));
    run(&mut reactor, &mut seen)?;
    supervise(&mut reactor, RestartPolicy::never(), || sh("exit 1"));
    run(&mut reactor, &mut seen)?;
    supervise(&mut reactor, RestartPolicy::always().restarts_max(1), || sh("exit 0"));
    run(&mut reactor, &mut seen)?;
    seen.news.retain(|news| news != "started");
    let expected =
        ["exit status: 0, None", "exit status: 1, None", "exit status: 0, Some(100ms)", "exit status: 0, None"];
    assert_eq!(seen.news, expected);
    Ok(())
}

#[test]
fn a_program_that_is_missing_is_a_failure_like_others() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let policy = RestartPolicy::on_failure().delay_first(SECOND).steady_after(SECOND).restarts_max(2);
    supervise(&mut reactor, policy, || Command::new("no-such-program"));
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.news, ["NotFound, Some(1s)", "NotFound, Some(2s)", "NotFound, None"]);
    Ok(())
}

#[test]
fn a_supervisor_that_is_stopped_ends_its_child_or_starts_no_other() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let running = supervise(&mut reactor, RestartPolicy::always(), || waiting("exec cat"));
    turn_until(&mut reactor, &mut seen, |seen| seen.children.len() == 1)?;
    assert_eq!(running.child(&mut reactor)?, Some(seen.children[0].key));
    running.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.news, ["started", "signal: 15 (SIGTERM), None"]);

    let mut seen = Seen::default();
    let resting = supervise(&mut reactor, RestartPolicy::always().delay_first(SECOND), || sh("exit 0"));
    turn_until(&mut reactor, &mut seen, |seen| seen.news.len() == 2)?;
    resting.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)?; // although the clock stands
    assert_eq!(seen.news, ["started", "exit status: 0, Some(1s)", "Stopped"]);

    let mut seen = Seen::default();
    let beginning = supervise(&mut reactor, RestartPolicy::always(), || sh("exit 0"));
    beginning.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.news, ["Stopped"]);
    assert!(beginning.child(&mut reactor).is_err());
    Ok(())
}

#[test]
fn a_supervisor_can_be_stopped_from_within_its_callback() -> Result {
    let mut reactor = Reactor::<Vec<String>>::builder().clock(ManualClock::new()).build()?;
    let key = std::rc::Rc::new(std::cell::Cell::new(None));
    let own = std::rc::Rc::clone(&key);
    let policy = RestartPolicy::always().delay_first(SECOND);
    let supervisor = child::supervise(
        &mut reactor,
        policy,
        || Ok(sh("exit 0")),
        move |news, cx| {
            let own: child::SupervisorKey = own.get().expect("it is set before the loop runs");
            if let News::Exited { .. } = news {
                own.stop(cx.registry, SECOND)?;
            }
            cx.state.push(format!("{news:?}").split([' ', '(']).next().unwrap_or_default().to_owned());
            Ok(())
        },
    );
    key.set(Some(supervisor));
    let mut news = Vec::new();
    run(&mut reactor, &mut news)?;
    assert_eq!(news, ["Started", "Exited", "Stopped"]);
    Ok(())
}

#[test]
fn an_error_of_the_callback_ends_the_supervision_and_the_child() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let supervisor = child::supervise(
        &mut reactor,
        RestartPolicy::always(),
        || Ok(waiting("exec cat")),
        |news, cx| {
            *cx.state += 1;
            // Its pipes are kept open, so that nothing but the signal ends it.
            std::mem::forget(news);
            Err(io::Error::other("it is not wanted any more"))
        },
    );
    let mut calls = 0;
    run(&mut reactor, &mut calls)?;
    assert_eq!(calls, 1);
    assert!(supervisor.stop(&mut reactor, SECOND).is_err());
    Ok(())
}
