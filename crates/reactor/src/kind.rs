//! What sort of thing an fd is, as far as readiness depends on it.
//!
//! The standard library's and mio's own types say it by their type, for no system call. Anything else is asked by
//! `SO_TYPE` and a look into `/proc`, and not before it matters: most sources are registered, used and closed without it.

use std::any::TypeId;
use std::fmt;
use std::fs::Metadata;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net as unix;
use std::path::Path;
use std::{fs, io, net, process};

use socket2::{SockRef, Type};

use crate::notify::eventfd::EventFd;

/// The sort of source behind an fd.
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
    /// A notification queue of this process, which is no fd.
    Queue,
    /// An fd without a name in the file system: eventfd, timerfd, pidfd, epoll, inotify.
    Anonymous,
    /// A type that does not say it, of which nobody has asked the kernel yet.
    Unknown,
}

impl Kind {
    /// Whether a short read or write by the bare system call exhausts the kernel's buffer: see io.rs.
    pub(crate) const fn has_dry_shorts(self) -> bool {
        matches!(self, Self::Stream | Self::Pipe)
    }

    /// Whether an error (`EPOLLERR`) says of it that nobody reads what is written, as of the write end of a pipe.
    ///
    /// What is no socket stays unknown without `/proc`, and is taken for a pipe, whose writers learn it by nothing else.
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

/// What the type of a source promises about its fd. Every comparison is settled at compile time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypeFacts {
    /// The kind, where the type fixes it; otherwise [`Kind::Unknown`].
    pub(crate) kind: Kind,
    /// `read` and `write` of this type are the bare system calls, so a short one means what the kernel means by it.
    /// A type of the user's may keep a buffer of its own (TLS), where a short read means nothing.
    pub(crate) bare: bool,
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
        let pipes = [TypeId::of::<io::PipeReader>(), TypeId::of::<io::PipeWriter>()];
        let kinds = [
            (Kind::Stream, &streams[..]),
            (Kind::Listener, &listeners),
            (Kind::Datagram, &datagrams),
            (Kind::Pipe, &pipes),
            (Kind::Anonymous, &[TypeId::of::<EventFd>()]),
        ];
        let kind = kinds.into_iter().find(|(_, types)| one_of(types)).map_or(Kind::Unknown, |(kind, _)| kind);
        // These may be made of any fd: what it is has to be asked.
        let asked_but_bare = one_of(&[
            TypeId::of::<fs::File>(),
            TypeId::of::<process::ChildStdin>(),
            TypeId::of::<process::ChildStdout>(),
            TypeId::of::<process::ChildStderr>(),
            TypeId::of::<mio::unix::pipe::Sender>(),
            TypeId::of::<mio::unix::pipe::Receiver>(),
        ]);
        Self { kind, bare: kind != Kind::Unknown || asked_but_bare }
    }
}

/// Asks the kernel what `fd` is. Two system calls, one for a socket that is no stream.
///
/// What is no socket is looked up in `/proc`, since the standard library knows no `fstat(2)` of what it does not own, and the module of
/// rustix that does takes longer to compile than all of this crate. Without `/proc` it stays unknown.
pub(crate) fn ask(fd: BorrowedFd<'_>) -> Kind {
    ask_in(Path::new("/proc/self/fd"), fd)
}

/// The same where the names of the open fds are in `folder`.
fn ask_in(folder: &Path, fd: BorrowedFd<'_>) -> Kind {
    let socket = SockRef::from(&fd);
    match socket.r#type() {
        Ok(Type::STREAM) if socket.is_listener().is_ok_and(|listens| listens) => Kind::Listener,
        Ok(Type::STREAM) => Kind::Stream,
        Ok(_) => Kind::Datagram,
        Err(_) => fs::metadata(folder.join(fd.as_raw_fd().to_string())).map_or(Kind::Unknown, |found| of_file(&found)),
    }
}

/// Whether a socket has no address of its own, as before it connects. A listener that was shut down keeps its own.
pub(crate) fn was_never_named(socket: BorrowedFd<'_>) -> bool {
    SockRef::from(&socket).local_addr().is_ok_and(|own| match own.as_socket() {
        Some(own) => own.port() == 0,
        None => own.is_unnamed(),
    })
}

fn of_file(found: &Metadata) -> Kind {
    let file_type = found.file_type();
    match file_type {
        _ if file_type.is_fifo() => Kind::Pipe,
        _ if file_type.is_char_device() => Kind::CharDevice,
        _ if file_type.is_file() || file_type.is_dir() || file_type.is_block_device() => Kind::File,
        _ => Kind::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    /// What the type says, where it says anything, checked against what the kernel says.
    #[track_caller]
    fn expect_kind<T: AsFd + 'static>(source: T, kind: Kind, told_by_type: bool) {
        assert_eq!(ask(source.as_fd()), kind);
        assert_eq!(TypeFacts::of::<T>().kind, if told_by_type { kind } else { Kind::Unknown });
    }

    #[test]
    fn every_kind_is_told_by_the_kernel_as_by_the_type() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        expect_kind(mio::net::TcpStream::from_std(stream.try_clone().unwrap()), Kind::Stream, true);
        expect_kind(stream, Kind::Stream, true);
        expect_kind(EventFd::counter(0).unwrap(), Kind::Anonymous, true);
        expect_kind(unix::UnixStream::pair().unwrap().0, Kind::Stream, true);
        expect_kind(mio::net::UnixStream::pair().unwrap().0, Kind::Stream, true);
        expect_kind(mio::net::TcpListener::from_std(listener.try_clone().unwrap()), Kind::Listener, true);
        expect_kind(OwnedFd::from(listener.try_clone().unwrap()), Kind::Listener, false);
        expect_kind(listener, Kind::Listener, true);
        expect_kind(unix::UnixDatagram::unbound().unwrap(), Kind::Datagram, true);
        expect_kind(mio::net::UnixDatagram::unbound().unwrap(), Kind::Datagram, true);
        expect_kind(net::UdpSocket::bind("127.0.0.1:0").unwrap(), Kind::Datagram, true);
        expect_kind(mio::net::UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap(), Kind::Datagram, true);
        let (reader, writer) = io::pipe().unwrap();
        expect_kind(reader, Kind::Pipe, true);
        expect_kind(writer.try_clone().unwrap(), Kind::Pipe, true);
        expect_kind(OwnedFd::from(writer), Kind::Pipe, false);
        expect_kind(mio::unix::pipe::new().unwrap().0, Kind::Pipe, false);
        expect_kind(fs::File::open("/dev/null").unwrap(), Kind::CharDevice, false);
        expect_kind(fs::File::open("/").unwrap(), Kind::File, false);
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        expect_kind(epoll, Kind::Anonymous, false);
    }

    #[test]
    fn without_proc_what_is_no_socket_stays_unknown_and_has_no_dry_shorts() {
        let nowhere = Path::new("/proc/self/fd/none");
        let unknown: [(OwnedFd, Kind); 4] = [
            (io::pipe().unwrap().0.into(), Kind::Pipe),
            (io::pipe().unwrap().1.into(), Kind::Pipe),
            (fs::File::open("/dev/null").unwrap().into(), Kind::CharDevice),
            (fs::File::open("/").unwrap().into(), Kind::File),
        ];
        for (fd, kind) in unknown {
            assert_eq!((ask_in(nowhere, fd.as_fd()), ask(fd.as_fd())), (Kind::Unknown, kind));
        }
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let known: [(OwnedFd, Kind); 3] = [
            (listener.into(), Kind::Listener),
            (unix::UnixStream::pair().unwrap().0.into(), Kind::Stream),
            (unix::UnixDatagram::unbound().unwrap().into(), Kind::Datagram),
        ];
        for (fd, kind) in known {
            assert_eq!(ask_in(nowhere, fd.as_fd()), kind);
        }
        assert!(!Kind::Unknown.has_dry_shorts());
    }

    #[test]
    fn an_error_says_of_a_pipe_and_of_what_nobody_knows_that_nobody_reads_it() {
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
        let unread: Vec<_> = all.into_iter().filter(|kind| kind.is_unread_by_error()).collect();
        assert_eq!(unread, [Kind::Pipe, Kind::Unknown]);
    }

    #[test]
    fn only_types_without_a_buffer_of_their_own_are_bare() {
        assert!(TypeFacts::of::<net::TcpStream>().bare);
        assert!(TypeFacts::of::<fs::File>().bare);
        assert!(TypeFacts::of::<process::ChildStdout>().bare);
        assert!(TypeFacts::of::<mio::unix::pipe::Receiver>().bare);
        assert!(!TypeFacts::of::<io::BufReader<net::TcpStream>>().bare);
        assert!(!TypeFacts::of::<std::sync::Arc<net::TcpStream>>().bare);
    }
}
