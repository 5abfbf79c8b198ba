//! Servers whose protocol is a future.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;

use reactor::{Context, Registry};

use super::async_connection::AsyncConnection;
use super::handler::protocol_of;
use crate::connection::{Connection, ConnectionHandler, ConnectionOptions, Stream};
use crate::futures::executor;
use crate::listener::{Listener, Peer, ServerKey};
use crate::sockets::SocketStream;

impl Listener {
    /// Accepts connections as [`serve`](Self::serve) does. The protocol of each connection is the
    /// future that `protocol` returns: see [`futures::protocol`](crate::futures::protocol) for the
    /// end of the connection.
    ///
    /// Everything that [`serve`](Self::serve), its options and [`ServerKey`] promise holds for
    /// these connections too. When the server [stops](ServerKey::stop), the future is notified by
    /// [`AsyncConnection::stopping`] and has the grace period to finish.
    ///
    /// # Errors
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop. A listener
    ///   with a connection limit takes two registrations, and the tasks of the loop take one.
    /// - [`Error::Os`](reactor::Error::Os) or
    ///   [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the loop cannot watch
    ///   the socket: see [`Registry::add`].
    /// - [`Error::Loop`](reactor::Error::Loop) if no `eventfd` can be created for the loop.
    ///
    /// ```no_run
    /// use futures_lite::{AsyncReadExt, AsyncWriteExt};
    /// use handlers::{ConnectionOptions, ListenOptions};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse().unwrap())?;
    /// let options = ConnectionOptions::new();
    /// listener.serve_async(&mut reactor, &options, |mut stream, _connection, _cx| async move {
    ///     let mut buf = [0; 4096];
    ///     loop {
    ///         match stream.read(&mut buf).await? {
    ///             0 => return Ok(()),
    ///             n => stream.write_all(&buf[..n]).await?,
    ///         }
    ///     }
    /// })?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn serve_async<S, F>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        protocol: impl Fn(AsyncConnection, &mut Connection<'_, S>, &mut Context<'_, S>) -> F + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        S: 'static,
        F: Future<Output = io::Result<()>> + 'static,
    {
        executor::of_loop(registry)?; // later, a client would pay for the lack of a descriptor
        let (origin, protocol) = (Location::caller(), Rc::new(protocol));
        let handler =
            move |peer: &Peer, _cx: &mut Context<'_, S>| Ok(handler_of(origin, &protocol, peer));
        self.serve(registry, options, handler)
    }

    /// Accepts connections as [`serve_as`](Self::serve_as) does, each on the stream that `make`
    /// makes, for example on a TLS stream. The protocol of each connection is the future that
    /// `protocol` returns. `protocol` is called after the handshake.
    ///
    /// # Errors
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop. A listener
    ///   with a connection limit takes two registrations, and the tasks of the loop take one.
    /// - [`Error::Os`](reactor::Error::Os) or
    ///   [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the loop cannot watch
    ///   the socket: see [`Registry::add`].
    /// - [`Error::Loop`](reactor::Error::Loop) if no `eventfd` can be created for the loop.
    #[track_caller]
    pub fn serve_async_as<S, T, F>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        make: impl FnMut(SocketStream) -> io::Result<T> + 'static,
        protocol: impl Fn(AsyncConnection, &mut Connection<'_, S>, &mut Context<'_, S>) -> F + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        S: 'static,
        T: Stream,
        F: Future<Output = io::Result<()>> + 'static,
    {
        executor::of_loop(registry)?; // later, a client would pay for the lack of a descriptor
        let (origin, protocol) = (Location::caller(), Rc::new(protocol));
        let handler =
            move |peer: &Peer, _cx: &mut Context<'_, S>| Ok(handler_of(origin, &protocol, peer));
        self.serve_as(registry, options, make, handler)
    }
}

/// Returns the handler of a connection to `peer`.
fn handler_of<S, F, P>(
    origin: &'static Location<'static>,
    protocol: &Rc<P>,
    peer: &Peer,
) -> impl ConnectionHandler<S> + use<S, F, P>
where
    S: 'static,
    F: Future<Output = io::Result<()>> + 'static,
    P: Fn(AsyncConnection, &mut Connection<'_, S>, &mut Context<'_, S>) -> F + 'static,
{
    let protocol = Rc::clone(protocol);
    let make = move |stream, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>| {
        protocol(stream, connection, cx)
    };
    protocol_of(origin, Some(peer.clone()), make)
}
