//! Connections: a buffered stream of bytes, in and out, on a loop.
//!
//! A handler is given the bytes as they come and says how many it has done with; what it leaves is given again with more
//! behind it. What it writes is tried at once and queued where the peer does not take it. A connection whose queue is long
//! reads no more, so that a peer who sends and never reads costs a bounded amount of memory.
//!
//! Ground rules:
//! - An idle connection holds no buffer. Reading goes into one buffer of the loop; what is written in one callback is
//!   gathered in another, and leaves in one system call when the callback returns.
//! - What comes from elsewhere in small pieces, by a [`ConnectionKey`], is queued, and leaves next turn, all of it in one
//!   system call.
//! - Whatever ends a connection, its handler is told once, by [`on_close`](ConnectionHandler::on_close), when the source is
//!   closed.
//!
//! Where it comes from: watermarks and the one handler object are libevent's bufferevent and folly's AsyncSocket; unlike
//! theirs, a connection belongs to the loop and is reached by a key.

mod call;
mod connect;
mod core;
mod driver;
mod ending;
mod gathered;
mod key;
mod lent;
mod options;
mod outbox;
mod rate;
mod relay;
mod sending;
mod stream;
mod times;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::Location;
use std::time::Duration;

use reactor::{AddError, Context, Io, Key, Registry};
use socket2::{SockRef, Type};

pub use self::connect::{Connecting, connect};
pub use self::core::Counters;
use self::driver::Driver;
pub use self::key::ConnectionKey;
pub use self::lent::Connection;
pub use self::options::ConnectionOptions;
pub use self::rate::RateLimit;
pub use self::relay::Relay;
pub use self::stream::Stream;
use crate::listener::Permit;
use crate::socket::not_a;

/// Whether a producer may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a producer that does not pause when the queue is full fills it to its limit"]
pub enum Flow {
    /// There is room.
    Open,
    /// As much is queued as [`ConnectionOptions::watermarks`] allows: pause until
    /// [`on_drain`](ConnectionHandler::on_drain). What was written is queued all the same.
    Full,
}

/// Which timeout has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// [`ConnectionOptions::idle_timeout`].
    Idle,
    /// [`ConnectionOptions::read_timeout`].
    Read,
    /// [`ConnectionOptions::write_timeout`].
    Write,
    /// The deadline of [`Connection::close_after_flush`] or [`Connection::finish`], of which no
    /// [`on_timeout`](ConnectionHandler::on_timeout) is told.
    Close,
    /// [`ConnectionOptions::connect_timeout`], likewise.
    Connect,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle timeout",
            Self::Read => "read timeout",
            Self::Write => "write timeout",
            Self::Close => "deadline of the close",
            Self::Connect => "connect timeout",
        })
    }
}

/// Why a connection has ended. Displays as “finished”, “idle timeout has passed”, or “failed: ” with the error.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both directions have come to their end, and everything that was written has been sent.
    Finished,
    /// By [`Connection::close`], or its registration was removed by its key.
    Closed,
    /// By [`Connection::abort`].
    Aborted,
    /// A timeout had passed, and [`on_timeout`](ConnectionHandler::on_timeout) closed it, or was not asked.
    TimedOut(Timeout),
    /// Reading, writing, connecting or the handler failed with this error.
    Failed(io::Error),
    /// The handler panicked with this message.
    Panicked(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Closed => f.write_str("closed"),
            Self::Aborted => f.write_str("aborted"),
            Self::TimedOut(timeout) => write!(f, "{timeout} has passed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// What a user does with a connection. Every method runs on the loop's thread.
///
/// An error that a method returns ends the connection, and no other; `WouldBlock` and `Interrupted` count as nothing done.
///
/// ```
/// use std::io;
/// use handlers::{Connection, ConnectionHandler};
/// use reactor::Context;
///
/// struct Echo;
///
/// impl<S> ConnectionHandler<S> for Echo {
///     fn on_data(&mut self, data: &[u8], connection: &mut Connection<'_, S>, _cx: &mut Context<'_, S>) -> io::Result<usize> {
///         let _ = connection.write(data)?; // full or not: a connection with a full queue does not read
///         Ok(data.len())
///     }
/// }
/// ```
pub trait ConnectionHandler<S>: 'static {
    /// The connection is there; called before any other method but [`on_close`](Self::on_close). Nothing is done by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_open(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// Bytes have come. `data` begins with what the last call left; gives how many of them are done with.
    ///
    /// To leave bytes is for a message that is not complete: reading goes on, and more than
    /// [`ConnectionOptions::unconsumed_max`] left ends the connection. It is no flow control. A handler that can take no more for now
    /// calls [`Connection::pause_reading`] too; it is given the rest after [`Connection::resume_reading`].
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize>;

    /// The queue, which was [full](Flow::Full), has room again. Nothing is done by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_drain(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// The peer has ended its direction; `rest` is what [`on_data`](Self::on_data) has left. Writing is still possible.
    ///
    /// By default ours ends too, once everything has been sent and every answer that was
    /// [announced](Connection::answer_later) has been given, and with it the connection.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_end(&mut self, rest: &[u8], connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (rest, cx);
        connection.shutdown_when_answered();
        Ok(())
    }

    /// The connection is to [finish](Connection::finish), its server is [stopping](crate::ServerKey::stop) for example. Called
    /// once, before anything is closed: for a handler that keeps a queue of its own to write what is in it, or to
    /// [announce](Connection::answer_later) that it will. Does nothing by default.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_finish(&mut self, connection: &mut Connection<'_, S>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let _ = (connection, cx);
        Ok(())
    }

    /// The socket has failed while the handler [pauses](Connection::pause_reading), by a reset of the peer for example, and
    /// bytes that had come before are unread. Nothing can be sent any more. The connection stays until the handler resumes
    /// reading, and then ends with this error after the last byte, or until it closes the connection. Called once. Does
    /// nothing by default.
    ///
    /// Where nothing is unread, the connection ends at once. A handler that reads is given what has come first. Both are told the
    /// error by [`on_close`](Self::on_close).
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (error, connection, cx);
        Ok(())
    }

    /// A timeout has passed. By default the connection is closed; if it is not, the timeout begins anew.
    ///
    /// # Errors
    /// Any ends the connection.
    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = (timeout, cx);
        connection.close();
        Ok(())
    }

    /// The connection has ended, the last call; also for one that never came about. Nothing is done by default.
    ///
    /// Where the reactor itself is dropped, the handler is only dropped.
    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        let _ = (reason, cx);
    }
}

/// A handler that is a closure: for connections where what comes is all that matters. [`on_data`] makes one.
#[derive(Debug)]
pub struct OnData<F>(F);

/// Makes a handler of a closure, which is its [`ConnectionHandler::on_data`]; the rest is done by default.
pub fn on_data<S, F>(closure: F) -> OnData<F>
where
    F: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<usize> + 'static,
{
    OnData(closure)
}

impl<S, F> ConnectionHandler<S> for OnData<F>
where
    F: FnMut(&[u8], &mut Connection<'_, S>, &mut Context<'_, S>) -> io::Result<usize> + 'static,
{
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        (self.0)(data, connection, cx)
    }
}

/// Takes a stream that is connected onto the loop. `on_open` is called later this turn.
///
/// One `epoll_ctl`, one `ioctl`, one or two `getsockopt`, two allocations.
///
/// # Errors
/// As [`Registry::add`]: the stream is given back. `InvalidInput`, with the fd and what it is, for a socket that listens or is not of
/// the stream type.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use handlers::{ConnectionOptions, on_data, open};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let (near, mut far) = UnixStream::pair()?;
/// open(&mut reactor, near, &ConnectionOptions::new(), on_data(|data, connection, _cx| {
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
#[track_caller]
pub fn open<S, T, H>(
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
        let error = reactor::Error::Os { call: "open", fd: stream.as_fd().as_raw_fd(), source };
        return Err(AddError { source: stream, error });
    }
    let by = AdmittedBy { line: Location::caller(), listener: Key::NULL, permit: None };
    admit(registry, stream, options, handler, by)
}

/// Refuses a socket that is not one for a stream of bytes. What is no socket may be anything that is read and written.
fn expect_bytes(fd: BorrowedFd<'_>) -> io::Result<()> {
    let socket = SockRef::from(&fd);
    let is_other = match socket.r#type() {
        Ok(Type::STREAM) => socket.is_listener().is_ok_and(|listens| listens),
        Ok(_) => true,
        Err(_) => false,
    };
    if is_other { Err(not_a("a stream of bytes", fd)) } else { Ok(()) }
}

/// Has the connection do what it can do, with the deferred callbacks. (What is deferred names the types, since a key with the
/// type of the state would have to outlive the state.)
fn run_later<S, T: Stream, H: ConnectionHandler<S>>(registry: &mut Registry<S>, key: Key) {
    defer_for(registry, key, move |cx| ConnectionKey::<S>::of::<T, H>(key).run(cx));
}

/// Defers what calls the handler of the connection `key`, which is shown by the line of its user.
fn defer_for<S>(registry: &mut Registry<S>, key: Key, callback: impl FnOnce(&mut Context<'_, S>) + 'static) {
    if let Ok(origin) = registry.origin(key) {
        registry.defer_from(origin, callback);
    }
}

/// Lets the connection know next turn, when the kernel has said what had come by now.
fn ask_kernel_first<S, T: Stream, H: ConnectionHandler<S>>(registry: &mut Registry<S>, key: Key) {
    let ask = move |cx: &mut Context<'_, S>| {
        // One that has ended meanwhile needs no word.
        let _ = ConnectionKey::<S>::of::<T, H>(key).with(cx, |connection, _cx| connection.core.kernel_was_asked());
    };
    // The deferred callbacks of this turn may be still to come.
    defer_for(registry, key, move |cx| defer_for(cx.registry, key, ask));
}

/// The call or the listener that has asked for a connection.
#[derive(Debug)]
pub(crate) struct AdmittedBy {
    /// The line of the user that the connection is shown by.
    pub(crate) line: &'static Location<'static>,
    /// The listener that has accepted it and is to finish it, or [`Key::NULL`].
    pub(crate) listener: Key,
    pub(crate) permit: Option<Permit>,
}

/// The same as [`open`] for what a listener has accepted.
pub(crate) fn admit<S, T, H>(
    registry: &mut Registry<S>,
    stream: T,
    options: &ConnectionOptions,
    handler: H,
    AdmittedBy { line, listener, permit }: AdmittedBy,
) -> Result<ConnectionKey<S>, AddError<T>>
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let driver = Driver::connected::<T>(options, handler, listener, permit);
    let interest = driver.interest();
    let key = registry.add_handler(stream, interest, driver)?;
    let _ = registry.set_origin(key, line); // it is there
    run_later::<S, T, H>(registry, key); // not now: a handler that panics then must not end the listener
    Ok(ConnectionKey::of::<T, H>(key))
}

/// How connections are asked to finish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish {
    pub(crate) grace: Duration,
    /// Whether input that has come is answered too.
    pub(crate) reads: bool,
}

/// Finishes all connections that `listener` has accepted; later this turn or next.
pub(crate) fn finish_accepted<S, T, H>(registry: &mut Registry<S>, listener: Key, finish: Finish)
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let keys: Vec<Key> = registry.registrations().map(|registration| registration.key).collect();
    for key in keys {
        finish_one::<S, T, H>(registry, key, listener, finish);
    }
}

/// Has all connections that `listener` has accepted read nothing more, from now on.
pub(crate) fn pause_accepted<S, T, H>(cx: &mut Context<'_, S>, listener: Key)
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    let keys: Vec<Key> = cx.registry.registrations().map(|registration| registration.key).collect();
    for key in keys {
        // A connection whose handler is running, or of other types, is left to the deferred callback that finishes it.
        let _ = cx.visit(key, |_: &mut Io<T>, driver: &mut Driver<H>, _| driver.read_no_more_for(listener));
    }
}

/// Finishes the connection `key`, if `listener` has accepted it; later this turn or next.
///
/// By a deferred callback: one that has not opened yet does so for this, and a handler that panics then takes neither who asks with
/// it nor the others.
pub(crate) fn finish_one<S, T, H>(registry: &mut Registry<S>, key: Key, listener: Key, finish: Finish)
where
    T: Stream,
    H: ConnectionHandler<S>,
{
    defer_for(registry, key, move |cx| {
        // What has ended meanwhile, or is of other types, is none of them.
        let _ = ConnectionKey::<S>::of::<T, H>(key).with(cx, |connection, _cx| {
            if connection.accepted_by() == listener {
                if !finish.reads {
                    connection.pause_reading();
                }
                connection.finish(finish.grace);
            }
        });
    });
}
