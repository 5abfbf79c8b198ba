//! `curl`, and Python's `ssl`, which reports a stream that ends without close_notify.

use std::fs;

use rustix::process::Signal;
use support::is_installed;

use super::Certificates;
use super::clients::{Talking, errors, output_of, run};
use crate::Result;

#[test]
fn curl_keeps_its_connection_and_checks_the_name() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("http_hello", &[])?;
    let (roots, port) = (certificates.path("roots.pem"), server.port());
    let url = format!("https://localhost:{port}/");
    let format = "%{num_connects} %{http_version} %{ssl_verify_result}\n";
    for version in ["1.2", "1.3"] {
        let usual = ["-sS", "--cacert", &roots, "--tls-max", version];
        let said = output_of(
            "curl",
            &[&usual, ["-w", format, &url, &url].as_slice()].concat(),
        )?;
        let hello = "Hello, world!\n";
        assert_eq!(said, format!("{hello}1 1.1 0\n{hello}0 1.1 0\n"));
    }
    let url = format!("https://other.example:{port}/");
    let resolved = format!("other.example:{port}:127.0.0.1");
    let other = ["-sS", "--cacert", &roots, "--resolve", &resolved, &url];
    let refused = run("curl", &other)?;
    assert_eq!(refused.status.code(), Some(60), "{}", errors(&refused));
    Ok(())
}

#[test]
fn web_daemon_speaks_the_version_that_curl_has_asked_for() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("web_daemon", &[])?;
    let (roots, port) = (certificates.path("roots.pem"), server.port());
    let url = format!("https://localhost:{port}/");
    for (asked, shown) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let format = "version %{http_version}";
        let said = output_of(
            "curl",
            &["-sS", "--cacert", &roots, asked, "-w", format, &url],
        )?;
        assert!(said.ends_with(&format!("version {shown}")), "{said}");
        assert!(said.starts_with("uptime: "), "{said}");
    }
    Ok(())
}

/// Returns the command of `docs/tls.md` that makes a certificate.
fn printed_command() -> &'static str {
    let page = include_str!("../../../docs/tls.md");
    let block = page.split("```sh\n").nth(1).unwrap();
    block.split("```").next().unwrap()
}

#[test]
fn the_printed_command_makes_a_certificate_for_curl_and_for_proxy() -> Result {
    if !is_installed("openssl") || !is_installed("curl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let folder = certificates.folder.path().display();
    output_of(
        "sh",
        &["-c", &format!("cd {folder}\n{}", printed_command())],
    )?;
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|file| certificates.path(file));
    fs::copy(&certificate, certificates.path("roots.pem"))?;
    let arguments = ["--listen", "127.0.0.1:0"];
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];
    let server = certificates.start_by("http_hello", &[&arguments[..], &tls].concat(), "info")?;
    let url = format!("https://localhost:{}/", server.port());
    let said = output_of("curl", &["-sS", "--cacert", &certificate, &url])?;
    assert_eq!(said, "Hello, world!\n");
    let to = ["--to", &server.server.address, "--tls-to", "localhost"];
    let proxy = certificates.start_by("proxy", &[&arguments[..], &to].concat(), "info")?;
    let said = output_of(
        "curl",
        &["-sS", &format!("http://{}/", proxy.server.address)],
    )?;
    assert_eq!(said, "Hello, world!\n");
    Ok(())
}

#[test]
fn curl_without_tls_is_refused_and_the_log_says_why() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("http_hello", &[])?;
    let url = format!("http://{}/", server.server.address);
    assert!(!run("curl", &["-sS", &url])?.status.success());
    server.expect_in_log("the peer speaks plain HTTP and not TLS", 1)
}

/// Sends a request and reads to the end. An end without close_notify is an exception.
const ASK_AND_READ: &str = r#"
import socket, ssl, sys
host, port, roots, request = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
plain = socket.create_connection((host, int(port)), timeout=30)
stream = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
stream.sendall(request.encode())
sys.stdout.write(stream.recv(65536).decode())
sys.stdout.flush()
while part := stream.recv(65536):
    sys.stdout.write(part.decode())
stream.unwrap()
"#;

fn python(certificates: &Certificates, port: &str, request: &str) -> Result<Talking> {
    let roots = certificates.path("roots.pem");
    let arguments = ["-c", ASK_AND_READ, "127.0.0.1", port, &roots, request];
    Talking::start("python3", &arguments)
}

#[test]
fn python_gets_a_close_notify_after_the_last_response() -> Result {
    if !is_installed("python3") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("http_hello", &[])?;
    let request = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    let said = python(&certificates, server.port(), request)?.end()?;
    assert!(said.ends_with("Hello, world!\n"), "{said}");
    assert!(!server.log()?.contains("a peer failed"));
    Ok(())
}

#[test]
fn python_gets_a_close_notify_when_the_server_ends() -> Result {
    if !is_installed("python3") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let mut client = python(&certificates, server.port(), "echoed")?;
    client.expect("echoed")?;
    server.server.signal(Signal::TERM)?;
    assert_eq!(client.end()?, "echoed");
    assert_eq!(server.server.wait()?.code(), Some(0));
    Ok(())
}

/// Sends a megabyte in parts, reads each back, and ends its direction by close_notify.
const SEND_AND_END: &str = r#"
import socket, ssl, sys
port, roots = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
plain = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
stream = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
for size in range(1, 100_000, 5_000):
    sent, received = bytes(range(256)) * (size // 256 + 1), bytearray()
    stream.sendall(sent)
    while len(received) < len(sent):
        received.extend(stream.recv(65536))
    assert received == sent
stream.unwrap() # sends a close_notify, and waits for the other
"#;

#[test]
fn python_gets_a_megabyte_back_and_a_close_notify_for_its_own() -> Result {
    if !is_installed("python3") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let roots = certificates.path("roots.pem");
    output_of("python3", &["-c", SEND_AND_END, server.port(), &roots])?;
    server.expect_in_log("reason=finished", 1)
}
