//! Faults of peers: other protocols, changed bytes, records that are too long.

use super::*;

#[test]
fn a_changed_byte_fails_the_session_after_the_data_before_it() {
    let (mut client, mut server) = pair();
    client.write(b"before").unwrap();
    let good = server.arrived().len();
    client.write(b"changed").unwrap();
    server.end.incoming.borrow_mut().bytes[good + 8] ^= 1;
    client.write(b"after").unwrap();
    let (all, end) = server.read_all();
    assert_eq!(all, b"before");
    expect_error(end, TlsErrorKind::Protocol, &["changed on its way"]);
    expect_error(
        server.write(b"answer").map(drop),
        TlsErrorKind::Protocol,
        &[],
    );
    assert_eq!(server.session.held_capacity(), 0);
    expect_error(client.read_all().1, TlsErrorKind::Alert, &["BadRecordMac"]);
}

#[test]
fn an_alert_is_sent_before_its_error_even_if_the_stream_was_full() {
    let (mut client, mut server) = pair();
    server.end.room = 0;
    client.inject(&[23, 3, 3, 0, 20]);
    client.inject(&[0; 20]);
    let (_, end) = server.read_all();
    expect_error(end, TlsErrorKind::Protocol, &[]);
    assert!(server.session.output_len() > 0);
    server.end.room = usize::MAX;
    server.flush().unwrap();
    expect_error(client.read_all().1, TlsErrorKind::Alert, &["BadRecordMac"]);
}

#[test]
fn a_record_longer_than_tls_allows_is_refused_by_its_header() {
    let (client, mut server) = pair();
    let mut client = client;
    client.inject(&[23, 3, 3, 0x48, 1]); // 2^14 + 2048 + 1
    let (_, end) = server.read_all();
    expect_error(end, TlsErrorKind::Protocol, &["longer than TLS allows"]);
}

#[test]
fn other_protocols_on_a_port_of_tls_are_named() {
    let ca = Authority::new();
    for (bytes, protocol) in [
        (
            &b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..],
            "plain HTTP",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00", "SSL 2.0"),
        (b"*1\r\n$4\r\nPING\r\n", "an unknown protocol"),
    ] {
        let (mut client, mut server) = connect(&ca.server(), &ca.client());
        client.inject(bytes);
        server.end.read_max = 3;
        expect_error(
            server.handshake(),
            TlsErrorKind::NotTls,
            &[protocol, "must connect with TLS"],
        );
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_named_to_the_client() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    server.inject(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    expect_error(
        client.handshake(),
        TlsErrorKind::NotTls,
        &["plain HTTP", "TLS port"],
    );
}

#[test]
fn garbage_within_records_fails_in_words() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    client.inject(&[22, 3, 1, 0, 4, 1, 0, 0, 0]);
    expect_error(
        server.handshake(),
        TlsErrorKind::Protocol,
        &["invalid message"],
    );
}

#[test]
fn a_message_in_tiny_records_is_refused_before_it_takes_much_memory() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    client.inject(&[22, 3, 1, 0, 4, 1, 0, 0xff, 0xf0]);
    for _ in 0..40_000 {
        client.inject(&[22, 3, 1, 0, 1, 0]);
    }
    expect_error(
        server.handshake(),
        TlsErrorKind::Protocol,
        &["HandshakePayloadTooLarge"],
    );
    assert!(!server.arrived().is_empty(), "the rest is not read");
    assert_eq!(server.session.held_capacity(), server.session.output_len());
}

#[test]
fn every_cut_and_change_of_a_hello_ends_without_a_panic() {
    let ca = Authority::new();
    let (server_config, client_config) = (ca.server(), ca.client());
    let (mut client, server) = connect(&server_config, &client_config);
    let _ = client.handshake();
    let hello = server.arrived();
    for at in 0..hello.len() {
        let (_client, mut server) = connect(&server_config, &client_config);
        let mut changed = hello.clone();
        changed[at] ^= 0x55;
        server.end.incoming.borrow_mut().bytes.extend(changed);
        server.end.incoming.borrow_mut().is_closed = true;
        assert!(server.handshake().is_err(), "byte {at}");
    }
}
