//! Bad input: each ends its connection alone, with a text that says why, at a level that does not
//! fill the log.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use handlers::tls::rustls::ClientConnection;
use handlers::tls::rustls::pki_types::ServerName;

use super::{Certificates, Logged};
use crate::Result;
use crate::echo::expect_echo;
use crate::server::PATIENCE;

/// The first record of a client.
fn hello(certificates: &Certificates) -> Result<Vec<u8>> {
    let mut client =
        ClientConnection::new(certificates.client()?, ServerName::try_from("localhost")?)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

/// Sends bytes and the end of the stream. Returns when the server has closed.
fn send_and_end(server: &Logged, bytes: &[u8]) -> Result {
    let mut client = server.server.connect()?;
    client.write_all(bytes)?;
    // The server may have reset the connection already.
    let _ = client.shutdown(Shutdown::Write);
    wait_for_end(&mut client)
}

fn wait_for_end(client: &mut impl Read) -> Result {
    match client.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns a hello of SSL 2.0: the length with its highest bit set, type 1, and version 2.
fn hello_of_ssl_2() -> Vec<u8> {
    let mut hello = vec![0x80, 46, 1, 0, 2];
    hello.extend([0; 43]);
    hello
}

/// Returns a hello of SSL 3.0: record and message of version 3.0, one cipher suite, no extension.
fn hello_of_ssl_3() -> Vec<u8> {
    let mut body = vec![3, 0];
    body.extend([7; 32]); // the random bytes
    body.extend([0, 0, 2, 0, 10, 1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.append(&mut body);
    let mut record = vec![22, 3, 0, 0, message.len() as u8];
    record.append(&mut message);
    record
}

#[test]
fn each_bad_input_ends_its_connection_alone_with_its_reason() -> Result {
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let mut other = certificates.connect(&server.server)?;
    expect_echo(&mut other, b"before");
    let too_long = (1_u16 << 14) + 2049;
    let [high, low] = too_long.to_be_bytes();
    let cases: [(&[u8], &str); 9] = [
        (
            b"GET / HTTP/1.1\r\n\r\n",
            "the peer speaks plain HTTP and not",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "the peer speaks SSH and not TLS",
        ),
        (
            b"hello\n",
            "the peer speaks an unknown protocol and not TLS",
        ),
        (&hello_of_ssl_2(), "the peer speaks SSL 2.0 and not TLS"),
        (&hello_of_ssl_3(), "the peers have too little in common"),
        (
            &[22, 3, 1, high, low],
            "the peer sent a record that is longer than",
        ),
        (&[22, 3, 1, 0, 0], "the peer sent an invalid message"),
        (
            &[21, 3, 1, 0, 2, 2, 40],
            "the peer ended the session with the alert",
        ),
        (
            &[23, 3, 3, 0, 1, 0],
            "TLS failed: received unexpected message",
        ),
    ];
    for (bytes, text) in cases {
        send_and_end(&server, bytes)?;
        server.expect_in_log(&format!("reason=failed: {text}"), 1)?;
        expect_echo(&mut other, b"still served");
    }
    Ok(())
}

#[test]
fn a_hello_that_is_cut_at_any_byte_ends_its_connection_alone() -> Result {
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let mut other = certificates.connect(&server.server)?;
    let hello = hello(&certificates)?;
    for length in 0..hello.len() {
        send_and_end(&server, &hello[..length])?;
    }
    let closed = "reason=failed: the peer closed the stream";
    server.expect_in_log(&format!("{closed} and sent nothing of TLS"), 1)?;
    server.expect_in_log(&format!("{closed} during the handshake"), hello.len() - 1)?;
    expect_echo(&mut other, b"still served");
    Ok(())
}

/// The limit of 10 seconds is the default of a connection.
#[test]
fn a_hello_of_a_byte_a_second_ends_at_the_limit_of_handshakes() -> Result {
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let hello = hello(&certificates)?;
    let (mut slow, began) = (server.server.connect()?, Instant::now());
    slow.set_read_timeout(Some(Duration::from_secs(1)))?; // the pause
    for byte in &hello {
        let is_gone = slow.write_all(&[*byte]).is_err();
        match slow.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !is_gone => {}
            _ => break,
        }
        assert!(began.elapsed() < PATIENCE, "it waits for ever");
        expect_echo(&mut certificates.connect(&server.server)?, b"meanwhile");
    }
    assert!(began.elapsed() >= Duration::from_secs(9), "too early");
    server.expect_in_log("reason=handshake timeout expired", 1)
}

#[test]
fn a_client_that_is_cut_in_mid_message_is_no_clean_end() -> Result {
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let mut other = certificates.connect(&server.server)?;
    expect_echo(&mut other, b"before");
    for sent in [b"".as_slice(), b"the first half of"] {
        let mut client = certificates.connect(&server.server)?;
        expect_echo(&mut client, b"a message");
        client.write_all(sent)?;
        client.flush()?;
        client.sock.shutdown(Shutdown::Write)?; // without close_notify
        let ended = client.read_to_end(&mut Vec::new());
        assert!(ended.is_err(), "a clean end for a stream that was cut");
    }
    server.expect_in_log("reason=failed: the stream ended without close_notify", 2)?;
    expect_echo(&mut other, b"after");
    Ok(())
}

#[test]
fn a_flood_of_garbage_leaves_the_log_empty() -> Result {
    let certificates = Certificates::new()?;
    let tls = certificates.arguments("server");
    let tls: Vec<_> = tls.iter().map(String::as_str).collect();
    for example in ["echo_server", "http_hello", "kv_server"] {
        let server = certificates.start_by(example, &tls, "info")?;
        let hello = hello(&certificates)?;
        for round in 0..300 {
            let garbage = [
                &b"GET / HTTP/1.1\r\n\r\n"[..],
                &[0xff; 20],
                &hello[..round % 200],
            ];
            send_and_end(&server, garbage[round % 3])?;
        }
        let mut client = certificates.connect(&server.server)?;
        client.write_all(b"GET x\r\n\r\n")?;
        client.read_exact(&mut [0])?;
        assert_eq!(server.log()?, "", "{example}");
    }
    Ok(())
}
