//! Stream sockets: bytes in order, windows, half-closes and resets.
//!
//! A socket reports the facts that `tcp_poll` of the kernel reports. Room for writes is reported as
//! by `write_space` of the kernel: only for a socket that has been without room, and once a third
//! of its send buffer is free.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::{Event, Network, Socket, SocketId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Connecting,
    Connected,
    /// Reset, or never connected.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) progress: Progress,
    /// The addresses of a Unix socket have no meaning.
    pub(super) is_unix: bool,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(super) peer: Option<SocketId>,
    /// The listener whose queue it waits in.
    pub(super) listener: Option<SocketId>,
    pub(super) latency: u64,
    bandwidth: u64,
    /// When the last packet that it has sent arrives: no later one overtakes it.
    pub(super) last_arrival: u64,
    /// The same for the packets of its peer, which may be forgotten by then.
    last_inbound: u64,

    pub(super) received: VecDeque<u8>,
    receive_buffer: usize,
    /// The peer has ended its direction, and all its bytes have arrived.
    pub(super) has_fin: bool,

    /// Bytes that are not on their way yet.
    pub(super) unsent: VecDeque<u8>,
    /// Bytes on their way to the peer.
    pub(super) in_flight: usize,
    /// Bytes that a Unix socket has sent have found no peer.
    pub(super) has_lost: bool,
    /// Bytes on their way, and those that the peer has and has not confirmed.
    pub(super) unacknowledged: usize,
    send_buffer: usize,
    /// A write or a look has found no room.
    wants_room: bool,
    /// Room is reported only when nothing is unsent (`TCP_NOTSENT_LOWAT` of 1).
    awaits_sent: bool,
    has_shut_down: bool,
    has_sent_fin: bool,

    pub(super) error: Option<Errno>,
    resets_on_close: bool,
    /// No descriptor is left: the kernel sends the rest.
    is_orphan: bool,
}

impl Stream {
    pub(super) fn connecting(network: &mut Network, local: SocketAddr, remote: SocketAddr) -> Self {
        let faults = network.faults.clone();
        let mut buffer = || network.draw.within(&faults.buffer_bytes).max(1) as usize;
        let (receive_buffer, send_buffer) = (buffer(), buffer());
        Self {
            progress: Progress::Connecting,
            is_unix: false,
            local,
            remote,
            peer: None,
            listener: None,
            latency: network.draw_latency(),
            bandwidth: network.draw.within(&faults.bandwidth).max(1),
            last_arrival: 0,
            last_inbound: 0,
            received: VecDeque::new(),
            receive_buffer,
            has_fin: false,
            unsent: VecDeque::new(),
            in_flight: 0,
            has_lost: false,
            unacknowledged: 0,
            send_buffer,
            wants_room: false,
            awaits_sent: false,
            has_shut_down: false,
            has_sent_fin: false,
            error: None,
            resets_on_close: false,
            is_orphan: false,
        }
    }

    pub(super) fn accepted(
        network: &mut Network,
        local: SocketAddr,
        remote: SocketAddr,
        client: SocketId,
        listener: SocketId,
    ) -> Self {
        Self {
            progress: Progress::Connected,
            peer: Some(client),
            listener: Some(listener),
            ..Self::connecting(network, local, remote)
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.progress == Progress::Connected
    }

    pub(crate) fn unread(&self) -> usize {
        self.received.len()
    }

    fn used(&self) -> usize {
        self.unsent.len() + self.unacknowledged
    }

    /// Returns `true` if enough room is free to report it.
    fn is_writable(&self) -> bool {
        let free = self.send_buffer.saturating_sub(self.used());
        free > 0 && free >= self.used() / 2 && (!self.awaits_sent || self.unsent.is_empty())
    }

    pub(super) fn readiness(&mut self) -> EventFlags {
        let mut ready = EventFlags::empty();
        if self.error.is_some() {
            ready |= EventFlags::ERR;
        }
        let is_closed = self.progress == Progress::Closed;
        if is_closed || self.has_fin && self.has_shut_down {
            ready |= EventFlags::HUP;
        }
        if is_closed || self.has_fin {
            ready |= EventFlags::IN | EventFlags::RDHUP;
        }
        if self.progress == Progress::Connecting {
            return ready;
        }
        if !self.received.is_empty() {
            ready |= EventFlags::IN;
        }
        if is_closed || self.has_shut_down || self.is_writable() {
            ready |= EventFlags::OUT;
        } else {
            self.wants_room = true;
        }
        ready
    }

    fn read(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        if !self.received.is_empty() || wanted == 0 {
            return Ok(self.take(bufs));
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.has_fin || self.progress == Progress::Closed {
            return Ok(0);
        }
        Err(Errno::AGAIN)
    }

    fn take(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        let mut taken = 0;
        for buf in bufs {
            let count = buf.len().min(self.received.len());
            for (to, from) in buf.iter_mut().zip(self.received.drain(..count)) {
                *to = from;
            }
            taken += count;
        }
        taken
    }

    fn write(&mut self, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
        if self.progress == Progress::Connecting {
            return Err(Errno::AGAIN);
        }
        // unix_stream_sendmsg of the kernel looks at the end first, and leaves the error to a read.
        if !self.is_unix
            && let Some(error) = self.error.take()
        {
            return Err(error);
        }
        if self.has_shut_down || self.progress == Progress::Closed {
            return Err(Errno::PIPE);
        }
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let count = wanted.min(self.send_buffer.saturating_sub(self.used()));
        if count < wanted {
            self.wants_room = true;
        }
        if count == 0 && wanted > 0 {
            return Err(Errno::AGAIN);
        }
        let bytes = bufs.iter().flat_map(|buf| buf.iter());
        self.unsent.extend(bytes.take(count));
        Ok(count)
    }
}

impl Network {
    /// Makes both ends of a connection.
    pub(crate) fn pair(&mut self) -> (SocketId, SocketId) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (one, other) = (self.chosen_address(any), self.chosen_address(any));
        let mut end = |local, remote| {
            let mut end = Stream::connecting(self, local, remote);
            end.progress = Progress::Connected;
            self.insert(Socket::Stream(end))
        };
        let (near, far) = (end(one, other), end(other, one));
        for (id, peer) in [(near, far), (far, near)] {
            if let Ok(stream) = self.stream(id) {
                stream.peer = Some(peer);
            }
        }
        (near, far)
    }

    pub(super) fn stream(&mut self, socket: SocketId) -> Result<&mut Stream, Errno> {
        match self.sockets.get_mut(&socket) {
            Some(Socket::Stream(stream)) => Ok(stream),
            Some(Socket::Listener(_)) => Err(Errno::NOTCONN),
            Some(Socket::Datagrams(_)) | None => Err(Errno::OPNOTSUPP),
        }
    }

    pub(crate) fn read_stream(
        &mut self,
        socket: SocketId,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize, Errno> {
        let stream = self.stream(socket)?;
        let count = stream.read(bufs)?;
        let (peer, latency) = (stream.peer, stream.latency);
        if count > 0
            && let Some(peer) = peer
        {
            self.after(latency, Event::Window { to: peer });
        }
        Ok(count)
    }

    pub(crate) fn write_stream(
        &mut self,
        socket: SocketId,
        bufs: &[IoSlice<'_>],
    ) -> Result<usize, Errno> {
        let count = self.stream(socket)?.write(bufs)?;
        self.pump(socket);
        Ok(count)
    }

    pub(crate) fn shutdown_write(&mut self, socket: SocketId) -> Result<(), Errno> {
        let stream = self.stream(socket)?;
        match stream.progress {
            Progress::Connected => {}
            Progress::Closed if stream.is_unix => return Ok(()),
            Progress::Connecting | Progress::Closed => return Err(Errno::NOTCONN),
        }
        stream.has_shut_down = true;
        self.change(socket); // a hang-up, if the peer's direction has ended
        self.pump(socket);
        Ok(())
    }

    pub(crate) fn reset_on_close(&mut self, socket: SocketId) {
        if let Ok(stream) = self.stream(socket) {
            stream.resets_on_close = true;
        }
    }

    pub(crate) fn await_sent(&mut self, socket: SocketId) -> bool {
        match self.stream(socket) {
            Ok(stream) if !stream.is_unix => {
                stream.awaits_sent = true;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn unread(&mut self, socket: SocketId) -> Result<u64, Errno> {
        self.stream(socket).map(|stream| stream.unread() as u64)
    }

    /// Sends what the window of the peer allows.
    pub(super) fn pump(&mut self, socket: SocketId) {
        loop {
            let Ok(stream) = self.stream(socket) else {
                return;
            };
            let (peer, unsent, in_flight) = (stream.peer, stream.unsent.len(), stream.in_flight);
            let is_unix = stream.is_unix;
            let Some(peer) = peer.filter(|_| stream.progress == Progress::Connected) else {
                return;
            };
            if unsent == 0 {
                break;
            }
            let window = match self.sockets.get(&peer) {
                Some(Socket::Stream(to)) => {
                    (to.receive_buffer).saturating_sub(to.received.len() + in_flight)
                }
                _ => usize::MAX, // gone: it answers by a reset
            };
            if window == 0 {
                return; // goes on when the peer has read
            }
            if !is_unix && self.draw.once_in(self.faults.resets) {
                self.record("network", "reset", socket, 0);
                return self.reset_both(socket);
            }
            let packet = self.draw.within(&self.faults.packet_bytes.clone()).max(1) as usize;
            self.send_segment(socket, peer, packet.min(window).min(unsent));
        }
        let Ok(stream) = self.stream(socket) else {
            return;
        };
        let (peer, sends_fin) = (stream.peer, stream.has_shut_down && !stream.has_sent_fin);
        stream.has_sent_fin |= sends_fin;
        let was_awaited = stream.awaits_sent && std::mem::take(&mut stream.wants_room);
        if was_awaited {
            self.change(socket);
        }
        if let Some(peer) = peer.filter(|_| sends_fin) {
            let at = self.arrival(socket, 0);
            self.at(at, Event::Fin { to: peer });
            self.record("network", "fin", socket, 0);
            self.forget_if_done(socket);
        }
    }

    pub(super) fn send_segment(&mut self, socket: SocketId, peer: SocketId, count: usize) {
        let at = self.arrival(socket, count);
        let Ok(stream) = self.stream(socket) else {
            return;
        };
        let bytes: Vec<u8> = stream.unsent.drain(..count).collect();
        stream.in_flight += count;
        stream.unacknowledged += count;
        self.at(
            at,
            Event::Segment {
                to: peer,
                from: socket,
                bytes,
            },
        );
    }

    /// Returns the time at which a packet of `count` bytes arrives if it is sent now.
    pub(super) fn arrival(&mut self, socket: SocketId, count: usize) -> u64 {
        let now = self.now;
        let Ok(stream) = self.stream(socket) else {
            return now;
        };
        let (latency, bandwidth) = (stream.latency, stream.bandwidth);
        let jitter = self.draw.below(latency / 2 + 1);
        let transfer = (count as u64).saturating_mul(1_000_000_000) / bandwidth;
        let Ok(stream) = self.stream(socket) else {
            return now;
        };
        let at = (now + latency + jitter).max(stream.last_arrival) + transfer;
        stream.last_arrival = at;
        let peer = stream.peer;
        if let Some(Ok(peer)) = peer.map(|peer| self.stream(peer)) {
            peer.last_inbound = at;
        }
        at
    }

    pub(super) fn segment_arrives(&mut self, to: SocketId, from: SocketId, bytes: Vec<u8>) {
        let count = bytes.len();
        if let Ok(sender) = self.stream(from) {
            sender.in_flight -= count.min(sender.in_flight);
        }
        let receiver = self.stream(to).ok();
        let is_gone = receiver.is_none_or(|receiver| {
            let takes = !receiver.is_orphan && receiver.progress == Progress::Connected;
            if takes {
                receiver.received.extend(bytes);
            }
            !takes
        });
        self.record("network", "arrives", to, count as i64);
        let (latency, last_inbound) = self
            .stream(from)
            .map_or((0, 0), |sender| (sender.latency, sender.last_inbound));
        if is_gone && self.is_unix(from) {
            // That the peer is gone arrives by itself.
            if let Ok(sender) = self.stream(from) {
                sender.has_lost = true;
            }
            return;
        }
        if is_gone {
            // Behind everything that was sent before.
            let at = last_inbound.max(self.now + latency);
            self.at(at, Event::Reset { to: from });
            return;
        }
        self.change(to);
        let bytes = count as u64;
        self.after(latency, Event::Ack { to: from, bytes });
    }

    pub(super) fn ack_arrives(&mut self, to: SocketId, bytes: u64) {
        let Ok(stream) = self.stream(to) else {
            return;
        };
        stream.unacknowledged -= (bytes as usize).min(stream.unacknowledged);
        if stream.wants_room && stream.is_writable() {
            stream.wants_room = false;
            self.change(to);
        }
        self.pump(to);
    }

    pub(super) fn fin_arrives(&mut self, to: SocketId) {
        if let Ok(stream) = self.stream(to) {
            stream.has_fin = true;
            self.record("network", "fin arrives", to, 0);
            self.change(to);
        }
    }

    pub(super) fn reset_arrives(&mut self, to: SocketId) {
        let Ok(stream) = self.stream(to) else {
            return;
        };
        // tcp_reset of the kernel.
        let error = match stream.progress {
            Progress::Connecting => Errno::CONNREFUSED,
            Progress::Connected if stream.has_fin => Errno::PIPE,
            Progress::Connected => Errno::CONNRESET,
            Progress::Closed => return,
        };
        self.fail(to, error);
    }

    /// Ends a connection with an error. Bytes that have arrived can still be read.
    pub(super) fn fail(&mut self, socket: SocketId, error: Errno) {
        let Ok(stream) = self.stream(socket) else {
            return;
        };
        stream.error = Some(error);
        stream.progress = Progress::Closed;
        stream.unsent.clear();
        stream.unacknowledged = 0;
        let is_orphan = stream.is_orphan;
        self.record("network", "fails", socket, i64::from(error.raw_os_error()));
        if is_orphan {
            self.sockets.remove(&socket);
        } else {
            self.change(socket);
        }
    }

    /// Resets a connection on both sides. Packets on their way still arrive.
    pub(super) fn reset_both(&mut self, socket: SocketId) {
        let Ok(stream) = self.stream(socket) else {
            return;
        };
        stream.unsent.clear();
        let peer = stream.peer;
        let at = self.arrival(socket, 0);
        self.at(at, Event::Reset { to: socket });
        if let Some(peer) = peer {
            self.at(at, Event::Reset { to: peer });
        }
    }

    pub(super) fn close_stream(&mut self, socket: SocketId) {
        let Ok(stream) = self.stream(socket) else {
            return;
        };
        if stream.is_unix {
            return self.close_unix(socket, false);
        }
        stream.is_orphan = true;
        let is_cut = stream.resets_on_close || !stream.received.is_empty();
        match stream.progress {
            Progress::Closed => drop(self.sockets.remove(&socket)),
            Progress::Connecting => {
                // The peer may have accepted it already.
                let peer = stream.peer;
                self.sockets.remove(&socket);
                peer.into_iter().for_each(|peer| self.reset_both(peer));
            }
            Progress::Connected if is_cut => {
                let peer = stream.peer;
                stream.unsent.clear();
                let at = self.arrival(socket, 0);
                self.sockets.remove(&socket);
                if let Some(peer) = peer {
                    self.at(at, Event::Reset { to: peer });
                }
                self.record("network", "cut", socket, 0);
            }
            Progress::Connected => {
                stream.has_shut_down = true;
                self.pump(socket);
                self.forget_if_done(socket);
            }
        }
    }

    /// Forgets a socket without a descriptor that has sent everything.
    fn forget_if_done(&mut self, socket: SocketId) {
        if self
            .stream(socket)
            .is_ok_and(|stream| stream.is_orphan && stream.has_sent_fin)
        {
            self.sockets.remove(&socket);
        }
    }
}
