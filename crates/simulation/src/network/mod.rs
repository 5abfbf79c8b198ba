//! The network of a simulation: sockets, the packets on their way, and what becomes of them.

pub(crate) mod datagram;
pub(crate) mod listener;
pub(crate) mod stream;
pub(crate) mod unix;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use self::datagram::Datagrams;
use self::listener::Listener;
use self::stream::Stream;
use self::unix::Name;
use crate::draw::{Draw, nanos};
use crate::faults::Faults;
use crate::trace::Trace;

/// The number of a socket. Numbers are never used again.
pub(crate) type SocketId = u64;

#[derive(Debug)]
pub(crate) enum Socket {
    Listener(Listener),
    Stream(Stream),
    Datagrams(Datagrams),
}

/// Something that happens at a time without any thread: a packet arrives, a timer of the kernel
/// expires.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A request to connect arrives at an address.
    Syn {
        client: SocketId,
        attempt: u32,
    },
    /// The answer to it arrives.
    SynAck {
        client: SocketId,
    },
    /// The connection is complete on the side of the listener.
    Established {
        server: SocketId,
    },
    /// The attempts to connect are over.
    ConnectTimeout {
        client: SocketId,
    },
    Segment {
        to: SocketId,
        from: SocketId,
        bytes: Vec<u8>,
    },
    Fin {
        to: SocketId,
    },
    Reset {
        to: SocketId,
    },
    /// The peer on a Unix socket has closed it. With `cut`, bytes were left unread.
    Gone {
        to: SocketId,
        cut: bool,
    },
    /// The peer has received so many bytes.
    Ack {
        to: SocketId,
        bytes: u64,
    },
    /// The peer has read, and takes more.
    Window {
        to: SocketId,
    },
    Datagram {
        to: SocketAddr,
        from: SocketId,
        from_addr: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Nothing is bound where a datagram was sent.
    Unreachable {
        to: SocketId,
    },
}

/// All sockets, and the events to come.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) now: u64,
    pub(crate) draw: Draw,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    pub(crate) sockets: BTreeMap<SocketId, Socket>,
    /// The sockets that paths and abstract names lead to. A path stays when its socket is closed.
    names: BTreeMap<Name, SocketId>,
    next_socket: SocketId,
    next_port: u16,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// The number of events so far: those of one time happen in the order of their making.
    made: u64,
    /// Sockets that a watcher must look at.
    changed: Vec<SocketId>,
}

impl Network {
    pub(crate) fn new(draw: Draw, faults: Faults, trace: Trace) -> Self {
        Self {
            now: 0,
            draw,
            faults,
            trace,
            sockets: BTreeMap::new(),
            names: BTreeMap::new(),
            next_socket: 0,
            next_port: 32_768,
            events: BinaryHeap::new(),
            made: 0,
            changed: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, socket: Socket) -> SocketId {
        let id = self.next_socket;
        self.next_socket += 1;
        self.sockets.insert(id, socket);
        id
    }

    /// Adds an event `delay` from now. Returns its time.
    fn after(&mut self, delay: u64, event: Event) -> u64 {
        let at = self.now.saturating_add(delay);
        self.at(at, event);
        at
    }

    fn at(&mut self, at: u64, event: Event) {
        self.made += 1;
        self.events.push(Reverse((at, self.made, event)));
    }

    /// Returns the time of the next event.
    pub(crate) fn next_event_at(&self) -> Option<u64> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets all events happen whose time has come. Returns `true` if there were any.
    pub(crate) fn run_due(&mut self) -> bool {
        let mut ran = false;
        while self.next_event_at().is_some_and(|at| at <= self.now) {
            if let Some(Reverse((_, _, event))) = self.events.pop() {
                ran = true;
                self.happens(event);
            }
        }
        ran
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Syn { client, attempt } => self.syn_arrives(client, attempt),
            Event::SynAck { client } => self.syn_ack_arrives(client),
            Event::Established { server } => self.established(server),
            Event::ConnectTimeout { client } => self.fail(client, Errno::TIMEDOUT),
            Event::Segment { to, from, bytes } => self.segment_arrives(to, from, bytes),
            Event::Fin { to } => self.fin_arrives(to),
            Event::Reset { to } => self.reset_arrives(to),
            Event::Gone { to, cut } => self.gone_arrives(to, cut),
            Event::Ack { to, bytes } => self.ack_arrives(to, bytes),
            Event::Window { to } => self.pump(to),
            Event::Datagram {
                to,
                from,
                from_addr,
                bytes,
            } => self.datagram_arrives(to, from, from_addr, bytes),
            Event::Unreachable { to } => self.unreachable(to),
        }
    }

    /// Lets the watchers of a socket look at it again.
    fn change(&mut self, socket: SocketId) {
        self.changed.push(socket);
    }

    /// Takes the sockets that have changed.
    pub(crate) fn take_changed(&mut self) -> Vec<SocketId> {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn record(&mut self, who: &str, what: &str, object: u64, number: i64) {
        self.trace.record(self.now, who, what, object, number);
    }

    /// Returns the bits of `epoll_ctl(2)` that hold for a socket. If the socket has no room for
    /// writes now, the network reports the room later.
    pub(crate) fn readiness(&mut self, socket: SocketId) -> EventFlags {
        match self.sockets.get_mut(&socket) {
            Some(Socket::Listener(listener)) => listener.readiness(),
            Some(Socket::Stream(stream)) => stream.readiness(),
            Some(Socket::Datagrams(datagrams)) => datagrams.readiness(),
            None => EventFlags::empty(),
        }
    }

    /// Closes a socket, as the last `close(2)` of its descriptor does.
    pub(crate) fn close(&mut self, socket: SocketId) {
        self.record("kernel", "close", socket, 0);
        match self.sockets.get(&socket) {
            Some(Socket::Listener(_)) => self.close_listener(socket),
            Some(Socket::Stream(_)) => self.close_stream(socket),
            Some(Socket::Datagrams(_)) => drop(self.sockets.remove(&socket)),
            None => {}
        }
    }

    /// Takes the pending error of a socket (`SO_ERROR`).
    pub(crate) fn take_error(&mut self, socket: SocketId) -> Option<Errno> {
        match self.sockets.get_mut(&socket) {
            Some(Socket::Stream(stream)) => stream.error.take(),
            Some(Socket::Datagrams(datagrams)) => datagrams.error.take(),
            Some(Socket::Listener(_)) | None => None,
        }
    }

    pub(crate) fn local_addr(&self, socket: SocketId) -> Result<SocketAddr, Errno> {
        match self.sockets.get(&socket) {
            Some(_) if self.is_unix(socket) => Err(Errno::INVAL),
            Some(Socket::Listener(listener)) => Ok(listener.address),
            Some(Socket::Stream(stream)) => Ok(stream.local),
            Some(Socket::Datagrams(datagrams)) => Ok(datagrams.local),
            None => Err(Errno::BADF),
        }
    }

    pub(crate) fn peer_addr(&self, socket: SocketId) -> Result<SocketAddr, Errno> {
        match self.sockets.get(&socket) {
            Some(Socket::Stream(stream)) if stream.is_connected() && stream.is_unix => {
                Err(Errno::INVAL)
            }
            Some(Socket::Stream(stream)) if stream.is_connected() => Ok(stream.remote),
            Some(Socket::Datagrams(datagrams)) => datagrams.peer.ok_or(Errno::NOTCONN),
            Some(_) => Err(Errno::NOTCONN),
            None => Err(Errno::BADF),
        }
    }

    /// Draws whether no descriptor is left, with the chance [`Faults::out_of_descriptors`].
    pub(crate) fn is_out_of_descriptors(&mut self) -> bool {
        self.draw.once_in(self.faults.out_of_descriptors)
    }

    /// Returns the address that a socket gets. If the port of `wanted` is 0, chooses a port.
    fn chosen_address(&mut self, wanted: SocketAddr) -> SocketAddr {
        let mut chosen = wanted;
        if chosen.port() == 0 {
            self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
            chosen.set_port(self.next_port);
        }
        chosen
    }

    /// Returns an address of this machine in the family of `remote`, with a free port.
    fn address_towards(&mut self, remote: SocketAddr) -> SocketAddr {
        let ip = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        };
        self.chosen_address(SocketAddr::new(ip, 0))
    }

    fn draw_latency(&mut self) -> u64 {
        nanos(self.draw.duration(&self.faults.latency.clone()))
    }
}

/// Returns `true` if a socket bound at `bound` receives what is sent to `to`.
fn is_bound_for(bound: SocketAddr, to: SocketAddr) -> bool {
    bound.port() == to.port() && (bound.ip() == to.ip() || bound.ip().is_unspecified())
}
