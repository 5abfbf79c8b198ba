//! Servers: a listener that opens each connection with a handler of its own.

use std::cell::RefCell;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use reactor::{Context, Registry};

use super::{Accepted, Listener, Peer, ServerKey, acceptor};
use crate::connection::{ConnectionHandler, ConnectionKey, ConnectionOptions, Stream};
use crate::server::Server;
use crate::sockets::SocketStream;

impl Listener {
    /// Accepts connections, and opens each connection with the handler that the closure `handler`
    /// returns. If `handler` returns an error, only this connection is dropped. The error is logged
    /// at WARN, at most once a minute.
    ///
    /// The listener keeps [`Reactor::run`](reactor::Reactor::run) alive until it is
    /// [stopped](ServerKey::stop). If its socket stops listening, the listener ends with
    /// [`CloseReason::Failed`](reactor::CloseReason::Failed), and the end is logged as an error. To
    /// be notified of the end, use [`on_listener_end`](crate::on_listener_end). If your daemon must
    /// end when its listener ends, call [`Registry::set_essential`] with the listener's key: `run`
    /// then returns the error.
    ///
    /// To pause accepting, set the interest of the [key](ServerKey::key) to
    /// [`Interest::NONE`](reactor::Interest::NONE). New clients wait in the kernel's accept queue
    /// until you set [`Interest::READABLE`](reactor::Interest::READABLE) again. The listener never
    /// ends this pause by itself, even if connections end and the
    /// [limit](crate::ListenOptions::limit) or the file descriptors allow new ones.
    ///
    /// # Errors
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop. A listener
    ///   with a connection limit takes two registrations.
    /// - [`Error::Os`](reactor::Error::Os) or
    ///   [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the loop cannot watch
    ///   the socket: see [`Registry::add`].
    /// - [`Error::Loop`](reactor::Error::Loop) if a listener with a connection limit cannot get the
    ///   `eventfd` of the loop.
    ///
    /// ```no_run
    /// use handlers::{ConnectionOptions, ListenOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse().unwrap())?;
    /// listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
    ///     Ok(on_data(|data, connection, _cx| {
    ///         let _ = connection.write(data)?;
    ///         Ok(data.len())
    ///     }))
    /// })?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("evconnlistener_new", "uv_listen"))]
    #[track_caller]
    pub fn serve<S, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: impl FnMut(&Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        self.serve_with(
            registry,
            options,
            handler,
            move |accepted, options, handler, registry| {
                accepted.open_from(line, registry, options, handler)
            },
        )
    }

    /// Accepts connections as [`serve`](Self::serve) does, and opens each connection on the stream
    /// that `make` makes of the accepted socket, for example on a TLS stream. If `make` returns an
    /// error, only this connection is dropped. The error is logged at WARN, at most once a minute.
    ///
    /// Everything that [`serve`](Self::serve) and [`ServerKey`] promise holds for these connections
    /// too. If a stream can only be made later, use [`accept`](Self::accept) with
    /// [`Accepted::map`](crate::Accepted::map).
    ///
    /// # Errors
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop. A listener
    ///   with a connection limit takes two registrations.
    /// - [`Error::Os`](reactor::Error::Os) or
    ///   [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the loop cannot watch
    ///   the socket: see [`Registry::add`].
    /// - [`Error::Loop`](reactor::Error::Loop) if a listener with a connection limit cannot get the
    ///   `eventfd` of the loop.
    ///
    /// ```
    /// use std::io;
    /// use handlers::{ConnectionOptions, Listener, ServerKey, Stream, on_data};
    /// use reactor::Registry;
    ///
    /// /// Serves connections whose bytes pass through a layer of your own.
    /// fn serve_layered<L: Stream>(
    ///     listener: Listener,
    ///     registry: &mut Registry<()>,
    ///     layer: impl Fn(std::net::TcpStream) -> io::Result<L> + 'static,
    /// ) -> io::Result<ServerKey<()>> {
    ///     let make = move |stream: handlers::SocketStream| layer(stream.into_tcp()?);
    ///     listener.serve_as(registry, &ConnectionOptions::new(), make, |_peer, _cx| {
    ///         Ok(on_data(|data, connection, _cx| {
    ///             let _ = connection.write(data)?;
    ///             Ok(data.len())
    ///         }))
    ///     })
    /// }
    /// ```
    #[track_caller]
    pub fn serve_as<S, T, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        mut make: impl FnMut(SocketStream) -> io::Result<T> + 'static,
        handler: impl FnMut(&Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        T: Stream,
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        self.serve_with(
            registry,
            options,
            handler,
            move |accepted, options, handler, registry| {
                let made = accepted.map(&mut make)?;
                made.open_from(line, registry, options, handler)
            },
        )
    }

    /// Accepts connections, and opens each by `open`, with its handler.
    #[track_caller]
    fn serve_with<S, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        mut handler: impl FnMut(&Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
        mut open: impl FnMut(
            Accepted,
            &ConnectionOptions,
            H,
            &mut Registry<S>,
        ) -> io::Result<ConnectionKey<S>>
        + 'static,
    ) -> io::Result<ServerKey<S>>
    where
        H: 'static,
    {
        let options = Rc::new(RefCell::new(options.clone()));
        self.serve_by(
            registry,
            Some(Rc::downgrade(&options)),
            move |accepted, cx| {
                let handler = handler(accepted.peer(), cx)?;
                // If `handler` has stopped the server, this connection is dropped too.
                if cx.registry.contains(cx.key()) {
                    open(accepted, &options.borrow(), handler, cx.registry)?;
                }
                Ok(())
            },
        )
    }

    /// Registers the listener of a server, whose connections have `options`, if it opens them
    /// itself.
    #[track_caller]
    pub(super) fn serve_by<S>(
        self,
        registry: &mut Registry<S>,
        options: Option<Weak<RefCell<ConnectionOptions>>>,
        accept: impl FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
    ) -> io::Result<ServerKey<S>> {
        let server = Server::new();
        let ended = Arc::downgrade(&server);
        let id = server.id();
        let key = acceptor::add(self.socket, self.options, server, registry, accept)?;
        Ok(ServerKey::new(registry, key, id, ended, options))
    }
}
