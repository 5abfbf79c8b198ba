//! Datagram sockets: each datagram arrives whole, or twice, or never, and in any order.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::{Event, Network, Socket, SocketId, is_bound_for};

/// The number of datagrams that wait to be received. Further ones are dropped.
const QUEUE_MAX: usize = 256;
/// The largest payload of UDP over IPv4.
const BYTES_MAX: usize = 65_507;

#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) local: SocketAddr,
    pub(super) peer: Option<SocketAddr>,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) error: Option<Errno>,
}

impl Datagrams {
    pub(super) fn readiness(&self) -> EventFlags {
        let mut ready = EventFlags::OUT;
        if !self.queue.is_empty() {
            ready |= EventFlags::IN;
        }
        if self.error.is_some() {
            ready |= EventFlags::ERR;
        }
        ready
    }
}

impl Network {
    pub(crate) fn bind_datagrams(
        &mut self,
        address: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> Result<SocketId, Errno> {
        let local = match peer {
            Some(peer) => self.address_towards(peer),
            None => self.chosen_address(address),
        };
        if self.datagrams_at(local, None).is_some() {
            return Err(Errno::ADDRINUSE);
        }
        let id = self.insert(Socket::Datagrams(Datagrams {
            local,
            peer,
            queue: VecDeque::new(),
            error: None,
        }));
        self.record("kernel", "bind", id, i64::from(local.port()));
        Ok(id)
    }

    /// Returns the socket that receives what `from` sends to `to`.
    fn datagrams_at(&self, to: SocketAddr, from: Option<SocketAddr>) -> Option<SocketId> {
        let mut bound = self.sockets.iter().filter_map(|(id, socket)| match socket {
            Socket::Datagrams(datagrams) => Some((*id, datagrams)),
            _ => None,
        });
        let receives = |datagrams: &Datagrams| {
            is_bound_for(datagrams.local, to)
                && (from.is_none() || datagrams.peer.is_none() || datagrams.peer == from)
        };
        bound
            .find(|(_, datagrams)| receives(datagrams))
            .map(|(id, _)| id)
    }

    pub(crate) fn send_datagram(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let Some(Socket::Datagrams(datagrams)) = self.sockets.get_mut(&socket) else {
            return Err(Errno::OPNOTSUPP);
        };
        if let Some(error) = datagrams.error.take() {
            return Err(error);
        }
        if bytes.len() > BYTES_MAX {
            return Err(Errno::MSGSIZE);
        }
        let mut from_addr = datagrams.local;
        if from_addr.ip().is_unspecified() {
            from_addr.set_ip(to.ip());
        }
        if self.draw.once_in(self.faults.lost_datagrams) {
            self.record("network", "lost", socket, bytes.len() as i64);
            return Ok(());
        }
        let copies = if self.draw.once_in(self.faults.doubled_datagrams) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let latency = self.draw_latency();
            self.after(
                latency,
                Event::Datagram {
                    to,
                    from: socket,
                    from_addr,
                    bytes: bytes.to_vec(),
                },
            );
        }
        Ok(())
    }

    pub(super) fn datagram_arrives(
        &mut self,
        to: SocketAddr,
        from: SocketId,
        from_addr: SocketAddr,
        bytes: Vec<u8>,
    ) {
        let receiver = self.datagrams_at(to, Some(from_addr));
        let Some(receiver) = receiver else {
            let latency = self.draw_latency();
            self.after(latency, Event::Unreachable { to: from });
            return;
        };
        self.record("network", "datagram", receiver, bytes.len() as i64);
        if let Some(Socket::Datagrams(datagrams)) = self.sockets.get_mut(&receiver)
            && datagrams.queue.len() < QUEUE_MAX
        {
            datagrams.queue.push_back((from_addr, bytes));
            self.change(receiver);
        }
    }

    /// udp(7): only a connected socket is told that nothing is bound at its peer's address.
    pub(super) fn unreachable(&mut self, to: SocketId) {
        if let Some(Socket::Datagrams(datagrams)) = self.sockets.get_mut(&to)
            && datagrams.peer.is_some()
        {
            datagrams.error = Some(Errno::CONNREFUSED);
            self.change(to);
        }
    }

    /// Receives one datagram. The part that does not fit is lost.
    pub(crate) fn receive_datagram(
        &mut self,
        socket: SocketId,
        buf: &mut [u8],
    ) -> Result<(usize, SocketAddr), Errno> {
        let Some(Socket::Datagrams(datagrams)) = self.sockets.get_mut(&socket) else {
            return Err(Errno::OPNOTSUPP);
        };
        if let Some(error) = datagrams.error.take() {
            return Err(error);
        }
        let (from, bytes) = datagrams.queue.pop_front().ok_or(Errno::AGAIN)?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        Ok((count, from))
    }
}
