//! The calls on simulated sockets that `handlers` makes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;

use handlers::simulation::Sockets;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::network::unix::Name;
use crate::network::{Network, Socket, SocketId};
use crate::world::{State, World};

impl World {
    /// Makes a socket and its descriptor.
    fn new_socket(
        &self,
        make: impl FnOnce(&mut Network) -> Result<SocketId, Errno>,
    ) -> io::Result<OwnedFd> {
        let socket = self.call(|state| {
            state.settle(); // the address of a socket that was just closed is free
            if state.network.is_out_of_descriptors() {
                return Err(Errno::MFILE);
            }
            make(&mut state.network)
        })?;
        self.descriptor(socket)
    }

    fn look<R>(&self, fd: BorrowedFd<'_>, look: impl FnOnce(&Socket) -> R) -> Option<R> {
        self.with(|state| {
            let socket = state.socket(fd.as_raw_fd())?;
            state.network.sockets.get(&socket).map(look)
        })
    }
}

impl Sockets for World {
    fn is_simulated(&self, fd: BorrowedFd<'_>) -> bool {
        reactor::simulation::System::owns(self, fd.as_raw_fd())
    }

    fn bind_tcp(&self, address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
        self.new_socket(|network| network.listen_at(address, backlog))
    }

    fn bind_unix(&self, address: &UnixAddr, backlog: i32) -> io::Result<OwnedFd> {
        let name = Name::of(address).ok_or(Errno::INVAL)?;
        self.new_socket(|network| network.listen_at_name(name, backlog))
    }

    fn unlink_unix(&self, path: &Path) {
        self.call(|state| {
            if !state.is_killed() {
                state.network.unlink(path);
            }
        });
    }

    fn unix_addr(&self, fd: BorrowedFd<'_>) -> io::Result<UnixAddr> {
        self.on_socket(fd.as_raw_fd(), "local addr", |network, socket| {
            network.name(socket)
        })
    }

    fn connect_tcp(&self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<OwnedFd> {
        self.new_socket(|network| Ok(network.connect(to, from)))
    }

    fn connect_unix(&self, to: &UnixAddr) -> io::Result<OwnedFd> {
        let name = Name::of(to).ok_or(Errno::INVAL)?;
        self.new_socket(|network| {
            let client = network.unix_stream();
            let connected = network.connect_to_name(client, &name);
            if connected.is_err() {
                network.close(client);
            }
            connected.map(|()| client)
        })
    }

    fn pair(&self) -> io::Result<[OwnedFd; 2]> {
        let (near, far) = self.peer_call(Network::pair);
        Ok([self.descriptor(near)?, self.descriptor(far)?])
    }

    fn lookup(&self, host: &str, service: &str) -> io::Result<Vec<SocketAddr>> {
        self.look_up(host, service)
    }

    fn bind_udp(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        self.new_socket(|network| network.bind_datagrams(address, None))
    }

    fn connect_udp(&self, to: SocketAddr) -> io::Result<OwnedFd> {
        self.new_socket(|network| network.bind_datagrams(to, Some(to)))
    }

    fn listens(&self, fd: BorrowedFd<'_>) -> bool {
        self.look(fd, |socket| matches!(socket, Socket::Listener(_)))
            .unwrap_or(false)
    }

    fn is_datagram(&self, fd: BorrowedFd<'_>) -> bool {
        self.look(fd, |socket| matches!(socket, Socket::Datagrams(_)))
            .unwrap_or(false)
    }

    fn is_unix(&self, fd: BorrowedFd<'_>) -> bool {
        self.with(|state| {
            let socket = state.socket(fd.as_raw_fd());
            socket.is_some_and(|socket| state.network.is_unix(socket))
        })
    }

    fn listen(&self, fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
        self.on_socket(fd.as_raw_fd(), "listen", |network, socket| {
            network.set_backlog(socket, backlog)
        })
    }

    fn accept(&self, fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
        let (accepted, peer) = self.on_socket(fd.as_raw_fd(), "accept", Network::accept)?;
        Ok((self.descriptor(accepted)?, peer))
    }

    fn shutdown_write(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.on_socket(fd.as_raw_fd(), "shutdown", Network::shutdown_write)
    }

    fn reset_on_close(&self, fd: BorrowedFd<'_>) {
        let reset = |network: &mut Network, socket| {
            network.reset_on_close(socket);
            Ok(())
        };
        let _ = self.on_socket(fd.as_raw_fd(), "linger", reset); // it never fails
    }

    fn take_error(&self, fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
        let take = |network: &mut Network, socket| Ok(network.take_error(socket));
        let error = self.on_socket(fd.as_raw_fd(), "take error", take)?;
        Ok(error.map(Into::into))
    }

    fn unread(&self, fd: BorrowedFd<'_>) -> io::Result<u64> {
        self.on_socket(fd.as_raw_fd(), "unread", Network::unread)
    }

    fn has_input(&self, fd: BorrowedFd<'_>) -> bool {
        let looked = [EventFlags::IN, EventFlags::ERR, EventFlags::HUP];
        let look = |network: &mut Network, socket| Ok(network.readiness(socket));
        self.on_socket(fd.as_raw_fd(), "poll", look)
            .is_ok_and(|ready| looked.iter().any(|fact| ready.contains(*fact)))
    }

    fn await_sent(&self, fd: BorrowedFd<'_>) -> bool {
        let await_sent = |network: &mut Network, socket| Ok(network.await_sent(socket));
        self.on_socket(fd.as_raw_fd(), "await sent", await_sent)
            .unwrap_or(false)
    }

    fn local_addr(&self, fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        self.on_socket(fd.as_raw_fd(), "local addr", |network, socket| {
            network.local_addr(socket)
        })
    }

    fn peer_addr(&self, fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        self.on_socket(fd.as_raw_fd(), "peer addr", |network, socket| {
            network.peer_addr(socket)
        })
    }

    fn send_to(&self, fd: BorrowedFd<'_>, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.on_socket(fd.as_raw_fd(), "send to", |network, socket| {
            network.send_datagram(socket, to, bytes)
        })
    }

    fn receive_from(
        &self,
        fd: BorrowedFd<'_>,
        buf: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
        let received = self.on_socket(fd.as_raw_fd(), "receive", |network, socket| {
            network.receive_datagram(socket, buf)
        });
        let to = self.local_addr(fd).ok().map(|address| address.ip());
        received.map(|(count, from)| (count, from, to))
    }

    fn delivered(&self) {
        self.with(State::forget_idle_waits);
    }
}
