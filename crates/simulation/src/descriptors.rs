//! The descriptors of simulated sockets.
//!
//! A simulated socket is named by a real descriptor, one end of a pipe. The descriptor can
//! therefore be closed and duplicated as any other. The other end of the pipe has an error once the
//! last duplicate is closed. A call that bypasses the simulation fails, since a pipe is not a
//! socket.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::network::SocketId;

#[derive(Debug)]
pub(crate) struct Descriptors {
    sockets: BTreeMap<RawFd, SocketId>,
    /// The other ends of the pipes, whose errors say that a socket is closed.
    others: BTreeMap<SocketId, Other>,
    closed: OwnedFd,
}

#[derive(Debug)]
struct Other {
    _end: OwnedFd,
    fd: RawFd,
}

impl Descriptors {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            sockets: BTreeMap::new(),
            others: BTreeMap::new(),
            closed: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Makes a descriptor for a socket. All closed ones have been [taken](Self::take_closed).
    pub(crate) fn open(&mut self, socket: SocketId) -> io::Result<OwnedFd> {
        let (name, other) = io::pipe()?;
        let (name, other) = (OwnedFd::from(name), OwnedFd::from(other));
        // Errors are reported in any case.
        epoll::add(
            &self.closed,
            &other,
            EventData::new_u64(socket),
            EventFlags::empty(),
        )?;
        let fd = name.as_raw_fd();
        self.sockets.insert(fd, socket);
        self.others.insert(socket, Other { _end: other, fd });
        Ok(name)
    }

    /// Returns the socket that a descriptor names.
    pub(crate) fn socket(&self, fd: RawFd) -> Option<SocketId> {
        self.sockets.get(&fd).copied()
    }

    /// Returns how many sockets have a descriptor.
    pub(crate) fn len(&self) -> usize {
        self.others.len()
    }

    /// Takes the sockets whose last descriptor has been closed, in the order of their making.
    pub(crate) fn take_closed(&mut self) -> Vec<SocketId> {
        if self.others.is_empty() {
            return Vec::new();
        }
        let mut events = [const {
            epoll::Event {
                flags: EventFlags::empty(),
                data: EventData::new_u64(0),
            }
        }; 64];
        let mut closed = Vec::new();
        while let Ok(count @ 1..) = epoll::wait(
            &self.closed,
            &mut events[..],
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        ) {
            for event in &events[..count] {
                let socket = event.data.u64();
                // Dropping the other end ends its watch.
                if let Some(other) = self.others.remove(&socket) {
                    if self.sockets.get(&other.fd) == Some(&socket) {
                        self.sockets.remove(&other.fd);
                    }
                    closed.push(socket);
                }
            }
        }
        closed.sort_unstable();
        closed
    }
}
