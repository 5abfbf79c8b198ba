//! The credentials of the peer of a Unix socket: `SO_PEERCRED` of `unix(7)`.

use std::io::{self, ErrorKind};
#[cfg(feature = "simulation")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd};
#[cfg(feature = "simulation")]
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockRef};

use crate::error::named;
#[cfg(feature = "simulation")]
use crate::simulation;

/// The process, the user and the group of the peer of a Unix socket. Returned by
/// [`Connection::peer_credentials`](crate::Connection::peer_credentials) and
/// [`Accepted::peer_credentials`](crate::Accepted::peer_credentials).
///
/// The kernel records them once, so they stay the same if the peer changes its user, passes the
/// socket on, or ends:
/// - At an accepted connection, they are those of the process that has called `connect(2)`, at that
///   time.
/// - At a connection that was connected here, they are those of the process that has called
///   `listen(2)`, at that time.
/// - At a pair of sockets, they are those of the process that has made the pair.
///
/// So do not use the pid to look the process up: it may have ended, and another process may have
/// its number. To decide what a peer may do, use `uid` and `gid`.
///
/// ```
/// use std::io;
/// use handlers::{ConnectionOptions, Listener, ServerKey, on_data};
/// use reactor::Registry;
///
/// /// Serves only the user `uid`.
/// fn serve_user(
///     listener: Listener,
///     registry: &mut Registry<()>,
///     uid: u32,
/// ) -> io::Result<ServerKey<()>> {
///     listener.accept(registry, move |accepted, cx| {
///         if accepted.peer_credentials()?.uid != uid {
///             return Ok(()); // refuses the connection
///         }
///         let discard = on_data(|data, _connection, _cx| Ok(data.len()));
///         accepted.open(cx.registry, &ConnectionOptions::new(), discard)?;
///         Ok(())
///     })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The number of the process. `None` if the process is in a PID namespace that this process
    /// does not see.
    pub pid: Option<u32>,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

/// Returns the credentials of the peer of a Unix socket. At a simulated socket, these are the
/// credentials of this process, which simulates the peer too.
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::owner(fd) {
        if !sockets.is_unix(fd) {
            return Err(no_unix_socket(fd));
        }
        return of_kernel(UnixStream::pair()?.0.as_fd());
    }
    // For a socket of another family, the kernel returns numbers that stand for none.
    let named = |error| named(format_args!("getsockopt on fd {}", fd.as_raw_fd()), error);
    if SockRef::from(&fd).domain().map_err(named)? != Domain::UNIX {
        return Err(no_unix_socket(fd));
    }
    of_kernel(fd)
}

fn of_kernel(fd: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let credentials = getsockopt(&fd, sockopt::PeerCredentials).map_err(|errno| {
        let number = fd.as_raw_fd();
        let error = errno.into();
        named(
            format_args!("getsockopt(SO_PEERCRED) on fd {number}"),
            error,
        )
    })?;
    Ok(PeerCredentials {
        pid: u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0),
        uid: credentials.uid(),
        gid: credentials.gid(),
    })
}

fn no_unix_socket(fd: BorrowedFd<'_>) -> io::Error {
    let number = fd.as_raw_fd();
    let text = format!("fd {number} is not a Unix socket: only its peer has credentials");
    io::Error::new(ErrorKind::InvalidInput, text)
}
