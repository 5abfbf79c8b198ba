//! The options of a socket that are set between `socket(2)` and `bind(2)` or `connect(2)`,
//! or after `accept(2)`.
//!
//! Ground rule: the options by name come first, and the user's closure `prepare` last, so that it
//! can replace each of them.

use std::fmt;
use std::io::{self, ErrorKind};
#[cfg(feature = "simulation")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
#[cfg(feature = "simulation")]
use socket2::{Domain, Socket, Type};

use super::{Family, TcpKeepalive};
use crate::error::{advised, errno, named};
#[cfg(feature = "simulation")]
use crate::simulation;

/// The options that are set on a socket before it is used. `None` leaves an option as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketOptions {
    pub(crate) keepalive: Option<TcpKeepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) mark: Option<u32>,
    /// The name of a network interface. Only new sockets can be bound to it.
    pub(crate) device: Option<String>,
    pub(crate) prepare: Option<Prepare>,
}

impl SocketOptions {
    /// Sets the options of a socket that is neither bound nor connected.
    pub(crate) fn set_on_new(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(device) = &self.device {
            bind_device(fd, device)?;
        }
        self.set_on_tcp(fd)?;
        self.prepare(fd)
    }

    /// Sets the options of an accepted socket.
    pub(crate) fn set_on_accepted(&self, fd: BorrowedFd<'_>, family: Family) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if simulation::owner(fd).is_some() {
            let domain = match family {
                Family::Internet => super::local_addr(fd).map_or(Domain::IPV4, Domain::for_address),
                Family::Unix => Domain::UNIX,
            };
            return self.prepare_stand_in(domain, Type::STREAM);
        }
        match family {
            Family::Internet => {
                self.set_on_tcp(fd)?;
                self.prepare(fd)
            }
            Family::Unix => self.set_on_unix(fd),
        }
    }

    /// Sets the options of a Unix socket that is accepted or about to be connected. Among the
    /// options by name, only the size of the send buffer has an effect: `unix(7)`.
    pub(crate) fn set_on_unix(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.set_send_buffer(fd)?;
        self.prepare(fd)
    }

    fn set_on_tcp(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let socket = SockRef::from(&fd);
        if let Some(keepalive) = self.keepalive {
            socket
                .set_tcp_keepalive(&keepalive.parameters())
                .map_err(|error| failed("SO_KEEPALIVE", fd, error))?;
        }
        if let Some(timeout) = self.user_timeout {
            socket
                .set_tcp_user_timeout(Some(whole_milliseconds(timeout)))
                .map_err(|error| failed("TCP_USER_TIMEOUT", fd, error))?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket
                .set_recv_buffer_size(bytes.min(INT_MAX))
                .map_err(|error| failed("SO_RCVBUF", fd, error))?;
        }
        self.set_send_buffer(fd)?;
        if let Some(mark) = self.mark {
            socket
                .set_mark(mark)
                .map_err(|error| failed("SO_MARK", fd, error))?;
        }
        Ok(())
    }

    fn set_send_buffer(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(bytes) = self.send_buffer {
            SockRef::from(&fd)
                .set_send_buffer_size(bytes.min(INT_MAX))
                .map_err(|error| failed("SO_SNDBUF", fd, error))?;
        }
        Ok(())
    }

    fn prepare(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.prepare.as_ref().map_or(Ok(()), |prepare| {
            (prepare.0)(fd)
                .map_err(|error| named(format_args!("prepare of fd {}", fd.as_raw_fd()), error))
        })
    }

    /// Calls `prepare` with a socket of the kernel in the place of a simulated one, whose fd is not
    /// a socket. So the calls of `prepare` succeed as they would without a simulation.
    #[cfg(feature = "simulation")]
    pub(crate) fn prepare_stand_in(&self, domain: Domain, of_type: Type) -> io::Result<()> {
        if self.prepare.is_none() {
            return Ok(());
        }
        self.prepare(Socket::new(domain, of_type, None)?.as_fd())
    }
}

/// A closure of the user that is called with a socket before it is used.
#[derive(Clone)]
pub(crate) struct Prepare(Arc<PrepareFn>);

type PrepareFn = dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync;

impl Prepare {
    pub(crate) fn new(
        prepare: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(prepare))
    }
}

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

/// The greatest value of an option that is an `int`. The kernel limits a buffer further.
const INT_MAX: usize = i32::MAX as usize;

/// Returns a timeout as whole milliseconds that the kernel accepts, where 0 stands for its default.
fn whole_milliseconds(timeout: Duration) -> Duration {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    let within = milliseconds.clamp(1, INT_MAX as u128);
    Duration::from_millis(u64::try_from(within).unwrap_or(u64::MAX))
}

/// The greatest length of the name of an interface: `IFNAMSIZ` less the NUL at its end.
const DEVICE_MAX: usize = 15;

fn bind_device(fd: BorrowedFd<'_>, device: &str) -> io::Result<()> {
    // The kernel cuts a name that is longer, or that has a NUL. An empty name ends the binding.
    if device.is_empty() || device.len() > DEVICE_MAX || device.contains('\0') {
        let text = format!(
            "bind_device: {device:?} is not the name of a network interface: \
             expected 1 to {DEVICE_MAX} bytes without NUL"
        );
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    SockRef::from(&fd)
        .bind_device(Some(device.as_bytes()))
        .map_err(|error| failed(&format!("SO_BINDTODEVICE, {device}"), fd, error))
}

/// Returns an error that names the option and the fd, and the missing privilege if there is one.
#[cold]
pub(super) fn failed(option: &str, fd: BorrowedFd<'_>, error: io::Error) -> io::Error {
    let advice = match errno(&error) {
        Some(Errno::PERM) if option.starts_with("SO_MARK") => {
            ": needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17"
        }
        Some(Errno::PERM) if option.starts_with("SO_BINDTODEVICE") => {
            ": needs CAP_NET_RAW before Linux 5.7, and later if the socket is bound already"
        }
        Some(Errno::NODEV) if option.starts_with("SO_BINDTODEVICE") => {
            ": no network interface has this name"
        }
        Some(Errno::NODEV) => ": there is no such network interface, or no route to the group",
        _ => "",
    };
    let number = fd.as_raw_fd();
    advised(
        format_args!("setsockopt({option}) on fd {number}"),
        error,
        advice,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_timeout_is_rounded_up_to_whole_milliseconds_in_range() {
        let nanosecond = Duration::from_nanos(1);
        let millisecond = Duration::from_millis(1);
        let greatest = Duration::from_millis(INT_MAX as u64);
        for (timeout, expected) in [
            (Duration::ZERO, millisecond),
            (nanosecond, millisecond),
            (millisecond, millisecond),
            (millisecond + nanosecond, 2 * millisecond),
            (greatest, greatest),
            (greatest + nanosecond, greatest),
            (Duration::MAX, greatest),
        ] {
            assert_eq!(whole_milliseconds(timeout), expected, "{timeout:?}");
        }
    }
}
