//! Connecting and accepting.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, Async};

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
        let client = std::os::unix::net::UnixStream::connect(&path)?;
        io::Write::write_all(&mut &client, b"hello")?;
        drop(client);
        server.await.map_err(io::Error::other)?
    })?;
    assert_eq!(text?, "hello");
    Ok(())
}
