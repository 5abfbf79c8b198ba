//! Opening: from a connected stream to a connection on the loop.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::Location;

use reactor::{AddError, Key, Registry};
use socket2::{SockRef, Type};

use super::handler::ConnectionHandler;
use super::key::ConnectionKey;
use super::later::run_later;
use super::options::ConnectionOptions;
use super::registration::Registration;
use super::stream::Stream;
use crate::limit::Permit;
use crate::socket::not_a;

impl<S> crate::Connection<'_, S> {
    /// Takes a stream that is connected onto the loop. `on_open` is called later this turn.
    ///
    /// One `epoll_ctl`, one `ioctl`, one or two `getsockopt`, two allocations.
    ///
    /// # Errors
    /// As [`Registry::add`]: the stream is given back. `InvalidInput`, with the fd and what it is, for a socket that
    /// listens or is not of the stream type.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use handlers::{Connection, ConnectionOptions, on_data};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let (near, mut far) = UnixStream::pair()?;
    /// Connection::open(&mut reactor, near, &ConnectionOptions::new(), on_data(|data, connection, _cx| {
    ///     let _ = connection.write(&data.to_ascii_uppercase())?;
    ///     Ok(data.len())
    /// }))?;
    /// far.write_all(b"hello")?;
    /// far.shutdown(std::net::Shutdown::Write)?;
    /// reactor.run(&mut ())?; // until the connection has ended
    /// let mut answer = String::new();
    /// far.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "HELLO");
    /// # Ok(())
    /// # }
    /// ```
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
            listener: Key::NULL,
            permit: None,
        };
        open_by(registry, stream, options, handler, by)
    }
}

/// Refuses a socket that is not one for a stream of bytes. What is no socket may be anything that is read and written.
fn expect_bytes(fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    let is_other = match socket.r#type() {
        Ok(Type::STREAM) => socket.is_listener().is_ok_and(|listens| listens),
        Ok(_) => true,
        Err(_) => false,
    };
    if is_other {
        Err(not_a("a stream of bytes", fd))
    } else {
        Ok(())
    }
}

/// The call or the listener that has asked for a connection.
#[derive(Debug)]
pub(crate) struct OpenedBy {
    /// The line of the user that the connection is shown by.
    pub(crate) line: &'static Location<'static>,
    /// The listener that has accepted it and is to close it, or [`Key::NULL`].
    pub(crate) listener: Key,
    pub(crate) permit: Option<Permit>,
}

/// Opens a connection for who has asked for it: [`Connection::open`](crate::Connection::open), or a listener.
pub(crate) fn open_by<S, T, H>(
    registry: &mut Registry<S>,
    stream: T,
    options: &ConnectionOptions,
    handler: H,
    OpenedBy {
        line,
        listener,
        permit,
    }: OpenedBy,
) -> Result<ConnectionKey<S>, AddError<T>>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let registration = Registration::connected::<T>(options, handler, listener, permit);
    let interest = registration.interest();
    let key = registry.add_handler(stream, interest, registration)?;
    let _ = registry.set_origin(key, line); // it is there
    run_later::<S, T, H>(registry, key); // not now: a handler that panics then must not end the listener
    Ok(ConnectionKey::of::<T, H>(key))
}
