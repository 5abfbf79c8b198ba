//! `proxy`: TLS on either side, and what ends on one side on the other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use rustix::process::Signal;
use support::listen;

use super::{Certificates, Logged};
use crate::Result;
use crate::echo::{expect_echo, pattern};
use crate::server::{PATIENCE, Server};

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
    let (mut target, _) = listener.accept()?;
    target.set_read_timeout(Some(PATIENCE))?;
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
    let (mut target, _) = listener.accept()?;
    target.set_read_timeout(Some(PATIENCE))?;
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
    let mut client = proxy.server.connect()?;
    let (mut target, _) = listener.accept()?;
    target.set_read_timeout(Some(PATIENCE / 4))?; // less than the limit of a handshake
    target.read_exact(&mut [0; 1])?; // of the hello
    client.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let ended = target.read_to_end(&mut Vec::new());
    assert!(ended.as_ref().map_or_else(is_reset, |_| true), "{ended:?}");
    Ok(())
}
