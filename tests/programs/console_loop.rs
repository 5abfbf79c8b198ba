//! `console_loop` as a program, with every kind of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use rustix::fs::fcntl_getfl;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetattr;
use support::{example, file_with, terminal};

use crate::Result;
use crate::server::{PATIENCE, insist};
use crate::tracer::{Tracee, WAITS};

/// The program, with a keyboard.
struct Session<W> {
    child: Child,
    keyboard: Option<W>,
    /// Its output, line by line.
    screen: Receiver<String>,
}

impl Session<ChildStdin> {
    /// Starts it with a pipe as its input.
    fn at_pipe() -> Result<Self> {
        let mut session = Self::start(Stdio::piped(), None)?;
        session.keyboard = session.child.stdin.take();
        Ok(session)
    }
}

impl<W: Write> Session<W> {
    fn start(stdin: impl Into<Stdio>, keyboard: Option<W>) -> Result<Self> {
        let mut command = Command::new(example("console_loop")?);
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let screen = lines_of(child.stdout.take().ok_or("a piped stdout")?);
        Ok(Self {
            child,
            keyboard,
            screen,
        })
    }

    fn type_in(&mut self, text: impl AsRef<[u8]>) -> Result {
        Ok(self
            .keyboard
            .as_mut()
            .ok_or("typed the end")?
            .write_all(text.as_ref())?)
    }

    /// Returns the next line of its output.
    fn shown(&mut self) -> Result<String> {
        Ok(self.screen.recv_timeout(PATIENCE)?)
    }

    /// Returns the number of turns of its loop, from the first line of `status`.
    fn turns(&mut self) -> Result<u64> {
        self.type_in("status\n")?;
        let mut line = self.shown()?;
        while !line.contains(" turns") {
            line = self.shown()?;
        }
        let turns = line
            .split("; ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .ok_or("no turns")?;
        Ok(turns.parse()?)
    }

    fn signal(&self, signal: Signal) -> Result {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end. Returns the rest of its output, and its exit status.
    fn end(mut self) -> Result<(String, ExitStatus)> {
        let mut rest = String::new();
        loop {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(line) => rest += &(line + "\n"),
                // The program is about to end.
                Err(RecvTimeoutError::Disconnected) => return Ok((rest, self.child.wait()?)),
                Err(RecvTimeoutError::Timeout) => return Err("it is still running".into()),
            }
        }
    }
}

impl<W> Drop for Session<W> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the lines of `stdout`, through a channel whose receiver can wait with a timeout.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(stdout)
            .lines()
            .map_while(io::Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    receiver
}

/// Runs it on `stdin`, which ends by itself.
fn run(stdin: impl Into<Stdio>) -> Result<Output> {
    let mut session = Session::<File>::start(stdin, None)?;
    let mut stderr = Vec::new();
    let mut errors = session.child.stderr.take().ok_or("a piped stderr")?;
    let (stdout, status) = session.end()?;
    errors.read_to_end(&mut stderr)?;
    Ok(Output {
        status,
        stdout: stdout.into(),
        stderr,
    })
}

/// Checks its output for a file with `text`, and that it ends with success.
#[track_caller]
fn expect(text: &[u8], expected: &[&str]) -> Result {
    let output = run(file_with(text)?)?;
    let stdout = String::from_utf8(output.stdout)?;
    assert_eq!(stdout.lines().collect::<Vec<_>>(), expected);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn it_shows_the_same_at_a_file_a_pipe_a_socket_and_a_terminal() -> Result {
    let text = b"after 0.1 later\nwork 1\nfoo";
    let (pipe, mut writer) = io::pipe()?;
    writer.write_all(text)?;
    drop(writer);
    let (socket, mut peer) = std::os::unix::net::UnixStream::pair()?;
    peer.write_all(text)?;
    drop(peer);
    let (mut keyboard, terminal) = terminal()?;
    keyboard.write_all(text)?;
    keyboard.write_all(b"\x04\x04")?; // the first ends the line, the second the input
    let inputs: [(&str, Stdio); 4] = [
        ("file", file_with(text)?.into()),
        ("pipe", pipe.into()),
        ("socket", OwnedFd::from(socket).into()),
        ("terminal", terminal.into()),
    ];
    for (sort, stdin) in inputs {
        let output = run(stdin)?;
        let stdout = String::from_utf8(output.stdout)?;
        let expected = [
            "timer 1",
            "work 2",
            "no such command: foo; help lists them",
            "work 2 done after 1 ms",
            "later",
        ];
        assert_eq!(stdout.lines().collect::<Vec<_>>(), expected, "{sort}");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{sort}"
        );
    }
    Ok(())
}

#[test]
fn an_argument_ends_it_with_2_and_a_line_that_names_it() -> Result {
    let output = crate::server::run("console_loop", &["--nonsense"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains("--nonsense"));
    Ok(())
}

#[test]
fn without_input_it_ends_at_once_and_well() -> Result {
    let (keyboard, terminal) = terminal()?;
    drop(keyboard);
    for stdin in [Stdio::null(), terminal.into()] {
        let output = run(stdin)?;
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    let closed = Command::new("sh")
        .args(["-c", r#"exec "$0" <&-"#])
        .arg(example("console_loop")?)
        .output()?;
    assert!(
        closed.status.success() && closed.stdout.is_empty() && closed.stderr.is_empty(),
        "{closed:?}"
    );
    Ok(())
}

#[test]
fn a_terminal_keeps_its_flags_and_modes_also_when_the_program_is_killed() -> Result {
    for signal in [None, Some(Signal::KILL)] {
        let (keyboard, terminal) = terminal()?;
        let before = (
            fcntl_getfl(&terminal)?,
            format!("{:?}", tcgetattr(&terminal)?),
        );
        // The same open file description.
        let mut session = Session::start(terminal.try_clone()?, Some(keyboard.try_clone()?))?;
        session.turns()?;
        assert_eq!(
            (
                fcntl_getfl(&terminal)?,
                format!("{:?}", tcgetattr(&terminal)?)
            ),
            before,
            "meanwhile"
        );
        match signal {
            Some(signal) => session.signal(signal)?,
            None => session.type_in("quit\n")?,
        }
        let (_shown, status) = session.end()?;
        assert_eq!(status.success(), signal.is_none());
        assert_eq!(
            (
                fcntl_getfl(&terminal)?,
                format!("{:?}", tcgetattr(&terminal)?)
            ),
            before,
            "afterwards"
        );
    }
    Ok(())
}

#[test]
fn only_a_terminal_is_prompted() -> Result {
    let (mut keyboard, terminal) = terminal()?;
    let mut command = Command::new(example("console_loop")?);
    let mut child = command
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(Stdio::null())
        .spawn()?;
    drop((command, terminal));
    keyboard.write_all(b"foo\n")?;
    let mut shown = String::new();
    let mut screen = keyboard.try_clone()?;
    while !shown.ends_with("lists them\r\n> ") {
        let mut read = [0; 1024];
        let n = screen.read(&mut read)?;
        shown += std::str::from_utf8(&read[..n])?;
    }
    keyboard.write_all(b"\x04")?;
    assert!(child.wait()?.success());
    assert_eq!(
        shown.matches("> ").count(),
        2,
        "{shown:?}: the first, and one after the answer"
    );

    let mut session = Session::start(terminal_of(&b"foo\n\x04"[..])?, None::<File>)?;
    assert_eq!(
        session.shown()?,
        "no such command: foo; help lists them",
        "the output is a pipe"
    );
    Ok(())
}

#[test]
fn a_pipe_is_not_prompted_although_the_output_is_a_terminal() -> Result {
    let (mut screen, terminal) = terminal()?;
    let mut command = Command::new(example("console_loop")?);
    let mut child = command.stdin(Stdio::piped()).stdout(terminal).spawn()?;
    drop(command);
    let mut input = child.stdin.take().ok_or("a piped stdin")?;
    for _ in 0..5 {
        let mut shown = String::new();
        input.write_all(b"foo\n")?;
        while !shown.ends_with("\r\n") {
            let mut read = [0; 1024];
            let n = screen.read(&mut read)?;
            shown += std::str::from_utf8(&read[..n])?;
        }
        assert_eq!(shown, "no such command: foo; help lists them\r\n");
    }
    drop(input);
    assert!(child.wait()?.success());
    Ok(())
}

/// Returns a terminal at which `text` has been typed.
fn terminal_of(text: &[u8]) -> Result<OwnedFd> {
    let (mut keyboard, terminal) = terminal()?;
    keyboard.write_all(text)?;
    std::mem::forget(keyboard); // open until this process ends
    Ok(terminal)
}

#[test]
fn it_sleeps_while_nothing_happens() -> Result {
    let (keyboard, terminal) = terminal()?;
    let mut at_terminal = Session::start(terminal, Some(keyboard))?;
    expect_sleep(&mut at_terminal)?;
    expect_sleep(&mut Session::at_pipe()?)
}

#[track_caller]
fn expect_sleep<W: Write>(session: &mut Session<W>) -> Result {
    let before = session.turns()?;
    session.type_in("after 0.3 later\n")?;
    while session.shown()? != "later" {}
    let turns = session.turns()? - before;
    assert!(
        turns <= 4,
        "{turns} turns for a command, a timer and a command"
    );
    Ok(())
}

#[test]
fn it_sleeps_after_the_end_of_input_until_pending_work_is_done() -> Result {
    for (name, end) in [
        ("terminal", terminal_of(b"after 0.5 later\n\x04")?),
        ("file", file_with(b"after 0.5 later")?.into()),
    ] {
        let mut session = Session::start(end, None::<File>)?;
        assert_eq!(session.shown()?, "timer 1");
        let mut tracee = Tracee::attach(Pid::from_child(&session.child))?;
        let mut waits = 0;
        let ended = loop {
            match tracee.next_call() {
                Ok(call) => waits += u32::from(WAITS.contains(&call)),
                Err(ended) => break ended,
            }
        };
        assert_eq!(ended.to_string(), "it ended with 0");
        assert!(waits <= 4, "{waits} waits at a {name}");
        assert_eq!(session.shown()?, "later");
    }
    Ok(())
}

#[test]
fn it_ends_when_work_pending_at_the_end_of_input_is_done() -> Result {
    let text = b"every 1000 never\nafter 0.2 later\nwork 1\npost this\nrun printf that";
    let output = run(terminal_of(&[&text[..], b"\x04\x04"].concat())?)?;
    assert!(output.status.success());
    let stdout = String::from_utf8(output.stdout)?;
    let mut shown: Vec<_> = stdout
        .lines()
        .filter(|line| !line.contains(" is process "))
        .collect();
    assert_eq!(shown.last(), Some(&"later"));
    shown.sort_unstable();
    let mut expected = [
        "timer 1",
        "timer 2",
        "work 3",
        "posted: this",
        "4: that",
        "child 4: exit status: 0",
        "later",
        "work 3 done after 1 ms",
    ];
    expected.sort_unstable();
    assert_eq!(shown, expected);
    Ok(())
}

#[test]
fn abandoned_work_is_not_waited_for() -> Result {
    let mut session = Session::at_pipe()?;
    session.type_in("work 1000000\ncancel 1\ncancel 1\n")?;
    drop(session.keyboard.take()); // nothing else is left to wait for
    let (shown, status) = session.end()?;
    assert_eq!(shown, "work 1\nabandoned work 1\nno timer and no work 1\n");
    assert!(status.success());
    Ok(())
}

#[test]
fn a_timer_can_be_repeated_and_cancelled() -> Result {
    let mut session = Session::at_pipe()?;
    session.type_in("every 0.01 tick\n")?;
    assert_eq!(session.shown()?, "timer 1");
    for _ in 0..3 {
        assert_eq!(session.shown()?, "tick");
    }
    session.type_in("after 1000 never\ncancel 1\ncancel 1\ncancel 2\nafter 0.05 end\n")?;
    drop(session.keyboard.take());
    let (shown, status) = session.end()?;
    let shown: Vec<_> = shown.lines().filter(|line| *line != "tick").collect();
    let expected = [
        "timer 2",
        "cancelled timer 1: tick",
        "no timer and no work 1",
        "cancelled timer 2: never",
        "timer 3",
        "end",
    ];
    assert_eq!((shown, status.success()), (expected.to_vec(), true));
    Ok(())
}

#[test]
fn quit_ends_at_once_with_timers_and_jobs_pending() -> Result {
    let mut session = Session::at_pipe()?;
    session.type_in("after 1000 never\nwork 1000000\nevery 1000 never\nquit\nstatus\n")?;
    let (shown, status) = session.end()?;
    assert!(shown.starts_with("timer 1\nwork 2\ntimer 3\n"), "{shown}");
    assert!(status.success());
    Ok(())
}

#[test]
fn the_status_shows_the_registrations() -> Result {
    let mut session = Session::at_pipe()?;
    session.type_in("after 1000 the future\nwork 1000000\nstatus\nquit\n")?;
    let (shown, _) = session.end()?;
    for part in [
        "3 lines, 1 timers, 1 works, 0 children; ",
        " console ",
        " signals ",
        " posted ",
        "s: the future",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    Ok(())
}

#[test]
fn a_child_shows_its_output_its_errors_and_its_exit() -> Result {
    let mut session = Session::at_pipe()?;
    let mut show = |command: &str| -> Result<Vec<String>> {
        session.type_in(format!("run {command}\n"))?;
        let mut shown = Vec::new();
        loop {
            let line = session.shown()?;
            let is_last = line.starts_with("child ") && !line.contains(" is process ");
            if !line.contains(" is process ") {
                shown.push(line);
            }
            if is_last {
                return Ok(shown);
            }
        }
    };
    assert_eq!(
        show("printf one\\ntwo")?,
        ["1: one", "1: two", "child 1: exit status: 0"]
    );
    assert_eq!(
        show("cat")?,
        ["child 2: exit status: 0"],
        "what is typed is not for it"
    );
    let failed = show("ls /nonexistent")?;
    assert!(
        failed[0].starts_with("3! ls: ") && failed[1].starts_with("child 3: exit status: "),
        "{failed:?}"
    );
    assert_eq!(show("sleep 0")?, ["child 4: exit status: 0"]);
    session.type_in("run no-such-program\nrun\n")?;
    let refused = session.shown()?;
    assert!(
        refused.contains("no-such-program") && refused.contains("No such file"),
        "{refused}"
    );
    assert_eq!(session.shown()?, "usage: run COMMAND...");
    Ok(())
}

#[test]
fn an_invalid_input_gets_one_line_that_says_so() -> Result {
    let text = b"frobnicate 1 2 3\nafter\nafter 1\nafter x y\nafter -1 y\nafter NaN y\nafter 1e300 y\nevery 1\ncancel\ncancel 99999999999999999999\n\
        cancel 7\nwork\nwork -1\nwork 1.5\nwork 99999999999\n\n   \n\xff\xfe\nhelp me\n";
    let output = run(file_with(text)?)?;
    let stdout = String::from_utf8(output.stdout)?;
    let shown: Vec<_> = stdout
        .lines()
        .take_while(|line| !line.starts_with("help "))
        .collect();
    let (after, work) = ("usage: after SECONDS TEXT", "usage: work MILLISECONDS");
    let expected = [
        &["no such command: frobnicate; help lists them"][..],
        &[after; 6],
        &[
            "usage: every SECONDS TEXT",
            "usage: cancel ID",
            "usage: cancel ID",
            "no timer and no work 7",
        ],
        &[work; 4],
        &["a line that is no text"],
    ];
    assert_eq!(shown, expected.concat());
    assert!(stdout.contains("\nquit ") && output.status.success());
    Ok(())
}

#[test]
fn an_input_that_cannot_be_read_is_an_error_of_the_program() -> Result {
    let output = run(File::open("/")?)?;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr)?;
    assert!(
        stderr.starts_with("console_loop: standard input: Is a directory"),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn a_timer_beyond_all_time_is_shown_as_one() -> Result {
    let output = run(file_with(b"after 1e18 x\nstatus\nquit\n")?)?;
    let stdout = String::from_utf8(output.stdout)?;
    assert!(stdout.contains("\ntimer 1 never: x\n"), "{stdout}");
    Ok(())
}

#[test]
fn a_very_long_line_is_refused_in_one_line_and_the_next_is_obeyed() -> Result {
    let text = [
        "x".repeat(1_000_000),
        "\ncancel 1\n".to_owned(),
        "y".repeat(60_000),
    ]
    .concat();
    let cut = "no such command: yyyyyyyyyyyyyyyyyyyy; help lists them";
    expect(
        text.as_bytes(),
        &["a line that is too long", "no timer and no work 1", cut],
    )
}

/// A signal counts as a later one if it comes at least a second after the first.
#[test]
fn the_first_signal_ends_it_gracefully_and_a_later_one_at_once() -> Result {
    for signal in [Signal::INT, Signal::TERM] {
        let mut session = Session::at_pipe()?;
        session.type_in("after 1000 never\nevery 1000 never\nwork 300\nstatus\n")?;
        while session.shown()? != "work 3" {}
        session.signal(signal)?;
        let (shown, status) = session.end()?;
        for part in ["ending", "work 3 done after 300 ms"] {
            assert!(shown.contains(part), "{signal:?}: no {part:?} in {shown}");
        }
        assert_eq!(status.code(), Some(0));

        let mut session = Session::at_pipe()?;
        session.type_in("work 1000000\n")?;
        assert_eq!(session.shown()?, "work 1");
        session.signal(signal)?;
        assert!(
            session
                .shown()?
                .ends_with(": ending; once more to end at once")
        );
        insist(Pid::from_child(&session.child), signal)?;
        assert_eq!(session.end()?.1.code(), Some(128 + signal.as_raw()));
    }
    Ok(())
}

#[test]
fn it_ends_with_an_error_when_its_output_has_no_reader() -> Result {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let mut command = Command::new(example("console_loop")?);
    command
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    drop(command);
    let mut keyboard = child.stdin.take().ok_or("a piped stdin")?;
    keyboard.write_all(b"after 1000 never\n")?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Broken pipe"),
        "{output:?}"
    );
    drop(keyboard);
    Ok(())
}
