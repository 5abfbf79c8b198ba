//! The end of a source: dropped, cancelled, taken back, with its loop.

use std::cell::Cell;
use std::future::{Future, pending};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt, future};
use handlers::futures::{self, Async, JoinError};
use reactor::Interest;

use super::{Result, pair};
use crate::reactor;

#[test]
fn a_dropped_source_is_closed_after_the_poll() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = UnixStream::pair()?;
    let end = futures::block_on(&mut reactor, &mut (), async move {
        let mut near_async = Async::new(near.try_clone()?)?;
        let waits = async {
            near_async.read_exact(&mut [0; 1]).await?;
            io::Result::Ok(true)
        };
        let is_read = waits
            .or(async {
                futures::yield_now().await;
                Ok(true)
            })
            .await?;
        assert!(is_read);
        drop(near_async);
        near.write_all(b"the duplicate is open")?;
        drop(near);
        futures::yield_now().await;
        let mut received = Vec::new();
        far.read_to_end(&mut received)?;
        io::Result::Ok(received)
    })?;
    assert_eq!(end?, b"the duplicate is open");
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    assert_eq!(reactor.metrics().kernel_updates, 2);
    Ok(())
}

#[test]
fn a_task_that_is_aborted_while_it_waits_ends_its_registration() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    let (ended, rest) = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move { near.read(&mut [0; 8]).await });
        futures::yield_now().await;
        reader.abort();
        let ended = reader.await.map(|_| ());
        (ended, far.read(&mut [0; 8]).await)
    })?;
    assert_eq!(ended, Err(JoinError::Cancelled));
    assert_eq!(rest?, 0, "the peer is closed");
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn a_number_that_is_reused_in_the_same_turn_gets_its_own_events() -> Result {
    let mut reactor = reactor::<()>();
    let (old, mut old_peer) = UnixStream::pair()?;
    let (new, mut new_peer) = UnixStream::pair()?;
    // A high number, which no other test of this process gets meanwhile.
    let old = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(&old, 800)?);
    let number = old.as_raw_fd();
    let old = Async::new(old)?;
    let heard = Rc::new(Cell::new(0));
    let hears = Rc::clone(&heard);
    // Both are reported in one batch. The first task drops the source of the second.
    let slot = Rc::new(std::cell::RefCell::new(Some(old)));
    let dropped = Rc::clone(&slot);
    let received = futures::block_on(&mut reactor, &mut (), async move {
        let victim = futures::spawn_local(async move {
            std::future::poll_fn(|cx| match &*slot.borrow() {
                Some(old) => old.poll_readable(cx).map(|_| hears.set(1)),
                None => std::task::Poll::Pending,
            })
            .await;
        });
        let mut first = Async::new(new)?;
        let killer = futures::spawn_local(async move {
            first.read_exact(&mut [0; 1]).await?;
            drop(dropped.take());
            futures::yield_now().await;
            let (again, peer) = UnixStream::pair()?;
            let again = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(&again, number)?);
            assert_eq!(again.as_raw_fd(), number, "that of the dropped source");
            let (mut again, mut peer) = (Async::new(again)?, Async::new(peer)?);
            let reads = futures::spawn_local(async move {
                let mut text = String::new();
                again.read_to_string(&mut text).await?;
                io::Result::Ok(text)
            });
            futures::yield_now().await;
            peer.write_all(b"for the new one").await?;
            drop(peer);
            reads.await.map_err(io::Error::other)?
        });
        futures::yield_now().await;
        new_peer.write_all(b"1")?;
        old_peer.write_all(b"for the old one")?;
        let received = killer.await.map_err(io::Error::other)?;
        victim.abort();
        received
    })?;
    assert_eq!(received?, "for the new one");
    assert!(heard.get() <= 1);
    Ok(())
}

#[test]
fn a_source_is_taken_back_open_and_without_its_registration() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = UnixStream::pair()?;
    let back = futures::block_on(&mut reactor, &mut (), async move {
        let mut far = Async::new(far)?;
        let early = Async::new(near)?.into_inner().await; // it was never registered
        near = early;
        let read = async { far.read(&mut [0; 8]).await.map(drop) };
        read.or(async {
            futures::yield_now().await;
            Ok(())
        })
        .await?;
        let far = far.into_inner().await;
        io::Result::Ok((near, far))
    })?;
    (near, far) = back?;
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    near.write_all(b"still")?;
    let mut buf = [0; 5];
    far.read_exact(&mut buf)?;
    assert_eq!(&buf, b"still");
    assert!(rustix::fs::fcntl_getfl(&far)?.contains(rustix::fs::OFlags::NONBLOCK));
    Ok(())
}

#[test]
fn taking_a_source_back_wakes_the_last_that_has_polled() -> Result {
    let mut reactor = reactor::<()>();
    let (near, _far) = pair()?;
    futures::block_on(&mut reactor, &mut (), async move {
        assert!(future::poll_once(near.readable()).await.is_none());
        futures::yield_now().await; // it is registered
        let mut taking = near.into_inner();
        let mut other = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut taking).poll(&mut other).is_pending());
        taking.await
    })?;
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn a_loop_that_is_dropped_closes_the_sources_that_are_waited_for() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    futures::spawn(
        &mut reactor,
        async move { near.read(&mut [0; 1]).await },
        |_, _| (),
    )?;
    reactor.turn(&mut (), Some(Duration::ZERO))?;
    drop(reactor);
    let mut bare = far.get_ref();
    assert_eq!(bare.read(&mut [0; 1])?, 0);
    // What waits later says so, in place of waiting for ever.
    let mut second = crate::reactor::<()>();
    let (kept, _peer) = pair()?;
    let kept = Rc::new(kept);
    let waits = Rc::clone(&kept);
    futures::spawn(
        &mut second,
        async move { waits.readable().await },
        |_, _| (),
    )?;
    second.turn(&mut (), Some(Duration::ZERO))?;
    drop(second);
    let mut third = crate::reactor::<()>();
    let refused = futures::block_on(&mut third, &mut (), async move { kept.readable().await })?;
    let refused = refused.expect_err("its loop is gone");
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    let again = futures::block_on(&mut third, &mut (), async move { far.write(b"x").await })?;
    assert_eq!(
        again.map_err(|error| error.kind()),
        Err(io::ErrorKind::BrokenPipe)
    );
    Ok(())
}

#[test]
fn a_registration_that_a_callback_removes_is_made_again() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    let number = near.as_fd().as_raw_fd();
    let read = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move { near.read(&mut [0; 8]).await });
        futures::yield_now().await;
        futures::with_context(move |cx: &mut reactor::Context<'_, ()>| {
            let found = cx.registry.registrations().find(|info| info.fd == number);
            let key = found.map(|info| info.key);
            assert_eq!(
                cx.registry.interest(key.unwrap()).unwrap(),
                Interest::READABLE
            );
            cx.registry.remove(key.unwrap()).unwrap();
        })
        .await;
        futures::yield_now().await;
        far.write_all(b"again").await?;
        reader.await.map_err(io::Error::other)?
    })?;
    assert_eq!(read?, 5);
    Ok(())
}

#[test]
fn a_source_that_only_waits_does_not_keep_the_loop_alive() -> Result {
    let mut reactor = reactor::<()>();
    let (near, _far) = pair()?;
    let near = Rc::new(near);
    let waits = Rc::clone(&near);
    let task = futures::spawn(
        &mut reactor,
        async move { waits.readable().await },
        |_, _| (),
    )?;
    reactor.turn(&mut (), Some(Duration::ZERO))?;
    assert!(task.cancel(&mut reactor).is_ok());
    reactor.run(&mut ())?; // ends, although the source is still registered
    assert_eq!(reactor.len(), 2);
    drop(near);
    let never = futures::spawn(&mut reactor, pending::<()>(), |(), _| ())?;
    reactor.turn(&mut (), Some(Duration::ZERO))?;
    assert_eq!(
        reactor.len(),
        1,
        "a drop outside of a task is carried out in a turn"
    );
    assert!(never.cancel(&mut reactor).is_ok());
    Ok(())
}

#[test]
fn a_flush_and_a_close_do_not_wait_for_a_peer_that_reads_nothing() -> Result {
    let mut reactor = reactor::<()>();
    let (near, mut far) = UnixStream::pair()?;
    let mut near = Async::new(near)?;
    let sent = futures::block_on(&mut reactor, &mut (), async move {
        let mut sent = 0;
        while let Some(written) = future::poll_once(near.write(&[7; 10_000])).await {
            sent += written?;
        }
        assert!(future::poll_once(near.flush()).await.is_some());
        let closed = future::poll_once(near.close()).await;
        closed.ok_or(io::ErrorKind::TimedOut)??;
        io::Result::Ok(sent)
    })??;
    let mut received = Vec::new();
    far.read_to_end(&mut received)?;
    assert_eq!(received.len(), sent);
    Ok(())
}
