//! `proxy`: TLS on either side, and what ends on one side on the other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use handlers::proxy_protocol::Header;
use handlers::tls::rustls::pki_types::ServerName;
use handlers::tls::rustls::{ClientConnection, StreamOwned};
use rustix::process::Signal;
use support::{Haproxy, is_installed, listen, reset};

use super::{Certificates, Logged};
use crate::Result;
use crate::echo::{expect_echo, pattern};
use crate::server::{PATIENCE, Server, accept};

/// Starts a proxy that speaks TLS to `to`, for which it expects `name`.
fn start_to(certificates: &Certificates, to: &str, name: &str) -> Result<Logged> {
    let arguments = ["--listen", "127.0.0.1:0", "--to", to, "--tls-to", name];
    certificates.start_by("proxy", &arguments, "debug")
}

/// Returns what a client of plain text reads until the proxy closes.
fn read_all(server: &Server) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut client = server
        .connect()
        .map_err(|error| io::Error::other(error.to_string()))?;
    client.write_all(b"hello")?;
    client.read_to_end(&mut read).map(|_count| read)
}

/// Sends a message in parts, and expects each back.
fn exchange(stream: &mut (impl Read + Write)) {
    for part in pattern(1_000_000).chunks(100_000) {
        expect_echo(stream, part);
    }
}

#[test]
fn bytes_come_back_with_tls_on_each_side_and_on_both() -> Result {
    let certificates = Certificates::new()?;
    let protected = certificates.start("echo_server", &[])?;
    let plain = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let ends = certificates.start("proxy", &["--to", &plain.address])?;
    exchange(&mut certificates.connect(&ends.server)?);
    let to = ["--to", &protected.server.address, "--tls-to", "localhost"];
    let both = certificates.start("proxy", &to)?;
    exchange(&mut certificates.connect(&both.server)?);
    let begins = start_to(&certificates, &protected.server.address, "127.0.0.1")?;
    exchange(&mut begins.server.connect()?);
    Ok(())
}

#[test]
fn each_direction_ends_on_its_own_through_tls() -> Result {
    let certificates = Certificates::new()?;
    let (listener, address) = listen("127.0.0.1:0")?;
    let proxy = certificates.start("proxy", &["--to", &address.to_string()])?;
    let mut client = certificates.connect(&proxy.server)?;
    client.write_all(b"question")?;
    client.conn.send_close_notify();
    client.flush()?;
    let mut target = accept(&listener)?;
    let mut question = String::new();
    target.read_to_string(&mut question)?;
    assert_eq!(question, "question");
    target.write_all(b"a long answer")?;
    drop(target);
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert_eq!(answer, "a long answer");
    Ok(())
}

#[test]
fn a_client_that_is_cut_is_a_reset_for_the_target() -> Result {
    let certificates = Certificates::new()?;
    let (listener, address) = listen("127.0.0.1:0")?;
    let proxy = certificates.start("proxy", &["--to", &address.to_string()])?;
    let mut client = certificates.connect(&proxy.server)?;
    client.write_all(b"half")?;
    client.flush()?;
    let mut target = accept(&listener)?;
    target.read_exact(&mut [0; 4])?;
    client.sock.shutdown(Shutdown::Write)?; // without close_notify
    let ended = target.read(&mut [0]);
    assert!(
        ended.as_ref().is_err_and(is_reset),
        "a stream that was cut looks whole: {ended:?}"
    );
    proxy.expect_in_log("the stream ended without close_notify", 1)
}

#[test]
fn a_target_that_is_cut_is_a_reset_for_the_client() -> Result {
    let certificates = Certificates::new()?;
    let target = certificates.start("echo_server", &[])?;
    let proxy = start_to(&certificates, &target.server.address, "localhost")?;
    let mut client = proxy.server.connect()?;
    expect_echo(&mut client, b"half");
    target.server.signal(Signal::KILL)?;
    let ended = client.read(&mut [0]);
    assert!(ended.as_ref().is_err_and(is_reset), "{ended:?}");
    proxy.expect_in_log("the stream ended without close_notify", 1)
}

#[test]
fn a_target_that_cannot_be_trusted_ends_its_client_alone() -> Result {
    let certificates = Certificates::new()?;
    certificates.issue_expired("expired")?;
    let expired = certificates.arguments("expired");
    let expired: Vec<_> = expired.iter().map(String::as_str).collect();
    let expired = certificates.start_by("kv_server", &expired, "info")?;
    expired.expect_in_log("WARN", 1)?; // it is served, because others may be right
    let foreign = Certificates::new()?.start("http_hello", &[])?;
    let target = certificates.start("echo_server", &[])?;
    let cases = [
        (
            &expired,
            "localhost",
            "the certificate of the peer expired on 2024-02-29",
        ),
        (&foreign, "localhost", "the certificate of the peer"),
        (&target, "other.example", "is not for other.example"),
    ];
    for (target, name, text) in cases {
        let proxy = start_to(&certificates, &target.server.address, name)?;
        for times in 1..3 {
            let read = read_all(&proxy.server);
            assert!(read.as_ref().is_err_and(is_reset), "{read:?}");
            proxy.expect_in_log(text, times)?;
        }
    }
    Ok(())
}

#[test]
fn a_target_without_tls_ends_its_client_and_the_log_says_why() -> Result {
    let certificates = Certificates::new()?;
    let plain = Server::start("http_hello", &["--listen", "127.0.0.1:0"])?;
    let proxy = start_to(&certificates, &plain.address, "localhost")?;
    let read = read_all(&proxy.server);
    assert!(read.as_ref().is_err_and(is_reset), "{read:?}");
    proxy.expect_in_log("the peer speaks plain HTTP and not TLS", 1)
}

fn is_reset(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionReset
}

#[test]
fn a_client_that_fails_ends_the_handshake_with_a_silent_target() -> Result {
    let certificates = Certificates::new()?;
    let (listener, address) = listen("127.0.0.1:0")?;
    let to = ["--to", &address.to_string(), "--tls-to", "localhost"];
    let proxy = certificates.start("proxy", &to)?;
    let mut client = certificates.connect(&proxy.server)?;
    client.conn.complete_io(&mut client.sock)?; // the handshake
    let mut target = accept(&listener)?;
    target.set_read_timeout(Some(PATIENCE / 4))?; // less than the limit of a handshake
    target.read_exact(&mut [0; 1])?; // of the hello
    reset(client.sock)?;
    let ended = target.read_to_end(&mut Vec::new());
    assert!(ended.as_ref().map_or_else(is_reset, |_| true), "{ended:?}");
    Ok(())
}

#[test]
fn a_client_costs_the_target_nothing_before_its_handshake() -> Result {
    let certificates = Certificates::new()?;
    let (listener, address) = listen("127.0.0.1:0")?;
    let proxy = certificates.start("proxy", &["--to", &address.to_string()])?;
    let _silent = proxy.server.connect()?;
    let mut begins = proxy.server.connect()?;
    begins.write_all(b"\x16\x03\x01\x02\x00\x01")?; // of a hello
    proxy.expect_in_log("accepted", 2)?;
    let mut complete = certificates.connect(&proxy.server)?;
    complete.write_all(b"question")?;
    let mut target = accept(&listener)?;
    let mut question = [0; 8];
    target.read_exact(&mut question)?;
    assert_eq!(&question, b"question", "of the first connection");
    listener.set_nonblocking(true)?;
    let more = listener.accept().map(drop);
    assert_eq!(
        more.map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    Ok(())
}

#[test]
fn sighup_brings_new_roots_for_new_connections_to_the_target() -> Result {
    let (certificates, newer) = (Certificates::new()?, Certificates::new()?);
    let target = newer.start("echo_server", &[])?;
    let proxy = start_to(&certificates, &target.server.address, "localhost")?;
    assert!(read_all(&proxy.server).as_ref().is_err_and(is_reset));
    let roots = certificates.path("roots.pem");
    std::fs::copy(newer.path("roots.pem"), &roots)?;
    proxy.server.signal(Signal::HUP)?;
    proxy.expect_in_log("the list of roots was read again", 1)?;
    exchange(&mut proxy.server.connect()?);
    std::fs::write(&roots, "garbage")?;
    proxy.server.signal(Signal::HUP)?;
    proxy.expect_in_log("the list of roots cannot be read again", 1)?;
    exchange(&mut proxy.server.connect()?); // with the roots of before
    Ok(())
}

#[test]
fn sighup_reads_the_certificate_also_if_the_roots_are_bad() -> Result {
    let (certificates, newer) = (Certificates::new()?, Certificates::new()?);
    let target = certificates.start("echo_server", &[])?;
    let to = ["--to", &target.server.address, "--tls-to", "localhost"];
    let proxy = certificates.start("proxy", &to)?;
    for file in ["server.pem", "server-key.pem"] {
        std::fs::copy(newer.path(file), certificates.path(file))?;
    }
    std::fs::write(certificates.path("roots.pem"), "garbage")?;
    proxy.server.signal(Signal::HUP)?;
    proxy.expect_in_log("the list of roots cannot be read again", 1)?;
    proxy.expect_in_log("the certificate was read again", 1)?;
    exchange(&mut newer.connect(&proxy.server)?);
    Ok(())
}

#[test]
fn tls_is_served_at_a_unix_socket_and_ends_whole() -> Result {
    let certificates = Certificates::new()?;
    let target = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let path = certificates.path("socket");
    let unix = ["--listen", &format!("unix:{path}")];
    for (example, more) in [
        ("echo_server", &[][..]),
        ("proxy", &["--to", &target.address]),
    ] {
        let tls = &certificates.arguments("server")[2..];
        let tls = tls.iter().map(String::as_str);
        let arguments: Vec<_> = unix
            .into_iter()
            .chain(tls)
            .chain(more.iter().copied())
            .collect();
        let _server = certificates.start_by(example, &arguments, "debug")?;
        let socket = UnixStream::connect(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost")?;
        let session = ClientConnection::new(certificates.client()?, name)?;
        let mut client = StreamOwned::new(session, socket);
        exchange(&mut client);
        client.conn.send_close_notify();
        client.flush()?;
        assert_eq!(client.read_to_end(&mut Vec::new())?, 0, "with close_notify");
    }
    Ok(())
}

/// Returns a target that haproxy protects, and which gets the header of haproxy.
fn behind_haproxy(certificates: &Certificates, to: SocketAddr) -> Result<Haproxy> {
    let files = ["server.pem", "server-key.pem"].map(|file| certificates.path(file));
    let both = files.iter().map(std::fs::read_to_string);
    let both = both.collect::<io::Result<String>>()?;
    let path = certificates.path("haproxy.pem");
    std::fs::write(&path, both)?;
    Haproxy::start(&format!("accept-proxy ssl crt {path}"), to, "send-proxy")
}

#[test]
fn haproxy_gets_our_header_before_tls() -> Result {
    if !is_installed("haproxy") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let (listener, address) = listen("127.0.0.1:0")?;
    let haproxy = behind_haproxy(&certificates, address)?;
    for option in ["--send-proxy", "--send-proxy-v2"] {
        let to = haproxy.address.to_string();
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--to",
            &to,
            "--tls-to",
            "localhost",
            option,
        ];
        let proxy = certificates.start_by("proxy", &arguments, "debug")?;
        let mut client = proxy.server.connect()?;
        client.write_all(b"hello")?;
        let (from, to) = (client.local_addr()?, client.peer_addr()?);
        let expected = [Header::internet(from, to).to_v1(), b"hello".to_vec()].concat();
        let mut target = accept(&listener)?;
        let mut bytes = vec![0; expected.len()];
        target.read_exact(&mut bytes)?;
        assert_eq!(bytes, expected);
    }
    Ok(())
}

#[test]
fn tls_begins_after_the_header_of_haproxy() -> Result {
    if !is_installed("haproxy") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let target = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let behind = ["--to", &target.address, "--accept-proxy", "127.0.0.1"];
    let proxy = certificates.start("proxy", &behind)?;
    for (count, sends) in ["send-proxy", "send-proxy-v2"].into_iter().enumerate() {
        let haproxy = Haproxy::start("", proxy.server.address.parse()?, sends)?;
        let socket = TcpStream::connect(haproxy.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let peer = format!("peer={}", socket.local_addr()?);
        let name = ServerName::try_from("localhost")?;
        let session = ClientConnection::new(certificates.client()?, name)?;
        exchange(&mut StreamOwned::new(session, socket));
        proxy.expect_in_log(&peer, 1)?;
        proxy.expect_in_log("accepted", count + 1)?;
    }
    Ok(())
}
