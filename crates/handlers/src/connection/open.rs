//! Opening: from a connected stream to a connection on the loop.

use std::os::fd::AsRawFd;
use std::panic::Location;
use std::sync::Arc;

use reactor::{AddError, Registry};

use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::later::run_later;
use super::of_server::close_if_accepted_by;
use super::options::ConnectionOptions;
use super::registration::Registration;
use super::stream::Stream;
use crate::limit::Permit;
use crate::server::Server;
use crate::sockets::expect_bytes;

impl<S> crate::Connection<'_, S> {
    /// Opens a connection on a connected stream. The callback
    /// [`on_open`](ConnectionHandler::on_open) runs after `open` has returned, with the [deferred
    /// callbacks](Registry::defer).
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use handlers::{Connection, ConnectionOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let (near, mut far) = UnixStream::pair()?;
    /// let shout = on_data(|data, connection, _cx| {
    ///     let _ = connection.write(&data.to_ascii_uppercase())?;
    ///     Ok(data.len())
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
    ///
    /// # Cost
    /// One `epoll_ctl`, one `ioctl`, one or two `getsockopt`, two allocations.
    ///
    /// # Errors
    /// [`AddError`] returns the stream, together with one of these errors:
    /// - [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) if the fd is registered in
    ///   this reactor.
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
    /// - [`Error::Os`](reactor::Error::Os) with the errno of the kernel, for example `EBADF` or
    ///   `ENOSPC`.
    /// - [`Error::Os`](reactor::Error::Os) with an error of kind `InvalidInput`, if the socket
    ///   listens or is not of the stream type. The error names the fd and its type.
    ///
    /// [`Registry::add`] describes the first three errors in detail.
    #[doc(alias("bufferevent_socket_new"))]
    #[track_caller]
    pub fn open<T, H>(
        registry: &mut Registry<S>,
        stream: T,
        options: &ConnectionOptions,
        handler: H,
    ) -> Result<ConnectionKey<S>, AddError<T>>
    where
        T: Stream,
        H: ConnectionHandler<S>,
    {
        if let Err(source) = expect_bytes(stream.as_fd()) {
            let error = reactor::Error::Os {
                call: "open",
                fd: stream.as_fd().as_raw_fd(),
                source,
            };
            return Err(AddError {
                inner: stream,
                error,
            });
        }
        let by = OpenedBy {
            line: Location::caller(),
            server: None,
            permit: None,
        };
        open_by(registry, stream, options, handler, by)
    }
}

/// The call or the listener that opens a connection.
#[derive(Debug)]
pub(crate) struct OpenedBy {
    /// The line of user code that logs and lists show for the connection.
    pub(crate) line: &'static Location<'static>,
    /// The server that has accepted the connection and closes it when it stops.
    pub(crate) server: Option<Arc<Server>>,
    pub(crate) permit: Option<Permit>,
}

/// Opens a connection for [`Connection::open`](crate::Connection::open) or for a listener.
pub(crate) fn open_by<S, T, H>(
    registry: &mut Registry<S>,
    stream: T,
    options: &ConnectionOptions,
    handler: H,
    OpenedBy {
        line,
        server,
        permit,
    }: OpenedBy,
) -> Result<ConnectionKey<S>, AddError<T>>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let registration = Registration::connected::<T>(options, handler, server, permit);
    register(registry, stream, registration, line)
}

/// Registers a connection that its handler does not know yet.
pub(super) fn register<S, T, H>(
    registry: &mut Registry<S>,
    stream: T,
    registration: Registration<H>,
    line: &'static Location<'static>,
) -> Result<ConnectionKey<S>, AddError<T>>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let stop = registration.state.stop_of_server(registry.now());
    let interest = registration.interest();
    let key = registry.add_handler(stream, interest, registration)?;
    let _ = registry.set_origin(key, line); // the key was just made
    // Deferred, so that a panic in `on_open` does not end the listener.
    run_later::<S, T, H>(registry, key);
    if let Some((server, how)) = stop {
        close_if_accepted_by(registry, key, server, how);
    }
    Ok(ConnectionKey::of::<T, H>(key))
}
