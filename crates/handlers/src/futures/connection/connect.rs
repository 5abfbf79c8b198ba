//! Connecting within a future.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{self, Poll};

use reactor::Context;

use super::async_connection::AsyncConnection;
use super::handler::{AsyncHandler, Begin};
use super::link::Owner;
use super::port::{AnyPort, Port};
use super::wakers::WakerSlot;
use crate::connection::{
    Connecting, Connection, ConnectionOptions, Stream, connect_next, connect_next_as,
};
use crate::futures::executor::{self, Executor};
use crate::futures::requests::{Call, LoopRequest, PendingCall};
use crate::futures::with_context;
use crate::names::Target;
use crate::sockets::SocketStream;

impl AsyncConnection {
    /// Connects to `target` within a task, as [`Connection::connect_to`] does in a callback. `S` is
    /// the type of the loop's state. If the future is dropped, the attempts are cancelled.
    ///
    /// The connection lives until the `AsyncConnection` is dropped. It is then reset, unless its
    /// write side was closed by [`poll_close`](futures_io::AsyncWrite::poll_close).
    ///
    /// # Errors
    /// - The error of [`CloseReason::Failed`](crate::CloseReason::Failed) that
    ///   [`Connection::connect_to`] describes.
    /// - An error of kind `TimedOut` after [`ConnectionOptions::connect_timeout`].
    ///
    /// # Panics
    /// The future panics if it is polled outside of a task of this module, or if `S` is not the
    /// type of the loop's state.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::net::TcpListener;
    /// use futures_lite::{AsyncReadExt, AsyncWriteExt};
    /// use handlers::ConnectionOptions;
    /// use handlers::futures::{AsyncConnection, block_on};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let server = listener.local_addr()?;
    /// let peer = std::thread::spawn(move || {
    ///     let (mut client, _) = listener.accept()?;
    ///     let mut question = String::new();
    ///     client.read_to_string(&mut question)?;
    ///     client.write_all(question.to_uppercase().as_bytes())
    /// });
    ///
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let answer = block_on(&mut reactor, &mut (), async move {
    ///     let options = ConnectionOptions::new();
    ///     let mut stream = AsyncConnection::connect::<()>(server, &options).await?;
    ///     stream.write_all(b"hello").await?;
    ///     stream.close().await?;
    ///     let mut answer = String::new();
    ///     stream.read_to_string(&mut answer).await?;
    ///     std::io::Result::Ok(answer)
    /// })??;
    /// assert_eq!(answer, "HELLO");
    /// # peer.join().expect("it does not panic")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn connect<S: 'static>(target: impl Into<Target>, options: &ConnectionOptions) -> Connect {
        let (target, options, line) = (Some(target.into()), options.clone(), Location::caller());
        Connect::new::<S>(move |handler, cx| {
            connect_next(cx.registry, target, &options, handler, line)
        })
    }

    /// Connects to `target` as [`connect`](Self::connect) does, and opens the connection on the
    /// stream that `make` makes of the connected socket, for example on a TLS stream. The future is
    /// done after the handshake.
    ///
    /// # Errors
    /// - The error of [`CloseReason::Failed`](crate::CloseReason::Failed) that
    ///   [`Connection::connect_to`] describes, and that of `make` or of the handshake.
    /// - An error of kind `TimedOut` after [`ConnectionOptions::connect_timeout`] or
    ///   [`ConnectionOptions::handshake_timeout`].
    ///
    /// # Panics
    /// The future panics if it is polled outside of a task of this module, or if `S` is not the
    /// type of the loop's state.
    #[track_caller]
    pub fn connect_as<S: 'static, T: Stream>(
        target: impl Into<Target>,
        options: &ConnectionOptions,
        make: impl FnOnce(SocketStream) -> io::Result<T> + 'static,
    ) -> Connect {
        let (target, options, line) = (Some(target.into()), options.clone(), Location::caller());
        Connect::new::<S>(move |handler, cx| {
            let make = Box::new(make);
            connect_next_as(cx.registry, target, &options, make, handler, line)
        })
    }
}

/// The future of [`AsyncConnection::connect`] and [`AsyncConnection::connect_as`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Connect(Pin<Box<dyn Future<Output = io::Result<AsyncConnection>>>>);

impl Connect {
    fn new<S: 'static>(
        begin: impl FnOnce(Handler<S>, &mut Context<'_, S>) -> Connecting<S> + 'static,
    ) -> Self {
        Self(Box::pin(open(begin)))
    }
}

impl Future for Connect {
    type Output = io::Result<AsyncConnection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").finish_non_exhaustive()
    }
}

type Handler<S> = AsyncHandler<S, Deliver>;

/// Connects by `begin`, and waits for the connection.
async fn open<S: 'static, B>(begin: B) -> io::Result<AsyncConnection>
where
    B: FnOnce(Handler<S>, &mut Context<'_, S>) -> Connecting<S> + 'static,
{
    let delivery = Rc::<Delivery>::default();
    let handler = AsyncHandler::new(Deliver(Rc::clone(&delivery)));
    let begun = with_context(move |cx: &mut Context<'_, S>| {
        let executor = executor::find(cx.registry).map(|executor| Rc::downgrade(&executor));
        Cancel {
            connecting: begin(handler, cx),
            executor: executor.unwrap_or_default(),
        }
    });
    let _cancel = CancelOnDrop(Rc::new(begun.await));
    let delivered = poll_fn(|cx| match delivery.connection.take() {
        Some(delivered) => Poll::Ready(delivered),
        None => {
            delivery.waker.register(cx.waker());
            Poll::Pending
        }
    });
    delivered.await
}

/// The place of a connection on its way to the future that has asked for it.
#[derive(Default)]
struct Delivery {
    connection: Cell<Option<io::Result<AsyncConnection>>>,
    waker: WakerSlot,
}

/// Puts the connection into its place. If the future is gone, it is dropped there.
struct Deliver(Rc<Delivery>);

impl<S: 'static> Begin<S> for Deliver {
    const OWNER: Owner = Owner::Handle;

    fn begin(
        self,
        port: &Rc<Port<S>>,
        _connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let stream = AsyncConnection::new(Rc::clone(port) as Rc<dyn AnyPort>, None);
        self.deliver(Ok(stream), cx);
        Ok(())
    }

    fn fail(self, error: io::Error, cx: &mut Context<'_, S>) {
        self.deliver(Err(error), cx);
    }
}

impl Deliver {
    fn deliver<S: 'static>(self, connection: io::Result<AsyncConnection>, cx: &mut Context<'_, S>) {
        self.0.connection.set(Some(connection));
        if let Some(executor) = executor::find(cx.registry) {
            executor.wake_in_callback(cx.registry, || self.0.waker.wake());
        }
    }
}

/// Cancels attempts to connect. Does nothing once there is a connection.
struct Cancel<S> {
    connecting: Connecting<S>,
    executor: Weak<Executor<S>>,
}

impl<S: 'static> Call<S> for Cancel<S> {
    fn run(&self, cx: &mut Context<'_, S>) {
        self.connecting.cancel(cx.registry);
    }
}

struct CancelOnDrop<S: 'static>(Rc<Cancel<S>>);

impl<S: 'static> Drop for CancelOnDrop<S> {
    fn drop(&mut self) {
        let executor = self.0.executor.upgrade();
        if let Some(executor) = executor.filter(|_| self.0.connecting.is_pending()) {
            executor.push_request(LoopRequest::Call(
                PendingCall(Rc::clone(&self.0) as Rc<dyn Call<S>>),
                None,
            ));
            executor.local.announce_pass();
        }
    }
}
