//! The bytes of TLS connections: all of them, in order, at any pace of both sides.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Flow};
use reactor::{Context, Then};
use support::{PATIENCE, Result, ms};

use crate::{Bench, Seen, pattern};

const LONG: usize = 4 << 20;

/// Sends a message at the pace of the peer, and takes that of the peer.
struct Streams {
    name: &'static str,
    message: Rc<Vec<u8>>,
    sent: usize,
    /// The length of a write.
    piece: usize,
    /// The most bytes that may wait.
    queued_max: usize,
    /// With `true`, it pauses after each input, for a millisecond.
    is_slow: bool,
}

impl Streams {
    fn send(&mut self, connection: &mut Connection<'_, Seen>) -> io::Result<()> {
        while self.sent < self.message.len() {
            let end = self.message.len().min(self.sent + self.piece);
            let flow = connection.write(&self.message[self.sent..end])?;
            self.sent = end;
            let queued = connection.queued();
            assert!(queued <= self.queued_max, "{queued} bytes are queued");
            if flow == Flow::Full {
                return Ok(());
            }
        }
        connection.shutdown();
        Ok(())
    }
}

impl ConnectionHandler<Seen> for Streams {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        connection.read_while_full(); // otherwise both sides wait for each other
        self.send(connection)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let received = cx.state.received.entry(self.name).or_default();
        received.extend_from_slice(data);
        if self.is_slow {
            connection.pause_reading();
            let key = connection.key();
            cx.registry.after(ms(1), move |cx| {
                // The connection may have ended.
                let _ = key.with(cx, |connection, _| connection.resume_reading());
                Ok(Then::Done)
            });
        }
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.send(connection)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        assert_eq!(rest, b"");
        cx.state.log.push(format!("{} end", self.name));
        Ok(()) // its own end comes after its message
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        let reason = crate::named(&reason);
        cx.state.log.push(format!("{} close {reason}", self.name));
    }
}

/// The settings of one exchange.
struct Pace {
    length: usize,
    piece: usize,
    high: usize,
    max_bytes_per_turn: usize,
    is_slow: bool,
}

/// Lets both sides of a session send and receive at once.
fn exchange(pace: &Pace) -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new()
        .watermarks(pace.high / 2, pace.high)
        .max_bytes_per_turn(pace.max_bytes_per_turn);
    let message = Rc::new(pattern(pace.length));
    let streams = |name, is_slow| Streams {
        name,
        message: Rc::clone(&message),
        sent: 0,
        piece: pace.piece,
        // A batch of records is encrypted ahead, see `session/transfer.rs`.
        queued_max: pace.high + pace.piece + (70 << 10),
        is_slow,
    };
    let client = streams("client", pace.is_slow);
    bench.open_pair(&options, streams("server", false), client)?;
    let began = Instant::now();
    while bench.seen.end_of("server").is_none() || bench.seen.end_of("client").is_none() {
        let log = &bench.seen.log;
        assert!(began.elapsed() < PATIENCE, "{log:?} {:#?}", bench.reactor);
        bench.run_until_idle();
        bench.advance(ms(1));
    }
    for name in ["server", "client"] {
        let received = bench.seen.received(name);
        assert!(*received == **message, "{name}: {} bytes", received.len());
        assert_eq!(bench.seen.end_of(name), Some("finished"));
        assert!(bench.seen.has(&format!("{name} end")));
    }
    assert!(bench.reactor.is_empty());
    Ok(())
}

#[test]
fn four_mebibytes_go_both_ways_at_once() -> Result {
    exchange(&Pace {
        length: LONG,
        piece: 100_000,
        high: 256 << 10,
        max_bytes_per_turn: 256 << 10,
        is_slow: false,
    })
}

#[test]
fn small_writes_and_low_watermarks_lose_nothing() -> Result {
    exchange(&Pace {
        length: LONG / 4,
        piece: 100,
        high: 1000,
        max_bytes_per_turn: 5000,
        is_slow: false,
    })
}

#[test]
fn turns_of_a_byte_lose_nothing() -> Result {
    exchange(&Pace {
        length: 100_000,
        piece: 20_000,
        high: 1,
        max_bytes_per_turn: 1,
        is_slow: false,
    })
}

#[test]
fn a_slow_reader_gets_all_and_holds_its_sender_back() -> Result {
    exchange(&Pace {
        length: LONG,
        piece: 10_000,
        high: 50_000,
        max_bytes_per_turn: 10_000,
        is_slow: true,
    })
}

/// The input that the session holds comes at the resumption, without an event of the kernel.
#[test]
fn a_pause_keeps_what_has_arrived_until_it_is_resumed() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_bytes_per_turn(3000);
    let pauses = crate::notes("server", |_, connection, cx| {
        if cx.state.received("server").len() > 5000 {
            connection.pause_reading();
        }
        Ok(())
    });
    let (key, mut peer) = bench.open_established(&options, pauses)?;
    peer.send(&pattern(16_000));
    bench.run_until_idle();
    let paused = bench.seen.received("server").len();
    assert!(paused < 10_000, "{paused} bytes in spite of the pause");
    peer.send(&pattern(8000));
    peer.close();
    bench.run_until_idle();
    assert_eq!(bench.seen.received("server").len(), paused);
    while bench.seen.end_of("server").is_none() {
        bench.with(key, |connection, _| connection.resume_reading());
        bench.run_until_idle();
    }
    let all = [pattern(16_000), pattern(8000)].concat();
    assert!(bench.seen.received("server") == all);
    assert_eq!(
        bench.seen.log,
        ["server open", "server end", "server close finished"]
    );
    Ok(())
}
