//! Headers that arrive: the connection after them is that of the client.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use handlers::proxy_protocol::{Header, ProxyProtocol, TlvType};
use handlers::{ConnectionOptions, ListenOptions};
use reactor::Reactor;
use support::{Result, turn_until};

use crate::{
    CLIENT, Echo, Inverted, LINE, Seen, any_port, behind_proxy, both_versions, client,
    expect_bytes, expect_echo, note_and_open, reactor, serve, settle, tcp,
};

/// Ends a connection from its client.
fn end(reactor: &mut Reactor<Seen>, seen: &mut Seen, client: TcpStream) -> Result {
    drop(client);
    turn_until(reactor, seen, |seen| seen.open() == 0)
}

#[test]
fn a_header_may_be_cut_at_any_byte() -> Result {
    let mut reactor = reactor()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    for header in both_versions()? {
        let bytes = [&header, &b"hello"[..]].concat();
        for cut in 0..=bytes.len() {
            let (mut client, mut seen) = (client(address)?, Seen::default());
            client.write_all(&bytes[..cut])?;
            settle(&mut reactor, &mut seen)?;
            assert!(cut >= header.len() || seen.open() == 0, "{cut}");
            client.write_all(&bytes[cut..])?;
            turn_until(&mut reactor, &mut seen, |seen| seen.open() == 1)?;
            settle(&mut reactor, &mut seen)?;
            expect_bytes(&mut client, b"hello")?;
            let peers = [CLIENT.to_owned(), client.local_addr()?.to_string()];
            assert_eq!(seen.peers, [peers]);
            expect_echo(&mut reactor, &mut seen, &mut client)?;
            end(&mut reactor, &mut seen, client)?;
        }
    }
    Ok(())
}

#[test]
fn without_an_address_in_the_header_the_peer_is_the_proxy() -> Result {
    let mut reactor = reactor()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    for header in [Header::local().to_v1(), Header::local().to_v2()] {
        let (mut client, mut seen) = (client(address)?, Seen::default());
        client.write_all(&header)?;
        expect_echo(&mut reactor, &mut seen, &mut client)?;
        let proxy = || client.local_addr().map(|address| address.to_string());
        assert_eq!(seen.peers, [[proxy()?, proxy()?]]);
        end(&mut reactor, &mut seen, client)?;
    }
    Ok(())
}

#[test]
fn an_ipv4_client_of_an_ipv6_header_has_a_plain_address() -> Result {
    let mut reactor = reactor()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    let (mut client, mut seen) = (client(address)?, Seen::default());
    client.write_all(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 7 8\r\n")?;
    settle(&mut reactor, &mut seen)?;
    assert_eq!(seen.peers[0][0], "192.0.2.1:7");
    Ok(())
}

#[test]
fn fields_of_the_header_are_there_when_the_connection_is_accepted() -> Result {
    let mut reactor = Reactor::<Vec<u8>>::new()?;
    let listener = behind_proxy().bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.accept(&mut reactor, |accepted, cx| {
        let header = accepted.proxy_header().ok_or(io::ErrorKind::NotFound)?;
        cx.state
            .extend(header.tlv(TlvType::UNIQUE_ID).unwrap_or(b"none"));
        Ok(())
    })?;
    let header =
        Header::internet(CLIENT.parse()?, address).with_tlv(TlvType::UNIQUE_ID, b"id 7")?;
    let mut name = Vec::new();
    client(address)?.write_all(&header.to_v2())?;
    while name.is_empty() {
        reactor.turn(&mut name, Some(support::PATIENCE))?;
    }
    assert_eq!(name, b"id 7");
    Ok(())
}

#[test]
fn the_closure_of_a_server_is_called_with_the_address_of_the_client() -> Result {
    let mut reactor = reactor()?;
    let listener = behind_proxy().bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |peer, cx| {
        cx.state.peers.push([peer.to_string(), String::new()]);
        Ok(Echo)
    })?;
    let (mut client, mut seen) = (client(address)?, Seen::default());
    client.write_all(LINE)?;
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    assert_eq!(seen.peers[0][0], CLIENT);
    Ok(())
}

#[test]
fn a_unix_listener_reads_headers_too() -> Result {
    let mut reactor = reactor()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = behind_proxy().bind(&format!("unix:{}", path.display()).parse()?)?;
    listener.accept(&mut reactor, note_and_open)?;
    let (mut client, mut seen) = (UnixStream::connect(&path)?, Seen::default());
    client.set_read_timeout(Some(support::PATIENCE))?;
    client.write_all(LINE)?;
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    assert_eq!(seen.peers, [[CLIENT, "unix"].map(String::from)]);
    Ok(())
}

#[test]
fn a_layered_stream_begins_with_the_first_byte_after_the_header() -> Result {
    let mut reactor = reactor()?;
    let listener = behind_proxy().bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.serve_as(
        &mut reactor,
        &ConnectionOptions::new(),
        |stream| Ok(Inverted(stream.into_tcp()?)),
        |_peer, _cx| Ok(Echo),
    )?;
    for header in both_versions()? {
        let (mut client, mut seen) = (client(address)?, Seen::default());
        client.write_all(&[&header, &b"hello"[..]].concat())?;
        settle(&mut reactor, &mut seen)?;
        expect_bytes(&mut client, b"hello")?;
        end(&mut reactor, &mut seen, client)?;
    }
    Ok(())
}

#[test]
fn a_peer_that_is_not_trusted_is_closed_whatever_it_sends() -> Result {
    let mut reactor = reactor()?;
    let nobody = ProxyProtocol::trusting(|peer| peer.to_string().starts_with("192.0.2."));
    let (address, _server) = serve(&mut reactor, ListenOptions::new().proxy_protocol(nobody))?;
    let (mut client, mut seen) = (client(address)?, Seen::default());
    settle(&mut reactor, &mut seen)?;
    assert_eq!(client.read(&mut [0])?, 0);
    assert!(seen.peers.is_empty());
    Ok(())
}
