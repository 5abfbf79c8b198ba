//! No byte is lost or changes its place.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use handlers::{ConnectionOptions, Taken};
use reactor::Reactor;
use support::{run_out, turn_until, turn_until_quiet};

use crate::{Notes, Result, Seen, connected, notes, take, with};

/// More than the kernel buffers for a peer that does not read.
const LONG: usize = 8 << 20;

/// Returns bytes of which no piece can be exchanged unseen.
fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn unread_and_unsent_bytes_go_on_with_the_stream_in_order() -> Result {
    let few = Notes {
        name: "old",
        consumes: 2,
    };
    let (mut reactor, mut seen, key, mut peer) = connected(few)?;
    peer.write_all(b"abcde")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received.len() == 2)?;
    with(&mut reactor, &mut seen, key, |connection| {
        let _ = connection.write(&numbered(LONG)).expect("there is room");
    })?;
    let taken = take(&mut reactor, &mut seen, key)?;
    assert_eq!(taken.unread(), b"cde");
    assert!(taken.unsent() > 0 && taken.unsent() < LONG);
    assert_eq!(seen.log, ["old open", "old close taken"]);

    let mut other = Reactor::<Seen>::new()?;
    let key = taken.open(&mut other, &ConnectionOptions::new(), notes("new"))?;
    with(&mut other, &mut seen, key, |connection| {
        let _ = connection.write(b"after").expect("there is room");
        connection.shutdown();
    })?;
    assert_eq!(seen.received, b"abcde");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all)
    });
    run_out(&mut other, &mut seen)?;
    let all = reader.join().expect("it does not panic")?;
    assert!(
        all == [&numbered(LONG)[..], b"after"].concat(),
        "{}",
        all.len()
    );
    assert_eq!(
        seen.log[2..],
        ["new open", "new end ", "new close finished"]
    );
    Ok(())
}

#[test]
fn the_parts_of_a_taken_stream_hold_all_bytes_that_are_left() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(Notes {
        name: "old",
        consumes: 0,
    })?;
    peer.write_all(b"abc")?;
    with(&mut reactor, &mut seen, key, |connection| {
        let bytes = numbered(LONG);
        let (copied, shared) = bytes.split_at(LONG / 2);
        let _ = connection.write(copied).expect("there is room");
        let shared = bytes::Bytes::copy_from_slice(shared);
        let _ = connection.write_bytes(shared).expect("there is room");
    })?;
    let taken = take(&mut reactor, &mut seen, key)?;
    let (unsent, parts) = (taken.unsent(), taken.into_parts());
    assert_eq!(
        (parts.unread.as_slice(), parts.unsent.len()),
        (&b"abc"[..], unsent)
    );
    assert!(!parts.is_read_ended && !parts.is_write_ended && parts.permit.is_none());
    let mut sent = vec![0; LONG - unsent];
    peer.read_exact(&mut sent)?;
    assert!([sent, parts.unsent].concat() == numbered(LONG));
    drop(parts.stream);
    Ok(())
}

#[test]
fn an_end_that_was_read_is_reported_to_the_next_handler_too() -> Result {
    let (mut reactor, mut seen, key, peer) = connected(notes("old"))?;
    peer.shutdown(Shutdown::Write)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.log.len() == 2)?;
    let taken = take(&mut reactor, &mut seen, key)?;
    taken.open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(
        seen.log,
        [
            "old open",
            "old end ",
            "old close taken",
            "new open",
            "new end "
        ]
    );
    Ok(())
}

#[test]
fn an_end_that_was_not_read_is_reported_to_the_next_handler_once() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(notes("old"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.pause_reading()
    })?;
    peer.write_all(b"abc")?;
    peer.shutdown(Shutdown::Write)?;
    let taken = take(&mut reactor, &mut seen, key)?;
    assert!(taken.unread().is_empty(), "nothing was read");
    taken.open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(seen.received, b"abc");
    assert_eq!(seen.log[2..], ["new open", "new end "]);
    Ok(())
}

#[test]
fn a_closed_write_side_stays_closed() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(notes("old"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.shutdown()
    })?;
    let taken = take(&mut reactor, &mut seen, key)?;
    let key = taken.open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        let refused = connection.write(b"more").expect_err("it is closed");
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    })?;
    assert_eq!(peer.read(&mut [0])?, 0);
    peer.write_all(b"abc")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"abc")?;
    drop(peer);
    run_out(&mut reactor, &mut seen)?;
    assert_eq!(
        seen.log.last().map(String::as_str),
        Some("new close finished")
    );
    Ok(())
}

/// Reads to the end. Returns the error that was met.
fn end_of(mut peer: impl Read) -> Option<ErrorKind> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).err().map(|error| error.kind())
}

/// Returns a stream with unsent bytes, and its peer.
fn with_unsent() -> Result<(Taken<std::net::TcpStream>, std::net::TcpStream)> {
    let (mut reactor, mut seen, key, peer) = connected(notes("old"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        let _ = connection.write(&numbered(LONG)).expect("there is room");
    })?;
    Ok((take(&mut reactor, &mut seen, key)?, peer))
}

#[test]
fn a_dropped_stream_whose_bytes_are_missing_is_reset() -> Result {
    let (taken, peer) = with_unsent()?;
    drop(taken);
    assert_eq!(end_of(peer), Some(ErrorKind::ConnectionReset));
    let (taken, peer) = with_unsent()?;
    let mut full = Reactor::<Seen>::builder().max_registrations(0).build()?;
    let refused = taken.open(&mut full, &ConnectionOptions::new(), notes("new"));
    assert!(refused.is_err());
    assert_eq!(end_of(peer), Some(ErrorKind::ConnectionReset));
    let (taken, peer) = with_unsent()?;
    assert!(taken.upgrade(crate::as_file).is_err());
    assert_eq!(end_of(peer), Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn a_dropped_stream_of_which_all_was_sent_ends_whole() -> Result {
    let (mut reactor, mut seen, key, peer) = connected(notes("old"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        let _ = connection.write(b"all").expect("there is room");
    })?;
    drop(take(&mut reactor, &mut seen, key)?);
    assert_eq!(end_of(peer), None);
    let (mut reactor, mut seen, key, peer) = connected(notes("old"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.begin_response()
    })?;
    drop(take(&mut reactor, &mut seen, key)?);
    assert_eq!(
        end_of(peer),
        Some(ErrorKind::ConnectionReset),
        "a response is missing"
    );
    Ok(())
}
