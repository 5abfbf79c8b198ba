//! The pipes of a child, and the lines it writes.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use handlers::child::{self, Output};
use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, on_data, open};
use reactor::{Context, Reactor};

use crate::{Result, Seen, note_lines, run, sh, spawn, turn_until};

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
