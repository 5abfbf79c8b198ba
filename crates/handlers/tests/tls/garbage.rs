//! Peers that send anything but TLS: each ends its own connection, with a text that says why, and
//! no line of a daemon's log.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use handlers::{ConnectionOptions, ListenOptions};
use support::Result;
use tracing::subscriber;

use crate::logged::Log;
use crate::peer::{End, Peer};
use crate::servers::{connect, serve_with};
use crate::{Bench, echo, server_config, sink};

/// The hello of a client of SSL 3.0: RFC 6101 section 5.6.1.2, with one cipher suite.
fn ssl3_hello() -> Vec<u8> {
    let mut hello = vec![22, 3, 0, 0, 45, 1, 0, 0, 41, 3, 0];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 10, 1, 0]);
    hello
}

/// Sends bytes to a server with a connection that talks. Returns the end of the new connection.
fn end_after(bytes: &[u8], log: &Log) -> Result<String> {
    let mut bench = Bench::new()?;
    let (address, _) = serve_with(&mut bench, server_config(), ListenOptions::new(), || {
        echo("server")
    })?;
    let mut talks = Peer::client(connect(address)?);
    bench.until(&mut talks, |seen, _| seen.has("server open"));
    let end = subscriber::with_default(log.clone(), || -> Result<String> {
        connect(address)?.write_all(bytes)?; // and closes the socket
        bench.turn_until(|seen| seen.end_of("server").is_some());
        Ok(bench.seen.end_of("server").unwrap().to_owned())
    })?;
    talks.send(b"still here");
    bench.until(&mut talks, |_, peer| peer.received == b"still here");
    Ok(end)
}

#[test]
fn garbage_ends_its_connection_alone_with_a_text_at_debug() -> Result {
    let zeros = [0; 1000];
    let ssl3 = ssl3_hello();
    let cases: [(&[u8], &str, &str); 9] = [
        (b"GET / HTTP/1.1\r\n\r\n", "NotTls", "speaks plain HTTP"),
        (b"SSH-2.0-x\r\n", "NotTls", "speaks SSH"),
        (
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00",
            "NotTls",
            "speaks SSL 2.0",
        ),
        (&zeros, "NotTls", "speaks an unknown protocol"),
        (&ssl3, "Incompatible", "at least TLS 1.2"),
        // 2^14 + 2049 bytes of a record
        (
            &[22, 3, 1, 0x48, 0x01],
            "Protocol",
            "longer than TLS allows",
        ),
        (&[22, 3, 1, 0, 0], "Protocol", "invalid message"),
        (&[23, 3, 3, 0, 1, 0], "Protocol", "TLS failed"),
        (b"", "HandshakeEnded", "sent nothing of TLS"),
    ];
    for (bytes, end, text) in cases {
        let log = Log::default();
        assert_eq!(end_after(bytes, &log)?, end, "{bytes:?}");
        assert_eq!(log.count(text), 1, "{text}: {log:?}");
        assert_eq!(log.shown(), [""; 0], "{bytes:?}");
    }
    Ok(())
}

#[test]
fn a_hello_that_is_cut_anywhere_ends_its_connection_in_words() -> Result {
    let log = Log::default();
    subscriber::with_default(log.clone(), || -> Result {
        let mut bench = Bench::new()?;
        let options = ConnectionOptions::new();
        let (_, mut first) = bench.open(&options, sink("server"))?;
        let hello = first.ciphertext();
        for cut in 0..=hello.len() {
            let (_, mut peer) = bench.open(&options, sink("server"))?;
            peer.send_raw(&hello[..cut]);
            peer.socket.shutdown(Shutdown::Write)?;
            bench.run_until_idle();
        }
        let is_cut = |entry: &String| entry == "server close HandshakeEnded";
        assert!(bench.seen.log.iter().all(is_cut));
        assert_eq!(bench.seen.log.len(), hello.len() + 1);
        assert_eq!(log.count("sent nothing of TLS"), 1);
        assert_eq!(log.count("during the handshake"), hello.len());
        first.send_raw(&hello);
        bench.until(&mut first, |seen, _| seen.has("server open"));
        Ok(())
    })?;
    assert_eq!(log.shown(), [""; 0]);
    Ok(())
}

/// Bytes do not extend the time of a handshake.
#[test]
fn a_hello_of_a_byte_a_second_is_ended_by_the_timeout() -> Result {
    let mut bench = Bench::new()?;
    let (_, mut peer) = bench.open(&ConnectionOptions::new(), sink("server"))?;
    let hello = peer.ciphertext();
    for byte in &hello[..10] {
        assert_eq!(bench.seen.end_of("server"), None);
        peer.send_raw(&[*byte]);
        bench.run_until_idle();
        bench.advance(Duration::from_secs(1));
    }
    bench.run_until_idle();
    let end = "handshake timeout expired";
    assert_eq!(bench.seen.end_of("server"), Some(end));
    bench.until(&mut peer, |_, peer| peer.end.is_some());
    assert_ne!(peer.end, Some(End::Whole));
    Ok(())
}
