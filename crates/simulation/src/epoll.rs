//! Simulated epoll instances: edge-triggered, and fair as the kernel's.
//!
//! The kernel reports in the order in which descriptors have become ready, so none is passed over
//! while others are reported twice. Here the order of those is drawn that become ready between two
//! reports.

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
    /// The token of a wake that no wait has seen, and the number of reports before it.
    wake: Option<(u64, u64)>,
    /// The number of reports so far.
    reported: u64,
    /// Waits in a row that reported nothing at once.
    pub(crate) idle_waits: u32,
}

#[derive(Debug)]
struct Watch {
    fd: RawFd,
    socket: SocketId,
    flags: EventFlags,
    token: u64,
    /// Set if the socket has changed since it was last reported: the number of reports before that.
    pending_since: Option<u64>,
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
            pending_since: None,
        };
        if !watch.ready(network).is_empty() {
            watch.pending_since = Some(self.reported);
        }
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
            if watch.socket == socket {
                watch.pending_since.get_or_insert(self.reported);
            }
        }
    }

    pub(crate) fn wake(&mut self, token: u64) {
        self.wake.get_or_insert((token, self.reported));
    }

    /// Returns `true` if a wait may have something to report.
    pub(crate) fn has_reports(&self) -> bool {
        self.wake.is_some()
            || self
                .watches
                .iter()
                .any(|watch| watch.pending_since.is_some())
    }

    /// Reports the oldest changes, as many as fit.
    pub(crate) fn report(&mut self, network: &mut Network, reports: &mut Reports<'_>) {
        while reports.room() > 0 {
            let times = self.watches.iter().filter_map(|watch| watch.pending_since);
            let woken = self.wake.map(|(_, since)| since);
            let Some(oldest) = times.chain(woken).min() else {
                return;
            };
            let mut pending: Vec<&mut Watch> = self
                .watches
                .iter_mut()
                .filter(|watch| watch.pending_since == Some(oldest))
                .collect();
            let is_wake_pending = woken == Some(oldest);
            let drawn = network
                .draw
                .index(pending.len() + usize::from(is_wake_pending));
            let (flags, token) = match (pending.get_mut(drawn), self.wake) {
                (Some(watch), _) => {
                    watch.pending_since = None;
                    (watch.ready(network), watch.token)
                }
                (None, Some((token, _))) => {
                    self.wake = None;
                    (EventFlags::IN, token)
                }
                (None, None) => return,
            };
            if !flags.is_empty() {
                reports.push(flags.bits(), token);
                self.reported += 1;
            }
        }
    }
}
