//! hyper on the loop: its servers, its client, its timers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod first;
mod second;
mod sources;
#[cfg(feature = "tls")]
mod tls;
mod traits;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use handlers::futures::{AsyncConnection, HyperExecutor, HyperTimer, sleep};
use handlers::{Address, ListenOptions, Listener};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use support::Result;

const GRACE: Duration = Duration::from_secs(5);

fn listen() -> Result<(Listener, SocketAddr)> {
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("an address of TCP".into());
    };
    Ok((listener, address))
}

/// Answers a GET by a greeting, `/slow` after a second, and a POST by the length of its body.
async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let text = match (request.method(), request.uri().path()) {
        (&Method::POST, _) => {
            let (mut body, mut length) = (request.into_body(), 0);
            while let Some(frame) = body.frame().await {
                length += frame?.data_ref().map_or(0, Bytes::len);
            }
            length.to_string()
        }
        (_, "/slow") => {
            sleep(Duration::from_secs(1)).await;
            "late".to_owned()
        }
        _ => "hello".to_owned(),
    };
    Ok(Response::new(Full::from(text)))
}

/// Serves one connection by HTTP/1, until its client or its server ends it.
async fn serve_http1(stream: AsyncConnection) -> io::Result<()> {
    let stopping = stream.stopping();
    let connection = http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(stream, service_fn(answer));
    serve(
        connection,
        |connection| connection.graceful_shutdown(),
        stopping,
    )
    .await
}

/// Serves one connection by HTTP/2.
async fn serve_http2(stream: AsyncConnection) -> io::Result<()> {
    let stopping = stream.stopping();
    let connection = http2::Builder::new(HyperExecutor)
        .timer(HyperTimer)
        .serve_connection(stream, service_fn(answer));
    serve(
        connection,
        |connection| connection.graceful_shutdown(),
        stopping,
    )
    .await
}

/// Drives a connection of hyper. It finishes its requests once the server stops.
async fn serve<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: impl Fn(Pin<&mut C>),
    stopping: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut connection, mut stopping) = (pin!(connection), pin!(stopping));
    let mut is_stopping = false;
    let ended = poll_fn(|cx| {
        // First the connection, so that requests which have arrived are begun.
        let polled = connection.as_mut().poll(cx);
        if polled.is_ready() || is_stopping || stopping.as_mut().poll(cx).is_pending() {
            return polled;
        }
        is_stopping = true;
        shut_down(connection.as_mut());
        connection.as_mut().poll(cx)
    });
    ended.await.map_err(io::Error::other)
}

/// Returns the text of a body.
async fn text(response: Response<Incoming>) -> Result<String> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

/// Returns a request for a path.
fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("host", "x");
    request.body(Full::default()).unwrap()
}
