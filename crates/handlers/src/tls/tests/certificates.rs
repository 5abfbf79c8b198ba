//! Certificates: by name, of clients, out of date, and unfit.

use std::sync::Arc;

use super::*;
use crate::errno;
use crate::tls::TlsInfo;

/// Runs a handshake that fails. Returns the errors of client and server.
fn refused(
    server: &TlsServerConfig,
    client: &TlsClientConfig,
    name: &str,
) -> (io::Result<()>, io::Result<()>) {
    let (mut client, mut server) = connect_to(server, client, name);
    let (c, s) = shake(&mut client, &mut server);
    // With TLS 1.3 the client is done before the server has seen its certificate.
    let c = c.and_then(|()| client.read_all().1);
    (c, s)
}

/// Returns the certificate that a server shows for a name.
fn shown(server: &TlsServerConfig, client: &TlsClientConfig, name: &str) -> Vec<u8> {
    let (mut client, mut server) = connect_to(server, client, name);
    let (c, s) = shake(&mut client, &mut server);
    c.unwrap();
    s.unwrap();
    let certificates = TlsInfo::of(&client.session).peer_certificates().unwrap();
    certificates[0].to_vec()
}

#[test]
fn each_name_gets_its_certificate_and_the_others_the_default() {
    let ca = Authority::new();
    let server = TlsServerOptions::new()
        .certificate(ca.issue(&["default.example", "192.0.2.7", "x.y.b.example"]))
        .certificate_for("A.example", ca.issue(&["a.example"]))
        .certificate_for("*.b.example", ca.issue(&["*.b.example"]))
        .certificate_for("c.b.example", ca.issue(&["c.b.example"]))
        .load()
        .unwrap();
    let client = ca.client();
    let [default, address, deeper, a, wildcard, b2, c] = [
        "default.example",
        "192.0.2.7",
        "x.y.b.example",
        "a.EXAMPLE",
        "b1.b.example",
        "b2.b.example",
        "c.b.example",
    ]
    .map(|name| shown(&server, &client, name));
    assert_eq!(default, address);
    assert_eq!(default, deeper);
    assert_eq!(wildcard, b2);
    for (one, other) in [
        (&default, &a),
        (&default, &wildcard),
        (&wildcard, &c),
        (&a, &c),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn a_name_without_a_certificate_is_refused_in_words() {
    let ca = Authority::new();
    let server = TlsServerOptions::new().certificate_for(NAME, ca.issue(&[NAME]));
    let server = server.load().unwrap();
    let (c, s) = refused(&server, &ca.client(), "b.example");
    expect_error(
        s,
        TlsErrorKind::UnknownName,
        &["b.example", "no certificate"],
    );
    expect_error(c, TlsErrorKind::Alert, &["b.example", "check the name"]);
    let (c, s) = refused(&server, &ca.client(), "192.0.2.1");
    expect_error(s, TlsErrorKind::UnknownName, &["asked for no name"]);
    expect_error(c, TlsErrorKind::Alert, &["MissingExtension"]);
}

#[test]
fn an_expired_certificate_is_refused_with_its_day() {
    let ca = Authority::new();
    let [chain, key] = ca.issue_expired();
    let server = TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key));
    let (c, s) = refused(&server.load().unwrap(), &ca.client(), NAME);
    expect_error(
        c,
        TlsErrorKind::Certificate,
        &["expired on 2024-02-29", "renew"],
    );
    expect_error(s, TlsErrorKind::Alert, &["CertificateExpired", "replace"]);
}

#[test]
fn a_certificate_of_the_future_is_refused_with_its_day() {
    let ca = Authority::new();
    let [chain, key] = ca.issue_pem(&[NAME], |params| {
        params.not_before = rcgen::date_time_ymd(2999, 12, 31);
        params.not_after = rcgen::date_time_ymd(3000, 12, 31);
    });
    let server = TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key));
    let (c, _) = refused(&server.load().unwrap(), &ca.client(), NAME);
    expect_error(
        c,
        TlsErrorKind::Certificate,
        &["valid from 2999-12-31", "clock"],
    );
}

#[test]
fn a_certificate_for_another_name_is_refused_with_both_names() {
    let ca = Authority::new();
    let (c, _) = refused(&ca.server(), &ca.client(), "b.example");
    let words = ["not for b.example", "but for a.example:"];
    expect_error(c, TlsErrorKind::Certificate, &words);
}

#[test]
fn a_certificate_that_may_issue_others_is_refused_in_words() {
    let ca = Authority::new();
    let [chain, key] = ca.issue_pem(&[NAME], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let server = TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key));
    let (c, _) = refused(&server.load().unwrap(), &ca.client(), NAME);
    expect_error(c, TlsErrorKind::Certificate, &["issue others", "CA:FALSE"]);
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_refused_in_words() {
    let (c, s) = refused(
        &Authority::new().server(),
        &Authority::other().client(),
        NAME,
    );
    expect_error(
        c,
        TlsErrorKind::Certificate,
        &["no issuer among our roots", "add the root"],
    );
    expect_error(s, TlsErrorKind::Alert, &["UnknownCA", "roots of the peer"]);
    let (c, _) = refused(&Authority::new().server(), &Authority::new().client(), NAME);
    expect_error(
        c,
        TlsErrorKind::Certificate,
        &["another of the same name", "update the roots"],
    );
}

#[test]
fn a_server_that_requires_certificates_knows_its_clients() {
    let (ca, clients) = (Authority::new(), Authority::other());
    let server = ca
        .server_options()
        .require_client_certificates(clients.roots());
    let server = server.load().unwrap();
    let certificate = clients.issue(&["client.example"]);
    let with = ca
        .client_options()
        .certificate(certificate.clone())
        .load()
        .unwrap();
    let (_client, known) = established(&server, &with);
    let of_client = TlsInfo::of(&known.session).peer_certificates().unwrap();
    assert_eq!(of_client[0], certificate.load().unwrap().cert[0]);

    let (c, s) = refused(&server, &ca.client(), NAME);
    expect_error(
        s,
        TlsErrorKind::Certificate,
        &["sent no certificate", "configure one"],
    );
    expect_error(
        c,
        TlsErrorKind::Alert,
        &["CertificateRequired", "configure a certificate"],
    );
}

#[test]
fn a_requested_certificate_may_be_missing_but_not_of_another_issuer() {
    let (ca, clients) = (Authority::new(), Authority::other());
    let server = ca
        .server_options()
        .request_client_certificates(clients.roots());
    let server = server.load().unwrap();
    let (_client, unknown) = established(&server, &ca.client());
    assert_eq!(TlsInfo::of(&unknown.session).peer_certificates(), None);
    let wrong = ca
        .client_options()
        .certificate(ca.issue(&["client.example"]));
    let (c, s) = refused(&server, &wrong.load().unwrap(), NAME);
    expect_error(s, TlsErrorKind::Certificate, &["no issuer among our roots"]);
    expect_error(c, TlsErrorKind::Alert, &["UnknownCA"]);
}

#[track_caller]
fn expect_refused_load(options: TlsServerOptions, words: &[&str]) {
    expect_error(options.load().map(drop), TlsErrorKind::Configuration, words);
}

#[test]
fn unfit_certificates_are_found_when_they_are_loaded() {
    let ca = Authority::new();
    let ([chain, key], [_, other]) = (ca.issue_pem(&[NAME], |_| ()), ca.issue_pem(&[NAME], |_| ()));
    let with = |chain: &str, key: &str| {
        TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key))
    };
    expect_refused_load(TlsServerOptions::new(), &["needs a certificate"]);
    expect_refused_load(with(&chain, &other), &["does not belong", "comes first"]);
    expect_refused_load(with(&key, &key), &["no certificate in PEM"]);
    expect_refused_load(with(&chain, &chain), &["no private key in PEM"]);
    let cut = &chain[..chain.len() / 2];
    expect_refused_load(with(cut, &key), &["not valid PEM"]);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    expect_refused_load(with(&chain, encrypted), &["password"]);
    let of_name = |name: &str| TlsServerOptions::new().certificate_for(name, ca.issue(&[NAME]));
    expect_refused_load(of_name("b.example"), &["certificate for b.example"]);
    expect_refused_load(of_name("*.example"), &["certificate for *.example"]);
    expect_refused_load(of_name("not a name"), &["not a DNS name"]);
}

#[test]
fn files_are_named_where_they_fail() {
    let ca = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (
        folder.path().join("chain.pem"),
        folder.path().join("key.pem"),
    );
    let [chain_pem, key_pem] = ca.issue_pem(&[NAME], |_| ());
    std::fs::write(&chain, chain_pem).unwrap();
    let options = TlsServerOptions::new().certificate(TlsCertificate::files(&chain, &key));
    let error = options.clone().load().unwrap_err();
    assert_eq!(
        (error.kind(), errno(&error)),
        (ErrorKind::NotFound, Some(2))
    );
    assert!(error.to_string().contains("key.pem"), "{error}");
    std::fs::write(&key, "no key").unwrap();
    expect_refused_load(options.clone(), &["key.pem", "no private key"]);
    std::fs::write(&key, key_pem).unwrap();
    let (_client, _server) = established(&options.load().unwrap(), &ca.client());
}

#[test]
fn debug_output_shows_no_key() {
    let ca = Authority::new();
    let [chain, key] = ca.issue_pem(&[NAME], |_| ());
    let shown = format!(
        "{:?}",
        TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key))
    );
    assert!(!shown.contains("PRIVATE") && shown.len() < 300, "{shown}");
}

#[test]
fn early_data_is_refused_as_a_configuration() {
    let ca = Authority::new();
    let certified = ca.issue(&[NAME]).load().unwrap();
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.max_early_data_size = 1;
    let refused = TlsServerConfig::from_rustls(Arc::new(config)).map(drop);
    expect_error(
        refused,
        TlsErrorKind::Configuration,
        &["early data", "replayed"],
    );
}

#[test]
fn a_host_that_is_no_name_is_refused_in_words() {
    let client = Authority::new().client();
    for host in ["", "[::1]", "a.example:443", "a b"] {
        let refused = client.connect((), host).map(drop);
        expect_error(
            refused,
            TlsErrorKind::Configuration,
            &["without port and brackets"],
        );
    }
    client.connect((), "::1").unwrap();
}
