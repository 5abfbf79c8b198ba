//! A TLS connection that moves between loops while its peer sends.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;

use handlers::ConnectionOptions;
use handlers::tls::Tls;
use reactor::LoopPool;
use support::{PATIENCE, Result, tcp_pair, wait_until_readable};

use crate::journey::{Journey, append_piece};
use crate::peer::{End, Peer};
use crate::server_config;

/// Sends pieces in records of their own until the connection has moved often enough, and reads what
/// comes back. Returns what was sent.
fn talk(peer: &mut Peer<TcpStream>, journey: &Journey<Tls<TcpStream>>) -> io::Result<Vec<u8>> {
    let (mut sent, mut piece, mut has_closed) = (Vec::new(), 0, false);
    while peer.end.is_none() {
        let (is_over, is_full) = (journey.is_over(), sent.len() > peer.received.len() + 20_000);
        if !is_over && !is_full && !peer.tls.is_handshaking() {
            let start = append_piece(&mut sent, piece);
            peer.tls.writer().write_all(&sent[start..])?;
            piece += 1;
        } else if is_over && !has_closed {
            peer.close();
            has_closed = true;
        }
        if !peer.step() {
            let came = wait_until_readable(&peer.socket, PATIENCE)?;
            assert!(came, "{peer:?}, {} sent", sent.len());
        }
    }
    Ok(sent)
}

#[test]
fn a_session_moves_a_thousand_times_while_its_peer_sends() -> Result {
    let pool = LoopPool::spawn(2, "loop", |_number, _registry| Ok(()))?;
    let (near, far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    // Small turns, so that the session often holds plaintext when it moves.
    let options = ConnectionOptions::new().max_bytes_per_turn(700);
    let journey = Journey::begin(&pool, options, server_config().accept(near)?)?;
    let mut peer = Peer::client(far);
    let talks = journey.clone();
    let talk = thread::spawn(move || talk(&mut peer, &talks).map(|sent| (sent, peer)));
    let (sent, peer) = talk.join().expect("it does not panic")?;
    pool.stop()?;
    journey.expect_whole(&sent, &peer.received);
    assert_eq!(peer.end, Some(End::Whole));
    Ok(())
}
