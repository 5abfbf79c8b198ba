//! The handler of a connection whose protocol is a future.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::mem::replace;
use std::panic::Location;
use std::rc::Rc;

use reactor::Context;

use super::async_connection::AsyncConnection;
use super::link::Owner;
use super::port::{AnyPort, Port};
use crate::connection::{CloseReason, Connection, ConnectionHandler, Timeout};
use crate::futures::executor;
use crate::futures::spawn::spawn_from;
use crate::listener::Peer;

/// Makes a handler of a closure that returns a future: the protocol of the connection. Use it
/// wherever a connection gets a handler, for example in
/// [`Connection::open`](crate::Connection::open),
/// [`Connection::connect`](crate::Connection::connect) and
/// [`Accepted::open`](crate::Accepted::open). A whole server is
/// [`Listener::serve_async`](crate::Listener::serve_async).
///
/// The closure is called when the connection is open. On a TLS stream this is after the handshake,
/// so the closure can read its facts, such as the protocol that ALPN has chosen, from
/// [`connection.stream()`](crate::Connection::stream). The future runs as a
/// [task](crate::futures::spawn) of the loop.
///
/// # The end of the connection
/// - If the future returns `Ok`, the connection is closed gracefully: everything that was written
///   is sent. If the future has moved the [`AsyncConnection`] elsewhere, the connection lives until
///   that is dropped.
/// - If the future returns an error, everything that was written is sent, and then the connection
///   is reset.
/// - If the future panics or is cancelled, the connection is reset, unless it had closed its write
///   side.
/// - If the connection ends first, the future gets an error from its next read or write. It is not
///   cancelled. If the connection was cut, the task no longer keeps
///   [`Reactor::run`](reactor::Reactor::run) alive: a stop is over after its grace period. Another
///   task that has got the [`AsyncConnection`] keeps the loop alive until it ends.
///
/// A connection counts for the [connection limit](crate::ListenOptions::limit) of its listener
/// until its future has ended and its [`AsyncConnection`] is dropped. So a future should not
/// outlive its peer for long: one that only writes should also wait for the end of a read.
///
/// A peer that takes no byte for 30 s during a graceful close is reset.
///
/// While the future runs, it has a [pending response](crate::Connection::begin_response). If you
/// [replace](crate::Connection::replace_handler) the handler, the future gets errors, and the new
/// handler ends that response.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use handlers::{Connection, ConnectionOptions, futures};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let (near, mut far) = UnixStream::pair()?;
/// let shout = futures::protocol(|mut stream, _connection, _cx| async move {
///     let mut text = String::new();
///     stream.read_to_string(&mut text).await?;
///     stream.write_all(text.to_uppercase().as_bytes()).await
/// });
/// Connection::open(&mut reactor, near, &ConnectionOptions::new(), shout)?;
/// far.write_all(b"hello")?;
/// far.shutdown(std::net::Shutdown::Write)?;
/// reactor.run(&mut ())?; // until the connection has ended
/// let mut answer = String::new();
/// far.read_to_string(&mut answer)?;
/// assert_eq!(answer, "HELLO");
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn protocol<S, M, F>(make: M) -> impl ConnectionHandler<S>
where
    S: 'static,
    M: FnOnce(AsyncConnection, &mut Connection<'_, S>, &mut Context<'_, S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    protocol_of(Location::caller(), None, make)
}

/// Makes the handler of a connection to `peer`, whose future is spawned for the line `origin`.
pub(super) fn protocol_of<S, M, F>(
    origin: &'static Location<'static>,
    peer: Option<Peer>,
    make: M,
) -> AsyncHandler<S, SpawnFuture<M>>
where
    S: 'static,
    M: FnOnce(AsyncConnection, &mut Connection<'_, S>, &mut Context<'_, S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    AsyncHandler::new(SpawnFuture { make, peer, origin })
}

/// The code that gets the handle of a connection that has opened.
pub(super) trait Begin<S>: 'static {
    const OWNER: Owner;

    fn begin(
        self,
        port: &Rc<Port<S>>,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()>;

    /// Called if the connection has ended before it has opened.
    fn fail(self, error: io::Error, cx: &mut Context<'_, S>);
}

/// Spawns the future of a connection.
pub(super) struct SpawnFuture<M> {
    make: M,
    peer: Option<Peer>,
    origin: &'static Location<'static>,
}

impl<S, M, F> Begin<S> for SpawnFuture<M>
where
    S: 'static,
    M: FnOnce(AsyncConnection, &mut Connection<'_, S>, &mut Context<'_, S>) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    const OWNER: Owner = Owner::Future;

    fn begin(
        self,
        port: &Rc<Port<S>>,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        // Dropped before its end, it resets the connection: also if `make` panics.
        let guard = UnlessDone(Some(Rc::clone(port) as Rc<dyn AnyPort>));
        let stream = AsyncConnection::new(Rc::clone(port) as Rc<dyn AnyPort>, self.peer);
        let future = (self.make)(stream, connection, cx);
        let guarded = async move {
            let mut guard = guard;
            let result = future.await;
            guard.0 = None;
            result
        };
        let at_end = Rc::clone(port);
        let finish = move |result, cx: &mut Context<'_, S>| at_end.finish(result, cx);
        port.set_task(spawn_from(self.origin, cx.registry, guarded, finish)?);
        Ok(())
    }

    fn fail(self, _error: io::Error, _cx: &mut Context<'_, S>) {}
}

/// A part of a future that reports if the future is dropped before its end.
struct UnlessDone(Option<Rc<dyn AnyPort>>);

impl Drop for UnlessDone {
    fn drop(&mut self) {
        if let Some(port) = self.0.take() {
            port.link().cancel_future();
            port.leave();
        }
    }
}

pub(super) struct AsyncHandler<S, B> {
    stage: Stage<S, B>,
}

enum Stage<S, B> {
    New(B),
    Open(Rc<Port<S>>),
    Over(PhantomData<B>),
}

impl<S, B> AsyncHandler<S, B> {
    pub(super) const fn new(begin: B) -> Self {
        Self {
            stage: Stage::New(begin),
        }
    }

    fn take_stage(&mut self) -> Stage<S, B> {
        replace(&mut self.stage, Stage::Over(PhantomData))
    }
}

impl<S: 'static, B: Begin<S>> ConnectionHandler<S> for AsyncHandler<S, B> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let Stage::New(begin) = self.take_stage() else {
            return Ok(());
        };
        let executor = executor::of_loop(cx.registry)?;
        let port = Port::new(connection, &executor, B::OWNER);
        self.stage = Stage::Open(Rc::clone(&port));
        begin.begin(&port, connection, cx)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        if let Stage::Open(port) = &self.stage {
            if port.link().offer(data) {
                connection.pause_reading();
            }
            port.wake(cx.registry, |link| link.reader.wake());
        }
        Ok(data.len())
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        _connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Stage::Open(port) = &self.stage {
            port.link().end_input();
            port.wake(cx.registry, |link| link.reader.wake());
        }
        Ok(()) // the future closes our write side
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Stage::Open(port) = &self.stage {
            port.has_room(connection, cx.registry);
        }
        Ok(())
    }

    fn on_sent(
        &mut self,
        _position: u64,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.on_drain(connection, cx)
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Stage::Open(port) = &self.stage {
            port.begin_stop(connection, cx.registry);
        }
        Ok(())
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        _connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        if let Stage::Open(port) = &self.stage {
            port.link().fail_writing(crate::error::copy_error(error));
            port.wake(cx.registry, |link| link.writer.wake());
        }
        Ok(())
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let is_reported = if let Stage::Open(port) = &self.stage {
            let is_first = port.link().time_out(timed_out(timeout));
            port.wake(cx.registry, wake_both);
            is_first
        } else {
            false
        };
        if !is_reported {
            connection.close();
        }
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        match self.take_stage() {
            Stage::New(begin) => begin.fail(error_of(reason), cx),
            Stage::Open(port) => {
                port.begin_lingering();
                if matches!(reason, CloseReason::Finished) {
                    port.link().finish_connection(error_of(reason));
                } else {
                    port.release_loop(cx.registry);
                    port.link().end_connection(error_of(reason));
                }
                port.wake(cx.registry, wake_both);
            }
            Stage::Over(_) => {}
        }
    }
}

fn wake_both(link: &super::link::Link) {
    link.reader.wake();
    link.writer.wake();
}

/// A handler that is dropped without `on_close`: it was replaced, or the loop ends.
impl<S, B> Drop for AsyncHandler<S, B> {
    fn drop(&mut self) {
        if let Stage::Open(port) = self.take_stage() {
            port.end_unheard();
        }
    }
}

fn timed_out(timeout: Timeout) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("{timeout} expired"))
}

/// Returns the error that reads and writes report.
fn error_of(reason: CloseReason) -> io::Error {
    match reason {
        CloseReason::Failed(error) => error,
        CloseReason::TimedOut(timeout) => timed_out(timeout),
        reason => io::Error::new(
            ErrorKind::ConnectionAborted,
            format!("the connection has ended on this side: {reason}"),
        ),
    }
}
