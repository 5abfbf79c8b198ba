//! Headers that a connection sends first.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use handlers::proxy_protocol::{Header, WithHeader};
use handlers::{Connection, ConnectionOptions, Relay};
use support::{PATIENCE, Result, tcp_pair};

use crate::{CLIENT, Echo, LINE, Seen, behind_proxy, both_versions, expect_bytes, reactor, serve};
use crate::{expect_echo, settle};

#[test]
fn a_connection_is_open_once_the_kernel_has_taken_its_header() -> Result {
    let mut reactor = reactor()?;
    let (near, mut far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let mut earlier = 0;
    while let Ok(count) = (&near).write(&[0; 4096]) {
        earlier += count; // until the kernel takes no more
    }
    let near = WithHeader::new(near, LINE.to_vec());
    Connection::open(&mut reactor, near, &ConnectionOptions::new(), Echo)?;
    let mut seen = Seen::default();
    settle(&mut reactor, &mut seen)?;
    assert_eq!(seen.open(), 0);
    far.read_exact(&mut vec![0; earlier])?;
    settle(&mut reactor, &mut seen)?;
    assert_eq!(seen.open(), 1);
    far.set_read_timeout(Some(PATIENCE))?;
    expect_bytes(&mut far, LINE)?;
    expect_echo(&mut reactor, &mut seen, &mut far)
}

#[test]
fn a_relay_names_its_client_to_a_server_behind_it() -> Result {
    let mut reactor = reactor()?;
    let (to, _server) = serve(&mut reactor, behind_proxy())?;
    for header in both_versions()? {
        let (near, mut client) = tcp_pair()?;
        client.set_read_timeout(Some(PATIENCE))?;
        let (client_side, server_side) = Relay::pair();
        let options = ConnectionOptions::new();
        let make = |stream: TcpStream| Ok(WithHeader::new(stream, header));
        let attempt = Connection::connect_as(&mut reactor, [to], &options, make, server_side);
        client_side.gives_up(attempt);
        Connection::open(&mut reactor, near, &options, client_side)?;
        let mut seen = Seen::default();
        expect_echo(&mut reactor, &mut seen, &mut client)?;
        assert_eq!(seen.peers[0][0], CLIENT);
        drop(client);
        settle(&mut reactor, &mut seen)?;
        assert_eq!(seen.open(), 0);
    }
    Ok(())
}

#[test]
fn an_accepted_connection_knows_the_address_it_was_reached_at() -> Result {
    let mut reactor = reactor()?;
    let listener = TcpListener::bind("[::]:0")?;
    let to: SocketAddr = ([127, 0, 0, 1], listener.local_addr()?.port()).into();
    let _client = TcpStream::connect(to)?;
    let options = ConnectionOptions::new();
    let key = Connection::open(&mut reactor, listener.accept()?.0, &options, Echo)?;
    let (near, _far) = UnixStream::pair()?;
    let unix = Connection::open(&mut reactor, near, &options, Echo)?;
    let mut seen = Seen::default();
    let at = |key: handlers::ConnectionKey<Seen>, cx: &mut reactor::Context<'_, Seen>| {
        key.with(cx, |connection, _cx| connection.local_addr())
    };
    let [tcp, unix] = reactor.enter(&mut seen, |cx| [at(key, cx), at(unix, cx)]);
    assert_eq!(tcp??, to, "in plain form");
    assert_eq!(
        unix?.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::InvalidInput)
    );
    Ok(())
}

#[test]
fn a_header_for_a_client_without_an_address_names_none() {
    assert_eq!(Header::local().to_v1(), b"PROXY UNKNOWN\r\n");
    assert_eq!(Header::local().to_v2()[12..], [0x20, 0, 0, 0]);
}
