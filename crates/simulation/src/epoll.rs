//! Simulated epoll instances: edge-triggered, in an order that is drawn.

use std::os::fd::RawFd;

use reactor::simulation::Reports;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::network::{Network, SocketId};

#[derive(Debug, Default)]
pub(crate) struct Epoll {
    /// In the order of their making. The numbers of descriptors are the system's, and differ from
    /// run to run.
    watches: Vec<Watch>,
    /// The token of a wake that no wait has seen.
    wake: Option<u64>,
    /// Waits in a row that reported nothing at once.
    pub(crate) idle_waits: u32,
}

#[derive(Debug)]
struct Watch {
    fd: RawFd,
    socket: SocketId,
    flags: EventFlags,
    token: u64,
    /// The socket has changed since it was last reported.
    is_pending: bool,
}

impl Watch {
    fn ready(&self, network: &mut Network) -> EventFlags {
        network.readiness(self.socket) & (self.flags | EventFlags::ERR | EventFlags::HUP)
    }
}

impl Epoll {
    pub(crate) fn watch(
        &mut self,
        fd: RawFd,
        socket: SocketId,
        flags: u32,
        token: u64,
        network: &mut Network,
    ) -> Result<(), Errno> {
        if self.watches.iter().any(|watch| watch.fd == fd) {
            return Err(Errno::EXIST);
        }
        self.insert(fd, socket, flags, token, network);
        Ok(())
    }

    pub(crate) fn rewatch(
        &mut self,
        fd: RawFd,
        flags: u32,
        token: u64,
        network: &mut Network,
    ) -> Result<(), Errno> {
        let watch = self.take(fd)?;
        self.insert(fd, watch.socket, flags, token, network);
        Ok(())
    }

    fn insert(
        &mut self,
        fd: RawFd,
        socket: SocketId,
        flags: u32,
        token: u64,
        network: &mut Network,
    ) {
        let mut watch = Watch {
            fd,
            socket,
            flags: EventFlags::from_bits_retain(flags),
            token,
            is_pending: false,
        };
        watch.is_pending = !watch.ready(network).is_empty();
        self.watches.push(watch);
    }

    fn take(&mut self, fd: RawFd) -> Result<Watch, Errno> {
        let mut fds = self.watches.iter().map(|watch| watch.fd);
        let place = fds.position(|watched| watched == fd).ok_or(Errno::NOENT)?;
        Ok(self.watches.remove(place))
    }

    pub(crate) fn unwatch(&mut self, fd: RawFd) -> Result<(), Errno> {
        self.take(fd).map(drop)
    }

    /// Ends the watch of a socket that is closed.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.watches.retain(|watch| watch.socket != socket);
    }

    /// Marks the watches of a socket that has changed.
    pub(crate) fn change(&mut self, socket: SocketId) {
        for watch in &mut self.watches {
            watch.is_pending |= watch.socket == socket;
        }
    }

    pub(crate) fn wake(&mut self, token: u64) {
        self.wake = Some(token);
    }

    /// Returns `true` if a wait may have something to report.
    pub(crate) fn has_reports(&self) -> bool {
        self.wake.is_some() || self.watches.iter().any(|watch| watch.is_pending)
    }

    /// Reports what has changed, in an order that is drawn.
    pub(crate) fn report(&mut self, network: &mut Network, reports: &mut Reports<'_>) {
        if let Some(token) = self.wake.filter(|_| reports.room() > 0) {
            self.wake = None;
            reports.push(EventFlags::IN.bits(), token);
        }
        let mut pending: Vec<&mut Watch> = self
            .watches
            .iter_mut()
            .filter(|watch| watch.is_pending)
            .collect();
        while reports.room() > 0 && !pending.is_empty() {
            let drawn = network.draw.index(pending.len());
            let watch = pending.swap_remove(drawn);
            watch.is_pending = false;
            let ready = watch.ready(network);
            if !ready.is_empty() {
                reports.push(ready.bits(), watch.token);
            }
        }
    }
}
