//! Timeouts, on a manual clock.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use handlers::{Connection, ConnectionHandler, ConnectionOptions, Flow, RateLimit, Timeout};
use proptest::prelude::*;

use crate::{Bench, Event, Result, World, default, ms, pattern, probe, secs, sink};

/// More bytes than the buffers of a socket hold.
const MUCH: usize = 1 << 20;

/// A handler that ignores every timeout.
fn patient() -> impl ConnectionHandler<World> {
    probe(|event, connection, cx| match event {
        Event::Timeout(_) => Ok(0),
        event => Ok(default(&event, connection, cx)),
    })
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout_and_never_before() -> Result {
    let mut bench = Bench::new()?;
    let (_, _far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    bench.advance(ms(9999));
    assert_eq!(bench.world.log, ["open"]);
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Idle)");
    assert_eq!(
        bench.world.log,
        ["open", "timeout Idle", "close TimedOut(Idle)"]
    );
    Ok(())
}

#[test]
fn bytes_in_either_direction_put_an_idle_timeout_off() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) =
        bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    for round in 0..6 {
        bench.advance(secs(9));
        if round % 2 == 0 {
            far.write_all(b"in")?;
        } else {
            let _ = bench.with(key, |connection| connection.write(b"out"))?;
        }
        bench.run_until_idle();
    }
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Idle)");
    Ok(())
}

#[test]
fn an_answer_to_the_end_of_a_stream_puts_an_idle_timeout_off() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::End(_) => connection.write(b"half an answer").map(|_flow| 0),
        event => Ok(default(&event, connection, cx)),
    });
    let (_, mut far) =
        bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), handler)?;
    far.write_all(b"the end")?;
    bench.run_until_idle();
    bench.advance(secs(9));
    far.shutdown(std::net::Shutdown::Write)?;
    bench.run_until_idle();
    bench.advance(ms(9999));
    assert_eq!(bench.world.log, ["open", "data the end", "end "]);
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Idle)");
    Ok(())
}

#[test]
fn events_without_bytes_do_not_extend_an_idle_timeout() -> Result {
    let mut bench = Bench::new()?;
    let (key, _far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    // The socket is full from here on.
    let _ = bench.with(key, |connection| connection.write(&pattern(MUCH)))?;
    bench.run_until_idle();
    for _ in 0..3 {
        bench.advance(secs(3));
        bench.with(key, |connection| {
            connection.pause_reading();
            connection.resume_reading();
        });
        let _ = bench.with(key, |connection| connection.write(b"queued"))?;
        bench.run_until_idle();
    }
    bench.advance(secs(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Idle)");
    Ok(())
}

#[test]
fn a_timeout_that_does_not_close_is_rearmed() -> Result {
    let mut bench = Bench::new()?;
    let (_, _far) = bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), patient())?;
    bench.run_until_idle();
    bench.advance(ms(19_999));
    assert_eq!(bench.world.count("timeout Idle"), 1);
    bench.advance(ms(10_001));
    assert_eq!(bench.world.count("timeout Idle"), 3);
    Ok(())
}

#[test]
fn a_write_timeout_that_does_not_close_is_rearmed() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().write_timeout(secs(10));
    let (key, _far) = bench.open_unix(&options, patient())?;
    bench.run_until_idle();
    let _ = bench.with(key, |connection| connection.write(&pattern(MUCH)))?;
    bench.run_until_idle();
    bench.advance(ms(19_999));
    assert_eq!(bench.world.count("timeout Write"), 1);
    bench.advance(ms(10_001));
    assert_eq!(bench.world.count("timeout Write"), 3);
    Ok(())
}

#[test]
fn a_timeout_that_does_not_close_puts_no_other_off() -> Result {
    for (idle, read) in [(10, 15), (60, 5)] {
        let mut bench = Bench::new()?;
        let options = ConnectionOptions::new()
            .idle_timeout(secs(idle))
            .read_timeout(secs(read));
        let (_, _far) = bench.open_unix(&options, patient())?;
        bench.run_until_idle();
        bench.advance(secs(60));
        let passed = (
            bench.world.count("timeout Idle"),
            bench.world.count("timeout Read"),
        );
        assert_eq!(passed, (60 / idle as usize, 60 / read as usize));
    }
    Ok(())
}

#[test]
fn a_handler_that_closes_after_flush_on_a_timeout_gets_the_result() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::Timeout(_) => {
            let _ = connection.write(b"too slow")?;
            connection.close_after_flush(secs(1));
            Ok(0)
        }
        event => Ok(default(&event, connection, cx)),
    });
    let (_, mut far) =
        bench.open_unix(&ConnectionOptions::new().idle_timeout(secs(10)), handler)?;
    bench.run_until_idle();
    bench.advance(secs(10));
    assert_eq!(bench.receive_all(&mut far)?, b"too slow");
    drop(far);
    assert_eq!(bench.until_closed(), "close Finished");
    Ok(())
}

#[test]
fn a_read_timeout_runs_only_while_something_is_read() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) =
        bench.open_unix(&ConnectionOptions::new().read_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    bench.advance(secs(9));
    bench.with(key, |connection| connection.pause_reading());
    bench.advance(secs(100));
    bench.with(key, |connection| connection.resume_reading());
    bench.advance(secs(9));
    let _ = bench.with(key, |connection| connection.write(b"is not reading"))?;
    far.write_all(b"is")?;
    bench.run_until_idle();
    let _ = bench.with(key, |connection| connection.write(b"is not reading"))?;
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Read)");
    Ok(())
}

#[test]
fn a_read_timeout_does_not_run_while_the_queue_is_full() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) =
        bench.open_unix(&ConnectionOptions::new().read_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    assert_eq!(
        bench.with(key, |connection| connection.write(&pattern(MUCH)))?,
        Flow::Full
    );
    bench.run_until_idle();
    bench.advance(secs(100));
    bench.receive(&mut far, MUCH);
    bench.run_until_idle();
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Read)");
    Ok(())
}

#[test]
fn a_write_timeout_runs_only_while_something_is_queued_and_not_taken() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) =
        bench.open_unix(&ConnectionOptions::new().write_timeout(secs(10)), sink())?;
    bench.run_until_idle();
    bench.advance(secs(100));
    let _ = bench.with(key, |connection| connection.write(&pattern(MUCH)))?;
    bench.run_until_idle();
    let mut buf = vec![0; MUCH / 2];
    for _ in 0..2 {
        bench.advance(ms(9999));
        assert!(far.read(&mut buf)? > 0);
        bench.run_until_idle();
    }
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Write)");
    Ok(())
}

/// Another process that shares the socket may fill its buffer. The write timeout then runs from the
/// first bytes that are queued, and the idle timeout from the last byte of the connection.
#[test]
fn bytes_of_which_the_kernel_takes_none_begin_a_wait_and_extend_none() -> Result {
    // A long write is tried at once, a short one later in the turn.
    let (short, long) = (100, 100_000);
    let write_timeout = ConnectionOptions::new().write_timeout(secs(10));
    let idle_timeout = ConnectionOptions::new().idle_timeout(secs(19));
    for (options, length, end) in [
        (&write_timeout, short, "Write"),
        (&write_timeout, long, "Write"),
        (&idle_timeout, short, "Idle"),
        (&idle_timeout, long, "Idle"),
    ] {
        let mut bench = Bench::new()?;
        let (near, _far) = UnixStream::pair()?;
        let mut shared = near.try_clone()?;
        let key = Connection::open(&mut bench.reactor, near, options, sink())?;
        bench.run_until_idle();
        bench.advance(secs(9));
        while shared.write(&[0; 4096]).is_ok() {}
        let _ = bench.with(key, move |connection| connection.write(&vec![0; length]))?;
        bench.run_until_idle();
        bench.advance(ms(9999));
        assert!(!bench.world.is_closed(), "{end}");
        bench.advance(ms(1));
        assert_eq!(bench.until_closed(), format!("close TimedOut({end})"));
    }
    Ok(())
}

#[test]
fn a_half_closed_peer_that_never_reads_ends_by_the_write_timeout() -> Result {
    let mut bench = Bench::new()?;
    let handler = probe(|event, connection, cx| match event {
        Event::Data(question) => connection.write(&pattern(MUCH)).map(|_flow| question.len()),
        event => Ok(default(&event, connection, cx)),
    });
    let (_, mut far) =
        bench.open_unix(&ConnectionOptions::new().write_timeout(secs(10)), handler)?;
    far.write_all(b"a question")?;
    far.shutdown(std::net::Shutdown::Write)?;
    bench.run_until_idle();
    bench.advance(ms(9999));
    assert!(!bench.world.is_closed());
    bench.advance(ms(1));
    assert_eq!(bench.until_closed(), "close TimedOut(Write)");
    Ok(())
}

#[test]
fn without_timeouts_silent_peers_and_peers_that_do_not_read_stay() -> Result {
    let mut bench = Bench::new()?;
    let (_, _silent) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    let (key, _deaf) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    let _ = bench.with(key, |connection| connection.write(&pattern(MUCH)))?;
    bench.run_until_idle();
    bench.advance(secs(365 * 24 * 3600));
    assert_eq!(bench.world.log, ["open", "open"]);
    Ok(())
}

#[test]
fn bytes_held_by_our_own_rate_do_not_time_out_the_peer() -> Result {
    let mut bench = Bench::new()?;
    let slow = RateLimit::new(1, 80);
    let options = ConnectionOptions::new()
        .read_timeout(secs(5))
        .write_timeout(secs(5));
    let (key, mut far) =
        bench.open_unix(&options.read_rate(slow.clone()).write_rate(slow), sink())?;
    bench.run_until_idle();
    let _ = bench.with(key, |connection| connection.write(&[0; 100]))?;
    far.write_all(&[0; 100])?;
    bench.run_until_idle();
    // Ten bytes each per 10 s, so that a pause is longer than either timeout.
    bench.advance(secs(20));
    assert!(
        !bench.world.has("timeout Write") && !bench.world.has("timeout Read"),
        "{:?}",
        bench.world.log
    );
    assert_eq!(bench.world.received.len(), 100);
    Ok(())
}

#[test]
fn new_options_hold_from_then_on() -> Result {
    let mut bench = Bench::new()?;
    let (key, mut far) = bench.open_unix(&ConnectionOptions::new(), sink())?;
    bench.run_until_idle();
    bench.advance(secs(100));
    bench.with(key, |connection| {
        connection.set_options(&ConnectionOptions::new().idle_timeout(secs(10)))
    });
    bench.advance(secs(9));
    let slow = ConnectionOptions::new().read_rate(RateLimit::new(10, 10));
    bench.with(key, move |connection| connection.set_options(&slow));
    bench.advance(secs(100));
    assert_eq!(bench.world.log, ["open"]);
    far.write_all(&[0; 100])?;
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 10);
    bench.with(key, |connection| {
        connection.set_options(&ConnectionOptions::new())
    });
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 100);
    Ok(())
}

/// A step of the test on a connection that echoes.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    PeerSends,
    AccessWrites,
    Pause,
    Resume,
    /// The idle timeout and the read timeout, in milliseconds.
    Options(Option<u64>, Option<u64>),
    /// The deadline, in milliseconds from now.
    Deadline(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let timeout = || prop::option::of(1..50_u64);
    prop_oneof![
        6 => (0..30_u64).prop_map(Step::Wait),
        1 => (30..200_u64).prop_map(Step::Wait),
        6 => Just(Step::PeerSends),
        2 => Just(Step::AccessWrites),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => (timeout(), timeout()).prop_map(|(idle, read)| Step::Options(idle, read)),
        3 => timeout().prop_map(Step::Deadline),
    ]
}

/// Timeouts as the documentation describes them, checked each millisecond.
#[derive(Default)]
struct Watch {
    now: u64,
    idle: Option<u64>,
    read: Option<u64>,
    deadline: Option<u64>,
    last_byte: u64,
    last_read: u64,
    paused: bool,
    unread: bool,
    told: Vec<(Timeout, u64)>,
}

impl Watch {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Wait(time) => (0..time).for_each(|_| self.tick()),
            Step::PeerSends => self.unread = true,
            Step::AccessWrites => self.last_byte = self.now,
            Step::Pause => self.paused = true,
            Step::Resume if self.paused => (self.paused, self.last_read) = (false, self.now),
            Step::Resume => {}
            Step::Options(idle, read) => {
                (self.idle, self.read, self.last_byte, self.last_read) =
                    (idle, read, self.now, self.now);
            }
            Step::Deadline(length) => self.deadline = length.map(|length| self.now + length),
        }
        if self.unread && !self.paused {
            (self.unread, self.last_byte, self.last_read) = (false, self.now, self.now);
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        if self.deadline.take_if(|by| *by == self.now).is_some() {
            self.told.push((Timeout::Deadline, self.now));
        }
        if !self.paused
            && self
                .read
                .is_some_and(|read| self.last_read + read == self.now)
        {
            self.last_read = self.now;
            self.told.push((Timeout::Read, self.now));
        }
        if self
            .idle
            .is_some_and(|idle| self.last_byte + idle == self.now)
        {
            self.last_byte = self.now;
            self.told.push((Timeout::Idle, self.now));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn timeouts_agree_with_a_model_that_steps_each_millisecond(
        steps in prop::collection::vec(step(), 1..60),
        (idle, read) in (prop::option::of(1..50_u64), prop::option::of(1..50_u64)),
    ) {
        let mut bench = Bench::new().unwrap();
        let began = bench.reactor.now();
        let handler = probe(move |event, connection, cx| match event {
            Event::Data(data) => connection.write(data).map(|_flow| data.len()),
            Event::Timeout(timeout) => {
                cx.state.timeouts.push((timeout, (cx.now() - began).as_millis() as u64));
                Ok(0)
            }
            event => Ok(default(&event, connection, cx)),
        });
        let options = |idle: Option<u64>, read: Option<u64>| {
            ConnectionOptions::new().idle_timeout(idle.map(ms)).read_timeout(read.map(ms))
        };
        let (key, mut far) = bench.open_unix(&options(idle, read), handler).unwrap();
        bench.run_until_idle();
        let mut watch = Watch { idle, read, ..Watch::default() };
        for step in &steps {
            match *step {
                Step::Wait(time) => bench.advance(ms(time)),
                Step::PeerSends => far.write_all(b"x").unwrap(),
                Step::AccessWrites => drop(bench.with(key, |connection| connection.write(b"y")).unwrap()),
                Step::Pause => bench.with(key, |connection| connection.pause_reading()),
                Step::Resume => bench.with(key, |connection| connection.resume_reading()),
                Step::Options(idle, read) => {
                    bench.with(key, move |connection| connection.set_options(&options(idle, read)));
                }
                Step::Deadline(length) => {
                    bench.with(key, move |connection| connection.set_deadline(length.map(ms)));
                }
            }
            bench.run_until_idle();
            watch.take(step);
            prop_assert_eq!(&bench.world.timeouts, &watch.told, "after {:?}", step);
        }
    }
}
