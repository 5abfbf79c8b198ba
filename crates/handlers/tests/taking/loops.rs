//! A connection that moves between loops while its peer sends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Taken};
use reactor::{Context, LoopPool, Registry, Remote};
use support::{PATIENCE, tcp_pair};

use crate::Result;

const MOVES: usize = 1000;

/// The loops that a connection moves between, and what is known of it.
#[derive(Clone)]
struct Journey {
    loops: [Remote<()>; 2],
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    received: Vec<u8>,
    moves: usize,
    /// The loop that the connection is on, and those that its handlers have run on.
    at: usize,
    threads: Vec<thread::ThreadId>,
    closed: Vec<String>,
}

impl Journey {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no other thread has panicked")
    }

    fn open(&self, taken: Taken<TcpStream>, registry: &mut Registry<()>) {
        let echoes = Echoes(self.clone());
        taken
            .open(registry, &ConnectionOptions::new(), echoes)
            .expect("there is room");
    }

    /// Moves the stream to the other loop.
    fn go_on(&self, taken: Taken<TcpStream>) {
        let to = {
            let mut seen = self.seen();
            seen.moves += 1;
            seen.at = 1 - seen.at;
            seen.at
        };
        let journey = self.clone();
        self.loops[to]
            .post(move |cx| journey.open(taken, cx.registry))
            .expect("the loop is there");
    }
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
        let consumed = if goes_on {
            data.len().div_ceil(2)
        } else {
            data.len()
        };
        {
            let mut seen = journey.seen();
            seen.received.extend_from_slice(&data[..consumed]);
            seen.threads.push(thread::current().id());
        }
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

    fn on_close(&mut self, reason: CloseReason, _cx: &mut Context<'_, ()>) {
        self.0.seen().closed.push(reason.to_string());
    }
}

/// Sends numbered bytes in pieces of all lengths until the connection has moved often enough.
/// Returns what was sent.
fn send(mut peer: &TcpStream, journey: &Journey) -> io::Result<Vec<u8>> {
    let mut sent = Vec::new();
    for piece in 0_usize.. {
        let start = sent.len();
        sent.extend((start..=start + piece * 37 % 1500).map(|at| (at % 251) as u8));
        peer.write_all(&sent[start..])?;
        if journey.seen().moves >= MOVES {
            break;
        }
    }
    peer.shutdown(Shutdown::Write)?;
    Ok(sent)
}

#[test]
fn a_connection_moves_a_thousand_times_while_its_peer_sends() -> Result {
    let pool = LoopPool::spawn(2, "loop", |_number, _registry| Ok(()))?;
    let remote = |number| pool.get(number).cloned().ok_or("there are two loops");
    let journey = Journey {
        loops: [remote(0)?, remote(1)?],
        seen: Arc::default(),
    };
    let (near, peer) = tcp_pair()?;
    peer.set_read_timeout(Some(PATIENCE))?;
    let first = journey.clone();
    journey.loops[0].post(move |cx| {
        let options = ConnectionOptions::new();
        Connection::open(cx.registry, near, &options, Echoes(first)).expect("there is room");
    })?;
    let mut echo = Vec::new();
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&peer, &journey));
        (&peer).read_to_end(&mut echo)?;
        sender.join().expect("it does not panic")
    })?;
    pool.stop()?;
    let seen = journey.seen();
    assert!(
        seen.received == sent,
        "{} of {} bytes",
        seen.received.len(),
        sent.len()
    );
    assert!(
        echo == sent,
        "{} of {} bytes came back",
        echo.len(),
        sent.len()
    );
    assert_eq!(seen.moves, MOVES);
    let ends = |reason: &str| seen.closed.iter().filter(|end| *end == reason).count();
    assert_eq!(
        (ends("taken"), ends("finished"), seen.closed.len()),
        (MOVES, 1, MOVES + 1)
    );
    let mut threads = seen.threads.clone();
    threads.dedup();
    assert!(
        threads.len() > MOVES / 2,
        "it has moved {} times",
        threads.len()
    );
    Ok(())
}
