//! Calls that look up names: of hosts, of services, of network interfaces.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

#[cfg(feature = "simulation")]
use crate::simulation;

/// Returns the TCP addresses of a host, in the order in which to connect to them. Blocks for as
/// long as the name servers take to answer.
pub(crate) fn lookup(host: &str, service: &str) -> io::Result<Vec<SocketAddr>> {
    #[cfg(feature = "simulation")]
    if let Some(sockets) = simulation::installed() {
        return sockets.lookup(host, service);
    }
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(), // otherwise each address comes once for each type
        ..AddrInfoHints::default()
    };
    getaddrinfo(Some(host), Some(service), Some(hints))
        .map_err(|error| lack_of_descriptors().unwrap_or_else(|| failed(error)))?
        .map(|found| found.map(|info| info.sockaddr))
        .collect()
}

/// Returns an error if this process has no descriptor left. The system then cannot read its files
/// or ask a name server, and it may say that a name does not exist.
#[cold]
fn lack_of_descriptors() -> Option<io::Error> {
    match eventfd(0, EventfdFlags::CLOEXEC) {
        Err(errno @ (Errno::MFILE | Errno::NFILE)) => Some(errno.into()),
        _ => None,
    }
}

/// Returns an error of `getaddrinfo(3)` with a kind that tells what to do. An error with an errno
/// keeps it.
fn failed(error: LookupError) -> io::Error {
    let (kind, advice) = match error.kind() {
        LookupErrorKind::NoName => (
            ErrorKind::NotFound,
            ": neither /etc/hosts nor the name servers have this name",
        ),
        LookupErrorKind::NoData => (ErrorKind::AddrNotAvailable, ""),
        LookupErrorKind::Again => (
            ErrorKind::HostUnreachable,
            ": the name servers of /etc/resolv.conf do not answer, or cannot find out",
        ),
        LookupErrorKind::Service => (
            ErrorKind::InvalidInput,
            ": /etc/services has no TCP service of this name",
        ),
        LookupErrorKind::Memory => (ErrorKind::OutOfMemory, ""),
        LookupErrorKind::System => return error.into(),
        LookupErrorKind::IO if error.error_num() == 0 => return error.into(), // not asked at all
        _ => (ErrorKind::Other, ""),
    };
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    io::Error::new(kind, format!("{text}{advice}"))
}

/// Returns the index of a network interface.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    // netdevice(7): any socket will do.
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(name_to_index(socket, name)?)
}
