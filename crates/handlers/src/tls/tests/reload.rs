//! Configurations that are replaced while sessions use them.

use std::path::Path;

use super::*;
use crate::tls::TlsInfo;

/// Writes a certificate and its key into a folder.
fn write(folder: &Path, [chain, key]: [String; 2]) {
    std::fs::write(folder.join("chain.pem"), chain).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
}

fn options(folder: &Path) -> TlsServerOptions {
    let certificate = TlsCertificate::files(folder.join("chain.pem"), folder.join("key.pem"));
    TlsServerOptions::new().certificate(certificate)
}

fn certificate_of(client: &Peer) -> Vec<u8> {
    TlsInfo::of(&client.session).peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_reload_changes_new_handshakes_and_interrupts_no_session() {
    let ca = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), ca.issue_pem(&[NAME], |_| ()));
    let server_config = options(folder.path()).load().unwrap();
    let clone = server_config.clone();
    let (mut client, mut server) = established(&clone, &ca.client());
    let (mut early_client, mut early_server) = connect(&clone, &ca.client());
    let _ = early_client.handshake();
    let _ = early_server.handshake();

    write(folder.path(), ca.issue_pem(&[NAME], |_| ()));
    server_config.reload().unwrap();
    let (new_client, _new_server) = established(&clone, &ca.client());
    assert_ne!(certificate_of(&new_client), certificate_of(&client));

    client.write(b"still here").unwrap();
    assert_eq!(server.read_open(), b"still here");
    let (c, s) = shake(&mut early_client, &mut early_server);
    c.unwrap();
    s.unwrap();
    assert_eq!(certificate_of(&early_client), certificate_of(&client));
}

#[test]
fn a_reload_that_fails_leaves_the_configuration() {
    let ca = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), ca.issue_pem(&[NAME], |_| ()));
    let server = options(folder.path()).load().unwrap();
    let before = certificate_of(&established(&server, &ca.client()).0);

    let [chain, _] = ca.issue_pem(&[NAME], |_| ());
    std::fs::write(folder.path().join("chain.pem"), chain).unwrap();
    expect_error(
        server.reload(),
        TlsErrorKind::Configuration,
        &["key.pem", "chain.pem"],
    );
    write(folder.path(), ca.issue_expired());
    let words = ["chain.pem", "expired on 2024-02-29", "renew"];
    expect_error(server.reload(), TlsErrorKind::Configuration, &words);
    std::fs::remove_file(folder.path().join("key.pem")).unwrap();
    assert_eq!(server.reload().unwrap_err().kind(), ErrorKind::NotFound);

    let after = certificate_of(&established(&server, &ca.client()).0);
    assert_eq!(before, after);
}

#[test]
fn a_configuration_of_rustls_is_replaced_and_not_reloaded() {
    let (one, other) = (Authority::new(), Authority::new());
    let inner = |ca: &Authority| {
        let certified = ca.issue(&[NAME]).load().unwrap();
        let resolver = rustls::sign::SingleCertAndKey::from(certified);
        rustls::ServerConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(std::sync::Arc::new(resolver))
    };
    let server = TlsServerConfig::from_rustls(inner(&one).into()).unwrap();
    established(&server, &one.client());
    expect_error(server.reload(), TlsErrorKind::Configuration, &["`replace`"]);
    server.replace(inner(&other).into()).unwrap();
    established(&server, &other.client());
}

#[test]
fn a_client_that_is_reloaded_trusts_its_new_roots() {
    let (one, other) = (Authority::new(), Authority::new());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), one.0.pem()).unwrap();
    let client = TlsClientOptions::new().roots(TlsRoots::file(file.path()));
    let client = client.load().unwrap();
    established(&one.server(), &client);
    std::fs::write(file.path(), other.0.pem()).unwrap();
    client.reload().unwrap();
    established(&other.server(), &client);
    std::fs::write(file.path(), "no root").unwrap();
    expect_error(
        client.reload(),
        TlsErrorKind::Configuration,
        &["no certificate in PEM"],
    );
    established(&other.server(), &client);
}
