//! `take_after_flush`: a change of protocol that the handler itself begins.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Taken};
use reactor::{Context, ManualClock, Reactor};
use support::{PATIENCE, run_out, tcp_pair, turn_until, turn_until_quiet};

use crate::{Result, Seen, as_file, connected, notes, with};

/// More than a test waits.
const DEADLINE: Duration = Duration::from_secs(3600);
/// More than the kernel buffers for a peer that does not read.
const LONG: usize = 8 << 20;

/// Answers "STARTTLS" and a line break, and then has its stream taken.
struct Starts {
    /// The length of the answer, which is `!` and a line break.
    answers: usize,
}

impl ConnectionHandler<Seen> for Starts {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        cx.state.received.extend_from_slice(data);
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            return Ok(0);
        };
        let mut answer = vec![b'!'; self.answers - 1];
        answer.push(b'\n');
        let _ = connection.write(&answer)?;
        let store = |taken, cx: &mut Context<'_, Seen>| {
            cx.state.log.push("then".to_owned());
            cx.state.taken = Some(taken);
        };
        connection.take_after_flush::<TcpStream>(cx, DEADLINE, store)?;
        Ok(end + 1)
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.log.push(format!("close {reason}"));
    }
}

#[test]
fn a_handler_changes_the_protocol_after_its_answer() -> Result {
    let (mut reactor, mut seen, _key, mut peer) = connected(Starts { answers: 4 })?;
    peer.write_all(b"STARTTLS\n")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    let upgraded = seen.taken()?.upgrade(as_file)?;
    upgraded.open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    let mut answer = [0; 4];
    peer.read_exact(&mut answer)?;
    assert_eq!(&answer, b"!!!\n");
    seen.received.clear();
    peer.write_all(b"hello")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"hello")?;
    assert_eq!(seen.log, ["then", "close taken", "new open"]);
    Ok(())
}

#[test]
fn bytes_that_were_injected_before_the_change_are_refused() -> Result {
    let (mut reactor, mut seen, _key, mut peer) = connected(Starts { answers: 1 })?;
    peer.write_all(b"STARTTLS\nMAIL FROM:<evil>\n")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    let refused = seen.taken()?.upgrade(as_file).expect_err("it was injected");
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
    assert!(refused.to_string().contains("17 bytes"), "{refused}");
    run_out(&mut reactor, &mut seen)
}

/// The answer is longer than what the kernel takes, so reading would go on meanwhile.
#[test]
fn the_stream_is_taken_once_all_was_sent_and_reads_nothing_before() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(Starts { answers: LONG })?;
    peer.write_all(b"STARTTLS\n")?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.received.is_empty())?;
    peer.write_all(b"hello of the next protocol")?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.resume_reading();
        let _ = connection.write(b"more").expect("it is open");
    })?;
    assert_eq!(
        (seen.received.as_slice(), seen.log.len()),
        (&b"STARTTLS\n"[..], 0)
    );
    let reader = std::thread::spawn(move || {
        let mut answer = vec![0; LONG + 4];
        peer.read_exact(&mut answer).map(|()| (answer, peer))
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    let (answer, _peer) = reader.join().expect("it does not panic")?;
    assert!(answer.ends_with(b"!\nmore"));
    let taken = seen.taken()?;
    assert_eq!((taken.unsent(), taken.unread()), (0, &b""[..]));
    taken
        .upgrade(as_file)?
        .open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    let hello = b"STARTTLS\nhello of the next protocol";
    turn_until(&mut reactor, &mut seen, |seen| seen.received == hello)
}

#[test]
fn a_peer_that_does_not_take_the_answer_is_reset_at_the_deadline() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Seen>::builder().clock(clock).build()?;
    let (near, mut peer) = tcp_pair()?;
    peer.set_read_timeout(Some(PATIENCE))?;
    Connection::open(
        &mut reactor,
        near,
        &ConnectionOptions::new(),
        Starts { answers: LONG },
    )?;
    peer.write_all(b"STARTTLS\n")?;
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.received.is_empty())?;
    reactor.advance(&mut seen, DEADLINE - Duration::from_millis(1))?;
    assert!(seen.log.is_empty(), "{seen:?}");
    reactor.advance(&mut seen, Duration::from_millis(1))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(seen.log, ["then", "close close deadline expired"]);
    let failed = seen
        .taken
        .take()
        .and_then(io::Result::err)
        .expect("it failed");
    assert_eq!(failed.kind(), ErrorKind::TimedOut);
    let end = peer.read_to_end(&mut Vec::new());
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[test]
fn the_end_of_the_connection_is_reported_to_its_taker_once() -> Result {
    for resets in [true, false] {
        let (mut reactor, mut seen, key, mut peer) = connected(Starts { answers: LONG })?;
        peer.write_all(b"STARTTLS\n")?;
        turn_until(&mut reactor, &mut seen, |seen| !seen.received.is_empty())?;
        if resets {
            support::reset(peer)?;
        } else {
            with(&mut reactor, &mut seen, key, |connection| {
                connection.close()
            })?;
        }
        run_out(&mut reactor, &mut seen)?;
        let failed = seen
            .taken
            .take()
            .and_then(io::Result::err)
            .expect("it failed");
        assert_eq!(failed.kind(), ErrorKind::NotFound);
        assert_eq!(seen.log.iter().filter(|call| *call == "then").count(), 1);
        assert_eq!(seen.log.len(), 2, "{seen:?}");
    }
    Ok(())
}

#[test]
fn a_closing_connection_is_not_taken_when_it_has_sent_all() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(Starts { answers: LONG })?;
    peer.write_all(b"STARTTLS\n")?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.received.is_empty())?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.close_after_flush(DEADLINE);
    })?;
    let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(reader.join().expect("it does not panic")?, LONG);
    let failed = seen
        .taken
        .take()
        .and_then(io::Result::err)
        .expect("it failed");
    assert_eq!(failed.kind(), ErrorKind::BrokenPipe);
    assert_eq!(seen.log, ["then", "close finished"]);
    Ok(())
}

#[test]
fn a_second_taker_and_one_of_another_type_are_refused() -> Result {
    let (mut reactor, mut seen, key, _peer) = connected(notes("it"))?;
    reactor.defer(move |cx| {
        let never = |_: io::Result<Taken<std::fs::File>>, _: &mut Context<'_, Seen>| {
            panic!("it was refused");
        };
        let store = |taken, cx: &mut Context<'_, Seen>| cx.state.taken = Some(taken);
        let tried = key.with(cx, |connection, cx| {
            let wrong = connection.take_after_flush(cx, DEADLINE, never);
            connection.take_after_flush(cx, DEADLINE, store)?;
            let second = connection.take_after_flush::<TcpStream>(cx, DEADLINE, |_, _| {
                panic!("it was refused");
            });
            io::Result::Ok([wrong, second].map(|tried| tried.err().map(|error| error.kind())))
        });
        let kinds = tried
            .expect("it is open")
            .expect("the first is not refused");
        let expected = [ErrorKind::InvalidInput, ErrorKind::ResourceBusy];
        assert_eq!(kinds, expected.map(Some));
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    assert!(seen.taken().is_ok());
    run_out(&mut reactor, &mut seen)
}

#[test]
fn a_stop_of_the_connection_waits_for_the_taker() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(Starts { answers: LONG })?;
    peer.write_all(b"STARTTLS\n")?;
    turn_until(&mut reactor, &mut seen, |seen| !seen.received.is_empty())?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.close_gracefully(DEADLINE);
    })?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    let reader = std::thread::spawn(move || {
        let mut answer = vec![0; LONG];
        peer.read_exact(&mut answer).map(|()| peer)
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    assert!(seen.taken().is_ok());
    reader.join().expect("it does not panic")?;
    Ok(())
}
