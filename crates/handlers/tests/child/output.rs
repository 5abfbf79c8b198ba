//! The pipes of a child, and the lines it writes.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use handlers::child::{self, Output};
use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, on_data};
use reactor::{Context, Reactor};
use support::terminal;

use crate::{Result, Seen, note_lines, run, sh, spawn, turn_until};

#[test]
fn a_megabyte_passes_through_a_child_and_back() -> Result {
    const LENGTH: usize = 1 << 20;
    let mut reactor = Reactor::<Vec<u8>>::new()?;
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let cat = child::spawn(&mut reactor, &mut command, |exit, _cx| {
        assert!(exit?.status.success());
        Ok(())
    })?;
    let sent: Vec<u8> = (0..LENGTH).map(|i| (i % 251) as u8).collect();
    Connection::open(
        &mut reactor,
        cat.stdin.ok_or("stdin")?,
        &ConnectionOptions::new(),
        Feed(sent.clone()),
    )?;
    let keep = on_data(|data, _connection, cx: &mut Context<'_, Vec<u8>>| {
        cx.state.extend(data);
        Ok(data.len())
    });
    Connection::open(
        &mut reactor,
        cat.stdout.ok_or("stdout")?,
        &ConnectionOptions::new(),
        keep,
    )?;
    let mut received = Vec::new();
    run(&mut reactor, &mut received)?;
    assert!(received == sent, "{} bytes came back", received.len());
    Ok(())
}

/// Writes everything at once, and closes its write side once it is sent.
struct Feed(Vec<u8>);

impl<S> ConnectionHandler<S> for Feed {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = connection.write(&self.0)?;
        connection.shutdown();
        Ok(())
    }

    fn on_data(
        &mut self,
        _: &[u8],
        _: &mut Connection<'_, S>,
        _: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        Ok(0)
    }
}

#[test]
fn every_line_of_a_child_is_delivered_before_its_end() -> Result {
    let mut reactor = Reactor::new()?;
    let mut child = spawn(
        &mut reactor,
        sh("echo one; echo; printf two").stdout(Stdio::piped()),
    )?;
    note_lines(&mut reactor, &mut child)?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(
        (seen.lines, seen.outputs_ended, seen.exits.len()),
        (vec!["one".into(), "".into(), "two".into()], 1, 1)
    );
    Ok(())
}

/// Notes lines. Lines that were cut get a mark.
fn note_cut(output: Output<'_, '_, Seen>, cx: &mut Context<'_, Seen>) -> io::Result<()> {
    match output {
        Output::Line(line, _) => cx
            .state
            .lines
            .push(String::from_utf8_lossy(line).into_owned()),
        Output::Cut(line, _) => cx
            .state
            .lines
            .push(format!("cut: {}", String::from_utf8_lossy(line))),
        Output::Ended(CloseReason::Finished) => cx.state.outputs_ended += 1,
        other => cx.state.news.push(format!("{other:?}")),
    }
    Ok(())
}

#[test]
fn a_line_beyond_the_limit_is_cut_and_reading_goes_on() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let mut child = spawn(
        &mut reactor,
        sh("echo four; echo fives; printf 'more\\r\\n'; echo last").stdout(Stdio::piped()),
    )?;
    child::lines(
        &mut reactor,
        child.stdout.take().ok_or("stdout")?,
        4,
        note_cut,
    )?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(
        (seen.lines, seen.news.len()),
        (
            ["four", "cut: five", "more", "last"]
                .map(str::to_owned)
                .to_vec(),
            0
        )
    );
    assert!(seen.exits[0].status.success(), "it could write all");
    Ok(())
}

#[test]
fn lines_are_cut_at_the_same_places_however_they_arrive() -> Result {
    let cases: [(&[u8], usize, &[&str]); 7] = [
        (
            b"abcd\nabcdefghijk\nab\r\nabcd\r\nlast",
            4,
            &["abcd", "cut: abcd", "ab", "abcd", "last"],
        ),
        (b"abcdefgh", 4, &["cut: abcd"]),
        (b"abcde\nabcdef\n\n", 4, &["cut: abcd", "cut: abcd", ""]),
        (b"\na\r\n\r\n", 0, &["", "cut: ", ""]),
        (b"a\nbc\n", 1, &["a", "cut: b"]),
        (b"abc\r", 3, &["cut: abc"]),
        (b"abcdef\n", usize::MAX, &["abcdef"]),
    ];
    for (input, max_length, expected) in cases {
        for size in [1, 2, 3, input.len()] {
            let mut reactor = Reactor::<Seen>::new()?;
            let (mut writer, reader) = UnixStream::pair()?;
            child::lines(&mut reactor, reader, max_length, note_cut)?;
            let mut seen = Seen::default();
            for piece in input.chunks(size) {
                writer.write_all(piece)?;
                reactor.turn(&mut seen, Some(Duration::ZERO))?;
            }
            drop(writer);
            turn_until(&mut reactor, &mut seen, |seen| {
                seen.outputs_ended == 1 || !seen.news.is_empty()
            })?;
            assert_eq!(seen.lines, expected, "{} by {size}", input.escape_ascii());
        }
    }
    Ok(())
}

#[test]
fn an_endless_line_of_a_child_takes_no_memory_and_ends_nothing() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let mut command = sh("head -c 3000000 /dev/zero; echo; echo after");
    let mut child = spawn(&mut reactor, command.stdout(Stdio::piped()))?;
    child::lines(
        &mut reactor,
        child.stdout.take().ok_or("stdout")?,
        10,
        note_cut,
    )?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(
        seen.lines,
        [format!("cut: {}", "\0".repeat(10)), "after".to_owned()]
    );
    Ok(())
}

#[test]
fn a_callback_of_lines_may_end_the_reading_where_a_line_is_cut() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (mut writer, reader) = UnixStream::pair()?;
    child::lines(
        &mut reactor,
        reader,
        4,
        |output, cx: &mut Context<'_, Seen>| match output {
            Output::Cut(..) => Err(io::Error::other("too long")),
            other => note_cut(other, cx),
        },
    )?;
    writer.write_all(b"one\nfives\nmore\n")?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.news.is_empty())?;
    assert_eq!((seen.lines, reactor.len()), (vec!["one".to_owned()], 0));
    assert!(seen.news[0].contains("too long"), "{:?}", seen.news);
    Ok(())
}

#[test]
fn a_paused_line_callback_gets_no_line_until_it_is_resumed() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (mut writer, reader) = UnixStream::pair()?;
    let key = child::lines(
        &mut reactor,
        reader,
        8,
        |output, cx: &mut Context<'_, Seen>| match output {
            Output::Line(line, connection) => {
                connection.pause_reading();
                note_cut(Output::Line(line, connection), cx)
            }
            other => note_cut(other, cx),
        },
    )?;
    // More bytes than the limit of a line may wait.
    writer.write_all(b"one\ntwo\nlonger than the limit\nthree\n")?;
    writer.write_all(&b"x\n".repeat(500))?;
    writer.write_all(b"last")?;
    drop(writer);
    let mut seen = Seen::default();
    for told in ["one", "two", "three"] {
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.lines.iter().any(|line| line == told)
        })?;
        for _ in 0..5 {
            reactor.turn(&mut seen, Some(Duration::ZERO))?;
        }
        assert_eq!(seen.lines.last().map(String::as_str), Some(told));
        reactor.defer(move |cx| {
            assert!(
                key.with(cx, |connection, _| connection.resume_reading())
                    .is_ok()
            )
        });
    }
    while seen.outputs_ended == 0 {
        let before = seen.lines.len();
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.lines.len() > before || seen.outputs_ended == 1
        })?;
        reactor.defer(move |cx| {
            // The child may have ended.
            let _ = key.with(cx, |connection, _| connection.resume_reading());
        });
    }
    assert_eq!(
        (seen.lines.len(), seen.lines.last().map(String::as_str)),
        (505, Some("last"))
    );
    assert_eq!(seen.lines[2], "cut: longer t");
    Ok(())
}

#[test]
fn the_last_line_at_the_master_of_a_terminal_is_delivered_before_its_end() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (master, terminal) = terminal()?;
    let mut command = sh("echo one; printf two");
    let command = command
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(terminal);
    spawn(&mut reactor, command)?;
    *command = Command::new("false"); // the command holds the terminal open
    child::lines(&mut reactor, master, 4096, note_cut)?;
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(
        (seen.lines, seen.outputs_ended),
        (vec!["one".to_owned(), "two".to_owned()], 1),
        "{:?}",
        seen.news
    );
    Ok(())
}

#[test]
fn a_line_callback_that_would_block_gets_each_line_once_and_the_end() -> Result {
    for kind in [ErrorKind::WouldBlock, ErrorKind::Interrupted] {
        let mut reactor = Reactor::<Seen>::new()?;
        let (mut writer, reader) = UnixStream::pair()?;
        child::lines(
            &mut reactor,
            reader,
            4096,
            move |output, cx: &mut Context<'_, Seen>| {
                match output {
                    Output::Line(line, _) => cx
                        .state
                        .lines
                        .push(String::from_utf8_lossy(line).into_owned()),
                    _ => cx.state.outputs_ended += 1,
                }
                Err(kind.into())
            },
        )?;
        writer.write_all(b"one\ntwo\nlast")?;
        drop(writer);
        let mut seen = Seen::default();
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.outputs_ended == 1 || seen.lines.len() > 3
        })?;
        assert_eq!(
            (seen.lines, reactor.len()),
            (["one", "two", "last"].map(str::to_owned).to_vec(), 0),
            "{kind}"
        );
    }
    Ok(())
}

/// This includes lines that have arrived already.
#[test]
fn a_line_reader_removed_in_its_callback_gets_no_further_line() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (mut writer, reader) = UnixStream::pair()?;
    child::lines(
        &mut reactor,
        reader,
        4096,
        |output, cx: &mut Context<'_, Seen>| {
            match output {
                Output::Line(line, _) => {
                    cx.state
                        .lines
                        .push(String::from_utf8_lossy(line).into_owned());
                    let _ = cx.registry.remove(cx.key());
                }
                _ => cx.state.outputs_ended += 1,
            }
            Ok(())
        },
    )?;
    writer.write_all(b"one\ntwo\nlast")?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.outputs_ended == 1)?;
    assert_eq!((seen.lines, reactor.len()), (vec!["one".to_owned()], 0));
    Ok(())
}
