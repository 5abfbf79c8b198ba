//! Failures of one direction, and ends that another callback brings about.

use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use futures_lite::io::split;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, spawn_local, wait_event};
use handlers::{BoxedHandler, Connection, ConnectionOptions, on_data};
use reactor::{Error, Event};
use support::{PATIENCE, Result, reset, run_out, turn_until_quiet};

use crate::{Notes, open, reactor};

const MUCH: usize = 32 << 20;

#[test]
fn a_reset_fails_a_write_that_waits_before_the_input_is_read() -> Result {
    let mut reactor = reactor()?;
    let (go, seen) = (Event::auto_reset(), Notes::default());
    let (goes, notes) = (go.clone(), seen.clone());
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        let write = stream.write_all(&vec![7; MUCH]).await;
        notes.borrow_mut().push((0, write.unwrap_err().kind()));
        wait_event(&goes).await?;
        let mut input = Vec::new();
        let read = stream.read_to_end(&mut input).await;
        notes
            .borrow_mut()
            .push((input.len(), read.unwrap_err().kind()));
        Ok(())
    })?;
    peer.write_all(&[7; 200_000])?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reset(peer)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*seen.borrow(), [(0, ErrorKind::ConnectionReset)]);
    go.set();
    run_out(&mut reactor, &mut ())?;
    let (length, error) = seen.borrow()[1];
    assert!(length > 1 << 16, "what has arrived: {length}");
    assert_eq!(error, ErrorKind::ConnectionReset);
    Ok(())
}

#[test]
fn the_end_of_input_is_read_also_after_the_connection_was_cut() -> Result {
    let mut reactor = reactor()?;
    let (go, reads) = (Event::auto_reset(), Notes::default());
    let (goes, seen) = (go.clone(), reads.clone());
    let (key, peer) = open(&mut reactor, |mut stream| async move {
        wait_event(&goes).await?;
        let read = stream.read(&mut [0]).await.map_err(|error| error.kind());
        seen.borrow_mut().push(read);
        Ok(())
    })?;
    peer.shutdown(Shutdown::Write)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.defer(move |cx| {
        let cut = key.with(cx, |connection, _cx| connection.abort());
        assert!(cut.is_ok());
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    go.set();
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*reads.borrow(), [Ok(0)]);
    Ok(())
}

#[test]
fn a_write_after_another_callback_has_closed_is_an_error() -> Result {
    for has_ended in [false, true] {
        let mut reactor = reactor()?;
        let (go, results) = (Event::auto_reset(), Notes::default());
        let (goes, seen) = (go.clone(), results.clone());
        let (key, peer) = open(&mut reactor, |mut stream| async move {
            wait_event(&goes).await?;
            let write = stream.write_all(b"lost").await;
            let closed = write.and(stream.close().await);
            seen.borrow_mut().push(closed.is_ok());
            Ok(())
        })?;
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.defer(move |cx| {
            let closed = key.with(cx, |connection, _cx| match has_ended {
                true => connection.close_after_flush(PATIENCE),
                false => connection.shutdown(),
            });
            assert!(closed.is_ok());
        });
        if has_ended {
            peer.shutdown(Shutdown::Write)?;
        }
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!(reactor.contains(key.key()), !has_ended);
        go.set();
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!(*results.borrow(), [false], "{has_ended}");
        drop(peer);
        run_out(&mut reactor, &mut ())?;
    }
    Ok(())
}

#[test]
fn a_handler_that_is_replaced_fails_a_read_and_a_write_that_wait() -> Result {
    let mut reactor = reactor()?;
    let errors = Notes::default();
    let seen = errors.clone();
    let (near, peer) = UnixStream::pair()?;
    let protocol = futures::protocol(|stream, _connection, _cx| async move {
        let (mut reader, mut writer) = split(stream);
        let notes = seen.clone();
        let reads = spawn_local(async move {
            let read = reader.read(&mut [0]).await;
            notes.borrow_mut().push(read.unwrap_err().kind());
        });
        let write = writer.write_all(&vec![7; MUCH]).await;
        seen.borrow_mut().push(write.unwrap_err().kind());
        reads.await.map_err(io::Error::other)
    });
    let protocol: BoxedHandler<()> = Box::new(protocol);
    let key = Connection::open(&mut reactor, near, &ConnectionOptions::new(), protocol)?;
    turn_until_quiet(&mut reactor, &mut ())?; // both wait
    reactor.defer(move |cx| {
        let replaced = key.with(cx, |connection, _cx| {
            let other = on_data(|data, _connection: &mut Connection<'_, ()>, _cx| Ok(data.len()));
            connection.replace_handler(Box::new(other))
        });
        assert!(matches!(replaced, Ok(Ok(_))));
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*errors.borrow(), [ErrorKind::ConnectionAborted; 2]);
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn an_essential_connection_whose_future_fails_ends_run_with_its_error() -> Result {
    let mut reactor = reactor()?;
    let (key, _peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(b"half of").await?;
        Err(io::Error::other("the disk is full"))
    })?;
    reactor.set_essential(key.key())?;
    let failed = reactor.run(&mut ());
    let is_told = matches!(&failed, Err(error @ Error::Failed(_))
        if error.to_string().contains("the disk is full"));
    assert!(is_told, "{failed:?}");
    Ok(())
}
