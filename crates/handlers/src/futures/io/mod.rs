//! Sources of the loop within a future.

mod connect;
mod datagrams;
pub(super) mod readiness;
mod registered;
mod shared;
mod short;
mod taking;
mod traits;
pub(super) mod watch;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};

use self::readiness::Direction;
use self::registered::Registered;
use self::shared::SharedSource;
use self::short::TypeFacts;
pub use self::taking::IntoInner;
use super::fairness;

/// A source whose reads and writes are awaited: a socket, a pipe, a listener, or anything else with
/// a file descriptor.
///
/// `Async<T>` is [`AsyncRead`](futures_io::AsyncRead) if `&T` is [`Read`](io::Read), and
/// [`AsyncWrite`](futures_io::AsyncWrite) if `&T` is [`Write`](io::Write). A reference to it is
/// both too, so one task can read while another writes. TCP and Unix sockets connect and accept,
/// and UDP sockets send and receive datagrams. For everything else, use
/// [`read_with`](Self::read_with) and [`write_with`](Self::write_with).
///
/// The pipes [`ChildStdout`](std::process::ChildStdout) and
/// [`ChildStderr`](std::process::ChildStderr) cannot be read by a reference. Turn them into a
/// [`PipeReader`](io::PipeReader):
///
/// ```
/// # use std::io::PipeReader;
/// # use std::os::fd::OwnedFd;
/// # use std::process::ChildStdout;
/// # use handlers::futures::Async;
/// fn read_output(stdout: ChildStdout) -> std::io::Result<Async<PipeReader>> {
///     Async::new(PipeReader::from(OwnedFd::from(stdout)))
/// }
/// ```
///
/// Two tasks can wait at the same time, one for each direction. If several tasks wait for the same
/// direction, only the last one is woken.
///
/// # Registration
///
/// An operation is attempted at once. The source is registered with the loop when an operation
/// would block for the first time, by a request that the executor carries out after the poll. The
/// loop is that of the task. A source that never blocks, such as a regular file, is not registered.
/// The registration is in the background: the task that awaits it keeps
/// [`Reactor::run`](reactor::Reactor::run) alive.
///
/// When the `Async` is dropped, the registration ends after the poll that has dropped it, and only
/// then the fd is closed. It may be dropped on any thread. If the loop runs on another thread, or
/// the `Async` is dropped outside of a task, the fd is closed in the next turn of the loop. A loop
/// that ends lets go of all sources before it drops its tasks: a destructor may join a thread that
/// waits for the close of a source, or for [`into_inner`](Self::into_inner). Like a
/// `T` itself, a TCP stream that is dropped ends in order: its peer cannot see that more was to be
/// written.
///
/// # Threads
///
/// `Async<T>` is `Send` and `Sync` if `T` is both. Operations that would block must be polled on
/// the thread of the loop. Elsewhere they return an error.
///
/// # Cost
///
/// One allocation. Two more, and one `epoll_ctl` and one `ioctl`, at the first operation that would
/// block. One `epoll_ctl` when the other direction blocks for the first time. From then on no
/// system call but the reads and writes: nothing is attempted that is known to block, and a short
/// read or write of a `TcpStream`, a `UnixStream` or a pipe proves that the next one would block.
///
/// As with the sources of the loop, a short read may prove too much: see [`reactor::Io::try_io`]. A
/// Unix stream with descriptors or credentials, and a pipe in packet mode, must be read by
/// [`read_with`](Self::read_with), which does not interpret short reads.
///
/// # Errors
///
/// Every operation returns the errors of the source. If the source cannot be registered, the
/// operation that waits returns the error of the loop, and the next operation tries again:
/// - [`reactor::Error::AlreadyRegistered`], if the fd is registered with this loop already.
/// - [`reactor::Error::Full`] at the limit of registrations.
/// - [`reactor::Error::Os`] with the errno of the kernel, for example `ENOSPC`.
///
/// An operation that would block returns an error of the kind [`ErrorKind::Unsupported`] if the
/// first wait is outside of a task of this module, or if the loop of the first wait runs on another
/// thread or is gone. On the same thread, a task of another loop may wait too. It is woken when the
/// loop of the first wait takes a turn.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use futures_lite::{AsyncReadExt, AsyncWriteExt};
/// use handlers::futures::{self, Async};
/// use reactor::Reactor;
///
/// # fn main() -> std::io::Result<()> {
/// let (near, far) = UnixStream::pair()?;
/// let (mut near, mut far) = (Async::new(near)?, Async::new(far)?);
/// let mut reactor = Reactor::<()>::new()?;
/// let received = futures::block_on(&mut reactor, &mut (), async move {
///     let echo = futures::spawn_local(async move {
///         let mut buf = [0; 16];
///         let count = far.read(&mut buf).await?;
///         far.write_all(&buf[..count]).await
///     });
///     near.write_all(b"hello").await?;
///     let mut received = Vec::new();
///     near.read_to_end(&mut received).await?;
///     echo.await.expect("it was not cancelled")?;
///     std::io::Result::Ok(received)
/// })??;
/// assert_eq!(received, b"hello");
/// # Ok(())
/// # }
/// ```
#[doc(alias("AsyncFd", "PollEvented", "adapt_io"))]
pub struct Async<T> {
    // The registration ends first. The registry holds the source until then.
    registered: Registered,
    source: Arc<T>,
    facts: Facts,
    /// `true` once the write side was closed.
    has_closed: AtomicBool,
    origin: &'static Location<'static>,
}

/// The facts about a source that do not change.
#[derive(Clone, Copy, Debug)]
struct Facts {
    of_type: TypeFacts,
    /// A simulation reads and writes in the place of the kernel.
    #[cfg(feature = "simulation")]
    is_simulated: bool,
}

impl<T: AsFd + 'static> Async<T> {
    /// Returns an `Async` for `source`, and sets `O_NONBLOCK`. The flag belongs to the open file
    /// description, so it also affects every duplicate of the fd.
    ///
    /// # Cost
    /// One `ioctl`, one allocation.
    ///
    /// # Errors
    /// The error of the `ioctl`, for example `EBADF`.
    #[track_caller]
    pub fn new(source: T) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&source, true)?;
        Ok(Self::of_nonblocking(source))
    }

    /// Returns an `Async` for a source that is non-blocking already.
    #[track_caller]
    fn of_nonblocking(source: T) -> Self {
        let of_type = TypeFacts::of::<T>();
        let facts = Facts {
            of_type,
            #[cfg(feature = "simulation")]
            is_simulated: of_type.is_unbuffered && traits::is_simulated(source.as_fd()),
        };
        Self {
            registered: Registered::new(),
            source: Arc::new(source),
            facts,
            has_closed: AtomicBool::new(false),
            origin: Location::caller(),
        }
    }

    /// Waits until the source is readable, has ended, or has an error.
    ///
    /// The wait may end although a read would still block. Reads and writes through
    /// [`get_ref`](Self::get_ref) are not seen: use [`read_with`](Self::read_with), which waits
    /// again after a `WouldBlock`.
    ///
    /// # Errors
    /// If the source cannot be registered: see [`Async`](Self#errors).
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Waits until the source is writable, is not read any more, or has an error. See
    /// [`readable`](Self::readable).
    ///
    /// # Errors
    /// If the source cannot be registered: see [`Async`](Self#errors).
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_writable(cx)).await
    }

    /// Returns `Ready` if the source is readable. Otherwise wakes the task when it is. See
    /// [`readable`](Self::readable).
    ///
    /// # Errors
    /// If the source cannot be registered: see [`Async`](Self#errors).
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(Direction::Read, cx)
    }

    /// Returns `Ready` if the source is writable. Otherwise wakes the task when it is. See
    /// [`writable`](Self::writable).
    ///
    /// # Errors
    /// If the source cannot be registered: see [`Async`](Self#errors).
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(Direction::Write, cx)
    }

    /// Calls `operation` until it returns anything other than `WouldBlock`, and waits between the
    /// calls until the source is readable. Use it for example to receive with control messages.
    ///
    /// # Errors
    /// The errors of `operation`, and those of a registration: see [`Async`](Self#errors).
    ///
    /// ```
    /// # use std::net::{TcpListener, TcpStream};
    /// # use handlers::futures::{self, Async};
    /// # use reactor::Reactor;
    /// # fn main() -> std::io::Result<()> {
    /// let listener = Async::new(TcpListener::bind("127.0.0.1:0")?)?;
    /// let address = listener.get_ref().local_addr()?;
    /// let mut reactor = Reactor::<()>::new()?;
    /// let peer = futures::block_on(&mut reactor, &mut (), async move {
    ///     let client = Async::<TcpStream>::connect(address).await?;
    ///     let (_server, peer) = listener.read_with(|listener| listener.accept()).await?;
    ///     assert_eq!(client.get_ref().local_addr()?, peer);
    ///     std::io::Result::Ok(peer)
    /// })??;
    /// assert!(peer.ip().is_loopback());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_with<R>(
        &self,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(|cx| self.poll_read_with(cx, &mut operation)).await
    }

    /// Calls `operation` until it returns anything other than `WouldBlock`, and waits between the
    /// calls until the source is writable.
    ///
    /// # Errors
    /// The errors of `operation`, and those of a registration: see [`Async`](Self#errors).
    pub async fn write_with<R>(
        &self,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(|cx| self.poll_write_with(cx, &mut operation)).await
    }

    /// Calls `operation`, unless it is known that the source is not readable. After a `WouldBlock`
    /// the task is woken when the source is readable.
    ///
    /// # Errors
    /// The errors of `operation`, and those of a registration: see [`Async`](Self#errors).
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_operation(Direction::Read, cx, operation)
    }

    /// Calls `operation`, unless it is known that the source is not writable. After a `WouldBlock`
    /// the task is woken when the source is writable.
    ///
    /// # Errors
    /// The errors of `operation`, and those of a registration: see [`Async`](Self#errors).
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_operation(Direction::Write, cx, operation)
    }

    fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(fairness::poll_proceed(cx));
        if self.registered.is_known_ready(direction)? {
            return Poll::Ready(Ok(()));
        }
        self.wait(direction, cx)
    }

    /// Attempts an operation until it does not return `Interrupted`.
    fn poll_operation<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        ready!(fairness::poll_proceed(cx));
        if !self.registered.may_attempt(direction)? {
            return self.wait(direction, cx);
        }
        loop {
            match operation(&self.source) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.registered.set_blocked(direction) {
                        return Poll::Ready(Err(error)); // nothing would report a change
                    }
                    return self.wait(direction, cx);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Lets the task wait for a direction.
    fn wait<R>(&self, direction: Direction, cx: &Context<'_>) -> Poll<io::Result<R>> {
        let source = || SharedSource::new(Arc::<T>::clone(&self.source));
        match self
            .registered
            .wait(direction, cx.waker(), source, self.origin)
        {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Returns a future that ends the registration and returns the source, which stays open and
    /// non-blocking.
    ///
    /// The future is done at once if the source was never registered. Otherwise it is done after
    /// the poll, or when the thread of the loop has carried out the request. It may be awaited on
    /// any thread. If it is dropped, the source is dropped.
    #[doc(alias("take", "into_std", "into_raw_fd"))]
    pub fn into_inner(self) -> IntoInner<T> {
        IntoInner::new(self.registered, self.source)
    }
}

impl<T> Async<T> {
    /// Returns the source. Reads and writes through it are not seen by this `Async`: if such a read
    /// would block, [`readable`](Self::readable) may still report the source as readable.
    pub fn get_ref(&self) -> &T {
        &self.source
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Async")
            .field("source", &self.source)
            .field("is_registered", &self.registered.is_registered())
            .finish_non_exhaustive()
    }
}
