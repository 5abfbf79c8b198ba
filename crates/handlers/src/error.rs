//! Errors of all handlers: the call that has failed and its object, and the effect of a callback's
//! error on its registration.

use std::any::Any;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;

/// Returns `true` if an error only means that nothing was done. Such an error does not end a
/// registration, so a callback can use `?` on a call that would block.
pub(crate) fn is_nothing_done(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A system call that has failed, with its name and its object. Functions of this crate return it
/// inside of an [`io::Error`] of the same kind.
///
/// Displays as "open(/etc/app.conf): No such file or directory (os error 2)". Some errors also
/// display advice at the end.
///
/// [`raw_os_error`](Self::raw_os_error) returns the errno. To get the errno from the outer
/// `io::Error`, use the function [`errno`](crate::errno).
///
/// ```
/// use std::io;
/// use handlers::{SystemError, errno};
///
/// /// Logs which system call has failed, if the error comes from a system call.
/// fn log(error: &io::Error) {
///     let inner = error.get_ref();
///     if let Some(failed) = inner.and_then(|inner| inner.downcast_ref::<SystemError>()) {
///         println!("{} failed with errno {:?}", failed.call(), errno(error));
///     }
/// }
/// ```
#[derive(Debug)]
pub struct SystemError {
    call: String,
    source: io::Error,
    advice: &'static str,
}

impl SystemError {
    pub(crate) const fn of(call: String, source: io::Error) -> Self {
        Self {
            call,
            source,
            advice: "",
        }
    }

    /// Returns the call and its object, for example a path, an address or a child.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }

    /// Returns the errno of the kernel. Returns `None` if the standard library refused the call
    /// before it reached the kernel.
    pub fn raw_os_error(&self) -> Option<i32> {
        reactor::errno(&self.source)
    }
}

impl Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            call,
            source,
            advice,
        } = self;
        write!(f, "{call}: {source}{advice}")
    }
}

impl std::error::Error for SystemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Returns an error that names the failed call and its object.
#[cold]
pub(crate) fn named(call: impl Display, error: io::Error) -> io::Error {
    advised(call, error, "")
}

/// Returns an error that names the failed call and its object, followed by advice. Use it if the
/// kernel's text may mislead.
#[cold]
pub(crate) fn advised(call: impl Display, error: io::Error, advice: &'static str) -> io::Error {
    io::Error::new(
        error.kind(),
        SystemError {
            call: call.to_string(),
            source: error,
            advice,
        },
    )
}

/// Returns an error of a stream that names the failed call and the fd. An error that holds a value
/// is returned unchanged: it comes from a stream of the user, who may look for the value.
#[cold]
pub(crate) fn named_on(fd: BorrowedFd<'_>, call: &str, error: io::Error) -> io::Error {
    if error.get_ref().is_some() {
        return error;
    }
    named(format_args!("{call} on fd {}", fd.as_raw_fd()), error)
}

/// Returns a copy of an error, with the same kind, text and errno. The call and the error of TLS
/// are found in the copy too. Any other value inside of the error is not copied.
#[cold]
pub(crate) fn copy_error(error: &io::Error) -> io::Error {
    #[cfg(feature = "tls")]
    if let Some(failed) = crate::tls::TlsError::of(error) {
        return failed.clone().into();
    }
    let errno = reactor::errno(error);
    let bare = errno.map_or(error.kind().into(), io::Error::from_raw_os_error);
    let Some(inner) = error.get_ref() else {
        return bare;
    };
    match inner.downcast_ref::<SystemError>() {
        Some(failed) => advised(&failed.call, bare, failed.advice),
        None => copied(error, inner.to_string()),
    }
}

/// Returns `true` if the process or the system lacks descriptors or memory for now.
pub(crate) fn is_out_of_resources(error: &io::Error) -> bool {
    let resources = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errno(error).is_some_and(|errno| resources.contains(&errno))
}

/// Returns an error with this text, and with the kind and the errno of `error`.
fn copied(error: &io::Error, text: String) -> io::Error {
    let errno = reactor::errno(error).map(io::Error::from_raw_os_error);
    io::Error::new(error.kind(), Copied { text, errno })
}

#[derive(Debug)]
struct Copied {
    text: String,
    errno: Option<io::Error>,
}

impl Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Copied {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let errno = self.errno.as_ref()?;
        Some(errno)
    }
}

/// Returns a copy of an error, whose text also names the causes that the text of `error` leaves
/// out. The errors of some crates, such as hyper, do not display theirs.
#[cfg(feature = "futures")]
pub(crate) fn with_causes(error: &io::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let named = error.to_string();
        if !text.contains(&named) {
            text.push_str(": ");
            text.push_str(&named);
        }
        cause = error.source();
    }
    copied(error, text)
}

/// Returns the errno of an error, even if the error is wrapped.
pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
    reactor::errno(error).map(Errno::from_raw_os_error)
}

/// Returns the outcome of a registration whose callback has returned `answer`.
#[cfg(any(
    feature = "console",
    feature = "files",
    feature = "signal",
    feature = "udp"
))]
pub(crate) fn next(answer: io::Result<reactor::Next>) -> io::Result<reactor::Next> {
    match answer {
        Err(error) if is_nothing_done(&error) => Ok(reactor::Next::Keep),
        answer => answer,
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text")
        .to_owned()
}

/// Drops the payload of a panic. Its destructor may panic in turn.
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::os::fd::AsFd;

    use super::{SystemError, advised, copied, copy_error, errno, named, named_on};

    /// An error of another crate, which does not display its cause.
    fn opaque(cause: io::Error) -> io::Error {
        io::Error::other(Opaque(cause))
    }

    #[derive(Debug)]
    struct Opaque(io::Error);

    impl std::fmt::Display for Opaque {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the body could not be sent")
        }
    }

    impl std::error::Error for Opaque {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn reset() -> io::Error {
        io::Error::from_raw_os_error(104)
    }

    #[test]
    fn a_copy_has_the_kind_the_errno_and_the_text_of_its_error() {
        let os = reactor::Error::Os {
            call: "epoll_ctl(MOD)",
            fd: 7,
            source: io::Error::from_raw_os_error(28),
        };
        let errors = [
            reset(),
            ErrorKind::TimedOut.into(),
            io::Error::new(ErrorKind::TimedOut, "idle timeout expired"),
            named_on(io::stdin().as_fd(), "read", reset()),
            named("connect to 127.0.0.1:1", ErrorKind::TimedOut.into()),
            advised("bind", io::Error::from_raw_os_error(98), ": choose another"),
            os.into(),
            opaque(reset()),
            opaque(ErrorKind::TimedOut.into()),
        ];
        for error in errors {
            let (first, second) = (copy_error(&error), copy_error(&copy_error(&error)));
            for copy in [first, second] {
                assert_eq!(copy.to_string(), error.to_string());
                assert_eq!((copy.kind(), errno(&copy)), (error.kind(), errno(&error)));
            }
        }
    }

    #[test]
    fn a_copy_has_the_call_of_its_error() {
        let error = advised("bind", io::Error::from_raw_os_error(98), ": choose another");
        let copy = copy_error(&error);
        let inner = copy.get_ref().and_then(|inner| inner.downcast_ref());
        assert_eq!(inner.map(SystemError::call), Some("bind"));
    }

    #[cfg(feature = "futures")]
    #[test]
    fn the_causes_that_an_error_does_not_display_are_named_once() {
        let cause = named("write on fd 7", reset());
        let text = "the body could not be sent: write on fd 7: \
                    Connection reset by peer (os error 104)";
        let explained = super::with_causes(&opaque(cause));
        assert_eq!(explained.to_string(), text);
        assert_eq!(reactor::errno(&explained), Some(104));
        let plain = super::with_causes(&copied(&reset(), "no cause".to_owned()));
        let text = "no cause: Connection reset by peer (os error 104)";
        assert_eq!(plain.to_string(), text);
        assert_eq!(
            super::with_causes(&reset()).to_string(),
            reset().to_string()
        );
    }
}
