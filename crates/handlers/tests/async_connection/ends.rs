//! How a connection ends, and what its future learns of it.

use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, spawn_local, tasks};
use handlers::{BoxedHandler, Connection, ConnectionOptions, errno, on_data};
use reactor::{ManualClock, Reactor};
use support::{Result, reset, run_out, tcp_pair, turn_until_quiet};

use crate::{Notes, RESET, open, open_with, reactor, read_all};

/// More than the buffers of a socket hold.
const MUCH: usize = 8 << 20;

#[test]
fn all_that_was_written_is_sent_after_ok() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(&vec![7; MUCH]).await
    })?;
    peer.shutdown(Shutdown::Write)?;
    let reader = std::thread::spawn(move || read_all(&peer));
    run_out(&mut reactor, &mut ())?;
    let (all, error) = reader.join().unwrap();
    assert_eq!((all.len(), error), (MUCH, None));
    Ok(())
}

#[test]
fn an_error_resets_after_all_that_was_written() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(&vec![7; MUCH]).await?;
        Err(io::Error::other("no more"))
    })?;
    let reader = std::thread::spawn(move || read_all(&peer));
    run_out(&mut reactor, &mut ())?;
    let (all, error) = reader.join().unwrap();
    assert_eq!((all.len(), error), (MUCH, RESET));
    Ok(())
}

#[test]
fn a_future_that_panics_resets() -> Result {
    let mut reactor = reactor()?;
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(b"half of").await?;
        stream.read_exact(&mut [0]).await?;
        panic!("in the middle")
    })?;
    peer.write_all(b"x")?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer).1, RESET);
    Ok(())
}

#[test]
fn a_closure_that_panics_resets() -> Result {
    let mut reactor = reactor()?;
    let (near, peer) = tcp_pair()?;
    let handler = futures::protocol(|_stream, _connection, _cx| -> std::future::Ready<_> {
        panic!("before the future")
    });
    Connection::open(&mut reactor, near, &ConnectionOptions::new(), handler)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (Vec::new(), RESET));
    Ok(())
}

#[test]
fn a_cancelled_future_resets() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |stream| async move {
        pending::<()>().await;
        drop(stream);
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    let tasks = tasks(&mut reactor);
    assert_eq!(tasks.len(), 1);
    tasks[0].key.cancel(&mut reactor)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (Vec::new(), RESET));
    Ok(())
}

#[test]
fn a_cancelled_future_that_has_closed_its_side_ends_cleanly() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(b"whole").await?;
        stream.close().await?;
        pending().await
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    tasks(&mut reactor)[0].key.cancel(&mut reactor)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(peer.take_error()?.is_none(), "it is not reset");
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"whole".to_vec(), None));
    Ok(())
}

#[test]
fn the_end_of_the_loop_resets() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(b"half of").await?;
        pending().await
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    drop(reactor);
    assert_eq!(read_all(&peer).1, RESET);
    Ok(())
}

#[test]
fn a_reset_is_an_error_of_a_read_after_what_has_come() -> Result {
    let mut reactor = reactor()?;
    let ended = Notes::default();
    let seen = ended.clone();
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        let mut all = Vec::new();
        let error = stream.read_to_end(&mut all).await.unwrap_err();
        let again = stream.write_all(b"x").await.unwrap_err();
        seen.borrow_mut().push((all, errno(&error), errno(&again)));
        Err(error)
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    peer.write_all(b"last words")?;
    reset(peer)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*ended.borrow(), [(b"last words".to_vec(), RESET, RESET)]);
    Ok(())
}

#[test]
fn a_handle_that_was_moved_outlives_its_future() -> Result {
    let mut reactor = reactor()?;
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        drop(spawn_local(async move {
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            stream.write_all(text.as_bytes()).await?;
            stream.close().await
        }));
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    peer.write_all(b"upgraded")?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"upgraded".to_vec(), None));
    Ok(())
}

#[test]
fn a_handle_that_was_moved_resets_if_it_is_dropped_unclosed() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        drop(spawn_local(async move {
            stream.write_all(b"half of").await.unwrap();
            futures::yield_now().await;
        }));
        Ok(())
    })?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer).1, RESET);
    Ok(())
}

#[test]
fn a_removed_connection_fails_the_reads_of_its_future() -> Result {
    let mut reactor = reactor()?;
    let ended = Notes::default();
    let seen = ended.clone();
    let (key, peer) = open(&mut reactor, |mut stream| async move {
        let error = stream.read(&mut [0]).await.unwrap_err();
        seen.borrow_mut().push(error.kind());
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.remove(key.key())?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*ended.borrow(), [ErrorKind::ConnectionAborted]);
    assert_eq!(read_all(&peer), (Vec::new(), RESET));
    Ok(())
}

const IDLE: Duration = Duration::from_secs(60);

#[test]
fn a_timeout_is_an_error_of_a_read_and_the_future_decides() -> Result {
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let options = ConnectionOptions::new().idle_timeout(IDLE);
    let (_key, peer) = open_with(&mut reactor, &options, |mut stream| async move {
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        Ok(())
    })?;
    let began = reactor.now();
    reactor.run(&mut ())?;
    assert!(reactor.now() - began > IDLE);
    assert_eq!(read_all(&peer), (Vec::new(), None));
    Ok(())
}

#[test]
fn a_second_timeout_resets_a_connection_whose_future_hangs() -> Result {
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let options = ConnectionOptions::new().idle_timeout(IDLE);
    let (key, peer) = open_with(&mut reactor, &options, |stream| async move {
        pending::<()>().await;
        drop(stream);
        Ok(())
    })?;
    let began = reactor.now();
    while reactor.contains(key.key()) {
        reactor.turn(&mut (), None)?;
    }
    assert_eq!(reactor.now() - began, 2 * IDLE);
    assert_eq!(read_all(&peer), (Vec::new(), RESET));
    Ok(())
}

#[test]
fn a_future_whose_handler_was_replaced_gets_errors() -> Result {
    let mut reactor = reactor()?;
    let (near, mut peer) = tcp_pair()?;
    let ended = Notes::default();
    let seen = ended.clone();
    let handler: BoxedHandler<()> = Box::new(futures::protocol(
        move |mut stream, _connection, _cx| async move {
            let error = stream.read(&mut [0]).await.unwrap_err();
            seen.borrow_mut().push(error.kind());
            Ok(())
        },
    ));
    let key = Connection::open(&mut reactor, near, &ConnectionOptions::new(), handler)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.defer(move |cx| {
        let replaced = key.with(cx, |connection, _cx| {
            let other = on_data(|data, connection: &mut Connection<'_, ()>, _cx| {
                connection.end_response(); // the one of the future
                let _ = connection.write(data)?;
                connection.close_after_flush(Duration::from_secs(5));
                Ok(data.len())
            });
            connection.replace_handler(Box::new(other))
        });
        replaced.unwrap().unwrap();
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*ended.borrow(), [ErrorKind::ConnectionAborted]);
    peer.write_all(b"echo")?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"echo".to_vec(), None));
    Ok(())
}

#[test]
fn a_close_reports_that_the_bytes_before_it_were_not_sent() -> Result {
    for has_ended in [false, true] {
        let mut reactor = reactor()?;
        let (peers, errors) = (Notes::default(), Notes::default());
        let (known, kept) = (Rc::clone(&peers), Rc::clone(&errors));
        let (_key, peer) = open(&mut reactor, move |mut stream| async move {
            if has_ended {
                stream.read_to_end(&mut Vec::new()).await?;
            }
            // Between the last look of the loop and the write.
            known.take().into_iter().try_for_each(reset)?;
            stream.write_all(b"lost").await?;
            for _ in 0..2 {
                let closed = stream.close().await;
                kept.borrow_mut().push(closed.map_err(|error| error.kind()));
            }
            Ok(())
        })?;
        if has_ended {
            peer.shutdown(Shutdown::Write)?;
        }
        peers.borrow_mut().push(peer);
        run_out(&mut reactor, &mut ())?;
        let errors = errors.take();
        assert_eq!(errors.len(), 2);
        assert!(errors.iter().all(std::result::Result::is_err), "{errors:?}");
    }
    Ok(())
}
