//! A TLS connection that moves between loops while its peer sends.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use handlers::tls::Tls;
use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Taken};
use reactor::{Context, LoopPool, Registry, Remote};
use support::{PATIENCE, Result, tcp_pair, wait_until_readable};

use crate::peer::{End, Peer};
use crate::{named, server_config};

const MOVES: usize = 1000;

/// The loops that a connection moves between, and what is known of it.
#[derive(Clone)]
struct Journey {
    loops: [Remote<()>; 2],
    seen: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    received: Vec<u8>,
    moves: usize,
    /// The loop that the connection is on.
    at: usize,
    closed: Vec<String>,
}

impl Journey {
    fn seen(&self) -> MutexGuard<'_, Known> {
        self.seen.lock().expect("no other thread has panicked")
    }

    fn open(&self, taken: Taken<Tls<TcpStream>>, registry: &mut Registry<()>) {
        let echoes = Echoes(self.clone());
        let opened = taken.open(registry, &options(), echoes);
        opened.expect("there is room");
    }

    /// Moves the stream to the other loop.
    fn go_on(&self, taken: Taken<Tls<TcpStream>>) {
        let to = {
            let mut seen = self.seen();
            seen.moves += 1;
            seen.at = 1 - seen.at;
            seen.at
        };
        let journey = self.clone();
        let posted = self.loops[to].post(move |cx| journey.open(taken, cx.registry));
        posted.expect("the loop is there");
    }
}

/// Small turns, so that the session often holds plaintext when it moves.
fn options() -> ConnectionOptions {
    ConnectionOptions::new().max_bytes_per_turn(700)
}

/// Echoes a part of its input, and then goes to the other loop with the rest.
struct Echoes(Journey);

impl ConnectionHandler<()> for Echoes {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, ()>,
        cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        let journey = self.0.clone();
        let goes_on = journey.seen().moves < MOVES;
        let consumed = match goes_on {
            true => data.len().div_ceil(2),
            false => data.len(),
        };
        journey.seen().received.extend_from_slice(&data[..consumed]);
        let _ = connection.write(&data[..consumed])?;
        if goes_on {
            let key = connection.key();
            cx.registry.defer(move |cx| {
                // Of several calls in a turn, the first has moved it.
                if let Ok(taken) = key.take(cx) {
                    journey.go_on(taken);
                }
            });
        }
        Ok(consumed)
    }

    fn on_close(&mut self, reason: CloseReason, _: &mut Context<'_, ()>) {
        self.0.seen().closed.push(named(&reason));
    }
}

/// Sends numbered bytes in records of all lengths until the connection has moved often enough, and
/// reads what comes back. Returns what was sent.
fn talk(peer: &mut Peer<TcpStream>, journey: &Journey) -> io::Result<Vec<u8>> {
    let (mut sent, mut piece, mut has_closed) = (Vec::new(), 0, false);
    while peer.end.is_none() {
        let is_full = sent.len() > peer.received.len() + 20_000;
        if journey.seen().moves < MOVES && !is_full && !peer.tls.is_handshaking() {
            let start = sent.len();
            sent.extend((start..=start + piece * 37 % 1500).map(|at| (at % 251) as u8));
            peer.tls.writer().write_all(&sent[start..])?;
            piece += 1;
        } else if !has_closed && journey.seen().moves >= MOVES {
            peer.close();
            has_closed = true;
        }
        if !peer.step() {
            let came = wait_until_readable(&peer.socket, PATIENCE)?;
            assert!(
                came,
                "{peer:?}, {} sent, {:?}",
                sent.len(),
                journey.seen().moves
            );
        }
    }
    Ok(sent)
}

#[test]
fn a_session_moves_a_thousand_times_while_its_peer_sends() -> Result {
    let pool = LoopPool::spawn(2, "loop", |_number, _registry| Ok(()))?;
    let remote = |number| pool.get(number).cloned().ok_or("there are two loops");
    let journey = Journey {
        loops: [remote(0)?, remote(1)?],
        seen: Arc::default(),
    };
    let (near, far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    let stream = server_config().accept(near)?;
    let first = journey.clone();
    journey.loops[0].post(move |cx| {
        Connection::open(cx.registry, stream, &options(), Echoes(first)).expect("there is room");
    })?;
    let mut peer = Peer::client(far);
    let talks = journey.clone();
    let talk = thread::spawn(move || talk(&mut peer, &talks).map(|sent| (sent, peer)));
    let (sent, peer) = talk.join().expect("it does not panic")?;
    pool.stop()?;
    let seen = journey.seen();
    assert!(
        seen.received == sent,
        "{} of {}",
        seen.received.len(),
        sent.len()
    );
    assert!(
        peer.received == sent,
        "{} of {}",
        peer.received.len(),
        sent.len()
    );
    assert_eq!((peer.end, seen.moves), (Some(End::Whole), MOVES));
    let ends = |name: &str| seen.closed.iter().filter(|end| *end == name).count();
    assert_eq!(
        (ends("taken"), ends("finished")),
        (MOVES, 1),
        "{:?}",
        seen.closed.last()
    );
    Ok(())
}
