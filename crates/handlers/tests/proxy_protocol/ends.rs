//! Headers that do not arrive, or are none.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use handlers::ConnectionLimit;
use handlers::proxy_protocol::ProxyProtocol;
use support::Result;

use crate::{
    LINE, Seen, TIMEOUT, assert_reset, behind_proxy, both_versions, client, expect_echo, reactor,
    serve, settle,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_not_a_header_is_reset_and_the_listener_goes_on() -> Result {
    let mut reactor = reactor()?;
    let limit = ConnectionLimit::new(1);
    let (address, _server) = serve(&mut reactor, behind_proxy().limit(limit.clone()))?;
    let too_long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    let mut wrong_length = both_versions()?[1].clone();
    (wrong_length[14], wrong_length[15]) = (0xff, 0xff);
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"\x16\x03\x01",
        b"PROXY TCP4 bad\r\n",
        &too_long,
        &wrong_length,
    ] {
        let (mut client, mut seen) = (client(address)?, Seen::default());
        client.write_all(garbage)?;
        settle(&mut reactor, &mut seen)?;
        assert_reset(&mut client);
        assert!(seen.peers.is_empty());
        assert_eq!(limit.open(), 0);
    }
    let (mut client, mut seen) = (client(address)?, Seen::default());
    client.write_all(LINE)?;
    expect_echo(&mut reactor, &mut seen, &mut client)
}

#[test]
fn a_header_that_comes_a_byte_a_second_ends_at_the_deadline() -> Result {
    for header in both_versions()? {
        let mut reactor = reactor()?;
        let (address, _server) = serve(&mut reactor, behind_proxy())?;
        let (mut client, mut seen) = (client(address)?, Seen::default());
        settle(&mut reactor, &mut seen)?;
        for byte in &header[..10] {
            assert_eq!(reactor.registrations().count(), 2);
            client.write_all(&[*byte])?;
            reactor.advance(&mut seen, SECOND)?;
        }
        assert_eq!(reactor.registrations().count(), 1, "after {TIMEOUT:?}");
        assert_reset(&mut client);
        assert!(seen.peers.is_empty());
    }
    Ok(())
}

#[test]
fn a_header_just_before_the_deadline_is_in_time_and_ends_it() -> Result {
    let mut reactor = reactor()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    let (mut client, mut seen) = (client(address)?, Seen::default());
    settle(&mut reactor, &mut seen)?;
    reactor.advance(&mut seen, TIMEOUT - Duration::from_millis(1))?;
    client.write_all(LINE)?;
    settle(&mut reactor, &mut seen)?;
    reactor.advance(&mut seen, 2 * TIMEOUT)?;
    expect_echo(&mut reactor, &mut seen, &mut client)
}

#[test]
fn a_header_that_lies_in_the_kernel_is_read_however_short_the_timeout() -> Result {
    for timeout in [Duration::ZERO, Duration::MAX] {
        let mut reactor = reactor()?;
        let trusting = ProxyProtocol::trusting(|_| true).timeout(timeout);
        let (address, _server) = serve(&mut reactor, behind_proxy().proxy_protocol(trusting))?;
        let (mut client, mut seen) = (client(address)?, Seen::default());
        client.write_all(LINE)?;
        expect_echo(&mut reactor, &mut seen, &mut client)?;
    }
    Ok(())
}

#[test]
fn a_connection_without_its_header_counts_for_the_limit() -> Result {
    let mut reactor = reactor()?;
    let limit = ConnectionLimit::new(1);
    let (address, _server) = serve(&mut reactor, behind_proxy().limit(limit.clone()))?;
    let (silent, mut next) = (client(address)?, client(address)?);
    let mut seen = Seen::default();
    next.write_all(LINE)?;
    settle(&mut reactor, &mut seen)?;
    assert_eq!((limit.open(), seen.open()), (1, 0));
    silent.shutdown(Shutdown::Write)?;
    expect_echo(&mut reactor, &mut seen, &mut next)?;
    assert_eq!((limit.open(), seen.open()), (1, 1));
    Ok(())
}

#[test]
fn a_header_that_arrives_at_the_limit_is_passed_on_and_accepts_no_more() -> Result {
    let mut reactor = reactor()?;
    let limit = ConnectionLimit::new(2);
    let (address, _server) = serve(&mut reactor, behind_proxy().limit(limit.clone()))?;
    let mut seen = Seen::default();
    let mut clients = [client(address)?, client(address)?, client(address)?];
    settle(&mut reactor, &mut seen)?;
    for (open, client) in clients.iter_mut().enumerate() {
        client.write_all(LINE)?;
        settle(&mut reactor, &mut seen)?;
        assert_eq!(seen.open(), 2.min(open + 1));
        assert_eq!(limit.open(), 2);
    }
    let [first, _second, third] = &mut clients;
    first.shutdown(Shutdown::Both)?;
    expect_echo(&mut reactor, &mut seen, third)
}

#[test]
fn silent_connections_take_no_turn_until_their_timeout_ends_them() -> Result {
    const COUNT: usize = 50;
    let mut reactor = reactor()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    let mut seen = Seen::default();
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        clients.push(client(address)?);
        settle(&mut reactor, &mut seen)?;
    }
    assert_eq!(reactor.registrations().count(), COUNT + 1);
    assert_eq!(reactor.advance(&mut seen, TIMEOUT - SECOND)?, 0, "no call");
    let before = reactor.metrics().turns;
    reactor.advance(&mut seen, SECOND)?;
    assert!(reactor.metrics().turns - before < 10);
    assert_eq!(reactor.registrations().count(), 1);
    clients.iter_mut().for_each(assert_reset);
    Ok(())
}
