//! The start of a child, and the errors of a start or a watch that fails.

use std::io::{self, ErrorKind};
use std::process::Command;

use handlers::child;
use handlers::signal::{self, Signal};
use reactor::{Next, Reactor};

use crate::{Result, Seen, note, note_lines, run, sh, spawn, turn_until, wait_for, waiting};

/// Returns the value of a line of `/proc/pid/status`.
fn status_line<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect("every status has it")
        .trim()
}

/// This holds while this process watches signals.
#[test]
fn a_child_has_the_default_signal_mask_and_dispositions_and_no_fd_of_ours() -> Result {
    // The descriptors that this process itself was given.
    let by_others = sh("ls /proc/self/fd").output()?;
    let before = std::fs::read_to_string("/proc/thread-self/status")?;
    let mut reactor = Reactor::new()?;
    reactor.remote()?;
    let signals = [
        Signal::HUP,
        Signal::USR1,
        Signal::CHLD,
        Signal::real_time(3).ok_or("there are 30")?,
    ];
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
    let modes: Vec<_> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("flags:"))
        .collect();
    let non_blocking = |mode: &&str| {
        u32::from_str_radix(mode.trim(), 8).is_ok_and(|mode| mode & libc::O_NONBLOCK as u32 != 0)
    };
    assert_eq!(
        (modes.len(), modes.iter().find(|mode| non_blocking(mode))),
        (2, None),
        "its ends block"
    );
    assert_eq!(
        ["SigBlk:", "SigCgt:"].map(|name| status_line(rest, name)),
        ["0000000000000000"; 2]
    );
    let ignored = |status| u64::from_str_radix(status_line(status, "SigIgn:"), 16);
    // posix_spawn of the C library ignores the latter two.
    let (sigpipe, of_the_c_library) = (1 << 12, 0b11 << 31);
    assert_eq!(
        ignored(rest)? & !of_the_c_library,
        ignored(&before)? & !sigpipe & !of_the_c_library
    );
    Ok(())
}

#[test]
fn the_error_of_a_program_that_cannot_be_started_names_it_and_a_remedy() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let missing =
        spawn(&mut reactor, &mut Command::new("no-such-program")).expect_err("there is none");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let said = missing.to_string();
    assert!(
        said.starts_with("spawn of \"no-such-program\": ") && said.contains("PATH"),
        "{said}"
    );
    let folder = spawn(&mut reactor, &mut Command::new("/")).expect_err("it is a folder");
    assert_eq!(folder.kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[test]
fn a_child_that_cannot_be_watched_is_returned() -> Result {
    let mut reactor = Reactor::<Seen>::builder().max_registrations(0).build()?;
    let refused = child::watch(&mut reactor, waiting("exec cat").spawn()?, note)
        .expect_err("there is no room");
    assert_eq!(refused.error.kind(), ErrorKind::QuotaExceeded);
    let mut child = refused.child;
    drop(child.stdin.take().ok_or("it has its pipes")?);
    assert_eq!(child.wait()?.code(), Some(0), "it was left alone");
    Ok(())
}

#[test]
fn a_child_that_was_started_and_cannot_be_watched_is_killed() -> Result {
    let mut reactor = Reactor::<Seen>::builder().max_registrations(0).build()?;
    let ((its_input, _kept_open), (output, its_output)) = (io::pipe()?, io::pipe()?);
    let mut command = Command::new("cat");
    let refused = spawn(&mut reactor, command.stdin(its_input).stdout(its_output))
        .expect_err("there is no room");
    assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
    drop(command);
    wait_for(&output)?;
    assert_eq!(
        io::read_to_string(output)?,
        "",
        "it would live as long as its input"
    );
    Ok(())
}
