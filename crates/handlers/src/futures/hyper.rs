//! The traits by which hyper uses a runtime, for a loop: feature `hyper`.
//!
//! [`AsyncConnection`] and [`Async`] are hyper's streams, [`HyperTimer`] is its timer and
//! [`HyperExecutor`] its executor. So its servers and clients run on the loop unchanged.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt;

use super::{Async, AsyncConnection, Sleep, now, sleep, sleep_until, spawn_local};

impl rt::Read for AsyncConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_read_with(cx, |input| {
            let length = input.len().min(buf.remaining());
            buf.put_slice(&input[..length]);
            length
        });
        read.map_ok(|_read| ())
    }
}

/// The maximum number of bytes of one read of an [`Async`].
const READ_MAX: usize = 64 * 1024;

thread_local! {
    /// The buffer of all reads of the thread. The memory of hyper is not initialized, and cannot be
    /// read into without `unsafe`.
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The same as by [`AsyncRead`], but one read returns at most 64 KiB.
///
/// # Cost
/// Received bytes are copied once more, out of a buffer of 64 KiB that all reads of the thread
/// share.
impl<T: AsFd + 'static> rt::Read for Async<T>
where
    for<'a> &'a T: io::Read,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Taken, because the source may be the code of a user that reads in its turn.
        let mut bytes = READ.try_with(Cell::take).unwrap_or_default();
        bytes.resize(READ_MAX, 0);
        let wanted = buf.remaining().min(READ_MAX);
        let polled = AsyncRead::poll_read(self, cx, &mut bytes[..wanted]);
        if let Poll::Ready(Ok(read)) = polled {
            buf.put_slice(&bytes[..read.min(wanted)]);
        }
        let _ = READ.try_with(|spare| spare.set(bytes));
        polled.map_ok(|_read| ())
    }
}

/// Implements hyper's writes by those of [`AsyncWrite`].
macro_rules! write_as_async_write {
    () => {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            AsyncWrite::poll_write(self, cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            AsyncWrite::poll_flush(self, cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            AsyncWrite::poll_close(self, cx)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            AsyncWrite::poll_write_vectored(self, cx, bufs)
        }
    };
}

impl rt::Write for AsyncConnection {
    write_as_async_write!();
}

impl<T: AsFd + 'static> rt::Write for Async<T>
where
    for<'a> &'a T: io::Write,
{
    write_as_async_write!();
}

impl rt::Sleep for Sleep {}

/// The timers of the loop for hyper. They run on the wheel of the loop whose task polls them, and
/// on its manual clock.
///
/// ```no_run
/// use std::convert::Infallible;
/// use std::io;
/// use std::time::Duration;
/// use handlers::futures::HyperTimer;
/// use handlers::{ConnectionOptions, ListenOptions};
/// use http_body_util::Full;
/// use hyper::body::{Bytes, Incoming};
/// use hyper::server::conn::http1;
/// use hyper::service::service_fn;
/// use hyper::{Request, Response};
///
/// async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
///     Ok(Response::new(Full::from("hello")))
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let listener = ListenOptions::new().bind(&"127.0.0.1:8080".parse().unwrap())?;
/// let options = ConnectionOptions::new();
/// listener.serve_async(&mut reactor, &options, |stream, _connection, _cx| async move {
///     let connection = http1::Builder::new()
///         .timer(HyperTimer)
///         .header_read_timeout(Duration::from_secs(10))
///         .serve_connection(stream, service_fn(hello));
///     connection.await.map_err(io::Error::other)
/// })?;
/// reactor.run(&mut ())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(sleep_until(deadline))
    }

    fn now(&self) -> Instant {
        now().unwrap_or_else(Instant::now)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(sleep) => sleep.get_mut().reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

/// Spawns the tasks of hyper on the loop whose task uses hyper. They need not be `Send`.
///
/// # Panics
/// If hyper spawns a task while no task of this loop is polled.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperExecutor;

impl<F> rt::Executor<F> for HyperExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        drop(spawn_local(future));
    }
}
