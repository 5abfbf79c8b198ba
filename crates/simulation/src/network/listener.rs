//! Listening sockets: connections wait in their queue until they are accepted.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::stream::{Progress, Stream};
use super::unix::Name;
use super::{Event, Network, Socket, SocketId, is_bound_for};

/// The pause before the first repetition of a request to connect: tcp(7). It doubles each time.
const FIRST_RETRY_NS: u64 = 1_000_000_000;
/// The number of repetitions: `tcp_syn_retries` of tcp(7).
const RETRIES: u32 = 6;

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<SocketId>,
    /// The path or name of a Unix socket. Such a socket has no `address`.
    pub(super) name: Option<Name>,
}

impl Listener {
    pub(super) fn readiness(&self) -> EventFlags {
        if self.queue.is_empty() {
            EventFlags::empty()
        } else {
            EventFlags::IN
        }
    }
}

impl Network {
    pub(crate) fn listen_at(
        &mut self,
        address: SocketAddr,
        backlog: i32,
    ) -> Result<SocketId, Errno> {
        let address = self.chosen_address(address);
        if self.listener_at(address).is_some() {
            return Err(Errno::ADDRINUSE);
        }
        let id = self.insert(Socket::Listener(Listener {
            address,
            backlog: usize::try_from(backlog).unwrap_or(0),
            queue: VecDeque::new(),
            name: None,
        }));
        self.record("kernel", "listen", id, i64::from(address.port()));
        Ok(id)
    }

    /// Changes the length of the queue. Connections in it stay.
    pub(crate) fn set_backlog(&mut self, socket: SocketId, backlog: i32) -> Result<(), Errno> {
        match self.sockets.get_mut(&socket) {
            Some(Socket::Listener(listener)) => {
                listener.backlog = usize::try_from(backlog).unwrap_or(0);
                Ok(())
            }
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    /// Takes the first connection of the queue.
    pub(crate) fn accept(&mut self, socket: SocketId) -> Result<(SocketId, SocketAddr), Errno> {
        if self.is_out_of_descriptors() {
            return Err(Errno::MFILE);
        }
        let Some(Socket::Listener(listener)) = self.sockets.get_mut(&socket) else {
            return Err(Errno::INVAL);
        };
        let accepted = listener.queue.pop_front().ok_or(Errno::AGAIN)?;
        let remote = match self.sockets.get(&accepted) {
            Some(Socket::Stream(stream)) => stream.remote,
            _ => return Err(Errno::CONNABORTED),
        };
        Ok((accepted, remote))
    }

    fn listener_at(&self, address: SocketAddr) -> Option<SocketId> {
        let mut listeners = self.sockets.iter().filter_map(|(id, socket)| match socket {
            Socket::Listener(listener) if listener.name.is_none() => Some((*id, listener.address)),
            _ => None,
        });
        listeners
            .find(|(_, bound)| is_bound_for(*bound, address))
            .map(|(id, _)| id)
    }

    /// Starts to connect. The outcome comes as an event.
    pub(crate) fn connect(&mut self, to: SocketAddr, from: Option<SocketAddr>) -> SocketId {
        let local = match from {
            Some(from) => self.chosen_address(from),
            None => self.address_towards(to),
        };
        let client = Stream::connecting(self, local, to);
        let latency = client.latency;
        let client = self.insert(Socket::Stream(client));
        self.record("kernel", "connect", client, i64::from(to.port()));
        if self.draw.once_in(self.faults.hangs) {
            let retries = FIRST_RETRY_NS * ((1 << (RETRIES + 1)) - 1);
            self.after(retries, Event::ConnectTimeout { client });
        } else {
            self.after(latency, Event::Syn { client, attempt: 0 });
        }
        client
    }

    pub(super) fn syn_arrives(&mut self, client: SocketId, attempt: u32) {
        let Some(Socket::Stream(stream)) = self.sockets.get(&client) else {
            return; // closed meanwhile
        };
        let (latency, to, from) = (stream.latency, stream.remote, stream.local);
        let listener = self.listener_at(to);
        let refused = self.draw.once_in(self.faults.refusals);
        let Some(listener) = listener.filter(|_| !refused) else {
            self.record("network", "refused", client, 0);
            self.after(latency, Event::Reset { to: client });
            return;
        };
        if let Some(Socket::Listener(listening)) = self.sockets.get(&listener)
            && listening.queue.len() > listening.backlog
        {
            // The request is dropped, and the client repeats it.
            self.record("network", "queue full", listener, i64::from(attempt));
            let pause = FIRST_RETRY_NS << attempt;
            if attempt == RETRIES {
                self.after(pause, Event::ConnectTimeout { client });
            } else {
                let attempt = attempt + 1;
                self.after(pause, Event::Syn { client, attempt });
            }
            return;
        }
        let mut server = Stream::accepted(self, to, from, client, listener);
        server.latency = latency;
        let server = self.insert(Socket::Stream(server));
        if let Some(Socket::Stream(stream)) = self.sockets.get_mut(&client) {
            stream.peer = Some(server);
        }
        self.after(latency, Event::SynAck { client });
    }

    pub(super) fn syn_ack_arrives(&mut self, client: SocketId) {
        let Some(Socket::Stream(stream)) = self.sockets.get_mut(&client) else {
            return;
        };
        if stream.progress != Progress::Connecting {
            return; // reset meanwhile
        }
        stream.progress = Progress::Connected;
        let (peer, latency) = (stream.peer, stream.latency);
        self.record("network", "connected", client, 0);
        self.change(client);
        if let Some(server) = peer {
            let at = self.after(latency, Event::Established { server });
            // Whatever the client sends arrives after that.
            if let Some(Socket::Stream(stream)) = self.sockets.get_mut(&client) {
                stream.last_arrival = at;
            }
        }
    }

    pub(super) fn established(&mut self, server: SocketId) {
        let Some(Socket::Stream(stream)) = self.sockets.get(&server) else {
            return;
        };
        let listener = stream.listener;
        match listener.and_then(|listener| self.sockets.get_mut(&listener)) {
            Some(Socket::Listener(listening)) => {
                listening.queue.push_back(server);
                self.record("network", "established", server, 0);
                listener.into_iter().for_each(|id| self.change(id));
            }
            // The listener was closed meanwhile.
            _ => self.reset_both(server),
        }
    }

    pub(super) fn close_listener(&mut self, socket: SocketId) {
        if let Some(Socket::Listener(listener)) = self.sockets.remove(&socket) {
            let is_unix = self.forget_name(socket, listener.name);
            for waiting in listener.queue {
                if is_unix {
                    self.close_unix(waiting, true);
                } else {
                    self.reset_both(waiting);
                }
            }
        }
    }
}
