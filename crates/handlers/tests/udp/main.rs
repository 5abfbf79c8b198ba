//! Datagram sockets, on the loopback interface.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod options;
mod receiving;
mod sending;

use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};

use handlers::udp::{
    self, Datagram, DatagramHandler, Failure, Sending, Sent, Udp, UdpMetrics, UdpSocket,
};
use reactor::{CloseReason, Context, Key, Next, Reactor};
use rustix::io::Errno;
use support::{PATIENCE, Result, turn_until};

/// The notes of the handlers of a test.
#[derive(Debug, Default)]
struct Seen {
    datagrams: Vec<Vec<u8>>,
    failures: Vec<(&'static str, Option<SocketAddr>, Option<Errno>)>,
    sent: Vec<Option<Sent>>,
    drained: usize,
    closed: usize,
    metrics: UdpMetrics,
}

fn local(v6: bool) -> SocketAddr {
    if v6 {
        ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()
    } else {
        ([127, 0, 0, 1], 0).into()
    }
}

/// Returns a plain socket for the other side.
fn peer(v6: bool) -> Result<StdSocket> {
    let socket = StdSocket::bind(local(v6))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn errno(failure: &Failure) -> Option<Errno> {
    Errno::from_io_error(&failure.error)
}

/// Notes everything, and calls the closure of the test for a datagram.
struct Noting<F>(F);

impl<F> DatagramHandler<Seen> for Noting<F>
where
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, Seen>) -> io::Result<Next>,
{
    fn on_datagram(
        &mut self,
        datagram: &Datagram<'_>,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<Next> {
        cx.state.datagrams.push(datagram.bytes.to_vec());
        let result = (self.0)(datagram, socket, cx);
        cx.state.metrics = socket.metrics();
        result
    }

    fn on_failure(&mut self, failure: &Failure, cx: &mut Context<'_, Seen>) {
        cx.state
            .failures
            .push((failure.call, failure.to, errno(failure)));
    }

    fn on_drain(
        &mut self,
        socket: &mut Sending<'_>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<Next> {
        cx.state.drained += 1;
        cx.state.metrics = socket.metrics();
        Ok(Next::Keep)
    }

    fn on_close(&mut self, _reason: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.closed += 1;
    }
}

/// Registers a socket on the loopback interface.
fn noting<F>(reactor: &mut Reactor<Seen>, on_datagram: F) -> Result<(Key, SocketAddr)>
where
    F: FnMut(&Datagram<'_>, &mut Sending<'_>, &mut Context<'_, Seen>) -> io::Result<Next> + 'static,
{
    let socket = UdpSocket::bind(local(false))?;
    let address = socket.local_addr()?;
    Ok((
        udp::add_handler(reactor, socket, Udp::new(Noting(on_datagram)))?.key(),
        address,
    ))
}
