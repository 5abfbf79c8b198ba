//! Facts about one descriptor, asked when they matter: its kind, and its readiness at this moment.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{SockRef, Type};

use crate::error::Error;
use crate::source::kind::Kind;
use crate::source::readiness::{Interest, Readiness};
#[cfg(feature = "simulation")]
use crate::sys::simulated;

/// Sets `O_NONBLOCK` on `fd`, which shares the flag with all its duplicates. Makes one `ioctl`.
#[inline]
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Error> {
    #[cfg(feature = "simulation")]
    if simulated::owner(fd).is_some() {
        return Ok(()); // no simulated descriptor blocks
    }
    let failed = |errno: Errno| Error::Os {
        call: "ioctl(FIONBIO)",
        fd: fd.as_raw_fd(),
        source: errno.into(),
    };
    rustix::io::ioctl_fionbio(fd, true).map_err(failed)
}

/// Returns the facts that hold for `fd` at this moment, among the facts of `interest`, errors and
/// hang-ups. Makes one `poll`, which does not wait.
pub(crate) fn readiness_now(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<Readiness> {
    #[cfg(feature = "simulation")]
    if let Some(system) = simulated::owner(fd) {
        let ready = system.readiness(fd.as_raw_fd(), simulated::flags(interest));
        return Ok(Readiness::from_kernel(EventFlags::from_bits_retain(ready)));
    }
    let flags = [
        (Interest::READABLE, PollFlags::IN | PollFlags::RDHUP),
        (Interest::WRITABLE, PollFlags::OUT),
        (Interest::PRIORITY, PollFlags::PRI),
    ];
    let asked = flags
        .into_iter()
        .filter(|(part, _)| interest.contains(*part))
        .map(|(_, flag)| flag);
    let mut polled = [PollFd::from_borrowed_fd(fd, asked.collect())];
    poll(
        &mut polled,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )?;
    // poll(2) has the bits of epoll_ctl(2).
    Ok(Readiness::from_kernel(EventFlags::from_bits_retain(
        u32::from(polled[0].revents().bits()),
    )))
}

/// Asks the kernel for the kind of `fd`. Makes two system calls, or one for a socket that is not a
/// stream.
///
/// Descriptors that are not sockets are looked up in `/proc`. The standard library has no
/// `fstat(2)` for an fd that it does not own. The module of rustix that has `fstat` takes longer to
/// compile than all of this crate. Without `/proc` the kind stays unknown.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Kind {
    #[cfg(feature = "simulation")]
    if let Some(system) = simulated::owner(fd) {
        return system.kind(fd.as_raw_fd());
    }
    kind_in(Path::new("/proc/self/fd"), fd)
}

/// Returns the kind of `fd`, with `folder` as the directory of the names of the open fds.
fn kind_in(folder: &Path, fd: BorrowedFd<'_>) -> Kind {
    let socket = SockRef::from(&fd);
    match socket.r#type() {
        Ok(Type::STREAM) if socket.is_listener().is_ok_and(|listens| listens) => Kind::Listener,
        Ok(Type::STREAM) => Kind::Stream,
        Ok(_) => Kind::Datagram,
        Err(_) => fs::metadata(folder.join(fd.as_raw_fd().to_string()))
            .map_or(Kind::Unknown, |found| of_file(&found)),
    }
}

/// Returns `true` if a socket has no address of its own, as before it connects. A listener that was
/// shut down keeps its address.
pub(crate) fn was_never_named(socket: BorrowedFd<'_>) -> bool {
    #[cfg(feature = "simulation")]
    if let Some(system) = simulated::owner(socket) {
        return system.is_unnamed(socket.as_raw_fd());
    }
    SockRef::from(&socket)
        .local_addr()
        .is_ok_and(|own| match own.as_socket() {
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
    use std::net;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net as unix;

    use crate::source::kind::TypeFacts;
    use crate::sys::eventfd::EventFd;

    #[track_caller]
    fn expect_kind<T: AsFd + 'static>(source: T, kind: Kind, is_known_by_type: bool) {
        assert_eq!(super::kind(source.as_fd()), kind);
        assert_eq!(
            TypeFacts::of::<T>().kind,
            if is_known_by_type {
                kind
            } else {
                Kind::Unknown
            }
        );
    }

    #[test]
    fn every_kind_is_the_same_from_the_kernel_and_from_the_type() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        expect_kind(
            mio::net::TcpStream::from_std(stream.try_clone().unwrap()),
            Kind::Stream,
            true,
        );
        expect_kind(stream, Kind::Stream, true);
        expect_kind(EventFd::counter(0).unwrap(), Kind::Anonymous, true);
        expect_kind(unix::UnixStream::pair().unwrap().0, Kind::Stream, true);
        expect_kind(mio::net::UnixStream::pair().unwrap().0, Kind::Stream, true);
        expect_kind(
            mio::net::TcpListener::from_std(listener.try_clone().unwrap()),
            Kind::Listener,
            true,
        );
        expect_kind(
            OwnedFd::from(listener.try_clone().unwrap()),
            Kind::Listener,
            false,
        );
        expect_kind(listener, Kind::Listener, true);
        expect_kind(unix::UnixDatagram::unbound().unwrap(), Kind::Datagram, true);
        expect_kind(
            mio::net::UnixDatagram::unbound().unwrap(),
            Kind::Datagram,
            true,
        );
        expect_kind(
            net::UdpSocket::bind("127.0.0.1:0").unwrap(),
            Kind::Datagram,
            true,
        );
        expect_kind(
            mio::net::UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap(),
            Kind::Datagram,
            true,
        );
        let (reader, writer) = io::pipe().unwrap();
        expect_kind(reader, Kind::Pipe, true);
        expect_kind(writer.try_clone().unwrap(), Kind::Pipe, true);
        expect_kind(OwnedFd::from(writer), Kind::Pipe, false);
        expect_kind(mio::unix::pipe::new().unwrap().0, Kind::Pipe, false);
        expect_kind(
            fs::File::open("/dev/null").unwrap(),
            Kind::CharDevice,
            false,
        );
        expect_kind(fs::File::open("/").unwrap(), Kind::File, false);
        let epoll =
            rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        expect_kind(epoll, Kind::Anonymous, false);
    }

    #[test]
    fn without_proc_no_socket_stays_unknown_and_its_short_io_proves_nothing() {
        let nowhere = Path::new("/proc/self/fd/none");
        let unknown: [(OwnedFd, Kind); 4] = [
            (io::pipe().unwrap().0.into(), Kind::Pipe),
            (io::pipe().unwrap().1.into(), Kind::Pipe),
            (
                fs::File::open("/dev/null").unwrap().into(),
                Kind::CharDevice,
            ),
            (fs::File::open("/").unwrap().into(), Kind::File),
        ];
        for (fd, kind) in unknown {
            assert_eq!(
                (kind_in(nowhere, fd.as_fd()), super::kind(fd.as_fd())),
                (Kind::Unknown, kind)
            );
        }
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let known: [(OwnedFd, Kind); 3] = [
            (listener.into(), Kind::Listener),
            (unix::UnixStream::pair().unwrap().0.into(), Kind::Stream),
            (
                unix::UnixDatagram::unbound().unwrap().into(),
                Kind::Datagram,
            ),
        ];
        for (fd, kind) in known {
            assert_eq!(kind_in(nowhere, fd.as_fd()), kind);
        }
        assert!(!Kind::Unknown.short_io_means_drained());
    }
}
