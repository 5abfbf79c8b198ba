//! One connection: the choice of its protocol, and its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;

use futures_lite::AsyncReadExt;
use futures_lite::future::or;
use handlers::Connection;
use handlers::futures::{AsyncConnection, HyperExecutor, HyperTimer, sleep};
use handlers::tls::Tls;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;

use crate::routes::answer;
use crate::{Daemon, Site};

/// The first bytes of a client that speaks HTTP/2 without asking (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns the future of a connection.
pub(crate) fn serve_connection(
    stream: AsyncConnection,
    connection: &Connection<'_, Daemon>,
    site: Rc<Site>,
) -> impl Future<Output = io::Result<()>> + use<> {
    let alpn = alpn(connection).map(<[u8]>::to_vec);
    async move {
        let mut stream = stream;
        let is_http2 = match alpn.as_deref() {
            Some(b"h2") => true,
            Some(_) => false,
            None => begins_http2(&mut stream, &site).await?,
        };
        if is_http2 {
            serve_http2(stream, site).await
        } else {
            serve_http1(stream, site).await
        }
    }
}

/// Returns the protocol that a client of TLS has asked for.
fn alpn<'a>(connection: &'a Connection<'_, Daemon>) -> Option<&'a [u8]> {
    match connection.stream::<Tls<TcpStream>>() {
        Some(tls) => tls.info().alpn(),
        None => connection.stream::<Tls<UnixStream>>()?.info().alpn(),
    }
}

/// Returns `true` if the client begins with the preface of HTTP/2.
async fn begins_http2(stream: &mut AsyncConnection, site: &Site) -> io::Result<bool> {
    let late = async {
        sleep(site.request_timeout).await;
        Err(io::Error::from(ErrorKind::TimedOut))
    };
    let stopping = stream.stopping();
    let stopped = async {
        stopping.await;
        Ok(())
    };
    // They outlive the read, which a stop may end: what has come then is for HTTP/1.
    let (mut first, mut length) = ([0; HTTP2_PREFACE.len()], 0);
    let preface = async {
        while length < first.len() && HTTP2_PREFACE.starts_with(&first[..length]) {
            match stream.read(&mut first[length..]).await? {
                0 => break,
                read => length += read,
            }
        }
        Ok(())
    };
    or(preface, or(stopped, late)).await?;
    stream.unread(&first[..length]);
    Ok(first[..length] == *HTTP2_PREFACE)
}

async fn serve_http1(stream: AsyncConnection, site: Rc<Site>) -> io::Result<()> {
    let stopping = stream.stopping();
    let timeout = site.request_timeout;
    let service = service_fn(move |request| {
        let answering = answer(request, Rc::clone(&site));
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let connection = http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(timeout)
        .half_close(true) // a client that closes its write side after its request is answered
        .serve_connection(stream, service);
    let ended = drive(
        connection,
        |connection| connection.graceful_shutdown(),
        stopping,
    )
    .await;
    match ended {
        // Between two requests, or after the response to a bad one.
        Err(error) if error.is_timeout() || error.is_parse() => Ok(()),
        ended => ended.map_err(io::Error::other),
    }
}

async fn serve_http2(stream: AsyncConnection, site: Rc<Site>) -> io::Result<()> {
    let stopping = stream.stopping();
    let service = service_fn(move |request| {
        let answering = answer(request, Rc::clone(&site));
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let connection = http2::Builder::new(HyperExecutor)
        .timer(HyperTimer)
        .serve_connection(stream, service);
    let ended = drive(
        connection,
        |connection| connection.graceful_shutdown(),
        stopping,
    )
    .await;
    ended.map_err(io::Error::other)
}

/// Polls a connection of hyper to its end. When the daemon stops, the requests that have begun are
/// finished.
async fn drive<C: Future>(
    connection: C,
    shut_down: impl Fn(Pin<&mut C>),
    stopping: impl Future<Output = ()>,
) -> C::Output {
    let (mut connection, mut stopping) = (pin!(connection), pin!(stopping));
    let mut is_stopping = false;
    poll_fn(|cx| {
        // First the connection, so that requests which have arrived are begun.
        let polled = connection.as_mut().poll(cx);
        if polled.is_ready() || is_stopping || stopping.as_mut().poll(cx).is_pending() {
            return polled;
        }
        is_stopping = true;
        shut_down(connection.as_mut());
        connection.as_mut().poll(cx)
    })
    .await
}
