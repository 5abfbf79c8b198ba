//! The causes of seeds that have failed: daemons that do the same in every run.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use handlers::{Connection, ConnectionOptions, on_data};
use reactor::{Interest, Next, Reactor, Registry};
use simulation::{Faults, Peer, Simulation, now};

use super::clients::{Client, HEADER, send};
use super::line::Line;
use super::{Daemon, record_turns};

/// Streams whose bytes leave no room for others in a wait.
const BUSY: usize = 6;

#[test]
fn bytes_that_come_during_the_sweep_may_follow_the_timeout() {
    let run = Simulation::new(0).faults(Faults::none()).run(|| {
        let mut reactor = Reactor::builder().max_events_per_turn(1).build().unwrap();
        record_turns(&mut reactor);
        let mut busy: Vec<Peer> = (0..BUSY).map(|_| add_busy(&mut reactor)).collect();
        let client = Rc::new(Client::default());
        let mut quiet = Line::Bare(add_quiet(&mut reactor, &client));
        let peers = simulation::thread("peers", move || {
            // One busy stream is read each second. The timeout falls due after the second one.
            let began = now();
            while busy.iter_mut().all(|peer| peer.write_all(&[0]).is_ok()) {
                if client.sent() == 0 && now() - began > Duration::from_secs(4) {
                    send(&client, &mut quiet, HEADER).unwrap();
                }
                simulation::sleep(Duration::from_millis(500));
            }
        });
        reactor.run(&mut Rc::new(Daemon::default())).unwrap();
        drop(reactor);
        peers.join();
    });
    assert_eq!(run.outcome, Ok(()));
}

/// The handler of a taken stream learns by a write that it has nothing to announce.
#[test]
fn a_response_after_the_end_of_a_taken_stream_is_not_owed() {
    let run = Simulation::new(0).faults(Faults::none()).run(|| {
        let mut reactor = Reactor::<()>::new().unwrap();
        let (stream, mut peer) = Peer::pair().unwrap();
        let options = ConnectionOptions::new();
        let discard = || on_data(|data, _connection, _cx| Ok(data.len()));
        let key = Connection::open(&mut reactor, stream, &options, discard()).unwrap();
        reactor.defer(move |cx| {
            key.shutdown(cx).unwrap();
            let taken = key.take::<TcpStream>(cx).unwrap();
            let key = taken.open(cx.registry, &options, discard()).unwrap();
            key.with(cx, |connection, _cx| {
                let refused = connection.write(b"").unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
                connection.begin_response();
            })
            .unwrap();
        });
        let peer = simulation::thread("peer", move || {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "a clean end");
        });
        reactor.run(&mut ()).unwrap();
        peer.join();
    });
    assert_eq!(run.outcome, Ok(()));
}

fn add_busy(registry: &mut Registry<Rc<Daemon>>) -> Peer {
    let (stream, peer) = Peer::pair().unwrap();
    registry
        .add(stream, Interest::READABLE, |stream, _cx| {
            let _ = stream.read(&mut [0; 100])?;
            simulation::compute(Duration::from_secs(1));
            Ok(Next::Keep)
        })
        .unwrap();
    peer
}

/// Registers a stream with a timeout that ends the loop.
fn add_quiet(registry: &mut Registry<Rc<Daemon>>, client: &Rc<Client>) -> Peer {
    let (stream, peer) = Peer::pair().unwrap();
    let (client, length) = (Rc::clone(client), Duration::from_secs(1));
    let expired = registry.now() + length;
    let key = registry
        .add(stream, Interest::READABLE, move |_stream, cx| {
            assert!(cx.readiness().is_timeout(), "a timeout waits for one sweep");
            let arrived = client.arrived(cx.now());
            assert_eq!(arrived, HEADER as u64, "bytes arrive during the sweep");
            cx.state.expect_given(&client, expired);
            cx.registry.stop();
            Ok(Next::Keep)
        })
        .unwrap();
    registry.set_timeout(key, Some(length)).unwrap();
    peer
}
