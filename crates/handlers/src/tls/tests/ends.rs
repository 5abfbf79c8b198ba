//! Ends: close_notify of either side, and streams that are cut.

use super::*;

#[test]
fn each_side_ends_its_direction_and_the_other_goes_on() {
    let (mut client, mut server) = pair();
    client.write(b"all").unwrap();
    assert_eq!(client.shutdown().unwrap(), Shutdown::Done);
    let (all, end) = server.read_all();
    end.unwrap();
    assert_eq!(all, b"all");
    assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
    assert_eq!(server.write(b"still here").unwrap(), 10);
    assert_eq!(client.read_open(), b"still here");
    assert_eq!(server.shutdown().unwrap(), Shutdown::Done);
    let (rest, end) = client.read_all();
    end.unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn an_end_waits_until_the_stream_has_taken_everything() {
    let (mut client, mut server) = pair();
    client.end.room = 3;
    client.write(b"held").unwrap();
    for _ in 0..2 {
        let error = client.shutdown().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(!client.end.outgoing.borrow().is_closed);
    }
    client.end.room = usize::MAX;
    assert_eq!(client.shutdown().unwrap(), Shutdown::Done);
    let (all, end) = server.read_all();
    end.unwrap();
    assert_eq!(all, b"held");
    assert_eq!(client.session.held_capacity(), 0);
}

#[test]
fn close_notify_is_sent_once() {
    let (mut client, server) = pair();
    let _ = client.shutdown().unwrap();
    let arrived = server.arrived().len();
    let _ = client.shutdown().unwrap();
    assert_eq!(server.arrived().len(), arrived);
}

#[test]
fn a_stream_without_close_notify_is_cut_after_its_data() {
    let (mut client, mut server) = pair();
    client.write(b"part").unwrap();
    let _ = client.end.shutdown().unwrap();
    let (all, end) = server.read_all();
    assert_eq!(all, b"part");
    assert_eq!(end.as_ref().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    expect_error(end, TlsErrorKind::Truncated, &["close_notify", "missing"]);
    assert_eq!(
        server.read_all().1.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
}

#[test]
fn a_stream_that_ends_within_a_record_is_cut() {
    let (mut client, mut server) = pair();
    client.end.room = 40;
    client.write(&[7; 1000]).unwrap();
    let _ = client.end.shutdown().unwrap();
    let (all, end) = server.read_all();
    assert_eq!(all, b"");
    expect_error(end, TlsErrorKind::Truncated, &[]);
    assert_eq!(server.session.held_capacity(), 0);
}

#[test]
fn bytes_after_close_notify_are_ignored() {
    let (mut client, mut server) = pair();
    client.write(b"whole").unwrap();
    let _ = client.shutdown().unwrap();
    client.inject(b"not a record");
    let (all, end) = server.read_all();
    end.unwrap();
    assert_eq!(all, b"whole");
    assert_eq!(server.session.held_capacity(), 0);
}

#[test]
fn a_peer_that_leaves_during_the_handshake_is_told_from_a_silent_one() {
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    let _ = client.end.shutdown().unwrap();
    let silent = server.handshake();
    assert_eq!(
        silent.as_ref().unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    expect_error(
        silent,
        TlsErrorKind::HandshakeEnded,
        &["sent nothing of TLS"],
    );

    for room in [1, 100, usize::MAX] {
        let (mut client, mut server) = connect(&ca.server(), &ca.client());
        client.end.room = room; // bytes of the hello
        let _ = client.handshake();
        let _ = client.end.shutdown().unwrap();
        let _ = server.handshake(); // the bytes, and then the end
        expect_error(
            server.handshake(),
            TlsErrorKind::HandshakeEnded,
            &["during the handshake"],
        );
    }
}

#[test]
fn a_session_without_a_handshake_ends_without_close_notify() {
    let ca = Authority::new();
    let (_client, mut server) = connect(&ca.server(), &ca.client());
    assert_eq!(server.shutdown().unwrap(), Shutdown::Done);
    assert!(server.end.outgoing.borrow().bytes.is_empty());
    assert!(server.write(b"too early").is_err());
}

#[test]
fn the_alert_of_a_peer_explains_a_stream_that_takes_no_more() {
    struct Reset<'a>(&'a mut End);
    impl Below for Reset<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn shutdown(&mut self) -> io::Result<Shutdown> {
            self.0.shutdown()
        }
    }
    let ca = Authority::new();
    let (mut client, mut server) = connect(&ca.server(), &ca.client());
    server.inject(&[21, 3, 3, 0, 2, 2, 40]);
    let result = client.session.handshake(&mut Reset(&mut client.end));
    expect_error(result, TlsErrorKind::Alert, &["HandshakeFailure"]);
    let result = server.session.handshake(&mut Reset(&mut server.end));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
    let (mut client, _server) = connect(&ca.server(), &ca.client());
    let result = client.session.handshake(&mut Reset(&mut client.end));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::BrokenPipe);
}
