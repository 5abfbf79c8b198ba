//! HTTP/1 over sources, without a connection of `handlers`.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use handlers::futures::{Async, block_on, spawn_local};
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, rt};
use reactor::Reactor;
use support::Result;

use crate::{answer, get, text};

/// Longer than a read, and than the buffers of a socket.
const UPLOAD: usize = 3_000_000;

/// Serves one client of hyper by a server of hyper. Returns the answers to two requests.
async fn exchange<S, C>(server: S, client: C) -> Result<[String; 2]>
where
    S: rt::Read + rt::Write + Unpin + 'static,
    C: rt::Read + rt::Write + Unpin + 'static,
{
    let serving = spawn_local(async move {
        http1::Builder::new()
            .serve_connection(server, service_fn(answer))
            .await
    });
    let (mut sender, connection) = handshake(client).await?;
    let client = spawn_local(connection);
    let greeting = text(sender.send_request(get("/")).await?).await?;
    let body = Full::from(Bytes::from(vec![b'x'; UPLOAD]));
    let upload = Request::post("/").header("host", "x").body(body)?;
    let length = text(sender.send_request(upload).await?).await?;
    drop(sender);
    client.await??;
    serving.await??; // the client has closed its write side
    Ok([greeting, length])
}

#[test]
fn hyper_serves_http1_over_a_source_of_a_unix_socket() -> Result {
    let (server, client) = UnixStream::pair()?;
    let exchange = exchange(Async::new(server)?, Async::new(client)?);
    let answers = block_on(&mut Reactor::new()?, &mut (), exchange)??;
    assert_eq!(answers, ["hello", "3000000"]);
    Ok(())
}

#[test]
fn hyper_serves_http1_over_a_source_of_tcp() -> Result {
    let listener = Async::new(TcpListener::bind("127.0.0.1:0")?)?;
    let address = listener.get_ref().local_addr()?;
    let answers = block_on(&mut Reactor::new()?, &mut (), async move {
        let client = Async::<TcpStream>::connect(address).await?;
        let (server, _peer) = listener.accept().await?;
        exchange(server, client).await
    })??;
    assert_eq!(answers, ["hello", "3000000"]);
    Ok(())
}
