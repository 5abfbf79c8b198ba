//! The real proxy: headers that it sends are understood, and it understands ours.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use reactor::Reactor;
use support::{PATIENCE, Result, is_installed, turn_until};
use tempfile::TempDir;

use crate::{CLIENT, Seen, behind_proxy, both_versions, client, expect_bytes, serve};

/// A running haproxy, which is killed when it is dropped.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Starts haproxy in front of a server, with options of both sides. It inherits its listening
/// socket as its standard input, so no port has to be chosen and no start has to be waited for.
fn start(accepts: &str, to: SocketAddr, sends: &str) -> Result<Haproxy> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("haproxy.cfg");
    let configuration = format!(
        "defaults\n mode tcp\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n\
         listen test\n bind fd@0 {accepts}\n server to {to} {sends}\n"
    );
    std::fs::write(&path, configuration)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let child = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(path)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Haproxy {
        child,
        address,
        _folder: folder,
    })
}

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
    turn_until(reactor, &mut seen, |seen| seen.open == 1)?;
    assert_eq!(seen.peers[0][0], address);
    client.shutdown(std::net::Shutdown::Write)?;
    turn_until(reactor, &mut seen, |seen| seen.open == 0)?;
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
        let haproxy = start("", address, sends)?;
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
        let haproxy = start("accept-proxy", address, "send-proxy-v2")?;
        let mut client = client(haproxy.address)?;
        expect_client(&mut reactor, &mut client, &header, CLIENT)?;
    }
    Ok(())
}
