//! Roots of the machine, and the file of keys: both are named by the environment.

use std::path::Path;
use std::process::Command;

use super::*;

/// Runs a test of this module again, alone, with a variable of the environment.
#[track_caller]
fn run_with(variable: &str, value: &Path, test: &str) {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again
        .args(["--exact", &format!("tls::tests::roots::{test}")])
        .env("TLS_TEST_VALUE", value)
        .env_remove("SSL_CERT_DIR")
        .env(variable, value);
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// Returns `true` in a test that [`run_with`] has started.
fn is_run_again() -> bool {
    std::env::var_os("TLS_TEST_VALUE").is_some()
}

#[test]
fn the_roots_of_the_machine_are_the_default() {
    if is_run_again() {
        let client = TlsClientOptions::new().load().unwrap();
        let path = std::env::var("TLS_TEST_VALUE").unwrap();
        let ca = Authority::of_file(path.as_ref());
        established(&ca.server(), &client);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roots.pem");
    Authority::new().store(&path);
    run_with(
        "SSL_CERT_FILE",
        &path,
        "the_roots_of_the_machine_are_the_default",
    );
}

#[test]
fn a_machine_without_roots_is_an_error_that_says_so() {
    if is_run_again() {
        let refused = TlsClientOptions::new().load().map(drop);
        let words = ["no roots are installed", "ca-certificates", "SSL_CERT_FILE"];
        expect_error(refused, TlsErrorKind::Configuration, &words);
        return;
    }
    let empty = tempfile::NamedTempFile::new().unwrap();
    run_with(
        "SSL_CERT_FILE",
        empty.path(),
        "a_machine_without_roots_is_an_error_that_says_so",
    );
}

#[test]
fn keys_are_logged_only_if_both_options_and_environment_say_so() {
    if is_run_again() {
        let path = std::env::var("TLS_TEST_VALUE").unwrap();
        let ca = Authority::new();
        established(&ca.server(), &ca.client());
        assert!(!Path::new(&path).exists());
        let server = ca.server_options().log_keys().load().unwrap();
        let client = ca.client_options().log_keys().load().unwrap();
        established(&server, &client);
        let log = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log.matches("SERVER_TRAFFIC_SECRET_0 ").count(), 2, "{log}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "keys_are_logged_only_if_both_options_and_environment_say_so";
    run_with("SSLKEYLOGFILE", &folder.path().join("keys"), test);
}

#[test]
fn a_file_of_keys_that_cannot_be_opened_is_an_error() {
    if is_run_again() {
        let ca = Authority::new();
        let error = ca.server_options().log_keys().load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("SSLKEYLOGFILE"), "{error}");
        return;
    }
    let missing = Path::new("/nonexistent/keys");
    run_with(
        "SSLKEYLOGFILE",
        missing,
        "a_file_of_keys_that_cannot_be_opened_is_an_error",
    );
}

#[test]
fn roots_that_cannot_be_used_are_named() {
    let load = |roots: TlsRoots| TlsClientOptions::new().roots(roots).load().map(drop);
    let missing = load(TlsRoots::file("/nonexistent/roots.pem")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("/nonexistent/roots.pem"));
    let words = ["no certificate in PEM", "the given roots"];
    expect_error(load(TlsRoots::pem("")), TlsErrorKind::Configuration, &words);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let words = ["a root in the given roots cannot be used"];
    expect_error(
        load(TlsRoots::pem(broken)),
        TlsErrorKind::Configuration,
        &words,
    );
}
