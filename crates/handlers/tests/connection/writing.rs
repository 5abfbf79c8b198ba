//! The output of a connection: in order, gathered, and queued within bounds.

use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use handlers::{ConnectionOptions, Flow};
use proptest::prelude::*;
use reactor::Then;

use crate::{Bench, Event, Result, default, pattern, probe, secs, sink};

/// More bytes than the buffers of a socket hold.
const MUCH: usize = 1 << 20;

#[test]
fn small_writes_of_one_callback_are_one_system_call() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        for number in 0..100 {
            let _ = connection.write(format!("{number};").as_bytes())?;
            let _ = connection.write_bytes(Bytes::from_static(b"shared;"))?;
        }
        assert_eq!(connection.queued(), 990);
        Ok(default(&event, connection, cx))
    });
    let (key, mut far, writes) = bench.open_recorded(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    assert_eq!(
        writes
            .borrow()
            .iter()
            .map(|write| write.bytes)
            .collect::<Vec<_>>(),
        [990]
    );
    assert!(
        bench
            .receive(&mut far, 990)
            .starts_with(b"0;shared;1;shared;")
    );
    assert_eq!(
        bench.with(key, |connection| (
            connection.queued(),
            connection.metrics().written
        )),
        (0, 990)
    );
    Ok(())
}

#[test]
fn writes_from_elsewhere_leave_at_the_end_of_the_turn_by_one_system_call() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far, writes) = bench.open_recorded(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let before = bench.reactor.metrics().kernel_updates;
    // In a timer: the deferred callbacks are still to come.
    bench.reactor.after(Duration::ZERO, move |cx| {
        for _ in 0..30 {
            let sent = key.with(cx, |connection, _| {
                let _ = connection.write(b"some ")?;
                connection.write_bytes(Bytes::from(vec![b'.'; 2000]))
            });
            assert_eq!(sent.unwrap().unwrap(), Flow::Open);
        }
        Ok(Then::Done)
    });
    bench.turn();
    assert_eq!(
        writes
            .borrow()
            .iter()
            .map(|write| write.bytes)
            .collect::<Vec<_>>(),
        [30 * 2005]
    );
    assert_eq!(bench.receive(&mut far, 30 * 2005).len(), 30 * 2005);
    assert_eq!(
        bench.reactor.metrics().kernel_updates,
        before,
        "the kernel need not know"
    );
    Ok(())
}

#[test]
fn a_write_from_outside_to_a_peer_that_reads_never_returns_full() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new()
        .watermarks(1000, 4000)
        .max_write_queue(6000);
    let (key, mut far) = bench.open_unix(&options, sink())?;
    bench.run_until_idle();
    let mut reads = far.try_clone()?;
    bench.reactor.defer(move |cx| {
        let mut heard = 0;
        for _ in 0..1000 {
            let sent = key.with(cx, |connection, _| connection.write(&[7; 1500]));
            assert_eq!(sent.unwrap().unwrap(), Flow::Open);
            while let Ok(more @ 1..) = reads.read(&mut [0; 4096]) {
                heard += more;
            }
        }
        assert!(heard > 1_400_000);
    });
    bench.run_until_idle();
    while far.read(&mut [0; 4096]).is_ok() {}
    assert!(!bench.world.has("drain"));
    // A peer that does not read does make it return `Full`.
    let full = bench.with(key, |connection| {
        (0..1000)
            .take_while(|_| matches!(connection.write(&[7; 1500]), Ok(Flow::Open)))
            .count()
    });
    assert!(full < 1000);
    Ok(())
}

#[test]
fn an_access_may_flush() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far, writes) = bench.open_recorded(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let recorded = Rc::clone(&writes);
    bench.with(key, move |connection| {
        assert_eq!(connection.flush(), Flow::Open);
        assert!(recorded.borrow().is_empty(), "there was nothing to flush");
        connection.write(b"now").map(drop).unwrap();
        assert_eq!(connection.flush(), Flow::Open);
        assert_eq!((recorded.borrow().len(), connection.queued()), (1, 0));
    });
    bench.run_until_idle();
    assert_eq!(
        (bench.receive(&mut far, 3), writes.borrow().len()),
        (b"now".to_vec(), 1)
    );
    Ok(())
}

#[test]
fn a_handler_may_flush_in_the_middle_of_a_callback() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Data(_)) {
            connection.write(b"one").map(drop)?;
            assert_eq!((connection.flush(), connection.queued()), (Flow::Open, 0));
            connection.write(b"two").map(drop)?;
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far, writes) = bench.open_recorded(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    far.write_all(b"x")?;
    assert_eq!(bench.receive(&mut far, 6), b"onetwo");
    assert_eq!(writes.borrow().len(), 2);
    Ok(())
}

#[test]
fn an_empty_write_makes_no_system_call() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| {
        assert_eq!(connection.write(b"")?, Flow::Open);
        assert_eq!(connection.write_bytes(Bytes::new())?, Flow::Open);
        Ok(default(&event, connection, cx))
    });
    let options = ConnectionOptions::new().max_write_queue(0);
    let (key, _far, writes) = bench.open_recorded(&options, handler)?;
    bench.run_until_idle();
    bench.with(key, |connection| {
        assert_eq!(connection.write(b"").unwrap(), Flow::Open);
        assert_eq!(connection.write_bytes(Bytes::new()).unwrap(), Flow::Open);
    });
    bench.run_until_idle();
    assert!(writes.borrow().is_empty() && !bench.world.is_closed());
    Ok(())
}

#[test]
fn a_large_shared_piece_is_copied_neither_when_written_nor_when_queued() -> Result {
    let mut bench = Bench::new()?;
    let pieces = [
        Bytes::from(pattern(MUCH)),
        Bytes::from(pattern(3000)),
        Bytes::from(pattern(MUCH)),
    ];
    let places: Vec<_> = pieces.iter().map(|piece| piece.as_ptr().addr()).collect();
    let handler = probe(move |event, connection, _| {
        if matches!(event, Event::Open) {
            let _ = connection.write(b"before")?;
            for piece in &pieces {
                assert_eq!(connection.write_bytes(piece.clone())?, Flow::Full);
            }
        }
        Ok(0)
    });
    let (_, mut far, writes) = bench.open_recorded(&ConnectionOptions::new(), handler)?;
    bench.run_until_idle();
    let received = bench.receive(&mut far, 6 + 2 * MUCH + 3000);
    assert!(
        received[6 + MUCH..][..3000] == pattern(3000)
            && received[9006 - 6000 + MUCH..] == pattern(MUCH)
    );
    let written: Vec<_> = writes
        .borrow()
        .iter()
        .flat_map(|write| write.slices.clone())
        .collect();
    assert!(
        places.iter().all(|place| written.contains(place)),
        "{places:?} {written:?}"
    );
    let rest_of_first = places[0] + 1..places[0] + MUCH;
    assert!(
        written.iter().any(|place| rest_of_first.contains(place)),
        "{places:?} {written:?}"
    );
    Ok(())
}

#[derive(Clone, Debug)]
enum Piece {
    Copied(usize),
    Shared(usize),
    CopiedByAccess(usize),
    SharedByAccess(usize),
    /// The peer reads some bytes.
    Read,
}

fn piece() -> impl Strategy<Value = Piece> {
    let length = || {
        prop_oneof![
            0..20_usize,
            900..1100_usize,
            16_000..17_000_usize,
            30_000..300_000_usize
        ]
    };
    prop_oneof![
        3 => length().prop_map(Piece::Copied),
        3 => length().prop_map(Piece::Shared),
        1 => length().prop_map(Piece::CopiedByAccess),
        1 => length().prop_map(Piece::SharedByAccess),
        2 => Just(Piece::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
    #[test]
    fn everything_comes_in_the_order_in_which_it_was_written(pieces in prop::collection::vec(piece(), 1..20)) {
        let mut bench = Bench::new().unwrap();
        let mut bytes = {
            let mut next = 0_u32;
            move |length: usize| -> Vec<u8> {
                (0..length).map(|_| { next = next.wrapping_mul(1_664_525).wrapping_add(1); (next >> 24) as u8 }).collect()
            }
        };
        let queue = Rc::new(std::cell::RefCell::new(Vec::<(bool, Vec<u8>)>::new()));
        let todo = Rc::clone(&queue);
        let handler = probe(move |event, connection, _| {
            if !matches!(event, Event::Timeout(_)) { return Ok(0) }
            for (shared, bytes) in todo.borrow_mut().drain(..) {
                let _ = if shared { connection.write_bytes(bytes.into())? } else { connection.write(&bytes)? };
            }
            Ok(0)
        });
        let (key, mut far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(1)), handler).unwrap();
        bench.run_until_idle();
        let (mut expected, mut received) = (Vec::new(), Vec::new());
        for piece in pieces.clone() {
            match piece {
                Piece::Copied(length) | Piece::Shared(length) => {
                    let bytes = bytes(length);
                    expected.extend_from_slice(&bytes);
                    queue.borrow_mut().push((matches!(piece, Piece::Shared(_)), bytes));
                }
                Piece::CopiedByAccess(length) | Piece::SharedByAccess(length) => {
                    bench.pass_a_second(); // the bytes that the handler has to write come first
                    let bytes = bytes(length);
                    expected.extend_from_slice(&bytes);
                    let shared = matches!(piece, Piece::SharedByAccess(_));
                    let _ = bench.with(key, move |connection| {
                        if shared { connection.write_bytes(bytes.into()) } else { connection.write(&bytes) }
                    }).unwrap();
                }
                Piece::Read => {
                    bench.pass_a_second();
                    let mut buf = vec![0; 50_000];
                    if let Ok(count) = far.read(&mut buf) { received.extend_from_slice(&buf[..count]); }
                }
            }
        }
        bench.pass_a_second();
        let rest = expected.len() - received.len();
        received.extend(bench.receive(&mut far, rest));
        prop_assert!(received == expected, "{pieces:?}");
        bench.run_until_idle();
        prop_assert_eq!(bench.with(key, |connection| connection.queued()), 0);
    }
}

/// The handler is notified once.
#[test]
fn a_producer_pauses_at_the_high_watermark_and_resumes_at_the_low_one() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().watermarks(10_000, 300_000);
    let (key, mut far) = bench.open_unix(&options, sink())?;
    bench.run_until_idle();
    let flow = bench.with(key, |connection| {
        loop {
            let flow = connection.write(&[7; 16_384]).unwrap();
            if flow == Flow::Full {
                assert!(
                    (300_000..300_000 + 16_384).contains(&connection.queued()),
                    "{}",
                    connection.queued()
                );
                break (
                    flow,
                    connection.metrics().written as usize + connection.queued(),
                );
            }
            assert!(connection.queued() < 300_000);
        }
    });
    bench.run_until_idle();
    assert!(!bench.world.has("drain"));
    bench.receive(&mut far, 300_000);
    bench.run_until_idle();
    let still_full = bench.with(key, |connection| {
        (
            (10_001..300_000).contains(&connection.queued()),
            connection.write(b"x").unwrap(),
        )
    });
    assert_eq!(
        (still_full, bench.world.count("drain")),
        ((true, Flow::Full), 0)
    );
    bench.receive(&mut far, flow.1 + 1 - 300_000);
    bench.run_until_idle();
    assert_eq!(bench.world.count("drain"), 1);
    assert_eq!(
        bench.with(key, |connection| connection.write(b"y").unwrap()),
        Flow::Open
    );
    Ok(())
}

#[test]
fn a_paused_producer_is_notified_once_also_if_the_queue_drains_at_once() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().watermarks(0, 10);
    let handler = probe(|event, connection, _| {
        if matches!(event, Event::Open) {
            assert_eq!(connection.write(b"12345")?, Flow::Open);
            assert_eq!(connection.write(b"67890")?, Flow::Full);
            assert_eq!(connection.write(b"more")?, Flow::Full);
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&options, handler)?;
    far.write_all(b"waits")?;
    bench.run_until_idle();
    assert_eq!(bench.world.log, ["open", "drain", "data waits"]);
    assert_eq!(bench.receive(&mut far, 14), b"1234567890more");
    bench.run_until_idle();
    assert_eq!(bench.world.count("drain"), 1);
    Ok(())
}

#[test]
fn a_producer_writes_an_endless_stream_guided_by_flow_and_on_drain() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().watermarks(1000, 100_000);
    let produce = |connection: &mut handlers::Connection<'_, crate::World>| -> std::io::Result<()> {
        while connection.metrics().written < 10_000_000
            && connection.write(&[1; 10_000])? == Flow::Open
        {}
        assert!(connection.queued() < 110_000);
        Ok(())
    };
    let handler = probe(move |event, connection, _| {
        if matches!(event, Event::Open | Event::Drain) {
            produce(connection)?;
        }
        Ok(0)
    });
    let (_, mut far) = bench.open_unix(&options, handler)?;
    bench.receive(&mut far, 10_000_000);
    assert!(bench.world.count("drain") > 20);
    Ok(())
}

/// The connection goes on.
#[test]
fn a_write_beyond_the_bound_of_the_queue_is_refused() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new()
        .max_write_queue(MUCH)
        .watermarks(10, 2 * MUCH);
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            assert_eq!(
                connection.write(&[0; MUCH + 1]).unwrap_err().kind(),
                ErrorKind::QuotaExceeded
            );
            assert_eq!(connection.queued(), 0);
            let _ = connection.write(&pattern(MUCH))?;
            let room = MUCH - connection.queued();
            assert!(room > 0 && room < MUCH);
            assert_eq!(
                connection.write(&vec![0; room + 1]).unwrap_err().kind(),
                ErrorKind::QuotaExceeded
            );
            let shared = connection.write_bytes(vec![0; room + 1].into());
            assert_eq!(shared.unwrap_err().kind(), ErrorKind::QuotaExceeded);
            assert_eq!(connection.write(b"!")?, Flow::Open);
        }
        Ok(default(&event, connection, cx))
    });
    let (_, mut far) = bench.open_unix(&options, handler)?;
    let received = bench.receive(&mut far, MUCH + 1);
    assert!(received[..MUCH] == pattern(MUCH) && received[MUCH] == b'!');
    far.write_all(b"on")?;
    bench.run_until_idle();
    assert!(bench.world.has("data on"));
    Ok(())
}

#[test]
fn queued_bytes_leave_in_turns_of_their_budget() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().max_bytes_per_turn(1000);
    let (key, _far, writes) = bench.open_recorded(&options, sink())?;
    bench.run_until_idle();
    bench
        .with(key, |connection| connection.write(&[0; 2500]).map(drop))
        .unwrap();
    bench.run_until_idle();
    assert_eq!(
        writes
            .borrow()
            .iter()
            .map(|write| write.bytes)
            .collect::<Vec<_>>(),
        [1000, 1000, 500]
    );
    Ok(())
}

#[test]
fn counters_count_the_bytes_that_have_passed() -> Result {
    let mut bench = Bench::new()?;
    let echo = probe(|event, connection, _| match event {
        Event::Data(data) => connection.write(data).map(|_flow| data.len()),
        _ => Ok(0),
    });
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), echo)?;
    far.write_all(&[1; 1000])?;
    bench.run_until_idle();
    let counters = bench.with(key, |connection| connection.metrics());
    assert_eq!((counters.read, counters.written), (1000, 1000));
    bench.send(&mut far, &pattern(MUCH / 4));
    bench.run_until_idle();
    let (counters, queued) = bench.with(key, |connection| {
        (connection.metrics(), connection.queued())
    });
    assert_eq!(counters.read, counters.written + queued as u64);
    Ok(())
}

#[test]
fn nothing_can_be_written_after_the_end_of_ones_own_direction() -> Result {
    for by_close in [false, true] {
        let mut bench = Bench::new()?;
        let handler = probe(move |event, connection, _| {
            if matches!(event, Event::Open) {
                let _ = connection.write(b"last")?;
                if by_close {
                    connection.close_after_flush(secs(5))
                } else {
                    connection.shutdown()
                }
                for _ in 0..2 {
                    assert_eq!(
                        connection.write(b"lost").unwrap_err().kind(),
                        ErrorKind::BrokenPipe
                    );
                    assert_eq!(
                        connection.write_bytes(Bytes::new()).unwrap_err().kind(),
                        ErrorKind::BrokenPipe
                    );
                }
            }
            Ok(0)
        });
        let (_, mut far) = bench.open_unix(&ConnectionOptions::new(), handler)?;
        assert_eq!(bench.receive_all(&mut far)?, b"last");
        assert!(!bench.world.is_closed());
    }
    Ok(())
}
