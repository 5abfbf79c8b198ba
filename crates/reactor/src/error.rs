//! Errors: the call, the fd, and how to react.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::panic::Location;

use crate::slots::Key;

/// The reason why the reactor has refused a call, or why [`Reactor::run`](crate::Reactor::run) has
/// ended. A refused call has changed nothing, except that it may have put a source into
/// non-blocking mode.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The registration, timer, hook or deferred callback that this key names has ended: see
    /// [`Key`].
    StaleKey(Key),
    /// The handler of the registration is running, or is being accessed through
    /// [`with_handler`](crate::Context::with_handler). Perform the operation inside of that
    /// handler, or [`defer`](crate::Registry::defer) it.
    Running(Key),
    /// The source or the handler that the key names has another type than the call has requested.
    OtherType(Key),
    /// The fd is already registered in this reactor (`EEXIST`). Extend the interest of the existing
    /// registration by [`set_interest`](crate::Registry::set_interest), or register a duplicate
    /// made by `try_clone`.
    AlreadyRegistered {
        /// The fd in question.
        fd: RawFd,
    },
    /// The limit of [`Builder::max_registrations`](crate::Builder::max_registrations) is reached.
    Full {
        /// The fd that was refused; -1 for a queue.
        fd: RawFd,
        /// The limit.
        max_registrations: usize,
    },
    /// A system call on an fd failed. Displays as "epoll_ctl(ADD) on fd 12: No space left on device
    /// (os error 28)".
    Os {
        /// The system call.
        call: &'static str,
        /// The fd it was made for.
        fd: RawFd,
        /// The error of the kernel.
        source: io::Error,
    },
    /// A system call without a registered fd failed. Displays as "eventfd: Too many open files (os
    /// error 24)".
    Call {
        /// The system call.
        call: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
    /// [`Reactor::advance`](crate::Reactor::advance) needs a reactor that was built with a
    /// [`ManualClock`](crate::ManualClock).
    NoManualClock,
    /// [`Reactor::run`](crate::Reactor::run) has ended because an
    /// [essential](crate::Registry::set_essential) callback has failed, or because
    /// [`Registry::stop_with`](crate::Registry::stop_with) was called. The reactor is intact and
    /// may be run again.
    Failed(Box<Failure>),
    /// The loop could not create its epoll instance, eventfd or timerfd, or could not wait for
    /// events. If [`Reactor::run`](crate::Reactor::run) or [`turn`](crate::Reactor::turn) returns
    /// this error, the reactor cannot go on. If any other method returns it, only that call has
    /// failed.
    Loop {
        /// The system call.
        call: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
}

/// The failure that has ended [`Reactor::run`](crate::Reactor::run): see [`Error::Failed`].
///
/// Displays as "listener (src/main.rs:12:9) failed: Invalid argument (os error 22)", or "stopped at
/// src/main.rs:30:5: no configuration".
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The name of the callback that failed; `None` for
    /// [`Registry::stop_with`](crate::Registry::stop_with).
    pub name: Option<String>,
    /// The line where the callback was registered, or the loop was stopped.
    pub origin: &'static Location<'static>,
    /// The error of the callback. For a panic it is "panicked: " and the message of the panic.
    pub source: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            origin,
            source,
        } = self;
        match name {
            Some(name) => write!(f, "{name} ({origin}) failed: {source}"),
            None => write!(f, "stopped at {origin}: {source}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleKey(key) => write!(f, "key {key} is stale: its registration has ended"),
            Self::Running(key) => write!(
                f,
                "registration {key} is in use: its handler is running; defer the operation"
            ),
            Self::OtherType(key) => {
                write!(
                    f,
                    "key {key} belongs to a source or a handler of another type"
                )
            }
            Self::AlreadyRegistered { fd } => {
                write!(
                    f,
                    "fd {fd} is already registered: use that registration, or register a duplicate of the fd"
                )
            }
            Self::Full {
                fd,
                max_registrations,
            } => {
                write!(
                    f,
                    "fd {fd} is not registered: all {max_registrations} registrations allowed are in use"
                )
            }
            Self::NoManualClock => {
                f.write_str("time cannot be advanced: the reactor was built without a manual clock")
            }
            Self::Os { call, fd, source } => write!(f, "{call} on fd {fd}: {source}"),
            Self::Call { call, source } | Self::Loop { call, source } => {
                write!(f, "{call}: {source}")
            }
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os { source, .. } | Self::Call { source, .. } | Self::Loop { source, .. } => {
                Some(source)
            }
            Self::Failed(failure) => Some(&failure.source),
            _ => None,
        }
    }
}

impl Error {
    /// Returns the kind of the [`io::Error`] that `?` converts this error into.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::StaleKey(_) => io::ErrorKind::NotFound,
            Self::Running(_) => io::ErrorKind::ResourceBusy,
            Self::OtherType(_) => io::ErrorKind::InvalidInput,
            Self::AlreadyRegistered { .. } => io::ErrorKind::AlreadyExists,
            Self::Full { .. } => io::ErrorKind::QuotaExceeded,
            Self::NoManualClock => io::ErrorKind::Unsupported,
            Self::Os { source, .. } | Self::Call { source, .. } | Self::Loop { source, .. } => {
                source.kind()
            }
            Self::Failed(failure) => failure.source.kind(),
        }
    }

    /// Returns the errno of the kernel, or `None` if no system call has failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Os { source, .. } | Self::Call { source, .. } | Self::Loop { source, .. } => {
                errno(source)
            }
            Self::Failed(failure) => errno(&failure.source),
            Self::AlreadyRegistered { .. } => Some(rustix::io::Errno::EXIST.raw_os_error()),
            _ => None,
        }
    }
}

/// Returns the errno of an error, however deep it is wrapped, or `None` if no system call has
/// failed.
///
/// An [`io::Error`] holds either an errno or an inner error. With an inner error, its
/// [`raw_os_error`](io::Error::raw_os_error) is `None`. Each `io::Error` of this library that names
/// the failed call has an inner error. This function looks at the error itself, at
/// the inner error of each `io::Error`, and at each [`source`](std::error::Error::source).
///
/// # Cost
/// O(depth), no allocation.
///
/// ```
/// use std::io;
///
/// let source = io::Error::from_raw_os_error(24);
/// let refused = io::Error::from(reactor::Error::Call { call: "eventfd", source });
/// assert_eq!((refused.raw_os_error(), reactor::errno(&refused)), (None, Some(24)));
/// assert_eq!(refused.to_string(), "eventfd: Too many open files (os error 24)");
/// ```
#[cold]
pub fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        // `io::Error::source` returns the source of its inner error, and would skip the inner error
        // itself.
        let (found, inner) = if let Some(error) = error.downcast_ref::<io::Error>() {
            (
                error.raw_os_error(),
                error
                    .get_ref()
                    .map(|inner| inner as &(dyn std::error::Error + 'static)),
            )
        } else if let Some(error) = error.downcast_ref::<Error>() {
            (error.raw_os_error(), None)
        } else {
            (
                error
                    .downcast_ref::<rustix::io::Errno>()
                    .map(|errno| errno.raw_os_error()),
                error.source(),
            )
        };
        if found.is_some() {
            return found;
        }
        next = inner;
    }
    None
}

/// Lets `?` in a handler pass on a refusal, which ends the registration of the handler. [`errno`]
/// finds the errno in it.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// A source that could not be registered, with the reason.
///
/// ```
/// use reactor::{Interest, Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<()>::builder().max_registrations(0).build()?;
/// let (reader, _writer) = std::io::pipe()?;
/// let refused = reactor
///     .add(reader, Interest::READABLE, |_reader, _cx| Ok(Next::Keep))
///     .unwrap_err();
/// assert!(refused.to_string().contains("all 0 registrations"));
/// let _reader = refused.inner; // the source comes back
/// # Ok(())
/// # }
/// ```
pub struct AddError<T> {
    /// The source as it was passed in. It may have been put into non-blocking mode.
    pub inner: T,
    /// The reason why the source was not registered.
    pub error: Error,
}

impl<T> fmt::Debug for AddError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for AddError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> AddError<T> {
    /// Returns the kind of this error. If `?` converts it into an [`io::Error`], the kind stays the
    /// same.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// Returns the errno of the kernel, or `None` if no system call has failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.error.raw_os_error()
    }
}

impl<T> std::error::Error for AddError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<AddError<T>> for Error {
    fn from(refused: AddError<T>) -> Self {
        refused.error
    }
}

impl<T> From<AddError<T>> for io::Error {
    fn from(refused: AddError<T>) -> Self {
        refused.error.into()
    }
}
