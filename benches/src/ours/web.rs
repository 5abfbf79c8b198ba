//! HTTP: by hyper with a task for each connection, or by callbacks.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use handlers::futures::{Async, AsyncConnection, HyperExecutor, HyperTimer, block_on, spawn_local};
use handlers::{ConnectionOptions, ListenOptions};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, rt};
use reactor::Reactor;
use workloads::Result;
use workloads::echo::listen;
use workloads::web::{Form, HELLO, Options};

use self::protocol::Http;

#[path = "../../../examples/http_hello/protocol.rs"]
mod protocol;

pub(crate) fn run(options: &Options) -> Result {
    match options.form {
        Form::Callbacks => by_callbacks(),
        Form::Http1 => by_connections(serve_http1::<AsyncConnection>),
        Form::Http2 => by_connections(serve_http2),
        Form::Http1Source => by_sources(),
    }
}

fn by_callbacks() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let listener = ListenOptions::new().adopt(listen()?)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Http::new(Duration::from_secs(30)))
    })?;
    reactor.run(&mut ())?;
    Ok(())
}

fn by_connections<F>(serve: fn(AsyncConnection) -> F) -> Result
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let mut reactor = Reactor::<()>::new()?;
    let listener = ListenOptions::new().adopt(listen()?)?;
    let options = ConnectionOptions::new();
    listener.serve_async(&mut reactor, &options, move |stream, _connection, _cx| {
        serve(stream)
    })?;
    reactor.run(&mut ())?;
    Ok(())
}

fn by_sources() -> Result {
    let accept = async {
        let listener = Async::new(listen()?)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.get_ref().set_nodelay(true)?;
            drop(spawn_local(serve_http1::<Async<TcpStream>>(stream)));
        }
    };
    block_on(&mut Reactor::new()?, &mut (), accept)?
}

async fn serve_http1<T: rt::Read + rt::Write + Unpin>(stream: T) -> io::Result<()> {
    http1::Builder::new()
        .timer(HyperTimer)
        .auto_date_header(false)
        .serve_connection(stream, service_fn(|request| ready(hello(request))))
        .await
        .map_err(io::Error::other)
}

async fn serve_http2(stream: AsyncConnection) -> io::Result<()> {
    http2::Builder::new(HyperExecutor)
        .timer(HyperTimer)
        .auto_date_header(false)
        .serve_connection(stream, service_fn(|request| ready(hello(request))))
        .await
        .map_err(io::Error::other)
}

fn hello(_request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(HELLO));
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}
