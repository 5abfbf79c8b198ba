//! Connecting within a future.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{AsyncConnection, block_on, sleep, spawn_local};
use handlers::{ConnectionOptions, errno};
use reactor::{ManualClock, Reactor};
use support::{Result, silent_listener};

use crate::{RESET, reactor, read_all};

#[test]
fn a_task_connects_asks_and_closes() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let peer = std::thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        let mut question = Vec::new();
        client.read_to_end(&mut question)?;
        client.write_all(&question.to_ascii_uppercase())
    });
    let answer = block_on(&mut reactor()?, &mut (), async move {
        let mut stream = AsyncConnection::connect::<()>(server, &ConnectionOptions::new()).await?;
        stream.write_all(b"hello").await?;
        stream.close().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    })??;
    peer.join().unwrap()?;
    assert_eq!(answer, "HELLO");
    Ok(())
}

#[test]
fn a_refused_connection_is_an_error_with_its_errno() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let nobody = listener.local_addr()?;
    drop(listener);
    let error = block_on(&mut reactor()?, &mut (), async move {
        AsyncConnection::connect::<()>(nobody, &ConnectionOptions::new()).await
    })?;
    let error = error.unwrap_err();
    assert_eq!(errno(&error), Some(111), "{error}");
    Ok(())
}

#[test]
fn a_connection_that_is_dropped_unclosed_is_reset() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let mut reactor = reactor()?;
    block_on(&mut reactor, &mut (), async move {
        let mut stream = AsyncConnection::connect::<()>(server, &ConnectionOptions::new()).await?;
        stream.write_all(b"half of").await
    })??;
    reactor.run(&mut ())?;
    let (client, _) = listener.accept()?;
    assert_eq!(read_all(&client).1, RESET);
    Ok(())
}

#[test]
fn an_attempt_ends_by_its_timeout_and_with_its_future() -> Result {
    let (_silent, nobody) = silent_listener("127.0.0.1:0")?;
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let options = ConnectionOptions::new().connect_timeout(Duration::from_secs(9));
    let began = reactor.now();
    let error = block_on(&mut reactor, &mut (), {
        let options = options.clone();
        async move { AsyncConnection::connect::<()>(nobody, &options).await }
    })?;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(reactor.now() - began, Duration::from_secs(9));

    block_on(&mut reactor, &mut (), async move {
        let task = spawn_local(AsyncConnection::connect::<()>(nobody, &options));
        sleep(Duration::from_secs(1)).await;
        task.abort();
        let _ = task.await;
    })?;
    reactor.run(&mut ())?; // no attempt keeps it alive
    assert_eq!(reactor.now() - began, Duration::from_secs(10));
    Ok(())
}
