//! Traffic: sizes, cuts, back-pressure, and the memory of an idle session.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection};

use super::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn many_small_records_of_one_read_are_returned_together() {
    let (mut client, mut server) = pair();
    for _ in 0..50 {
        client.write(b"0123456789").unwrap();
    }
    let mut buf = [0; 4096];
    assert_eq!(server.read(&mut buf).unwrap(), 500);
    assert_eq!(&buf[..500], b"0123456789".repeat(50));
}

#[test]
fn small_slices_become_one_record() {
    let (mut client, mut server) = pair();
    let slices = [
        IoSlice::new(b"head"),
        IoSlice::new(b""),
        IoSlice::new(b"body"),
    ];
    assert_eq!(client.session.write(&mut client.end, &slices).unwrap(), 8);
    let overhead = 5 + 1 + 16; // header, type and tag: RFC 8446 section 5.2
    assert_eq!(server.arrived().len(), 8 + overhead);
    assert_eq!(server.read_open(), b"headbody");
}

#[test]
fn a_buffer_smaller_than_a_record_gets_the_record_in_parts() {
    let (mut client, mut server) = pair();
    let data = pattern(16_384);
    client.write(&data).unwrap();
    let (mut all, mut buf) = (Vec::new(), [0; 1000]);
    let reads = server.end.reads;
    while all.len() < data.len() {
        let count = server.read(&mut buf).unwrap();
        all.extend_from_slice(&buf[..count]);
        assert_eq!(server.session.has_plaintext(), all.len() < data.len());
    }
    assert_eq!(all, data);
    assert_eq!(server.end.reads, reads + 1);
    assert_eq!(server.session.held_capacity(), 0);
}

#[test]
fn a_large_buffer_gets_all_records_of_a_read_without_a_copy_held() {
    let (mut client, mut server) = pair();
    client.write(&pattern(200_000)).unwrap();
    let mut buf = vec![0; 65_536];
    let count = server.read(&mut buf).unwrap();
    assert!(count >= 3 * 16_384, "{count}");
    assert!(!server.session.has_plaintext());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn data_arrives_as_written_however_it_is_cut(
        writes in prop::collection::vec(prop::collection::vec(0_usize..40_000, 1..4), 1..6),
        cuts in prop::collection::vec((1_usize..50_000, 0_usize..50_000, 1_usize..50_000), 1..12),
    ) {
        let (mut client, mut server) = pair();
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        let mut pump = |client: &mut Peer, server: &mut Peer, received: &mut Vec<u8>| {
            let (read_max, room, size) = cuts.next().unwrap_or((1, 1, 1));
            (server.end.read_max, client.end.room) = (read_max, room.max(1));
            let _ = client.flush();
            let mut buf = vec![0; size];
            while let Ok(count) = server.read(&mut buf) {
                received.extend_from_slice(&buf[..count]);
            }
        };
        for slices in writes {
            let data: Vec<_> = slices.iter().map(|len| pattern(*len)).collect();
            let whole = data.concat();
            let mut rest = &whole[..];
            // The first write is of all slices, and those after it of what is left.
            let slices: Vec<_> = data.iter().map(|slice| IoSlice::new(slice)).collect();
            if !rest.is_empty() && client.flush().is_ok() {
                let taken = client.session.write(&mut client.end, &slices).unwrap();
                rest = &rest[taken..];
            }
            while !rest.is_empty() {
                match client.write(rest) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                pump(&mut client, &mut server, &mut received);
            }
            sent.extend_from_slice(&whole);
        }
        while client.session.output_len() > 0 || !server.arrived().is_empty() {
            pump(&mut client, &mut server, &mut received);
        }
        pump(&mut client, &mut server, &mut received);
        prop_assert!(received == sent, "{} of {}", received.len(), sent.len());
        prop_assert_eq!(client.session.held_capacity() + server.session.held_capacity(), 0);
    }
}

#[test]
fn output_that_the_stream_does_not_take_stops_further_writes() {
    let (mut client, mut server) = pair();
    client.end.room = 100;
    let data = pattern(1_000_000);
    let taken = client.write(&data).unwrap();
    assert!(taken < 100_000, "{taken} bytes are encrypted ahead");
    assert!(client.session.output_len() > 0);
    let error = client.write(&data[taken..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    client.end.room = usize::MAX;
    client.flush().unwrap();
    assert_eq!(client.write(&data[taken..]).unwrap(), data.len() - taken);
    assert!(server.read_open() == data);
}

#[test]
fn an_idle_session_holds_no_memory() {
    let (mut client, mut server) = pair();
    for peer in [&client, &server] {
        assert_eq!(peer.session.held_capacity(), 0);
    }
    client.write(&pattern(50_000)).unwrap();
    server.end.read_max = 30_000; // ends within a record
    let mut buf = vec![0; 16_384];
    server.read(&mut buf).unwrap();
    assert!(server.session.held_capacity() > 0);
    server.read_open();
    client.end.room = 0;
    client.write(b"held").unwrap();
    assert!(client.session.held_capacity() > 0);
    client.end.room = usize::MAX;
    client.flush().unwrap();
    for peer in [&client, &server] {
        assert_eq!(peer.session.held_capacity(), 0);
    }
}

/// Connects a client of rustls' buffered interface, which can ask for new keys.
fn with_buffered_client() -> (ClientConnection, Peer) {
    let ca = Authority::new();
    let (_, mut server) = connect(&ca.server(), &ca.client());
    let config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(ca.roots().load().unwrap())
        .with_no_client_auth();
    let name = NAME.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    server.end.outgoing.borrow_mut().bytes.clear();
    server.end.incoming.borrow_mut().bytes.clear();
    while client.is_handshaking() || client.wants_write() {
        client_to(&mut client, &server);
        let _ = server.handshake();
        to_client(&server, &mut client);
    }
    server.handshake().unwrap();
    (client, server)
}

fn client_to(client: &mut ClientConnection, server: &Peer) {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    server.end.incoming.borrow_mut().bytes.extend(bytes);
}

fn to_client(server: &Peer, client: &mut ClientConnection) {
    let bytes: Vec<_> = server.end.outgoing.borrow_mut().bytes.drain(..).collect();
    let mut bytes = &bytes[..];
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

#[test]
fn new_keys_that_the_peer_asks_for_are_used_in_both_directions() {
    let (mut client, mut server) = with_buffered_client();
    for round in 0..5_u8 {
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(&[round]).unwrap();
        client_to(&mut client, &server);
        assert_eq!(server.read_open(), [round]);
        assert_eq!(server.write(&[round, 1]).unwrap(), 2);
        // The answer to the key update goes before the data, in a record of its own.
        let records = server.end.outgoing.borrow().bytes.len();
        assert!(records > 2 * (5 + 1 + 16), "{records} bytes");
        to_client(&server, &mut client);
        let mut answer = [0; 2];
        client.reader().read_exact(&mut answer).unwrap();
        assert_eq!(answer, [round, 1]);
    }
}

#[test]
fn the_smallest_records_of_rustls_carry_large_writes() {
    let ca = Authority::new();
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(
        ca.issue(&[NAME]).load().unwrap(),
    ));
    let mut config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.max_fragment_size = Some(32);
    let server = TlsServerConfig::from_rustls(Arc::new(config)).unwrap();
    let (mut client, mut server) = established(&server, &ca.client());
    let data = pattern(300_000);
    assert_eq!(server.write(&data).unwrap(), data.len());
    assert!(client.read_open() == data);
}

/// A session whose stream is another session.
struct Inner<'a>(&'a mut Peer);

impl Below for Inner<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn shutdown(&mut self) -> io::Result<Shutdown> {
        self.0.shutdown()
    }
}

#[test]
fn a_session_runs_over_another_session() {
    let (mut client, mut server) = pair();
    let ca = Authority::new();
    let (outer_client, outer_server) = connect(&ca.server(), &ca.client());
    let (mut outer_client, mut outer_server) = (outer_client.session, outer_server.session);
    let mut results = (false, false);
    for _ in 0..6 {
        results.0 |= outer_client.handshake(&mut Inner(&mut client)).is_ok();
        results.1 |= outer_server.handshake(&mut Inner(&mut server)).is_ok();
    }
    assert_eq!(results, (true, true));
    let data = pattern(100_000);
    let slices = [IoSlice::new(&data)];
    assert_eq!(
        outer_client
            .write(&mut Inner(&mut client), &slices)
            .unwrap(),
        data.len()
    );
    let (mut all, mut buf) = (Vec::new(), vec![0; 30_000]);
    while all.len() < data.len() {
        match outer_server.read(&mut Inner(&mut server), &mut buf) {
            Ok(count) => all.extend_from_slice(&buf[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
    }
    assert!(all == data);
}
