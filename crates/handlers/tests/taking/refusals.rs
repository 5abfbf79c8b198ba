//! Streams that are not taken, and stay as they are.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionKey, ConnectionOptions, Taken, on_data};
use reactor::{Context, PanicPolicy, Reactor};
use support::{reset, tcp_pair, turn_until, turn_until_quiet};

use crate::{Result, Seen, connected, notes, take, with};

/// Tries to take the stream as a `T`. Returns the kind of the error.
fn refusal<T: handlers::Stream>(
    key: ConnectionKey<Seen>,
    cx: &mut Context<'_, Seen>,
) -> Option<ErrorKind> {
    key.take::<T>(cx).err().map(|error| error.kind())
}

#[test]
fn a_stream_of_another_type_is_not_taken_and_stays() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(notes("it"))?;
    reactor.defer(move |cx| {
        assert_eq!(
            refusal::<UnixStream>(key, cx),
            Some(ErrorKind::InvalidInput)
        );
    });
    peer.write_all(b"abc")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"abc")?;
    assert_eq!(seen.log, ["it open"]);
    Ok(())
}

#[test]
fn a_stream_is_taken_once() -> Result {
    let (mut reactor, mut seen, key, _peer) = connected(notes("it"))?;
    reactor.defer(move |cx| {
        let taken = key.take::<TcpStream>(cx);
        assert_eq!(refusal::<TcpStream>(key, cx), Some(ErrorKind::NotFound));
        cx.state.taken = Some(taken);
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.taken().is_ok());
    assert_eq!(seen.log, ["it open", "it close taken"]);
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_stream_in_use_is_taken_by_a_deferred_callback() -> Result {
    let takes = on_data(|data, connection: &mut Connection<'_, Seen>, cx| {
        let key = connection.key();
        assert_eq!(refusal::<TcpStream>(key, cx), Some(ErrorKind::ResourceBusy));
        cx.registry
            .defer(move |cx| cx.state.taken = Some(key.take(cx)));
        Ok(data.len() - 1)
    });
    let (mut reactor, mut seen, _key, mut peer) = connected(takes)?;
    peer.write_all(b"abc")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.taken.is_some())?;
    assert_eq!(seen.taken()?.unread(), b"c");
    Ok(())
}

#[test]
fn a_stream_that_is_closing_is_not_taken() -> Result {
    let (mut reactor, mut seen, key, _peer) = connected(notes("it"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.close_after_flush(Duration::from_secs(5));
    })?;
    reactor.defer(move |cx| {
        assert_eq!(refusal::<TcpStream>(key, cx), Some(ErrorKind::BrokenPipe));
    });
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!((seen.log.len(), reactor.len()), (1, 1), "{seen:?}");
    Ok(())
}

/// The handler pauses, so that the input keeps the connection from its end.
#[test]
fn a_stream_whose_socket_has_failed_is_not_taken() -> Result {
    let (mut reactor, mut seen, key, mut peer) = connected(notes("it"))?;
    with(&mut reactor, &mut seen, key, |connection| {
        connection.pause_reading()
    })?;
    peer.write_all(b"abc")?;
    reset(peer)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    reactor.defer(move |cx| {
        let refused = refusal::<TcpStream>(key, cx);
        assert_eq!(refused, Some(ErrorKind::ConnectionReset));
        key.with(cx, |connection, _cx| connection.resume_reading())
            .expect("it has not ended");
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.log.len() == 2)?;
    assert_eq!(seen.received, b"abc", "what has arrived is given");
    Ok(())
}

#[test]
fn a_connection_that_was_not_opened_yet_ends_without_on_open() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let (near, mut peer) = tcp_pair()?;
    reactor.defer(move |cx| {
        let options = ConnectionOptions::new();
        let key =
            Connection::open(cx.registry, near, &options, notes("it")).expect("there is room");
        cx.state.taken = Some(key.take(cx));
    });
    let mut seen = Seen::default();
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!(seen.log, ["it close taken"]);
    drop(seen.taken()?);
    assert_eq!(peer.read(&mut [0])?, 0);
    Ok(())
}

#[test]
fn the_key_of_a_taken_stream_reaches_none_of_its_later_connections() -> Result {
    let (mut reactor, mut seen, old, _peer) = connected(notes("old"))?;
    let taken = take(&mut reactor, &mut seen, old)?;
    let new = taken.open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    reactor.defer(move |cx| {
        assert!(old.with(cx, |_, _| ()).is_err() && new.with(cx, |_, _| ()).is_ok());
    });
    turn_until_quiet(&mut reactor, &mut seen)
}

#[test]
fn a_panic_in_the_last_call_of_the_old_handler_harms_no_stream() -> Result {
    struct Panics;
    impl handlers::ConnectionHandler<Seen> for Panics {
        fn on_data(
            &mut self,
            data: &[u8],
            _: &mut Connection<'_, Seen>,
            _: &mut Context<'_, Seen>,
        ) -> std::io::Result<usize> {
            Ok(data.len())
        }

        fn on_close(&mut self, _: handlers::CloseReason, _: &mut Context<'_, Seen>) {
            panic!("on purpose");
        }
    }
    let (mut reactor, mut seen) = (
        Reactor::<Seen>::builder()
            .on_panic(PanicPolicy::RemoveHandler)
            .build()?,
        Seen::default(),
    );
    let (near, mut peer) = tcp_pair()?;
    let key = Connection::open(&mut reactor, near, &ConnectionOptions::new(), Panics)?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    let taken = take(&mut reactor, &mut seen, key)?;
    taken.open(&mut reactor, &ConnectionOptions::new(), notes("new"))?;
    peer.write_all(b"abc")?;
    turn_until(&mut reactor, &mut seen, |seen| seen.received == b"abc")
}

#[test]
fn a_taken_stream_can_be_sent_to_another_thread() {
    fn expect_send<T: Send>() {}
    expect_send::<Taken<TcpStream>>();
}
