//! Errors of the loop and of the source.

use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use handlers::futures::{self, Async};
use reactor::{Interest, Next, Reactor};

use super::{Result, pair};
use crate::reactor;

#[test]
fn an_fd_that_is_registered_already_is_named_by_the_wait() -> Result {
    let mut reactor = reactor::<()>();
    let (near, _far) = UnixStream::pair()?;
    let number = near.as_raw_fd();
    let shared = std::sync::Arc::new(near);
    let key = reactor.add(
        std::sync::Arc::clone(&shared),
        Interest::READABLE,
        |_io, _cx| Ok(Next::Keep),
    )?;
    let source = Rc::new(Async::new(shared)?);
    let waits = Rc::clone(&source);
    let refused = futures::block_on(&mut reactor, &mut (), async move { waits.readable().await })?;
    let refused = refused.expect_err("the loop has it already");
    let text = refused.to_string();
    assert!(text.contains(&format!("fd {number}")), "{text}");
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{text}");
    // The next wait asks again.
    reactor.remove(key)?;
    let waits = futures::block_on(&mut reactor, &mut (), async move {
        future::or(source.readable(), async {
            futures::sleep(Duration::from_millis(1)).await;
            Err(ErrorKind::TimedOut.into())
        })
        .await
    })?;
    assert_eq!(
        waits.map_err(|error| error.kind()),
        Err(ErrorKind::TimedOut)
    );
    Ok(())
}

#[test]
fn both_directions_learn_that_the_loop_is_full() -> Result {
    let mut reactor = Reactor::<()>::builder().max_registrations(1).build()?;
    let (near, _far) = pair()?;
    let mut bare = near.get_ref();
    while bare.write(&[0; 4096]).is_ok() {}
    let near = Rc::new(near);
    let (reads, writes) = (Rc::clone(&near), near);
    let errors = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move { (&*reads).read(&mut [0; 1]).await });
        let writer = futures::spawn_local(async move { (&*writes).write(&[0; 1]).await });
        [reader.await, writer.await]
    })?;
    for error in errors {
        let error = error?.expect_err("there is no place");
        assert!(error.to_string().contains("registrations"), "{error}");
    }
    Ok(())
}

#[test]
fn a_wait_without_a_task_of_a_loop_is_an_error() -> Result {
    let (near, mut far) = pair()?;
    let refused = future::block_on(near.readable()).expect_err("no loop");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    // What does not wait needs no loop.
    future::block_on(far.write_all(b"fine"))?;
    assert_eq!(future::block_on((&near).read(&mut [0; 8]))?, 4);
    Ok(())
}

#[test]
fn a_reset_wakes_the_reader_with_its_errno() -> Result {
    let mut reactor = reactor::<()>();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let mut near = Async::new(near)?;
    let read = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move { near.read(&mut [0; 8]).await });
        futures::yield_now().await;
        socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
        drop(far);
        reader.await.map_err(io::Error::other)?
    })?;
    assert_eq!(
        read.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[test]
fn a_close_after_a_reset_is_an_error() -> Result {
    let mut reactor = reactor::<()>();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let mut near = Async::new(near)?;
    let closed = futures::block_on(&mut reactor, &mut (), async move {
        near.write_all(b"it may be lost").await?;
        support::reset(far)?;
        near.read(&mut [0; 8]).await.unwrap_err(); // until the reset has come
        io::Result::Ok([near.close().await, near.close().await])
    })??;
    assert_eq!(
        closed.map(|closed| closed.map_err(|error| error.kind())),
        [Err(ErrorKind::NotConnected); 2]
    );
    Ok(())
}

#[test]
fn a_second_close_is_none_even_if_the_peer_has_closed_too() -> Result {
    let mut reactor = reactor::<()>();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    let mut near = Async::new(near)?;
    futures::block_on(&mut reactor, &mut (), async move {
        near.close().await?;
        drop(far);
        assert_eq!(near.read(&mut [0; 8]).await?, 0);
        near.close().await
    })??;
    Ok(())
}

#[test]
fn a_writer_of_a_pipe_learns_that_the_reader_is_gone() -> Result {
    let mut reactor = reactor::<()>();
    let (reader, writer) = io::pipe()?;
    let writer = Async::new(writer)?;
    let mut bare = writer.get_ref();
    while bare.write(&[0; 4096]).is_ok() {}
    let written = futures::block_on(&mut reactor, &mut (), async move {
        let mut writer = writer;
        let writes = futures::spawn_local(async move { writer.write_all(b"more").await });
        futures::yield_now().await;
        drop(reader);
        writes.await.map_err(io::Error::other)?
    })?;
    assert_eq!(
        written.map_err(|error| error.kind()),
        Err(ErrorKind::BrokenPipe)
    );
    Ok(())
}

#[test]
fn urgent_data_does_not_hide_the_bytes_after_its_mark() -> Result {
    let mut reactor = reactor::<()>();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = Async::new(TcpStream::connect(listener.local_addr()?)?)?;
    let (far, _) = listener.accept()?;
    let text = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move {
            let mut text = Vec::new();
            let mut buf = [0; 64];
            while text.len() < 10 {
                let size = near.read(&mut buf).await?;
                text.extend_from_slice(&buf[..size]);
            }
            io::Result::Ok(text)
        });
        futures::yield_now().await;
        (&far).write_all(b"before")?;
        rustix::net::send(&far, b"!", rustix::net::SendFlags::OOB)?;
        (&far).write_all(b"after")?;
        let text = reader.await.map_err(io::Error::other)?;
        drop(far);
        text
    })?;
    assert_eq!(text?, b"beforeafter");
    Ok(())
}
