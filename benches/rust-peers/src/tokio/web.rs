//! HTTP by hyper, with a task for each connection.

use std::convert::Infallible;
use std::future::ready;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use workloads::Result;
use workloads::echo::listen;
use workloads::web::{Form, HELLO, Options};

use super::runtime;

pub(crate) fn run(options: &Options) -> Result {
    match options.form {
        Form::Http1 => runtime()?.block_on(accept(serve_http1)),
        Form::Http2 => runtime()?.block_on(accept(serve_http2)),
        Form::Callbacks | Form::Http1Source => Err("tokio has only http1 and http2".into()),
    }
}

async fn accept<F>(serve: fn(TokioIo<TcpStream>) -> F) -> Result
where
    F: Future<Output = hyper::Result<()>> + Send + 'static,
{
    let listener = TcpListener::from_std(listen()?)?;
    loop {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that fails just ends.
        tokio::spawn(serve(TokioIo::new(stream)));
    }
}

async fn serve_http1(stream: TokioIo<TcpStream>) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .serve_connection(stream, service_fn(|request| ready(hello(request))))
        .await
}

async fn serve_http2(stream: TokioIo<TcpStream>) -> hyper::Result<()> {
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .serve_connection(stream, service_fn(|request| ready(hello(request))))
        .await
}

fn hello(_request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(HELLO));
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}
