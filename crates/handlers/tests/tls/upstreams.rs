//! An upstream over TLS: each connection has a session of its own.

use std::os::unix::net::UnixListener;

use handlers::{
    Address, Backoff, ConnectionOptions, Jitter, ListenOptions, SocketStream, Upstream,
    UpstreamOptions, UpstreamState,
};
use support::{Result, ms};

use crate::peer::Peer;
use crate::{Bench, NAME, client_config, notes, pattern, server_config, sink};

#[test]
fn messages_wait_for_the_handshake_of_each_connection() -> Result {
    let mut bench = Bench::new()?;
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let server = server_config();
    let protect = move |stream: SocketStream| server.accept(stream.into_tcp()?);
    listener.serve_as(
        &mut bench.reactor,
        &ConnectionOptions::new(),
        protect,
        |_, _| {
            // Closes after each message.
            Ok(notes("server", |_, connection, _| {
                connection.shutdown();
                Ok(())
            }))
        },
    )?;
    let (client, delay) = (client_config(), ms(100));
    let backoff = Backoff::new(delay, delay).jitter(Jitter::None);
    let options = UpstreamOptions::new().backoff(backoff);
    let connect = move |stream: SocketStream| client.connect(stream.into_tcp()?, NAME);
    let upstream = Upstream::start_as(
        &mut bench.reactor,
        [address],
        &options,
        connect,
        sink("client"),
    );
    let mut expected = Vec::new();
    for message in ["one ", "two ", "three"] {
        let _ = upstream.send(&mut bench.reactor, message)?;
        expected.extend(message.as_bytes());
        bench.turn_until(|seen| seen.received("server") == expected);
        let closes = upstream.metrics().connections as usize;
        bench.turn_until(|seen| {
            let is_close = |entry: &&String| entry.starts_with("client close");
            seen.log.iter().filter(is_close).count() == closes
        });
        assert!(upstream.is_empty());
        bench.advance(delay);
    }
    assert!(upstream.metrics().connections >= 3);
    Ok(())
}

/// A message counts as sent in part while the session holds it encrypted. So each message of which
/// the peer has a byte is unacknowledged, wherever the stream is cut, and nothing is lost.
#[test]
fn a_cut_in_the_middle_of_a_message_keeps_the_message() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path)?;
    let mut bench = Bench::new()?;
    let backoff = Backoff::new(ms(100), ms(100)).jitter(Jitter::None);
    let options = UpstreamOptions::new().backoff(backoff).acknowledged(true);
    let client = client_config();
    let connect = move |stream: SocketStream| client.connect(stream.into_unix()?, NAME);
    let target = Address::Unix(path);
    let upstream = Upstream::start_as(
        &mut bench.reactor,
        [target],
        &options,
        connect,
        sink("client"),
    );
    let messages = vec![pattern(10_000); 300];
    for message in messages.clone() {
        let _ = upstream.send(&mut bench.reactor, message)?;
    }
    let cut = |bench: &mut Bench, bytes: usize, closes: usize| -> Result<Vec<u8>> {
        bench.turn_until(|_| upstream.state() != UpstreamState::Waiting);
        let (far, _) = listener.accept()?;
        far.set_nonblocking(true)?;
        let mut peer = Peer::server(far);
        bench.until(&mut peer, |_, peer| peer.received.len() >= bytes);
        while peer.step() {} // reads all that the kernel has taken
        drop(peer.socket);
        bench.turn_until(|seen| {
            let is_close = |entry: &&String| entry.starts_with("client close");
            seen.log.iter().filter(is_close).count() == closes
        });
        Ok(peer.received)
    };
    for round in 1..=3 {
        let received = cut(&mut bench, 100_000 * round, round)?;
        assert!(received.len() < 3_000_000, "the cut is in the middle");
        let unacknowledged = upstream.resend(&mut bench.reactor);
        assert!(received.len() <= 10_000 * unacknowledged);
        assert_eq!((upstream.len(), upstream.metrics().lost), (300, 0));
        bench.advance(ms(100));
    }
    let whole: Vec<u8> = messages.concat();
    assert_eq!(cut(&mut bench, whole.len(), 4)?, whole);
    assert_eq!(upstream.take_unacknowledged(&mut bench.reactor), messages);
    Ok(())
}
