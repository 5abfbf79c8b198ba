//! `openssl s_client`: versions, resumption, application protocols, certificates of both sides.

use support::is_installed;

use super::clients::{Talking, errors, run};
use super::{Certificates, Logged};
use crate::Result;
use crate::echo::expect_echo;

/// Returns the arguments of a client that checks the certificate of the server.
fn arguments(certificates: &Certificates, server: &Logged, more: &[&str]) -> Vec<String> {
    let roots = certificates.path("roots.pem");
    let usual = [
        "s_client",
        "-connect",
        &server.server.address,
        "-CAfile",
        &roots,
        "-verify_return_error",
        "-verify_hostname",
        "localhost",
        "-servername",
        "localhost",
        "-no_ign_eof",
    ];
    let all = usual.iter().chain(more);
    all.map(ToString::to_string).collect()
}

/// Says a line, waits for its answer, and ends. Returns everything that the client has printed.
#[track_caller]
fn ask(
    certificates: &Certificates,
    server: &Logged,
    more: &[&str],
    (line, answer): (&str, &str),
) -> Result<String> {
    let arguments = arguments(certificates, server, more);
    let mut client = Talking::start("openssl", &arguments)?;
    client.say(line)?;
    client.expect(answer)?;
    client.end()
}

const ECHO: (&str, &str) = ("an echoed line\n", "an echoed line\n");

#[test]
fn openssl_speaks_tls_1_2_and_1_3_and_resumes_both() -> Result {
    if !is_installed("openssl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    // The ticket of one loop is good for the other.
    let server = certificates.start("echo_server", &["--threads", "2"])?;
    let ticket = certificates.path("ticket");
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let stores = [option, "-sess_out", &ticket];
        let said = ask(&certificates, &server, &stores, ECHO)?;
        assert!(said.contains(&format!("New, {version}, Cipher")), "{said}");
        for _ in 0..4 {
            let said = ask(&certificates, &server, &[option, "-sess_in", &ticket], ECHO)?;
            assert!(said.contains(&format!("Reused, {version}")), "{said}");
        }
    }
    server.expect_in_log("reason=finished", 10)
}

#[test]
fn openssl_is_refused_with_tls_1_1_and_the_log_says_why() -> Result {
    if !is_installed("openssl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let arguments = arguments(&certificates, &server, &old);
    assert!(!run("openssl", &arguments)?.status.success());
    server.expect_in_log("a peer failed", 1)?;
    server.expect_in_log(
        "allow a protocol version and cipher suites that both have",
        2,
    )?;
    ask(&certificates, &server, &[], ECHO).map(drop)
}

#[test]
fn openssl_agrees_on_the_application_protocol_or_gets_an_alert() -> Result {
    if !is_installed("openssl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("http_hello", &[])?;
    let request = ("GET / HTTP/1.1\n\n", "Hello, world!");
    for alpn in ["http/1.1", "h2,http/1.1"] {
        let said = ask(&certificates, &server, &["-alpn", alpn], request)?;
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    let said = ask(&certificates, &server, &[], request)?;
    assert!(said.contains("No ALPN negotiated"), "{said}");
    let arguments = arguments(&certificates, &server, &["-alpn", "h2"]);
    let refused = run("openssl", &arguments)?;
    assert!(!refused.status.success());
    let said = errors(&refused);
    assert!(said.contains("no application protocol"), "{said}");
    server.expect_in_log(
        "the client offers no application protocol (ALPN) of this",
        1,
    )
}

#[test]
fn openssl_is_served_with_a_certificate_of_the_client_roots_alone() -> Result {
    if !is_installed("openssl") {
        return Ok(());
    }
    let (certificates, foreign) = (Certificates::new()?, Certificates::new()?);
    certificates.issue("client", &["client.example"])?;
    certificates.issue_expired("expired")?;
    let roots = certificates.path("roots.pem");
    let server = certificates.start("kv_server", &["--tls-client-roots", &roots])?;
    let cases = [
        (None, "the peer sent no certificate, and it must"),
        (
            Some((&certificates, "expired")),
            "the certificate of the peer expired on 2024-02-29",
        ),
        (
            Some((&foreign, "server")),
            "the certificate of the peer was not signed by the root that it names",
        ),
        (Some((&certificates, "client")), ""),
    ];
    for (version, (shown, text)) in ["-tls1_2", "-tls1_3"]
        .into_iter()
        .flat_map(|version| cases.map(|case| (version, case)))
    {
        let files =
            shown.map(|(of, name)| ["", "-key"].map(|part| of.path(&format!("{name}{part}.pem"))));
        let mut more = vec![version];
        if let Some([certificate, key]) = &files {
            more.extend(["-cert", certificate, "-key", key]);
        }
        if text.is_empty() {
            ask(&certificates, &server, &more, ("PING\n", "+PONG"))?;
            continue;
        }
        let before = server.log()?.matches(text).count();
        let arguments = arguments(&certificates, &server, &more);
        run("openssl", &arguments)?; // TLS 1.3 may end its input before the alert comes
        server.expect_in_log(text, before + 1)?;
    }
    Ok(())
}

#[test]
fn openssl_that_expects_another_name_ends_its_connection_alone() -> Result {
    if !is_installed("openssl") {
        return Ok(());
    }
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    let mut other = certificates.connect(&server.server)?;
    expect_echo(&mut other, b"before");
    let arguments = arguments(
        &certificates,
        &server,
        &["-verify_hostname", "other.example"],
    );
    let refused = run("openssl", &arguments)?;
    assert!(!refused.status.success());
    server.expect_in_log("a peer failed", 1)?;
    expect_echo(&mut other, b"after");
    Ok(())
}
