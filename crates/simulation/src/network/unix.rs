//! Unix sockets: the table of their names, and what differs from TCP.
//!
//! The bytes of a Unix socket travel as those of TCP do, with a latency and windows. As in
//! `af_unix.c` of the kernel, a connect succeeds or fails at once, nothing is reset, and a close is
//! seen by the peer whatever its window is: the peer reads the bytes that were sent, then
//! `ECONNRESET` if the closed socket had unread bytes, and then the end. Its writes fail with
//! `EPIPE`.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;

use rustix::io::Errno;

use super::listener::Listener;
use super::stream::{Progress, Stream};
use super::{Event, Network, Socket, SocketId};

/// Stands for an address where only TCP has one.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The name of a Unix socket. Paths are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Path(Vec<u8>),
    Abstract(Vec<u8>),
}

impl Name {
    /// Returns the name in an address, or `None` if the address has no name.
    pub(crate) fn of(address: &UnixAddr) -> Option<Self> {
        let path = address.as_pathname().map(Self::path);
        path.or_else(|| Some(Self::Abstract(address.as_abstract_name()?.to_vec())))
    }

    pub(crate) fn path(path: &Path) -> Self {
        Self::Path(path.as_os_str().as_bytes().to_vec())
    }

    /// Returns the address with this name.
    ///
    /// # Errors
    /// `EINVAL` if the name is too long.
    pub(crate) fn address(&self) -> Result<UnixAddr, Errno> {
        let address = match self {
            Self::Path(path) => UnixAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            Self::Abstract(name) => UnixAddr::from_abstract_name(name),
        };
        address.map_err(|_| Errno::INVAL)
    }
}

impl Network {
    pub(crate) fn is_unix(&self, socket: SocketId) -> bool {
        match self.sockets.get(&socket) {
            Some(Socket::Listener(listener)) => listener.name.is_some(),
            Some(Socket::Stream(stream)) => stream.is_unix,
            Some(Socket::Datagrams(_)) | None => false,
        }
    }

    /// Makes a socket that listens at a name. A path whose socket is closed is taken over.
    pub(crate) fn listen_at_name(&mut self, name: Name, backlog: i32) -> Result<SocketId, Errno> {
        if self.listener_named(&name).is_some() {
            return Err(Errno::ADDRINUSE);
        }
        let id = self.insert(Socket::Listener(Listener {
            address: NO_ADDRESS,
            backlog: usize::try_from(backlog).unwrap_or(0),
            queue: VecDeque::new(),
            name: Some(name.clone()),
        }));
        self.names.insert(name, id);
        self.record("kernel", "listen at a name", id, 0);
        Ok(id)
    }

    fn listener_named(&self, name: &Name) -> Option<SocketId> {
        let id = self.names.get(name).copied();
        id.filter(|id| self.sockets.contains_key(id))
    }

    /// Removes a path.
    pub(crate) fn unlink(&mut self, path: &Path) {
        if let Some(id) = self.names.remove(&Name::path(path)) {
            self.record("kernel", "unlink", id, 0);
        }
    }

    /// Returns the name of a socket that listens.
    pub(crate) fn name(&self, socket: SocketId) -> Result<UnixAddr, Errno> {
        match self.sockets.get(&socket) {
            Some(Socket::Listener(listener)) => {
                listener.name.as_ref().ok_or(Errno::INVAL)?.address()
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// Forgets the abstract name of a listener that is closed. Returns `true` if it is a Unix
    /// socket.
    pub(super) fn forget_name(&mut self, socket: SocketId, name: Option<Name>) -> bool {
        let is_unix = name.is_some();
        if let Some(name @ Name::Abstract(_)) = name
            && self.names.get(&name) == Some(&socket)
        {
            self.names.remove(&name);
        }
        is_unix
    }

    /// Makes a Unix socket that is not connected.
    pub(crate) fn unix_stream(&mut self) -> SocketId {
        let mut stream = Stream::connecting(self, NO_ADDRESS, NO_ADDRESS);
        stream.is_unix = true;
        self.insert(Socket::Stream(stream))
    }

    /// Connects a Unix socket: unix_stream_connect of the kernel. Returns `EAGAIN` while the queue
    /// of the listener is full.
    pub(crate) fn connect_to_name(&mut self, client: SocketId, name: &Name) -> Result<(), Errno> {
        let listener = self.listener_named(name).ok_or(match name {
            Name::Path(_) if !self.names.contains_key(name) => Errno::NOENT,
            _ => Errno::CONNREFUSED,
        })?;
        if let Some(Socket::Listener(listening)) = self.sockets.get(&listener)
            && listening.queue.len() > listening.backlog
        {
            return Err(Errno::AGAIN);
        }
        let latency = self.stream(client)?.latency;
        let mut server = Stream::accepted(self, NO_ADDRESS, NO_ADDRESS, client, listener);
        (server.latency, server.is_unix) = (latency, true);
        let server = self.insert(Socket::Stream(server));
        let stream = self.stream(client)?;
        (stream.peer, stream.progress) = (Some(server), Progress::Connected);
        if let Some(Socket::Listener(listening)) = self.sockets.get_mut(&listener) {
            listening.queue.push_back(server);
        }
        self.record("network", "established", server, 0);
        self.change(listener);
        Ok(())
    }

    /// Closes a Unix stream. The bytes that it has not sent yet arrive, whatever the window is.
    /// With `never_accepted`, it was still in the queue of a listener.
    pub(super) fn close_unix(&mut self, socket: SocketId, never_accepted: bool) {
        let Ok(stream) = self.stream(socket) else {
            return;
        };
        let cut = never_accepted || !stream.received.is_empty();
        let (peer, unsent) = (stream.peer, stream.unsent.len());
        if let (Some(peer), Progress::Connected) = (peer, stream.progress) {
            if unsent > 0 {
                self.send_segment(socket, peer, unsent);
            }
            let at = self.arrival(socket, 0);
            self.at(at, Event::Gone { to: peer, cut });
            self.record("network", "closes", socket, i64::from(cut));
        }
        self.sockets.remove(&socket);
    }

    /// The peer of a Unix socket has closed: unix_release_sock of the kernel.
    pub(super) fn gone_arrives(&mut self, to: SocketId, cut: bool) {
        let Ok(stream) = self.stream(to) else {
            return;
        };
        // Bytes that the peer never had were in its queue when it was closed.
        let is_cut = cut || stream.has_lost || stream.in_flight > 0 || !stream.unsent.is_empty();
        stream.error = is_cut.then_some(Errno::CONNRESET);
        stream.progress = Progress::Closed;
        stream.has_fin = true;
        stream.unsent.clear();
        stream.unacknowledged = 0;
        self.record("network", "gone", to, i64::from(is_cut));
        self.change(to);
    }
}
