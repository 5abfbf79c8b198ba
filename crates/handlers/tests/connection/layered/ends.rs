//! The end of a layered stream: it may take several steps, and comes also after that of the peer.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionKey, ConnectionOptions, Relay, Stream};
use reactor::IoState;
use support::{Result, ms, tcp_pair};

use super::Pair;
use super::toy::{END, HELLO, Peer, Toy, record, records};
use crate::{Bench, Event, World, default, pattern, probe, secs, sink};

#[test]
fn the_end_of_the_peer_is_answered_by_an_end() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.send(&record(END, b""));
    assert_eq!(pair.read()?.0, "E.");
    assert_eq!(pair.bench.until_closed(), "close Finished");
    assert_eq!(pair.calls.shutdowns.get(), 1);
    Ok(())
}

#[test]
fn an_end_that_the_socket_does_not_take_is_asked_for_again() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    let bytes = pattern(1 << 20);
    let written = bytes.clone();
    pair.bench.with(pair.key, move |connection| {
        let _ = connection.write(&written).unwrap();
        connection.shutdown();
    });
    pair.expect_rest();
    let (mut kinds, mut data) = (String::new(), Vec::new());
    while !kinds.ends_with('.') {
        let (more, bytes) = pair.read()?;
        assert!(!more.is_empty(), "nothing more came after {kinds}");
        kinds += &more;
        data.extend(bytes);
    }
    assert!(kinds.ends_with("E.") && data == bytes, "{kinds}");
    pair.expect_rest();
    pair.send(&records(b"still read"));
    pair.bench.run_until_idle();
    assert_eq!(pair.bench.world.received, b"still read");
    pair.send(&record(END, b""));
    assert_eq!(pair.bench.until_closed(), "close Finished");
    Ok(())
}

/// The shutdown takes two steps: the own end is sent, then that of the peer is awaited.
#[test]
fn a_shutdown_of_several_steps_waits_for_each() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |toy| {
        toy.awaits_end = true;
    })?;
    pair.bench
        .with(pair.key, |connection| connection.close_after_flush(secs(5)));
    assert_eq!(pair.read()?.0, "E", "the socket is open");
    pair.expect_rest();
    let asked = pair.calls.shutdowns.get();
    pair.send(&record(END, b""));
    assert_eq!(pair.read()?.0, ".");
    assert_eq!(pair.bench.until_closed(), "close Finished");
    assert!(pair.calls.shutdowns.get() <= asked + 1);
    Ok(())
}

#[test]
fn a_shutdown_that_is_blocked_is_asked_again_when_there_is_room() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |toy| {
        toy.blocked_shutdowns = 1;
    })?;
    pair.bench
        .with(pair.key, |connection| connection.shutdown());
    let before = pair.bench.reactor.metrics().calls;
    assert_eq!(pair.read()?.0, "E.");
    assert_eq!(pair.calls.shutdowns.get(), 2);
    pair.expect_rest();
    assert_eq!(pair.bench.reactor.metrics().calls, before + 1);
    Ok(())
}

/// Nothing is left to send on a socket that has failed.
#[test]
fn a_reset_while_the_end_is_awaited_does_not_spin() -> Result {
    let mut bench = Bench::new()?;
    let (near, mut far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    let mut toy = Toy::new(near);
    toy.blocked_shutdowns = usize::MAX;
    let key = Connection::open(&mut bench.reactor, toy, &ConnectionOptions::new(), sink())?;
    bench.send(&mut far, &record(HELLO, b""));
    bench.run_until_idle();
    bench.with(key, |connection| {
        connection.pause_reading();
        connection.shutdown();
    });
    bench.send(&mut far, &records(b"unread"));
    bench.run_until_idle();
    let calls = bench.reactor.metrics().calls;
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
    drop(far);
    bench.until(|world| world.has("failure ConnectionReset"));
    bench.run_until_idle();
    let before = bench.reactor.metrics().calls;
    for _ in 0..100 {
        bench.turn();
    }
    assert_eq!(bench.reactor.metrics().calls, before, "it spins");
    assert!(before <= calls + 2, "{} calls", before - calls);
    bench.with(key, |connection| connection.resume_reading());
    assert_eq!(bench.until_closed(), "close Failed(ConnectionReset)");
    assert_eq!(bench.world.received, b"unread");
    Ok(())
}

/// The socket has ended without the end of the stream, and a write finds that first.
#[test]
fn a_write_that_fails_while_paused_makes_no_end_of_a_cut_stream() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench
        .with(pair.key, |connection| connection.pause_reading());
    drop(pair.peer);
    pair.bench.run_until_idle();
    pair.bench.with(pair.key, |connection| {
        let _ = connection.write(b"for nobody");
    });
    assert_eq!(pair.bench.until_closed(), "close Failed(BrokenPipe)");
    assert!(!pair.bench.world.has("end "), "{:?}", pair.bench.world.log);
    Ok(())
}

/// The end of the socket is that of a stream which has no other.
#[test]
fn a_write_that_fails_while_paused_leaves_the_end_of_the_socket() -> Result {
    let mut bench = Bench::new()?;
    let (near, far) = UnixStream::pair()?;
    let options = ConnectionOptions::new();
    let key = Connection::open(&mut bench.reactor, Endless(near), &options, sink())?;
    bench.run_until_idle();
    bench.with(key, |connection| connection.pause_reading());
    drop(far);
    bench.run_until_idle();
    bench.with(key, |connection| {
        let _ = connection.write(b"for nobody");
    });
    assert_eq!(bench.until_closed(), "close Failed(BrokenPipe)");
    assert!(bench.world.has("end "), "{:?}", bench.world.log);
    Ok(())
}

/// A layered stream without an end of its own.
struct Endless(UnixStream);

impl AsFd for Endless {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for Endless {
    const LAYERED: bool = true;

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(io, bufs)
    }
}

#[test]
fn the_deadline_of_a_close_ends_a_shutdown_that_waits() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |toy| {
        toy.awaits_end = true;
    })?;
    pair.bench
        .with(pair.key, |connection| connection.close_after_flush(secs(5)));
    pair.bench.run_until_idle();
    pair.bench.advance(ms(4_999));
    assert!(!pair.bench.world.is_closed());
    pair.bench.advance(ms(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Close)");
    Ok(())
}

#[test]
fn a_close_by_the_handler_sends_the_end() -> Result {
    let closes = probe(|event, connection, cx| {
        if let Event::Data(_) = event {
            let _ = connection.write(b"bye")?;
            connection.close();
        }
        Ok(default(&event, connection, cx))
    });
    let mut pair = Pair::open(&ConnectionOptions::new(), closes, |_| {})?;
    pair.send(&records(b"go"));
    assert_eq!(pair.read()?, ("DE.".to_owned(), b"bye".to_vec()));
    assert_eq!(pair.bench.until_closed(), "close Closed");
    Ok(())
}

#[test]
fn a_timeout_sends_the_end() -> Result {
    let options = ConnectionOptions::new().idle_timeout(secs(1));
    let mut pair = Pair::open(&options, sink(), |_| {})?;
    pair.bench.advance(secs(1));
    assert_eq!(pair.bench.until_closed(), "close TimedOut(Idle)");
    assert_eq!(pair.peer.read()?.0, "E.");
    Ok(())
}

type Way = fn(&mut Connection<'_, World>) -> io::Result<()>;

/// A stream that is cut must not look whole.
#[test]
fn no_end_is_sent_by_an_abort_or_an_error_or_with_a_pending_response() -> Result {
    let ways: [Way; 4] = [
        |connection| {
            connection.abort();
            Ok(())
        },
        |_| Err(ErrorKind::InvalidData.into()),
        |connection| {
            connection.begin_response();
            connection.close();
            Ok(())
        },
        |connection| {
            connection.abort_after_flush(secs(1));
            Ok(())
        },
    ];
    for way in ways {
        let cuts = probe(move |event, connection, cx| {
            if let Event::Data(_) = event {
                way(connection)?;
            }
            Ok(default(&event, connection, cx))
        });
        let mut pair = Pair::open(&ConnectionOptions::new(), cuts, |_| {})?;
        pair.send(&records(b"go"));
        pair.bench.until_closed();
        assert_eq!(pair.calls.shutdowns.get(), 0);
    }
    Ok(())
}

/// A connection whose stream holds output, over TCP, which has resets.
struct Full {
    bench: Bench,
    key: ConnectionKey<World>,
    peer: Peer<TcpStream>,
    /// The number of bytes that were written.
    written: usize,
}

impl Full {
    fn open() -> Result<Self> {
        let mut bench = Bench::new()?;
        let (near, mut far) = tcp_pair()?;
        far.set_nonblocking(true)?;
        socket2::SockRef::from(&near).set_send_buffer_size(1)?;
        let options = ConnectionOptions::new();
        let key = Connection::open(&mut bench.reactor, Toy::new(near), &options, sink())?;
        bench.send(&mut far, &record(HELLO, b""));
        bench.run_until_idle();
        let (mut written, mut is_full) = (0, false);
        while !is_full {
            written += 4000;
            is_full = bench.with(key, |connection| {
                let _ = connection.write(&pattern(4000)).unwrap();
                let _ = connection.flush();
                connection.queued() > 0
            });
        }
        Ok(Self {
            bench,
            key,
            peer: Peer::new(far),
            written,
        })
    }

    /// Reads on. Returns the error at the end of the stream.
    fn end(&mut self) -> Option<ErrorKind> {
        let end = (0..1000).find_map(|_| match self.peer.read() {
            Ok((kinds, _)) => kinds.ends_with('.').then_some(None),
            Err(error) => Some(Some(error.kind())),
        });
        end.flatten()
    }
}

/// Output that is held belongs to the stream, so the stream is not whole without it.
#[test]
fn a_close_with_held_output_resets_the_connection() -> Result {
    let mut full = Full::open()?;
    full.bench.with(full.key, |connection| connection.close());
    assert_eq!(full.bench.until_closed(), "close Closed");
    assert_eq!(full.end(), Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn an_abort_after_flush_sends_held_output_before_the_reset() -> Result {
    let mut full = Full::open()?;
    full.bench.with(full.key, |connection| {
        connection.abort_after_flush(secs(60));
    });
    let mut read = 0;
    while read < full.written {
        full.bench
            .reactor
            .turn(&mut full.bench.world, Some(crate::MOMENT))?;
        read += full.peer.read()?.1.len();
    }
    assert_eq!(full.bench.until_closed(), "close Aborted");
    assert_eq!(full.end(), Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn a_relay_passes_the_bytes_and_the_ends_of_layered_streams_on() -> Result {
    let mut bench = Bench::new()?;
    let (left, right) = Relay::pair();
    let mut peers = Vec::new();
    for side in [left, right] {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        Connection::open(
            &mut bench.reactor,
            Toy::new(near),
            &ConnectionOptions::new().watermarks(1000, 5000),
            side,
        )?;
        peers.push(Peer::new(far));
    }
    let bytes = pattern(200_000);
    let mut sent = record(HELLO, b"");
    sent.extend(records(&bytes));
    sent.extend(record(END, b""));
    bench.send(&mut peers[1].socket, &record(HELLO, b""));
    let (mut kinds, mut data) = (String::new(), Vec::new());
    for piece in sent.chunks(5000) {
        bench.send(&mut peers[0].socket, piece);
        bench.run_until_idle();
        let (more, bytes) = peers[1].read()?;
        kinds += &more;
        data.extend(bytes);
    }
    while !kinds.ends_with('.') {
        bench.run_until_idle();
        let (more, bytes) = peers[1].read()?;
        assert!(!more.is_empty(), "nothing more came after {kinds}");
        kinds += &more;
        data.extend(bytes);
    }
    assert!(kinds.starts_with('H') && kinds.ends_with("E."), "{kinds}");
    assert_eq!(data, bytes);
    bench.send(&mut peers[1].socket, &record(END, b""));
    bench.run_until_idle();
    assert_eq!(peers[0].read()?.0, "HE.");
    Ok(())
}

#[test]
fn a_half_close_of_the_socket_alone_is_a_cut() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.peer.socket.shutdown(Shutdown::Write)?;
    assert_eq!(pair.bench.until_closed(), "close Failed(UnexpectedEof)");
    Ok(())
}

#[test]
fn a_peer_that_goes_after_our_end_ends_the_connection_as_intended() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench
        .with(pair.key, |connection| connection.close_after_flush(secs(5)));
    assert_eq!(pair.read()?.0, "E.");
    pair.peer.socket.shutdown(Shutdown::Both)?;
    assert_eq!(pair.bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_handler_that_never_reads_gets_the_end_of_its_write_side_in_time() -> Result {
    let mut pair = Pair::open(&ConnectionOptions::new(), sink(), |_| {})?;
    pair.bench.with(pair.key, |connection| {
        connection.pause_reading();
        connection.shutdown();
    });
    assert_eq!(pair.read()?.0, "E.");
    pair.expect_rest();
    pair.bench.advance(Duration::from_secs(100));
    assert!(!pair.bench.world.is_closed());
    Ok(())
}
