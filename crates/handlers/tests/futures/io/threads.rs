//! Sources and other threads.

use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use futures_lite::{AsyncReadExt, FutureExt, future};
use handlers::futures::{self, Async, IntoInner};

use super::{Result, pair};
use crate::reactor;

fn is_send<T: Send>(value: T) -> T {
    value
}

const fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn a_source_is_send_and_sync_and_so_are_its_futures() -> Result {
    is_send_and_sync::<Async<TcpStream>>();
    is_send_and_sync::<IntoInner<UnixStream>>();
    let (near, mut far) = pair()?;
    let _waits = is_send(near.readable());
    let _reads = is_send(far.read(&mut [0; 1]));
    let _accepts = is_send(near.read_with(|stream| stream.take_error()));
    let _connects = is_send(Async::<TcpStream>::connect(([127, 0, 0, 1], 1).into()));
    Ok(())
}

#[test]
fn a_source_of_a_type_for_one_thread_is_for_one_thread() -> Result {
    /// It is not `Send`, as a source with a cache.
    struct Local(UnixStream, Rc<()>);
    impl std::os::fd::AsFd for Local {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    let mut reactor = reactor::<()>();
    let (near, far) = UnixStream::pair()?;
    let near = Async::new(Local(near, Rc::new(())))?;
    let held = futures::block_on(&mut reactor, &mut (), async move {
        let waits = futures::spawn_local(async move {
            near.readable().await?;
            io::Result::Ok(Rc::strong_count(&near.get_ref().1))
        });
        futures::yield_now().await;
        drop(far);
        waits.await.map_err(io::Error::other)?
    })?;
    assert_eq!(held?, 1);
    Ok(())
}

/// Polls a future once or twice in a task, so that it waits, and drops it.
async fn begin_to_wait(waits: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let goes_on = async {
        futures::yield_now().await;
        Ok(())
    };
    waits.or(goes_on).await
}

#[test]
fn a_source_that_another_thread_drops_is_forgotten_by_its_loop() -> Result {
    let mut reactor = reactor::<()>();
    let (near, mut far) = pair()?;
    let near = futures::block_on(&mut reactor, &mut (), async move {
        begin_to_wait(near.readable()).await?;
        io::Result::Ok(near)
    })??;
    assert_eq!(reactor.len(), 2);
    thread::spawn(move || drop(near))
        .join()
        .map_err(|_| "a panic")?;
    let end = futures::block_on(
        &mut reactor,
        &mut (),
        async move { far.read(&mut [0; 1]).await },
    )?;
    assert_eq!(end?, 0);
    Ok(())
}

#[test]
fn another_thread_takes_a_source_back() -> Result {
    let mut reactor = reactor::<()>();
    let (near, _far) = pair()?;
    let near = futures::block_on(&mut reactor, &mut (), async move {
        begin_to_wait(near.readable()).await?;
        io::Result::Ok(near)
    })??;
    let taker = thread::spawn(move || future::block_on(near.into_inner()));
    while reactor.len() > 1 {
        reactor.turn(&mut (), None)?;
    }
    let stream = taker.join().map_err(|_| "a panic")?;
    assert!(stream.peer_addr().is_ok());
    Ok(())
}

#[test]
fn another_thread_that_takes_a_source_back_does_not_wait_for_a_dead_loop() -> Result {
    let mut reactor = reactor::<()>();
    let (near, _far) = pair()?;
    let near = futures::block_on(&mut reactor, &mut (), async move {
        begin_to_wait(near.readable()).await?;
        io::Result::Ok(near)
    })??;
    let mut taking = near.into_inner();
    let taker = thread::spawn(move || {
        let first = future::block_on(future::poll_once(&mut taking));
        (first.is_none(), taking)
    });
    let (is_pending, taking) = taker.join().map_err(|_| "a panic")?;
    assert!(is_pending, "the loop did not run");
    let waits = thread::spawn(move || future::block_on(taking));
    drop(reactor);
    let stream: UnixStream = waits.join().map_err(|_| "a panic")?;
    assert!(stream.peer_addr().is_ok());
    Ok(())
}

#[test]
fn a_wait_on_another_thread_than_that_of_the_loop_is_an_error() -> Result {
    let mut reactor = reactor::<()>();
    let (near, _far) = pair()?;
    let near = Arc::new(near);
    let waits = Arc::clone(&near);
    futures::block_on(&mut reactor, &mut (), async move {
        begin_to_wait(waits.readable()).await
    })??;
    let refused = thread::spawn(move || future::block_on(near.readable()));
    let refused = refused.join().map_err(|_| "a panic")?;
    let kind = refused.map_err(|error| error.kind());
    assert_eq!(kind, Err(io::ErrorKind::Unsupported));
    Ok(())
}
