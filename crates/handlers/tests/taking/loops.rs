//! A connection that moves between loops while its peer sends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use handlers::ConnectionOptions;
use reactor::LoopPool;
use support::{PATIENCE, tcp_pair};

use crate::Result;
use crate::journey::{Journey, append_piece};

/// Sends pieces until the connection has moved often enough. Returns what was sent.
fn send(mut peer: &TcpStream, journey: &Journey<TcpStream>) -> io::Result<Vec<u8>> {
    let mut sent = Vec::new();
    for piece in 0_usize.. {
        let start = append_piece(&mut sent, piece);
        peer.write_all(&sent[start..])?;
        if journey.is_over() {
            break;
        }
    }
    peer.shutdown(Shutdown::Write)?;
    Ok(sent)
}

#[test]
fn a_connection_moves_a_thousand_times_while_its_peer_sends() -> Result {
    let pool = LoopPool::spawn(2, "loop", |_number, _registry| Ok(()))?;
    let (near, peer) = tcp_pair()?;
    peer.set_read_timeout(Some(PATIENCE))?;
    let journey = Journey::begin(&pool, ConnectionOptions::new(), near)?;
    let mut echo = Vec::new();
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&peer, &journey));
        (&peer).read_to_end(&mut echo)?;
        sender.join().expect("it does not panic")
    })?;
    pool.stop()?;
    journey.expect_whole(&sent, &echo);
    Ok(())
}
