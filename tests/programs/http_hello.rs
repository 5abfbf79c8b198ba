//! `http_hello`: requests however they are cut, one after the other, and the answers to invalid
//! ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Result;
use crate::server::{PATIENCE, Server, run};

const HELLO: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";
const LAST_HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\nConnection: close\r\n\r\nHello, world!\n";

fn start() -> Result<Server> {
    Server::start("http_hello", &["--listen", "127.0.0.1:0"])
}

#[test]
fn a_connection_is_kept_while_the_client_wants_it() -> Result {
    let server = start()?;
    let mut client = server.connect()?;
    for _ in 0..100 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut answer = vec![0; HELLO.len()];
        client.read_exact(&mut answer)?;
        assert_eq!(String::from_utf8(answer)?, HELLO);
    }
    assert_eq!(
        server.ask(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n")?,
        LAST_HELLO
    );
    assert_eq!(server.ask(b"GET / HTTP/1.0\r\n\r\n")?, LAST_HELLO);
    Ok(())
}

#[test]
fn an_http_1_0_client_that_asks_for_keep_alive_gets_the_header() -> Result {
    let server = start()?;
    let kept = HELLO.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
    let mut client = server.connect()?;
    for request in [
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        "GET / HTTP/1.0\r\nconnection: x, keep-alive\r\n\r\n",
    ] {
        client.write_all(request.as_bytes())?;
        let mut answer = vec![0; kept.len()];
        client.read_exact(&mut answer)?;
        assert_eq!(String::from_utf8(answer)?, kept);
    }
    for closes in [
        "Connection: keep-alive, close",
        "Connection: close\r\nConnection: keep-alive",
    ] {
        for version in ["1.0", "1.1"] {
            let request = format!("GET / HTTP/{version}\r\n{closes}\r\n\r\n");
            assert_eq!(server.ask(request.as_bytes())?, LAST_HELLO, "{request}");
        }
    }
    Ok(())
}

/// Sends `request` byte by byte, with pauses, while the server takes it. Returns its answer.
fn drip(mut client: TcpStream, request: &[u8]) -> Result<String> {
    let began = Instant::now();
    client.set_read_timeout(Some(Duration::from_millis(100)))?; // the pause
    let mut answer = Vec::new();
    for byte in request.iter().cycle() {
        let is_gone = client.write_all(&[*byte]).is_err();
        match client.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !is_gone => {}
            _ => break,
        }
        assert!(began.elapsed() < PATIENCE, "it waits for ever");
    }
    Ok(String::from_utf8(answer)?)
}

#[test]
fn a_slow_request_ends_at_the_deadline_however_often_a_byte_comes() -> Result {
    let server = Server::start(
        "http_hello",
        &["--listen", "127.0.0.1:0", "--request-timeout", "1"],
    )?;
    let answer = drip(server.connect()?, b"X")?; // a name that never ends
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("Connection: close\r\n"),
        "{answer}"
    );
    let mut client = server.connect()?;
    client.write_all(b"GET / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")?;
    assert_eq!(drip(client, b"x")?, HELLO, "its body never ends");
    let mut client = server.connect()?;
    client.write_all(b"GET / HTTP/1.1\r\n\r\nGET ")?; // the second request is incomplete
    assert!(drip(client, b"x")?.starts_with(&format!("{HELLO}HTTP/1.1 408 ")));
    Ok(())
}

#[test]
fn requests_that_end_in_time_are_answered_for_longer_than_the_deadline() -> Result {
    let server = Server::start(
        "http_hello",
        &["--listen", "127.0.0.1:0", "--request-timeout", "1"],
    )?;
    let (mut client, began) = (server.connect()?, Instant::now());
    while began.elapsed() < Duration::from_millis(1500) {
        client.write_all(b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nx")?;
        let mut answer = vec![0; HELLO.len()];
        client.read_exact(&mut answer)?;
        assert_eq!(String::from_utf8(answer)?, HELLO);
        // The end of one request and the beginning of the next.
        client.write_all(b"xxGET / HTTP/1.1")?;
        client.write_all(b"\r\n\r\n")?;
        let mut answer = vec![0; HELLO.len()];
        client.read_exact(&mut answer)?;
    }
    assert_eq!(server.ask(b"GET / HTTP/1.0\r\n\r\n")?, LAST_HELLO);
    Ok(())
}

#[test]
fn requests_that_come_together_or_byte_by_byte_are_answered_one_by_one() -> Result {
    let server = start()?;
    let mut requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    requests.extend_from_slice(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(server.ask(&requests)? == HELLO.repeat(1000) + LAST_HELLO);

    let mut client = server.connect()?;
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
        client.write_all(&[*byte])?;
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert_eq!(answer, LAST_HELLO);
    Ok(())
}

#[test]
fn a_body_is_skipped_and_the_head_alone_is_answered_without_one() -> Result {
    let server = start()?;
    let request = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answer = server.ask(request)?;
    let (first, second) = answer.split_at(answer.rfind("HTTP/1.1").ok_or("two answers")?);
    assert!(
        first.starts_with("HTTP/1.1 405 ") && first.contains("Allow: GET, HEAD\r\n"),
        "{first}"
    );
    assert_eq!(second, &LAST_HELLO[..LAST_HELLO.len() - 14]);
    Ok(())
}

#[test]
fn an_invalid_request_is_answered_and_closed() -> Result {
    let server = start()?;
    let long = [
        b"GET / HTTP/1.1\r\nX: ".as_slice(),
        &[b'x'; 20_000],
        b"\r\n\r\n",
    ]
    .concat();
    let many = [
        b"GET / HTTP/1.1\r\n".as_slice(),
        &b"X: y\r\n".repeat(100),
        b"\r\n",
    ]
    .concat();
    let cases: [(&[u8], &str); 8] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"), // TLS
        (b"hello\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        (
            b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "400",
        ),
        (
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
        ),
        (
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "501",
        ),
        (&long, "431"),
        (&many, "431"),
    ];
    for (request, status) in cases {
        let answer = server.ask(request)?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{}: {answer}",
            request.escape_ascii()
        );
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
    assert!(
        server
            .ask(b"GET / HTTP/1.0\r\n\r\n")?
            .starts_with("HTTP/1.1 200"),
        "it still serves"
    );
    Ok(())
}

#[test]
fn a_signal_ends_it_with_0_and_a_bad_option_with_2() -> Result {
    let server = start()?;
    let mut client = server.connect()?;
    server.signal(Signal::INT)?;
    assert_eq!(client.read(&mut [0])?, 0);
    drop(client);
    assert_eq!(server.wait()?.code(), Some(0));
    assert_eq!(
        run("http_hello", &["--listen", "nowhere"])?.status.code(),
        Some(2)
    );
    Ok(())
}
