//! The console, on each kind of file that standard input may be.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use handlers::{Console, ConsoleInput};
use reactor::{Interest, Key, ManualClock, Next, Reactor, Registry, Then};
use rustix::fs::{Mode, OFlags, fcntl_getfl, mkfifoat};
use rustix::termios::tcgetattr;
use support::{PATIENCE, Result, file_with, terminal};

/// The notes of the callbacks of a test: their input in its debug format.
type Seen = Vec<String>;

/// Notes each input, and goes on.
fn listen(registry: &mut Registry<Seen>, input: impl AsFd) -> io::Result<Key> {
    Console::new()
        .max_line_length(20)
        .open_on(registry, input, |input, cx| {
            cx.state.push(format!("{input:?}"));
            Ok(Next::Keep)
        })
}

/// Takes turns until as many inputs have been noted as expected, and one more turn that must find
/// no other.
#[track_caller]
fn expect(reactor: &mut Reactor<Seen>, expected: &[&str]) -> Result {
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        assert!(
            reactor.turn(&mut seen, Some(PATIENCE))? > 0,
            "nothing comes after {seen:?}"
        );
    }
    reactor.turn(&mut seen, Some(Duration::ZERO))?;
    assert_eq!(seen, expected);
    Ok(())
}

/// Returns a path for one test.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("console-{name}-{}", std::process::id()))
}

fn blocks(input: impl AsFd) -> Result<bool> {
    Ok(!fcntl_getfl(input)?.contains(OFlags::NONBLOCK))
}

#[test]
fn every_kind_of_input_delivers_lines_and_end_and_keeps_its_flags() -> Result {
    let text = b"one\ntwo\r\n\nlast";
    let (pipe, mut writer) = io::pipe()?;
    writer.write_all(text)?;
    drop(writer);
    let (socket, mut peer) = UnixStream::pair()?;
    peer.write_all(text)?;
    drop(peer);
    let inputs: [(&str, OwnedFd); 3] = [
        ("file", file_with(text)?.into()),
        ("pipe", pipe.into()),
        ("socket", socket.into()),
    ];
    for (sort, input) in inputs {
        let mut reactor = Reactor::new()?;
        listen(&mut reactor, &input)?;
        assert!(blocks(&input)?, "{sort}: the flags are not touched");
        let mut seen = Vec::new();
        reactor.run(&mut seen)?;
        let expected = [
            r#"Line("one")"#,
            r#"Line("two")"#,
            r#"Line("")"#,
            r#"Line("last")"#,
            "End",
        ];
        assert_eq!(seen, expected, "{sort}");
        assert!(blocks(&input)?, "{sort}: nor afterwards");
    }
    Ok(())
}

#[test]
fn an_input_without_lines_ends_at_once() -> Result {
    let (never_read, writer) = io::pipe()?;
    let inputs: [OwnedFd; 3] = [
        File::open("/dev/null")?.into(),
        file_with(b"")?.into(),
        writer.into(),
    ];
    for input in inputs {
        let mut reactor = Reactor::new()?;
        listen(&mut reactor, &input)?;
        let mut seen = Vec::new();
        reactor.run(&mut seen)?;
        assert_eq!(seen, ["End"], "{input:?}");
        assert!(
            reactor.is_empty() && reactor.metrics().turns <= 2,
            "{input:?}"
        );
        assert!(blocks(&input)?);
    }
    drop(never_read);
    Ok(())
}

/// Checks that reading the file at `path` ends with an error whose debug text contains `error`.
#[track_caller]
fn expect_failure(path: &str, error: &str) -> Result {
    let mut reactor = Reactor::new()?;
    listen(&mut reactor, File::open(path)?)?;
    let mut seen = Vec::new();
    reactor.run(&mut seen)?;
    assert!(
        seen.len() == 1 && seen[0].starts_with("Failed(") && seen[0].contains(error),
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn a_folder_as_input_is_an_error() -> Result {
    expect_failure("/", "IsADirectory")
}

/// `/proc/self/mem` is a file without anything at its beginning. Reading it fails as on a disk that
/// has lost a block.
#[test]
fn a_file_that_cannot_be_read_has_not_ended() -> Result {
    expect_failure("/proc/self/mem", "code: 5")
}

#[test]
fn a_terminal_delivers_lines_as_they_are_typed_and_keeps_its_settings() -> Result {
    let (mut keyboard, terminal) = terminal()?;
    let modes = format!("{:?}", tcgetattr(&terminal)?);
    let flags = fcntl_getfl(&terminal)?;
    let mut reactor = Reactor::new()?;
    let key = listen(&mut reactor, &terminal)?;
    for typed in ["help\n", "status\n"] {
        keyboard.write_all(typed.as_bytes())?;
        expect(&mut reactor, &[&format!("Line({:?})", typed.trim_end())])?;
        assert_eq!(fcntl_getfl(&terminal)?, flags);
    }
    keyboard.write_all(b"hel\x7f\x7f\x7fbye\n")?;
    expect(&mut reactor, &[r#"Line("bye")"#])?; // the terminal itself deletes
    assert_eq!(
        reactor.turn(&mut Vec::new(), Some(Duration::ZERO))?,
        0,
        "it rests"
    );
    reactor.remove(key)?;
    assert_eq!(
        (
            format!("{:?}", tcgetattr(&terminal)?),
            fcntl_getfl(&terminal)?
        ),
        (modes, flags)
    );
    Ok(())
}

#[test]
fn an_end_typed_at_a_terminal_can_be_read_on_from() -> Result {
    let (mut keyboard, terminal) = terminal()?;
    let mut reactor = Reactor::new()?;
    let key = listen(&mut reactor, &terminal)?;
    keyboard.write_all(b"\x04")?;
    expect(&mut reactor, &["End"])?;
    keyboard.write_all(b"on\n")?;
    expect(&mut reactor, &[r#"Line("on")"#])?;
    keyboard.write_all(b"half\x04\x04")?;
    expect(&mut reactor, &[r#"Line("half")"#, "End"])?;
    keyboard.write_all(b"in \x04two\n")?;
    expect(&mut reactor, &[r#"Line("in two")"#])?; // ^D within a line ends a read and nothing else
    drop(keyboard);
    expect(&mut reactor, &["End"])?;
    assert!(
        !reactor.contains(key),
        "a terminal that is gone cannot be read on from"
    );
    Ok(())
}

#[test]
fn removing_at_the_end_reads_no_more_from_a_terminal() -> Result {
    let (mut keyboard, terminal) = terminal()?;
    keyboard.write_all(b"one\n\x04two\n")?;
    let mut reactor = Reactor::<Seen>::new()?;
    Console::new().open_on(&mut reactor, &terminal, |input, cx| {
        cx.state.push(format!("{input:?}"));
        Ok(if matches!(input, ConsoleInput::End) {
            Next::Remove
        } else {
            Next::Keep
        })
    })?;
    let mut seen = Vec::new();
    reactor.run(&mut seen)?;
    assert_eq!(seen, [r#"Line("one")"#, "End"]);
    let mut left = [0; 16];
    let n = File::from(terminal).read(&mut left)?;
    assert_eq!(&left[..n], b"two\n", "the next program's");
    Ok(())
}

#[test]
fn a_terminal_that_cannot_be_opened_again_is_still_read() -> Result {
    // The other end is a terminal too: opening /dev/ptmx makes a new one.
    let (keyboard, terminal) = terminal()?;
    let (mut terminal, flags) = (File::from(terminal), fcntl_getfl(&keyboard)?);
    let mut reactor = Reactor::new()?;
    listen(&mut reactor, &keyboard)?;
    for text in ["one\n", "two\n"] {
        terminal.write_all(text.as_bytes())?; // the other end sees it with a carriage return
        expect(&mut reactor, &[&format!("Line({:?})", text.trim_end())])?;
    }
    assert_eq!(
        reactor.turn(&mut Vec::new(), Some(Duration::ZERO))?,
        0,
        "it rests"
    );
    assert_eq!(fcntl_getfl(&keyboard)?, flags);
    drop(terminal);
    expect(&mut reactor, &["End"])?; // EIO
    Ok(())
}

#[test]
fn a_pipe_and_a_socket_deliver_lines_however_they_are_cut() -> Result {
    let (pipe, writer) = io::pipe()?;
    let (socket, peer) = UnixStream::pair()?;
    let inputs: [(OwnedFd, OwnedFd); 2] =
        [(pipe.into(), writer.into()), (socket.into(), peer.into())];
    for (input, peer) in inputs {
        let mut peer = File::from(peer);
        let mut reactor = Reactor::new()?;
        listen(&mut reactor, &input)?;
        for byte in b"status" {
            peer.write_all(&[*byte])?;
            assert_eq!(
                reactor.turn(&mut Vec::new(), Some(PATIENCE))?,
                1,
                "{input:?}"
            );
        }
        peer.write_all(b"\nnext\nha")?;
        expect(&mut reactor, &[r#"Line("status")"#, r#"Line("next")"#])?;
        peer.write_all(b"lf")?;
        drop(peer);
        expect(&mut reactor, &[r#"Line("half")"#, "End"])?;
        assert!(reactor.is_empty() && blocks(&input)?);
    }
    Ok(())
}

#[test]
fn a_fifo_without_writers_is_read_to_its_end() -> Result {
    for text in [&b"last words\n"[..], b""] {
        let path = path("fifo");
        mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR)?;
        let reading = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)?;
        let mut writer = OpenOptions::new().write(true).open(&path)?;
        fs::remove_file(&path)?;
        writer.write_all(text)?;
        drop(writer);
        let mut reactor = Reactor::new()?;
        listen(&mut reactor, reading)?;
        expect(
            &mut reactor,
            if text.is_empty() {
                &["End"]
            } else {
                &[r#"Line("last words")"#, "End"]
            },
        )?;
    }
    Ok(())
}

#[test]
fn a_line_too_long_or_not_utf_8_is_reported_and_the_next_one_is_read() -> Result {
    let text = b"12345678901234567890\n123456789012345678901\nca\xff\xe9\ncaf\xc3\xa9\n";
    let mut reactor = Reactor::new()?;
    listen(&mut reactor, file_with(text)?)?;
    let expected = [
        r#"Line("12345678901234567890")"#,
        "TooLong",
        "NotText([99, 97, 255, 233])",
        r#"Line("café")"#,
        "End",
    ];
    expect(&mut reactor, &expected)
}

#[test]
fn an_endless_line_is_reported_once_and_does_not_starve_a_timer() -> Result {
    let mut reactor = Reactor::<Seen>::builder()
        .clock(ManualClock::new())
        .build()?;
    let key = listen(&mut reactor, File::open("/dev/zero")?)?;
    reactor.after(Duration::ZERO, |cx| {
        cx.state.push("timer".to_owned());
        Ok(Then::Done)
    });
    let mut seen = Vec::new();
    for _ in 0..10 {
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
    }
    assert_eq!(seen, ["TooLong", "timer"]);
    Ok(reactor.remove(key)?)
}

#[test]
fn a_flood_of_lines_is_spread_over_turns() -> Result {
    let mut reactor = Reactor::<Seen>::builder()
        .clock(ManualClock::new())
        .build()?;
    let input = file_with("line\n".repeat(100_000).as_bytes())?;
    let (lines, most_in_a_turn) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (counted, told) = (Rc::clone(&most_in_a_turn), Rc::clone(&lines));
    Console::new().open_on(&mut reactor, input, move |input, _cx| {
        told.set(told.get() + usize::from(matches!(input, ConsoleInput::Line("line"))));
        Ok(Next::Keep)
    })?;
    let mut seen = Vec::new();
    while !reactor.is_empty() {
        let before = lines.get();
        reactor.turn(&mut seen, Some(Duration::ZERO))?;
        counted.set(counted.get().max(lines.get() - before));
    }
    assert_eq!((lines.get(), most_in_a_turn.get()), (100_000, 64));
    Ok(())
}

#[test]
fn a_file_is_read_on_from_where_it_stands() -> Result {
    let mut input = file_with(b"header\nbody\n")?;
    input.read_exact(&mut [0; 7])?;
    let mut reactor = Reactor::new()?;
    listen(&mut reactor, &input)?;
    expect(&mut reactor, &[r#"Line("body")"#, "End"])?;
    assert_eq!(input.stream_position()?, 12);
    Ok(())
}

#[test]
fn a_callback_may_pause_resume_remove_itself_and_fail() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let key = Console::new().open_on(
        &mut reactor,
        file_with(b"rest\nrest\nquit\nnever\n")?,
        |input, cx| {
            cx.state.push(format!("{input:?}"));
            match input {
                ConsoleInput::Line("rest") => cx.registry.set_interest(cx.key(), Interest::NONE)?,
                _ => cx.registry.remove(cx.key())?,
            }
            Err(ErrorKind::WouldBlock.into()) // a callee reports that it did nothing
        },
    )?;
    for line in [r#"Line("rest")"#, r#"Line("rest")"#, r#"Line("quit")"#] {
        expect(&mut reactor, &[line])?;
        assert_eq!(reactor.contains(key), line.contains("rest"));
        let _ = reactor.set_interest(key, Interest::READABLE);
    }

    let (pipe, mut writer) = io::pipe()?;
    writer.write_all(b"one\ntwo\n")?; // both are read at once, and the pipe is empty then
    Console::new().open_on(&mut reactor, pipe, |input, cx| {
        cx.state.push(format!("{input:?}"));
        Err(ErrorKind::WouldBlock.into())
    })?;
    expect(&mut reactor, &[r#"Line("one")"#, r#"Line("two")"#])?;

    let key = Console::new().open_on(&mut reactor, file_with(b"one\ntwo\n")?, |input, cx| {
        cx.state.push(format!("{input:?}"));
        Err(io::Error::other("enough"))
    })?;
    expect(&mut reactor, &[r#"Line("one")"#])?;
    assert!(!reactor.contains(key));
    Ok(())
}

#[test]
fn a_console_keeps_the_loop_alive_unless_it_is_in_the_background() -> Result {
    let (pipe, _writer) = io::pipe()?;
    let mut reactor = Reactor::new()?;
    let key = listen(&mut reactor, pipe)?;
    reactor.set_background(key)?;
    reactor.run(&mut Vec::new())?; // returns although the input does not end
    assert!(reactor.contains(key));
    Ok(())
}

#[test]
fn a_line_allocates_nothing_but_what_its_callback_does() -> Result {
    let (pipe, mut writer) = io::pipe()?;
    let mut reactor = Reactor::<usize>::new()?;
    Console::new().open_on(&mut reactor, pipe, |input, cx| {
        *cx.state += usize::from(matches!(input, ConsoleInput::Line("status")));
        Ok(Next::Keep)
    })?;
    let mut lines = 0;
    let mut type_a_line = || -> Result {
        writer.write_all(b"sta")?;
        reactor.turn(&mut lines, Some(PATIENCE))?;
        writer.write_all(b"tus\n")?;
        reactor.turn(&mut lines, Some(PATIENCE))?;
        Ok(())
    };
    type_a_line()?;
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| result = (0..10).try_for_each(|_| type_a_line()));
    result?;
    assert_eq!((lines, counted.count_total), (11, 0));
    Ok(())
}
