//! Connecting and accepting.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use handlers::futures::{self, Async};
use reactor::Context;
use rustix::net::{self, AddressFamily, SocketType};

use super::Result;
use crate::reactor;

#[test]
fn a_client_connects_to_a_listener_of_the_same_loop() -> Result {
    let mut reactor = reactor::<()>();
    let listener = Async::new(TcpListener::bind("127.0.0.1:0")?)?;
    let address = listener.get_ref().local_addr()?;
    let answer = futures::block_on(&mut reactor, &mut (), async move {
        let server = futures::spawn_local(async move {
            let mut sizes = Vec::new();
            for _ in 0..3 {
                let (mut stream, _peer) = listener.accept().await?;
                let mut text = String::new();
                stream.read_to_string(&mut text).await?;
                stream.write_all(text.as_bytes()).await?;
                sizes.push(text.len());
            }
            io::Result::Ok(sizes)
        });
        futures::yield_now().await; // the listener waits
        for text in ["a", "bc", "def"] {
            let mut client = Async::<TcpStream>::connect(address).await?;
            client.write_all(text.as_bytes()).await?;
            client.close().await?;
            let mut answer = String::new();
            client.read_to_string(&mut answer).await?;
            assert_eq!(answer, text);
        }
        server.await.map_err(io::Error::other)?
    })?;
    assert_eq!(answer?, [1, 2, 3]);
    Ok(())
}

#[test]
fn a_refused_connect_names_the_address_and_keeps_its_errno() -> Result {
    let mut reactor = reactor::<()>();
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // closed again
    let connect = Async::<TcpStream>::connect(address);
    let refused = futures::block_on(&mut reactor, &mut (), connect)?;
    let refused = refused.expect_err("nothing listens there");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let text = refused.to_string();
    assert!(
        text.starts_with(&format!("connect to {address}: ")),
        "{text}"
    );
    assert_eq!(
        handlers::errno(&refused),
        Some(rustix::io::Errno::CONNREFUSED.raw_os_error())
    );
    Ok(())
}

#[test]
fn a_listener_of_the_unix_family_accepts() -> Result {
    let mut reactor = reactor::<()>();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = Async::new(UnixListener::bind(&path)?)?;
    let text = futures::block_on(&mut reactor, &mut (), async move {
        let server = futures::spawn_local(async move {
            let mut text = String::new();
            listener.accept().await?.read_to_string(&mut text).await?;
            io::Result::Ok(text)
        });
        futures::yield_now().await;
        let client = UnixStream::connect(&path)?;
        io::Write::write_all(&mut &client, b"hello")?;
        drop(client);
        server.await.map_err(io::Error::other)?
    })?;
    assert_eq!(text?, "hello");
    Ok(())
}

#[test]
fn a_client_connects_to_a_path_once_the_queue_has_room() -> Result {
    let mut reactor = reactor::<()>();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    net::listen(&listener, 0)?; // room for one connection
    let listener = Async::new(listener)?;
    let text = futures::block_on(&mut reactor, &mut (), async move {
        let first = Async::<UnixStream>::connect(&path).await?;
        let second = Async::<UnixStream>::connect(&path);
        let waited = futures::timeout(Duration::from_secs(1), second).await;
        assert!(waited.is_err(), "{waited:?}");
        let turns = |cx: &mut Context<'_, ()>| cx.registry.metrics().turns;
        let turns = futures::with_context(turns).await;
        assert!(turns < 100, "pauses of up to 64 ms: {turns}");
        drop((first, listener.accept().await?));
        let mut second = Async::<UnixStream>::connect(&path).await?;
        second.write_all(b"hello").await?;
        drop(second);
        let mut text = String::new();
        listener.accept().await?.read_to_string(&mut text).await?;
        io::Result::Ok(text)
    })?;
    assert_eq!(text?, "hello");
    Ok(())
}

#[test]
fn a_failed_connect_to_a_path_names_it() -> Result {
    let mut reactor = reactor::<()>();
    let connect = Async::<UnixStream>::connect("/nowhere/socket");
    let failed = futures::block_on(&mut reactor, &mut (), connect)?;
    let failed = failed.expect_err("no folder has this name");
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    let text = failed.to_string();
    assert!(text.starts_with("connect to /nowhere/socket: "), "{text}");
    Ok(())
}

#[test]
fn a_client_connects_from_the_given_address() -> Result {
    let mut reactor = reactor::<()>();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connect = Async::<TcpStream>::connect_from("127.0.0.2:0".parse()?, listener.local_addr()?);
    let stream = futures::block_on(&mut reactor, &mut (), connect)??;
    assert_eq!(stream.get_ref().local_addr()?.ip().to_string(), "127.0.0.2");
    Ok(())
}

#[test]
fn a_port_that_a_socket_has_met_itself_on_is_free_again() -> Result {
    let mut reactor = reactor::<()>();
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // closed again
    let connect = Async::<TcpStream>::connect_from(address, address);
    let refused = futures::block_on(&mut reactor, &mut (), connect)?;
    let kind = refused.map_err(|error| error.kind()).map(drop);
    assert_eq!(kind, Err(ErrorKind::ConnectionRefused));
    let other = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    net::bind(&other, &address)?; // without SO_REUSEADDR
    Ok(())
}

#[test]
fn a_task_waits_for_a_datagram_and_keeps_the_part_that_fits() -> Result {
    let mut reactor = reactor::<()>();
    let near = Async::<UdpSocket>::bind("127.0.0.1:0".parse()?)?;
    let far = Async::<UdpSocket>::bind("127.0.0.1:0".parse()?)?;
    let (to, from) = (near.get_ref().local_addr()?, far.get_ref().local_addr()?);
    let received = futures::block_on(&mut reactor, &mut (), async move {
        let waiting = futures::spawn_local(async move {
            let mut buf = [0; 3];
            let received = near.recv_from(&mut buf).await?;
            io::Result::Ok((received, buf))
        });
        futures::yield_now().await; // the task waits
        assert_eq!(far.send_to(b"hello", to).await?, 5);
        waiting.await?
    })??;
    assert_eq!(received, ((3, from), *b"hel"));
    Ok(())
}

#[test]
fn a_datagram_is_sent_while_another_task_waits_for_one() -> Result {
    let mut reactor = reactor::<()>();
    let near = Rc::new(Async::<UdpSocket>::bind("127.0.0.1:0".parse()?)?);
    let far = UdpSocket::bind("127.0.0.1:0")?;
    let to = far.local_addr()?;
    let sent = futures::block_on(&mut reactor, &mut (), async move {
        let receives = Rc::clone(&near);
        let waiting =
            futures::spawn_local(async move { receives.recv_from(&mut [0; 9]).await.map(drop) });
        futures::yield_now().await; // the task waits
        let sent = future::poll_once(near.send_to(b"hello", to)).await;
        waiting.abort();
        sent.map(|sent| sent.map_err(|error| error.kind()))
    })?;
    assert_eq!(sent, Some(Ok(5)));
    Ok(())
}

#[test]
fn a_failed_bind_names_the_address() -> Result {
    let failed = Async::<UdpSocket>::bind("192.0.2.1:0".parse()?); // an address of no host
    let text = failed.expect_err("the address is not ours").to_string();
    assert!(text.starts_with("bind to 192.0.2.1:0: "), "{text}");
    Ok(())
}
