//! Handshakes: however the bytes are cut, and what the peers agree on.

use std::sync::Arc;

use proptest::prelude::*;
use reactor::Interest;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion};

use super::*;
use crate::tls::TlsInfo;

/// Returns configurations that allow one version of the protocol.
fn only(version: &'static SupportedProtocolVersion) -> (TlsServerConfig, TlsClientConfig) {
    let ca = Authority::new();
    let [chain, key] = ca.issue_pem(&[NAME], |_| ());
    let certified = TlsCertificate::pem(chain, key).load().unwrap();
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let server = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let client = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(ca.roots().load().unwrap())
        .with_no_client_auth();
    let server = TlsServerConfig::from_rustls(Arc::new(server)).unwrap();
    (server, TlsClientConfig::from_rustls(Arc::new(client)))
}

#[track_caller]
fn exchange(client: &mut Peer, server: &mut Peer) {
    assert_eq!(client.write(b"question").unwrap(), 8);
    assert_eq!(server.read_open(), b"question");
    assert_eq!(server.write(b"answer").unwrap(), 6);
    assert_eq!(client.read_open(), b"answer");
}

#[test]
fn a_handshake_of_either_version_agrees_on_it() {
    for (allowed, version) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let (server, client) = only(allowed);
        let (mut client, mut server) = established(&server, &client);
        exchange(&mut client, &mut server);
        for peer in [&client, &server] {
            assert_eq!(TlsInfo::of(&peer.session).version(), Some(version));
        }
    }
}

#[test]
fn a_hello_is_accepted_wherever_it_is_cut() {
    let ca = Authority::new();
    let (server_config, client_config) = (ca.server(), ca.client());
    let (mut client, server) = connect(&server_config, &client_config);
    let _ = client.handshake();
    let hello = server.arrived();
    for cut in 0..=hello.len() {
        let (_client, mut server) = connect(&server_config, &client_config);
        for part in [&hello[..cut], &hello[cut..]] {
            server.end.incoming.borrow_mut().bytes.extend(part);
            let error = server.handshake().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "cut at {cut}");
        }
        let answer = server.end.outgoing.borrow().bytes.len();
        assert!(answer > 500, "{answer} bytes after a cut at {cut}");
    }
}

#[test]
fn a_handshake_goes_on_one_byte_at_a_time() {
    for version in [&TLS12, &TLS13] {
        let (server, client) = only(version);
        let (mut client, mut server) = connect(&server, &client);
        for peer in [&mut client, &mut server] {
            peer.end.read_max = 1;
        }
        let (c, s) = shake(&mut client, &mut server);
        c.unwrap();
        s.unwrap();
        exchange(&mut client, &mut server);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_handshake_goes_on_however_reads_and_writes_are_cut(
        steps in prop::collection::vec((1_usize..900, 0_usize..900), 1..60),
    ) {
        let ca = Authority::new();
        let (mut client, mut server) = connect(&ca.server(), &ca.client());
        let mut done = [false; 2];
        for (read_max, room) in steps.into_iter().chain([(usize::MAX, usize::MAX); 6]) {
            for (peer, done) in [&mut client, &mut server].into_iter().zip(&mut done) {
                (peer.end.read_max, peer.end.room) = (read_max, room);
                match peer.handshake() {
                    Ok(()) => *done = true,
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
        }
        prop_assert_eq!(done, [true; 2]);
        let _ = (client.flush(), server.flush());
        exchange(&mut client, &mut server);
    }
}

#[test]
fn a_handshake_waits_for_the_direction_that_it_needs() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    assert_eq!(client.session.wants_of_handshake(), Interest::WRITABLE);
    client.end.room = 10;
    assert_eq!(
        client.handshake().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(client.session.wants_of_handshake(), Interest::WRITABLE);
    client.end.room = usize::MAX;
    assert_eq!(
        client.handshake().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(client.session.wants_of_handshake(), Interest::READABLE);
    server.end.room = 0;
    assert_eq!(
        server.handshake().unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(server.session.wants_of_handshake(), Interest::WRITABLE);
    server.end.room = usize::MAX;
    let (c, s) = shake(&mut client, &mut server);
    c.unwrap();
    s.unwrap();
}

#[test]
fn data_that_comes_with_the_end_of_the_handshake_can_be_read() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    let _ = client.handshake();
    let _ = server.handshake();
    client.handshake().unwrap();
    client.write(b"at once").unwrap();
    server.handshake().unwrap();
    assert!(server.session.has_plaintext());
    let reads = server.end.reads;
    let mut buf = [0; 7];
    assert_eq!(server.read(&mut buf).unwrap(), 7);
    assert_eq!((&buf, server.end.reads), (b"at once", reads));
}

#[test]
fn the_answer_to_data_of_the_last_flight_is_sent_with_the_tickets() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    client.handshake().unwrap_err();
    server.handshake().unwrap_err();
    client.handshake().unwrap();
    client.write(b"request").unwrap();
    let before = server.end.writes;
    server.handshake().unwrap();
    assert_eq!(server.read_open(), b"request");
    assert_eq!(server.write(b"answer").unwrap(), 6);
    assert_eq!(server.end.writes, before + 1);
    assert_eq!(client.read_open(), b"answer");
    assert_eq!(server.session.output_len(), 0);
}

#[test]
fn tickets_and_an_answer_wait_for_a_full_stream_together() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    client.handshake().unwrap_err();
    server.handshake().unwrap_err();
    client.handshake().unwrap();
    client.write(b"request").unwrap();
    server.end.room = 0;
    server.handshake().unwrap();
    assert_eq!(server.read_open(), b"request");
    assert_eq!(server.write(b"answer").unwrap(), 6);
    assert!(server.session.output_len() > 0);
    server.end.room = usize::MAX;
    server.flush().unwrap();
    assert_eq!(client.read_open(), b"answer");
}

#[test]
fn tickets_that_the_stream_does_not_take_are_sent_by_a_flush() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    let _ = client.handshake();
    let _ = server.handshake();
    client.handshake().unwrap();
    server.end.room = 0;
    server.handshake().unwrap();
    assert!(server.session.output_len() > 0);
    server.end.room = usize::MAX;
    server.flush().unwrap();
    assert_eq!(server.session.output_len(), 0);
    assert!(!client.arrived().is_empty());
}

#[test]
fn both_peers_know_the_facts_of_their_session() {
    let ca = Authority::new();
    let server = ca.server_options().alpn(["h2", "http/1.1"]).load().unwrap();
    let client = ca.client_options().alpn(["http/1.1"]).load().unwrap();
    let (client, server) = established(&server, &client);
    for peer in [&client, &server] {
        let info = TlsInfo::of(&peer.session);
        assert_eq!(info.version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(
            info.cipher_suite(),
            Some(CipherSuite::TLS13_AES_256_GCM_SHA384)
        );
        assert_eq!(info.alpn(), Some(&b"http/1.1"[..]));
        assert_eq!(info.server_name(), Some(NAME));
        assert!(!info.is_resumed());
    }
    let of_server = TlsInfo::of(&client.session).peer_certificates();
    assert_eq!(of_server.map(<[_]>::len), Some(1));
    assert_eq!(TlsInfo::of(&server.session).peer_certificates(), None);
}

#[test]
fn a_client_that_offers_no_application_protocol_is_accepted() {
    let ca = Authority::new();
    let server = ca.server_options().alpn(["h2"]).load().unwrap();
    let (client, _server) = established(&server, &ca.client());
    assert_eq!(TlsInfo::of(&client.session).alpn(), None);
}

#[test]
fn peers_without_a_common_application_protocol_fail_in_words() {
    let ca = Authority::new();
    let server = ca.server_options().alpn(["h2"]).load().unwrap();
    let client = ca.client_options().alpn(["http/1.1"]).load().unwrap();
    let (mut client, mut server) = connect(&server, &client);
    let (c, s) = shake(&mut client, &mut server);
    expect_error(s, TlsErrorKind::Incompatible, &["ALPN", "configure one"]);
    expect_error(c, TlsErrorKind::Alert, &["NoApplicationProtocol", "ALPN"]);
}

#[test]
fn peers_without_a_common_version_fail_in_words() {
    let ((server, _), (_, client)) = (only(&TLS13), only(&TLS12));
    let (mut client, mut server) = connect(&server, &client);
    let (c, s) = shake(&mut client, &mut server);
    expect_error(s, TlsErrorKind::Incompatible, &["protocol version"]);
    expect_error(c, TlsErrorKind::Alert, &["ProtocolVersion"]);
}
