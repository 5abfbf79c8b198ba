//! Limits of a connection: of the input that waits, and of the connections of a listener.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, future};
use handlers::futures::{spawn_local, wait_event};
use handlers::{ConnectionKey, ConnectionLimit, ConnectionOptions, ListenOptions};
use reactor::{Event, Reactor};
use support::{PATIENCE, Result, run_out, turn_until_quiet};

use crate::servers::{client, listen};
use crate::{Notes, open, reactor};

/// The input that waits for a future.
const INPUT_MAX: usize = 64 << 10;

/// Returns the number of bytes that the connection has read.
fn read(reactor: &mut Reactor<()>, key: ConnectionKey<()>) -> Result<u64> {
    let seen = Rc::new(Cell::new(0));
    let reads = Rc::clone(&seen);
    reactor.defer(move |cx| {
        let metrics = key.with(cx, |connection, _cx| connection.metrics());
        reads.set(metrics.map_or(0, |metrics| metrics.read));
    });
    turn_until_quiet(reactor, &mut ())?;
    Ok(seen.get())
}

#[test]
fn a_connection_reads_no_more_once_64_kib_of_input_wait() -> Result {
    for (waiting, more) in [(INPUT_MAX, 0), (INPUT_MAX - 1, 1)] {
        let mut reactor = reactor()?;
        let go = Event::auto_reset();
        let goes = go.clone();
        let (key, mut peer) = open(&mut reactor, |mut stream| async move {
            wait_event(&goes).await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        })?;
        for piece in vec![7; waiting].chunks(8192) {
            peer.write_all(piece)?;
            turn_until_quiet(&mut reactor, &mut ())?;
        }
        peer.write_all(b"x")?;
        assert_eq!(read(&mut reactor, key)?, (waiting + more) as u64);
        go.set();
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!(read(&mut reactor, key)?, waiting as u64 + 1);
        drop(peer);
        run_out(&mut reactor, &mut ())?;
    }
    Ok(())
}

#[test]
fn input_that_nothing_can_read_is_dropped() -> Result {
    const MUCH: usize = 1 << 20;
    let mut reactor = reactor()?;
    let go = Event::auto_reset();
    let goes = go.clone();
    let (key, mut peer) = open(&mut reactor, |stream| async move {
        drop(stream);
        wait_event(&goes).await.map(drop).map_err(Into::into)
    })?;
    let writer = std::thread::spawn(move || peer.write_all(&vec![7; MUCH]).map(|()| peer));
    while !writer.is_finished() {
        reactor.turn(&mut (), Some(Duration::from_millis(1)))?;
    }
    let peer = writer.join().unwrap()?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(read(&mut reactor, key)?, MUCH as u64);
    go.set();
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_stop_is_not_reported_before_the_input_was_read() -> Result {
    const INPUT: usize = 100_000;
    let mut reactor = reactor()?;
    let (go, seen) = (Event::auto_reset(), Notes::default());
    let (goes, notes) = (go.clone(), seen.clone());
    let (key, mut peer) = open(&mut reactor, |mut stream| async move {
        wait_event(&goes).await?;
        notes.borrow_mut().push((stream.is_stopping(), 0));
        let stopping = stream.stopping();
        let (mut total, mut buf) = (0, [0; 20_000]);
        loop {
            let stopped = async {
                stopping.clone().await;
                Ok(0)
            };
            match future::or(stream.read(&mut buf), stopped).await? {
                0 => break,
                read => total += read,
            }
        }
        notes.borrow_mut().push((stream.is_stopping(), total));
        Ok(())
    })?;
    for piece in vec![7; INPUT].chunks(10_000) {
        peer.write_all(piece)?;
        turn_until_quiet(&mut reactor, &mut ())?;
    }
    reactor.defer(move |cx| {
        let closed = key.with(cx, |connection, _cx| connection.close_gracefully(PATIENCE));
        assert!(closed.is_ok());
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    go.set();
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*seen.borrow(), [(false, 0), (true, INPUT)]);
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

/// The future and its handle end in both orders, and a [`Stopping`] is kept for longer.
///
/// [`Stopping`]: handlers::futures::Stopping
#[test]
fn a_connection_counts_for_the_limit_until_its_future_and_its_handle_end() -> Result {
    for handle_first in [false, true] {
        let mut reactor = reactor()?;
        let limit = ConnectionLimit::new(10);
        let (listener, address) = listen(ListenOptions::new().limit(limit.clone()))?;
        let events = [Event::auto_reset(), Event::auto_reset()];
        let waits = events.clone();
        let stops = Rc::<RefCell<Vec<_>>>::default();
        let kept = Rc::clone(&stops);
        let options = ConnectionOptions::new();
        let server = listener.serve_async(&mut reactor, &options, move |stream, _, _cx| {
            let [of_handle, of_future] = waits.clone();
            kept.borrow_mut().push(stream.stopping());
            async move {
                drop(spawn_local(async move {
                    let _ = wait_event(&of_handle).await;
                    drop(stream);
                }));
                wait_event(&of_future).await.map(drop).map_err(Into::into)
            }
        })?;
        let client = client(address)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        support::reset(client)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let [of_handle, of_future] = &events;
        let order = match handle_first {
            true => [of_handle, of_future],
            false => [of_future, of_handle],
        };
        let mut open = vec![limit.open()];
        for event in order {
            event.set();
            turn_until_quiet(&mut reactor, &mut ())?;
            open.push(limit.open());
        }
        assert_eq!(open, [1, 1, 0], "{handle_first}");
        assert_eq!(stops.borrow().len(), 1);
        server.stop(&mut reactor, Duration::ZERO);
        run_out(&mut reactor, &mut ())?;
    }
    Ok(())
}
