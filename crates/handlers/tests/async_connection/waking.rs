//! Calls that move to another task: the last that has asked is woken.

use std::cell::RefCell;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future};
use handlers::ConnectionOptions;
use handlers::futures::{AsyncConnection, block_on, spawn_local, yield_now};
use reactor::{ManualClock, Reactor};
use support::{PATIENCE, Result, run_out, silent_listener, turn_until_quiet};

use crate::{Notes, open, reactor};

#[test]
fn a_connection_wakes_the_last_that_has_read_and_written() -> Result {
    let mut reactor = reactor()?;
    let done = Notes::default();
    let notes = Rc::clone(&done);
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        while future::poll_once(stream.write(&[7; 50_000]))
            .await
            .is_some()
        {
            yield_now().await;
        }
        let mut other = Context::from_waker(Waker::noop());
        let write = Pin::new(&mut stream).poll_write(&mut other, b"x");
        assert!(write.is_pending());
        stream.write_all(b"x").await?;
        notes.borrow_mut().push("written");
        let read = Pin::new(&mut stream).poll_read(&mut other, &mut [0]);
        assert!(read.is_pending());
        stream.read_exact(&mut [0]).await?;
        notes.borrow_mut().push("read");
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    peer.set_nonblocking(true)?;
    for _ in 0..1000 {
        while peer.read(&mut [0; 65_536]).is_ok() {}
        turn_until_quiet(&mut reactor, &mut ())?;
        if !done.borrow().is_empty() {
            break;
        }
    }
    peer.write_all(b"x")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*done.borrow(), ["written", "read"]);
    Ok(())
}

#[test]
fn a_stop_wakes_each_clone_and_the_last_that_has_asked_it() -> Result {
    let mut reactor = reactor()?;
    let done = Notes::default();
    let notes = Rc::clone(&done);
    let (key, peer) = open(&mut reactor, |mut stream| async move {
        let mut first = stream.stopping();
        let mut other = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut first).poll(&mut other).is_pending());
        for stopping in [first.clone(), first.clone(), first] {
            let notes = Rc::clone(&notes);
            drop(spawn_local(async move {
                stopping.await;
                notes.borrow_mut().push(());
            }));
        }
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.defer(move |cx| {
        let closed = key.with(cx, |connection, _cx| connection.close_gracefully(PATIENCE));
        assert!(closed.is_ok());
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(done.borrow().len(), 3);
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_connect_wakes_the_last_that_has_asked_for_it() -> Result {
    let (_silent, nobody) = silent_listener("127.0.0.1:0")?;
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let connected = block_on(&mut reactor, &mut (), async move {
        let options = ConnectionOptions::new().connect_timeout(PATIENCE);
        let mut connect = AsyncConnection::connect::<()>(nobody, &options);
        assert!(future::poll_once(&mut connect).await.is_none());
        yield_now().await; // the attempt has begun
        let mut other = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut connect).poll(&mut other).is_pending());
        connect.await
    })?;
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::TimedOut);
    Ok(())
}

#[test]
fn an_attempt_ends_with_a_future_that_is_dropped_outside_of_tasks() -> Result {
    let (_silent, nobody) = silent_listener("127.0.0.1:0")?;
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let began = reactor.now();
    let kept = Rc::new(RefCell::new(None));
    let keeps = Rc::clone(&kept);
    block_on(&mut reactor, &mut (), async move {
        let options = ConnectionOptions::new().connect_timeout(PATIENCE);
        let mut connect = AsyncConnection::connect::<()>(nobody, &options);
        for _ in 0..3 {
            assert!(future::poll_once(&mut connect).await.is_none());
            yield_now().await;
        }
        keeps.replace(Some(connect));
    })?;
    drop(kept.take());
    reactor.run(&mut ())?; // no attempt keeps it alive
    assert_eq!(reactor.now(), began);
    Ok(())
}

/// The close is requested in the poll in which the handle is dropped.
#[test]
fn a_close_that_was_only_begun_makes_a_clean_end() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let mut reactor = reactor()?;
    block_on(&mut reactor, &mut (), async move {
        let mut stream = AsyncConnection::connect::<()>(server, &ConnectionOptions::new()).await?;
        stream.write_all(b"whole").await?;
        assert!(future::poll_once(stream.close()).await.is_none());
        std::io::Result::Ok(())
    })??;
    let (peer, _) = listener.accept()?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(crate::read_all(&peer), (b"whole".to_vec(), None));
    assert!(peer.take_error()?.is_none(), "it is not reset");
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}
