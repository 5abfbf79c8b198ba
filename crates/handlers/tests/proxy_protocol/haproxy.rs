//! The real proxy: headers that it sends are understood, and it understands ours.

use std::io::Write;
use std::net::TcpStream;

use reactor::Reactor;
use support::{Haproxy, PATIENCE, Result, is_installed, turn_until};

use crate::{CLIENT, Seen, behind_proxy, both_versions, client, expect_bytes, serve};

/// Checks that a message comes back through haproxy, and that the server sees this client.
fn expect_client(
    reactor: &mut Reactor<Seen>,
    client: &mut TcpStream,
    begins: &[u8],
    address: &str,
) -> Result {
    let mut seen = Seen::default();
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(&[begins, b"hello"].concat())?;
    turn_until(reactor, &mut seen, |seen| seen.open() == 1)?;
    assert_eq!(seen.peers[0][0], address);
    client.shutdown(std::net::Shutdown::Write)?;
    turn_until(reactor, &mut seen, |seen| seen.open() == 0)?;
    expect_bytes(client, b"hello")
}

#[test]
fn headers_of_haproxy_name_its_clients() -> Result {
    if !is_installed("haproxy") {
        return Ok(());
    }
    let mut reactor = Reactor::new()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    for sends in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    ] {
        let haproxy = Haproxy::start("", address, sends)?;
        let mut client = client(haproxy.address)?;
        let name = client.local_addr()?.to_string();
        expect_client(&mut reactor, &mut client, b"", &name)?;
    }
    Ok(())
}

#[test]
fn haproxy_understands_our_headers() -> Result {
    if !is_installed("haproxy") {
        return Ok(());
    }
    let mut reactor = Reactor::new()?;
    let (address, _server) = serve(&mut reactor, behind_proxy())?;
    for header in both_versions()? {
        let haproxy = Haproxy::start("accept-proxy", address, "send-proxy-v2")?;
        let mut client = client(haproxy.address)?;
        expect_client(&mut reactor, &mut client, &header, CLIENT)?;
    }
    Ok(())
}
