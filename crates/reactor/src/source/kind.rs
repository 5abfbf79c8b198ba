//! The kind of an fd, as far as readiness depends on it.
//!
//! For types of the standard library and of mio the type determines the kind, without a system
//! call. For any other type the kernel is asked by `SO_TYPE` and a look into `/proc`, and only when
//! it matters: most sources are registered, used and closed without it.

use std::any::TypeId;
use std::fmt;
use std::os::unix::net as unix;
use std::{fs, io, net, process};

use crate::sys::eventfd::EventFd;

/// The kind of source behind an fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A connected or connecting stream socket: TCP, Unix.
    Stream,
    /// A socket that accepts connections.
    Listener,
    /// A datagram or other message socket, where one read is one message.
    Datagram,
    /// One end of a pipe or FIFO.
    Pipe,
    /// A terminal or another character device.
    CharDevice,
    /// A regular file, a folder or a block device.
    File,
    /// A notification queue of this process, which has no fd.
    Queue,
    /// An fd without a name in the file system: eventfd, timerfd, pidfd, epoll, inotify.
    Anonymous,
    /// Not known, because the Rust type does not determine the kind, and the kernel has not been
    /// asked yet. Also the kind of a source that is not a socket, if `/proc` is missing.
    Unknown,
}

impl Kind {
    /// Returns `true` if a short read or write by the bare system call proves that the kernel's
    /// buffer is exhausted: see io_state.rs.
    pub(crate) const fn short_io_means_drained(self) -> bool {
        matches!(self, Self::Stream | Self::Pipe)
    }

    /// Returns `true` if an error (`EPOLLERR`) means that the reader is gone, as at the write end
    /// of a pipe.
    ///
    /// A source that is not a socket stays unknown without `/proc`. It is treated as a pipe,
    /// because the writer of a pipe learns only by `EPOLLERR` that the reader is gone.
    pub(crate) const fn is_unread_by_error(self) -> bool {
        matches!(self, Self::Pipe | Self::Unknown)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::Listener => "listener",
            Self::Datagram => "datagram",
            Self::Pipe => "pipe",
            Self::CharDevice => "device",
            Self::File => "file",
            Self::Queue => "queue",
            Self::Anonymous => "anonymous",
            Self::Unknown => "unknown",
        })
    }
}

/// Properties of an fd that the type of its source guarantees. Every comparison is settled at
/// compile time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypeFacts {
    /// The kind, if the type determines it; otherwise [`Kind::Unknown`].
    pub(crate) kind: Kind,
    /// `true` if `read` and `write` of this type are the bare system calls, so that a short one has
    /// the kernel's meaning. A user's type may have a buffer (TLS). A short read of such a type
    /// proves nothing.
    pub(crate) unbuffered: bool,
}

impl TypeFacts {
    #[inline]
    pub(crate) fn of<T: 'static>() -> Self {
        let one_of = |types: &[TypeId]| types.contains(&TypeId::of::<T>());
        let streams = [
            TypeId::of::<net::TcpStream>(),
            TypeId::of::<unix::UnixStream>(),
            TypeId::of::<mio::net::TcpStream>(),
            TypeId::of::<mio::net::UnixStream>(),
        ];
        let listeners = [
            TypeId::of::<net::TcpListener>(),
            TypeId::of::<unix::UnixListener>(),
            TypeId::of::<mio::net::TcpListener>(),
            TypeId::of::<mio::net::UnixListener>(),
        ];
        let datagrams = [
            TypeId::of::<net::UdpSocket>(),
            TypeId::of::<unix::UnixDatagram>(),
            TypeId::of::<mio::net::UdpSocket>(),
            TypeId::of::<mio::net::UnixDatagram>(),
        ];
        let pipes = [
            TypeId::of::<io::PipeReader>(),
            TypeId::of::<io::PipeWriter>(),
        ];
        let kinds = [
            (Kind::Stream, &streams[..]),
            (Kind::Listener, &listeners),
            (Kind::Datagram, &datagrams),
            (Kind::Pipe, &pipes),
            (Kind::Anonymous, &[TypeId::of::<EventFd>()]),
        ];
        let kind = kinds
            .into_iter()
            .find(|(_, types)| one_of(types))
            .map_or(Kind::Unknown, |(kind, _)| kind);
        // These types can be made of any fd, so the kernel must be asked for the kind.
        let asked_but_unbuffered = one_of(&[
            TypeId::of::<fs::File>(),
            TypeId::of::<process::ChildStdin>(),
            TypeId::of::<process::ChildStdout>(),
            TypeId::of::<process::ChildStderr>(),
            TypeId::of::<mio::unix::pipe::Sender>(),
            TypeId::of::<mio::unix::pipe::Receiver>(),
        ]);
        Self {
            kind,
            unbuffered: kind != Kind::Unknown || asked_but_unbuffered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_means_no_reader_for_a_pipe_and_for_an_unknown_kind_alone() {
        let all = [
            Kind::Stream,
            Kind::Listener,
            Kind::Datagram,
            Kind::Pipe,
            Kind::CharDevice,
            Kind::File,
            Kind::Queue,
            Kind::Anonymous,
            Kind::Unknown,
        ];
        let unread: Vec<_> = all
            .into_iter()
            .filter(|kind| kind.is_unread_by_error())
            .collect();
        assert_eq!(unread, [Kind::Pipe, Kind::Unknown]);
    }

    #[test]
    fn only_types_without_a_buffer_of_their_own_are_bare() {
        assert!(TypeFacts::of::<net::TcpStream>().unbuffered);
        assert!(TypeFacts::of::<fs::File>().unbuffered);
        assert!(TypeFacts::of::<process::ChildStdout>().unbuffered);
        assert!(TypeFacts::of::<mio::unix::pipe::Receiver>().unbuffered);
        assert!(!TypeFacts::of::<io::BufReader<net::TcpStream>>().unbuffered);
        assert!(!TypeFacts::of::<std::sync::Arc<net::TcpStream>>().unbuffered);
    }
}
