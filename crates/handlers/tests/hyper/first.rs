//! HTTP/1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use handlers::ConnectionOptions;
use handlers::futures::{AsyncConnection, block_on, spawn_local};
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1::handshake;
use reactor::{ManualClock, Reactor};
use support::{PATIENCE, Result, run_out, turn_until_quiet};

use crate::{GRACE, get, listen, serve_http1, text};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_server_and_a_client_of_hyper_share_the_loop() -> Result {
    let mut reactor: Reactor<()> = Reactor::new()?;
    let (listener, address) = listen()?;
    let options = ConnectionOptions::new();
    let server =
        listener.serve_async(&mut reactor, &options, |stream, _, _cx| serve_http1(stream))?;
    let body = Bytes::from(vec![b'x'; 3_000_000]);
    let answers = block_on(&mut reactor, &mut (), async move {
        let stream = AsyncConnection::connect::<()>(address, &ConnectionOptions::new()).await?;
        let (mut sender, connection) = handshake(stream).await?;
        drop(spawn_local(connection));
        let mut answers = Vec::new();
        for path in ["/", "/other"] {
            answers.push(text(sender.send_request(get(path)).await?).await?);
        }
        let upload = Request::post("/")
            .header("host", "x")
            .body(Full::from(body))?;
        answers.push(text(sender.send_request(upload).await?).await?);
        Result::Ok(answers)
    })??;
    assert_eq!(answers, ["hello", "hello", "3000000"]);
    server.stop(&mut reactor, GRACE);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_request_is_answered_in_the_turn_that_reads_it() -> Result {
    let mut reactor: Reactor<()> = Reactor::new()?;
    let (listener, address) = listen()?;
    listener.serve_async(&mut reactor, &ConnectionOptions::new(), |stream, _, _cx| {
        serve_http1(stream)
    })?;
    let mut client = TcpStream::connect(address)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    client.set_nonblocking(true)?;
    for _ in 0..3 {
        client.write_all(REQUEST)?;
        reactor.turn(&mut (), None)?;
        let mut answer = [0; 1000];
        let length = client.read(&mut answer)?;
        assert!(answer[..length].ends_with(b"\r\n\r\nhello"));
    }
    Ok(())
}

#[test]
fn a_stop_answers_the_request_that_has_begun_and_closes() -> Result {
    let clock = ManualClock::new();
    let mut reactor: Reactor<()> = Reactor::builder().clock(clock.clone()).build()?;
    let (listener, address) = listen()?;
    let options = ConnectionOptions::new();
    let server =
        listener.serve_async(&mut reactor, &options, |stream, _, _cx| serve_http1(stream))?;
    let mut clients = [TcpStream::connect(address)?, TcpStream::connect(address)?];
    clients[0].write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")?;
    clients[1].write_all(REQUEST)?; // idle after it
    turn_until_quiet(&mut reactor, &mut ())?;
    server.stop(&mut reactor, GRACE);
    turn_until_quiet(&mut reactor, &mut ())?;
    clock.advance(Duration::from_secs(1));
    turn_until_quiet(&mut reactor, &mut ())?;
    for (client, last) in clients.iter_mut().zip(["late", "hello"]) {
        client.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert!(answer.ends_with(last), "{answer}");
    }
    drop(clients);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn the_timers_of_hyper_follow_the_clock_of_the_loop() -> Result {
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let (listener, address) = listen()?;
    let options = ConnectionOptions::new();
    let server =
        listener.serve_async(&mut reactor, &options, |stream, _, _cx| serve_http1(stream))?;
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"GET / HT")?;
    for _ in 0..10 {
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    let began = reactor.now();
    reactor.remove(server.key())?;
    reactor.run(&mut ())?; // until the timeout of the head has closed the connection
    assert_eq!(reactor.now() - began, Duration::from_secs(30));
    assert!(client.read(&mut [0]).is_err(), "it is reset");
    Ok(())
}
