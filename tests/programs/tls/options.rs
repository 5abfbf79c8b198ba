//! The options of TLS, and new certificates at SIGHUP.

use std::fs;

use rustix::process::Signal;
use support::example;

use super::Certificates;
use super::clients::{errors, run};
use crate::Result;
use crate::echo::expect_echo;

#[test]
fn sighup_brings_a_new_certificate_for_new_connections() -> Result {
    let (certificates, newer) = (Certificates::new()?, Certificates::new()?);
    let server = certificates.start("echo_server", &["--threads", "2"])?;
    let mut open = certificates.connect(&server.server)?;
    expect_echo(&mut open, b"before");
    for file in ["server.pem", "server-key.pem"] {
        fs::copy(newer.path(file), certificates.path(file))?;
    }
    server.server.signal(Signal::HUP)?;
    server.expect_in_log("the certificate was read again", 1)?;
    for _ in 0..8 {
        expect_echo(&mut newer.connect(&server.server)?, b"with the new one");
    }
    expect_echo(&mut open, b"with the old one");
    Ok(())
}

#[test]
fn a_certificate_that_cannot_be_read_leaves_the_old_one() -> Result {
    let certificates = Certificates::new()?;
    let server = certificates.start("echo_server", &[])?;
    fs::write(certificates.path("server.pem"), "garbage")?;
    server.server.signal(Signal::HUP)?;
    server.expect_in_log("ERROR", 1)?;
    server.expect_in_log(&certificates.path("server.pem"), 1)?;
    expect_echo(&mut certificates.connect(&server.server)?, b"served");
    Ok(())
}

#[test]
fn options_of_tls_that_cannot_be_are_named() -> Result {
    let certificates = Certificates::new()?;
    let [server, key] = ["server.pem", "server-key.pem"].map(|file| certificates.path(file));
    let tls = ["--tls-certificate", &server, "--tls-key", &key];
    let to = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1"];
    let cases: [(&str, &[&str], i32, &str); 6] = [
        (
            "echo_server",
            &["--tls-certificate", &server],
            2,
            "--tls-key",
        ),
        ("http_hello", &["--tls-key", &key], 2, "--tls-certificate"),
        (
            "kv_server",
            &["--tls-client-roots", &server],
            2,
            "--tls-certificate",
        ),
        (
            "kv_server",
            &[&tls[..], &["--tls-client-roots", "absent"]].concat(),
            1,
            "absent",
        ),
        (
            "http_hello",
            &["--tls-certificate", &key, "--tls-key", &key],
            1,
            &key,
        ),
        (
            "proxy",
            &[&to[..], &["--tls-to", "no name"]].concat(),
            1,
            "no name",
        ),
    ];
    for (name, arguments, code, text) in cases {
        let output = run(&example(name)?.display().to_string(), arguments)?;
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(text), "{text:?} in: {errors}");
    }
    Ok(())
}
