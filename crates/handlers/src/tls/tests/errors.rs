//! Texts of errors.

use std::error::Error as _;

use super::*;

#[test]
fn an_error_of_tls_keeps_the_error_of_rustls_and_its_kind() {
    let ca = Authority::new();
    let (mut client, mut server) = connect_to(&ca.server(), &ca.client(), "b.example");
    let (c, _) = shake(&mut client, &mut server);
    let error = c.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let error = TlsError::of(&error).unwrap();
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<rustls::Error>());
    assert!(
        matches!(source, Some(rustls::Error::InvalidCertificate(_))),
        "{source:?}"
    );
}

#[test]
fn names_of_a_peer_are_shown_without_control_characters() {
    let ca = Authority::new();
    let names: Vec<_> = (0..9).map(|number| format!("n{number}.example")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let server = TlsServerOptions::new()
        .certificate(ca.issue(&names))
        .load()
        .unwrap();
    let (mut client, mut server) = connect(&server, &ca.client());
    let (c, _) = shake(&mut client, &mut server);
    let text = c.unwrap_err().to_string();
    assert!(text.contains("n0.example, n1.example"), "{text}");
    assert!(
        text.contains("n4.example, ...") && !text.contains('"'),
        "{text}"
    );
}
