//! The limits of descriptors: below them, at them, beyond them.

use std::io::{self, ErrorKind, Read};

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionOptions, Flow, errno, on_data,
};
use reactor::{Context, Reactor};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Result, tcp_pair, turn_until, turn_until_quiet};

use crate::{Open, Seen, Takes, connected, descriptors, send};

/// Sends messages with these numbers of descriptors to a handler that takes none. Returns the error
/// that has ended the connection.
fn refused(max_fds: usize, messages: &[usize]) -> Result<io::Error> {
    let (mut reactor, mut seen, _, far) = connected(max_fds, Takes { leaves_fds: true })?;
    for (last, count) in messages
        .iter()
        .enumerate()
        .map(|(i, n)| (i + 1 == messages.len(), *n))
    {
        turn_until_quiet(&mut reactor, &mut seen)?;
        assert!(seen.closed.is_none(), "{seen:?}");
        send(&far, b"x", &descriptors(count)?)?;
        assert!(!last || seen.closed.is_none());
    }
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.is_some())?;
    match seen.closed.take() {
        Some(CloseReason::Failed(error)) => Ok(error),
        other => Err(format!("{other:?}").into()),
    }
}

#[test]
fn one_descriptor_beyond_the_limit_ends_the_connection_and_closes_all() -> Result {
    let open = Open::count()?;
    for (max_fds, messages) in [
        (0, &[0, 1][..]),
        (0, &[253]),
        (1, &[1, 1]),
        (1, &[2]),
        (2, &[3]),
        (3, &[2, 2]),
        (252, &[253]),
        (253, &[253, 1]),
        (300, &[253, 47, 1]),
    ] {
        let error = refused(max_fds, messages)?;
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{max_fds}: {error}");
        let text = format!("more descriptors than max_fds, which is {max_fds}, wait to be taken");
        assert!(error.to_string().contains(&text), "{error}");
    }
    open.expect_no_leak()
}

#[test]
fn as_many_descriptors_as_the_limit_are_taken_again_and_again() -> Result {
    let open = Open::count()?;
    for max_fds in [1, 2, 252, 253, usize::MAX] {
        let (mut reactor, mut seen, _, far) = connected(max_fds, Takes::default())?;
        for round in 1..=3 {
            send(&far, b"x", &descriptors(max_fds.min(253))?)?;
            turn_until(&mut reactor, &mut seen, |seen| seen.received.len() == round)?;
            assert_eq!(std::mem::take(&mut seen.fds).len(), max_fds.min(253));
        }
        assert!(seen.closed.is_none());
    }
    open.expect_no_leak()
}

/// A handler that answers the first byte, and closes.
struct Answers;

/// More than the buffers of the kernel hold.
const ANSWER: usize = 2_000_000;

impl ConnectionHandler<Seen> for Answers {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        _cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let _flow = connection.write(&vec![b'.'; ANSWER])?;
        connection.close_after_flush(support::PATIENCE);
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed = Some(reason);
    }
}

#[test]
fn descriptors_that_come_during_a_close_do_not_cut_the_answer() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, _, mut far) = connected(2, Answers)?;
    send(&far, b"x", &descriptors(1)?)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    for count in [1, 2, 3, 4, 253] {
        for _ in 0..3 {
            send(&far, b"x", &descriptors(count)?)?;
            turn_until_quiet(&mut reactor, &mut seen)?;
        }
    }
    assert!(seen.closed.is_none(), "{seen:?}");
    let reading = std::thread::spawn(move || {
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).map(|_| answer.len())
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.is_some())?;
    assert_eq!(reading.join().expect("no panic")?, ANSWER);
    assert!(
        !matches!(seen.closed, Some(CloseReason::Failed(_))),
        "{seen:?}"
    );
    drop(reactor);
    open.expect_no_leak()
}

/// The limit of open files, lowered below every free number until this is dropped.
struct NoRoom(Rlimit);

impl NoRoom {
    fn new() -> io::Result<Self> {
        let before = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(3), // the numbers of the three standard streams
            ..before
        };
        setrlimit(Resource::Nofile, none)?;
        Ok(Self(before))
    }
}

impl Drop for NoRoom {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("the limit that it was");
    }
}

#[test]
fn a_descriptor_for_which_the_process_has_no_room_ends_the_connection() -> Result {
    let open = Open::count()?;
    let (mut reactor, mut seen, _, far) = connected(8, Takes::default())?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    send(&far, b"x", &descriptors(2)?)?;
    let no_room = NoRoom::new()?;
    turn_until(&mut reactor, &mut seen, |seen| seen.closed.is_some())?;
    drop(no_room);
    let Some(CloseReason::Failed(error)) = &seen.closed else {
        return Err(format!("{seen:?}").into());
    };
    assert_eq!(errno(error), Some(Errno::MFILE.raw_os_error()));
    let text = "descriptors of the peer are lost, since this process has too many";
    assert!(error.to_string().ends_with(text), "{error}");
    assert!(seen.fds.is_empty() && seen.received.is_empty());
    drop((reactor, far));
    open.expect_no_leak()
}

/// Calls `write_with_fds` on a connection. Returns the result.
fn written(bytes: &'static [u8], count: usize) -> Result<io::Result<Flow>> {
    let (mut reactor, mut seen, key, _far) = connected(0, Takes::default())?;
    let fds = descriptors(count)?;
    let (tell, told) = std::sync::mpsc::channel();
    reactor.defer(move |cx| {
        let write = |connection: &mut Connection<'_, Seen>| connection.write_with_fds(bytes, fds);
        let _ = tell.send(key.with(cx, |connection, _cx| write(connection)));
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    Ok(told.recv()??)
}

#[test]
fn a_message_that_the_kernel_would_not_pass_on_is_refused() -> Result {
    let open = Open::count()?;
    assert_eq!(written(b"", 0)??, Flow::Open);
    assert_eq!(written(b"x", 0)??, Flow::Open);
    assert_eq!(written(b"x", 1)??, Flow::Open);
    assert_eq!(written(b"x", 253)??, Flow::Open);
    for (bytes, count, text) in [
        (&b""[..], 1, "with at least one byte"),
        (
            b"x",
            254,
            "254 descriptors in one message: the kernel passes on at most 253",
        ),
    ] {
        let error = written(bytes, count)?.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(text), "{error}");
    }
    open.expect_no_leak()
}

#[test]
fn another_stream_carries_no_descriptors() -> Result {
    let open = Open::count()?;
    let mut reactor = Reactor::<Seen>::new()?;
    let (near, mut far) = tcp_pair()?;
    let writes = on_data(|data, connection: &mut Connection<'_, Seen>, _cx| {
        assert!(connection.take_fd().is_none());
        let _flow = connection.write_with_fds(b"none", Vec::new())?;
        let error = connection
            .write_with_fds(b"x", descriptors(1)?)
            .expect_err("TCP");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        connection.close();
        Ok(data.len())
    });
    Connection::open(&mut reactor, near, &ConnectionOptions::new(), writes)?;
    io::Write::write_all(&mut far, b"x")?;
    reactor.run(&mut Seen::default())?;
    drop((reactor, far));
    open.expect_no_leak()
}
