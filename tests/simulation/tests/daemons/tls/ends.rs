//! How sessions end: by each side first, and by a peer that stands still or dies in a record.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Timeout};
use reactor::Context;
use simulation::{Daemon, Faults, Seeds};

use super::draw_message;
use crate::streams::Stream;
use crate::trial::listen;

/// The side that ends its direction first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Server,
    Client,
}

/// The notes of the only connection.
#[derive(Debug, Default)]
struct Log {
    received: Vec<u8>,
    has_end: bool,
    reason: Option<CloseReason>,
}

type Notes = Rc<RefCell<Log>>;

/// Sends a message, and notes what it receives.
#[derive(Clone)]
struct Server {
    message: Vec<u8>,
    first: First,
    notes: Notes,
}

impl Server {
    fn send_and_end(&self, connection: &mut Connection<'_, ()>) -> io::Result<()> {
        let _ = connection.write(&self.message)?;
        connection.shutdown();
        Ok(())
    }
}

impl ConnectionHandler<()> for Server {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<()> {
        match self.first {
            First::Server => self.send_and_end(connection),
            First::Client => Ok(()),
        }
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        self.notes.borrow_mut().received.extend(data);
        Ok(data.len())
    }

    fn on_end(
        &mut self,
        _rest: &[u8],
        connection: &mut Connection<'_, ()>,
        _cx: &mut Context<'_, ()>,
    ) -> io::Result<()> {
        self.notes.borrow_mut().has_end = true;
        match self.first {
            First::Server => Ok(()), // it has ended
            First::Client => self.send_and_end(connection),
        }
    }

    fn on_close(&mut self, reason: CloseReason, _cx: &mut Context<'_, ()>) {
        self.notes.borrow_mut().reason = Some(reason);
    }
}

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 7777).into()
}

/// Starts a server that is stopped by [`end`].
fn start(
    message: Vec<u8>,
    first: First,
    options: ConnectionOptions,
) -> (Daemon<(), handlers::ServerKey<()>>, Notes) {
    let notes = Notes::default();
    let handler = Server {
        message,
        first,
        notes: Rc::clone(&notes),
    };
    let daemon = Daemon::start("server", move |reactor| {
        let listener = listen(&handlers::ListenOptions::new(), address());
        let server = Stream::Tls.serve(listener, reactor, &options, move |_peer, _cx| {
            Ok(handler.clone())
        });
        Ok(((), server?))
    });
    (daemon, notes)
}

fn end(daemon: Daemon<(), handlers::ServerKey<()>>, notes: &Notes) -> Log {
    simulation::wait_until(|| notes.borrow().reason.is_some());
    daemon.end(|server, cx| server.stop(cx.registry, Duration::ZERO));
    notes.take()
}

/// Sends a message in pieces, and then the end.
fn send(peer: &mut (impl Write + ?Sized), message: &[u8]) -> io::Result<()> {
    for piece in message.chunks(1 + simulation::random(5000) as usize) {
        peer.write_all(piece)?;
        peer.flush()?;
        simulation::sleep(Duration::from_micros(simulation::random(10_000)));
    }
    Ok(())
}

fn check_half_close(first: First) {
    let (sent, answered) = (draw_message(), draw_message());
    let (daemon, notes) = start(answered.clone(), first, ConnectionOptions::new());
    let mut received = Vec::new();
    let mut peer = Stream::Tls.connect(address()).unwrap();
    peer.handshake().unwrap();
    if first == First::Server {
        peer.read_to_end(&mut received).unwrap();
    }
    send(&mut peer, &sent).unwrap();
    peer.shutdown_write().unwrap();
    if first == First::Client {
        peer.read_to_end(&mut received).unwrap();
    }
    assert!(received == answered, "{} bytes", received.len());
    let log = end(daemon, &notes);
    assert!(log.received == sent && log.has_end, "{log:?}");
    assert!(matches!(log.reason, Some(CloseReason::Finished)), "{log:?}");
}

#[test]
fn either_side_ends_its_direction_and_gets_the_other_one_whole() {
    for first in [First::Server, First::Client] {
        let seeds = Seeds::new(0..40).faults(Faults::slow());
        seeds.check(move || check_half_close(first));
    }
}

/// Sends a message up to the middle of its last record.
fn send_part(message: &[u8]) -> crate::streams::ClientStream {
    let mut peer = Stream::Tls.connect(address()).unwrap();
    peer.handshake().unwrap();
    let (most, last) = message.split_at(message.len() - 1);
    send(&mut peer, most).unwrap();
    assert_eq!(peer.write_part(last).unwrap(), last.len());
    peer
}

#[test]
fn a_peer_that_stands_still_in_a_record_is_heard_until_its_timeout() {
    Seeds::new(0..40).faults(Faults::none()).check(|| {
        let timeout = Duration::from_millis(100 + simulation::random(100_000));
        let options = ConnectionOptions::new().read_timeout(timeout);
        let (daemon, notes) = start(Vec::new(), First::Client, options);
        let message = draw_message();
        let mut peer = send_part(&message);
        let is_in_time = simulation::random(2) == 0;
        let pause = if is_in_time { timeout / 2 } else { timeout * 2 };
        simulation::sleep(pause);
        let known = notes.borrow().received.len();
        assert_eq!(known, message.len() - 1, "the last record is not whole");
        if is_in_time {
            peer.shutdown_write().unwrap();
        }
        let log = end(daemon, &notes);
        if is_in_time {
            assert!(log.received == message && log.has_end, "{log:?}");
        } else {
            let is_timeout = matches!(log.reason, Some(CloseReason::TimedOut(Timeout::Read)));
            assert!(is_timeout && !log.has_end, "{log:?}");
        }
    });
}

#[test]
fn a_peer_that_is_killed_in_a_record_leaves_a_cut_stream() {
    Seeds::new(0..40).faults(Faults::slow()).check(|| {
        let (daemon, notes) = start(draw_message(), First::Client, ConnectionOptions::new());
        let message = draw_message();
        let sent = message.clone();
        let has_sent = Rc::new(RefCell::new(false));
        let sends = Rc::clone(&has_sent);
        let client = simulation::process("client", move || {
            let _peer = send_part(&message);
            sends.replace(true);
            simulation::wait_until(|| false);
        });
        simulation::wait_until(|| *has_sent.borrow());
        client.kill();
        let log = end(daemon, &notes);
        assert!(sent.starts_with(&log.received) && !log.has_end, "{log:?}");
        assert!(
            matches!(log.reason, Some(CloseReason::Failed(_))),
            "{log:?}"
        );
    });
}
