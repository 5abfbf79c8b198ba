//! Rates of reading and writing, on a manual clock.

use std::io::Write;

use handlers::{ConnectionOptions, RateLimit};

use crate::{Bench, Event, Result, default, ms, pattern, probe, secs, sink};

#[test]
fn a_read_rate_passes_a_burst_and_then_its_bytes_per_second() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().read_rate(RateLimit::new(1000, 800));
    let (key, mut far) = bench.open_unix(&options, sink())?;
    far.write_all(&[0; 10_000])?;
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 800);
    for second in 1..=9 {
        bench.advance(ms(500));
        bench.with(key, |connection| connection.pause_reading());
        bench.with(key, |connection| connection.resume_reading());
        bench.advance(ms(500));
        let received = bench.world.received.len();
        assert!(
            (700 + 1000 * second..=800 + 1000 * second).contains(&received),
            "{received} in {second} s"
        );
    }
    bench.advance(secs(1));
    assert_eq!(bench.world.received.len(), 10_000);
    Ok(())
}

#[test]
fn a_write_rate_passes_a_burst_and_then_its_bytes_per_second() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().write_rate(RateLimit::new(1000, 800));
    let handler = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            let _ = connection.write(&[0; 4000])?;
            let _ = connection.write_bytes(vec![0; 20_000].into())?;
        }
        Ok(default(&event, connection, cx))
    });
    let (key, _far) = bench.open_unix(&options, handler)?;
    bench.run_until_idle();
    for second in 0..=20 {
        let written = bench.with(key, |connection| connection.metrics().written);
        assert!(
            (700 + 1000 * second..=800 + 1000 * second).contains(&written),
            "{written} in {second} s"
        );
        bench.advance(secs(1));
    }
    bench.advance(secs(10));
    assert_eq!(
        bench.with(key, |connection| connection.metrics().written),
        24_000
    );
    Ok(())
}

#[test]
fn a_write_rate_holds_for_the_answers_of_every_callback() -> Result {
    let mut bench = Bench::new()?;
    let options = ConnectionOptions::new().write_rate(RateLimit::new(1000, 800));
    let echo = probe(|event, connection, cx| match event {
        Event::Data(data) => connection.write(data).map(|_flow| data.len()),
        event => Ok(default(&event, connection, cx)),
    });
    let (key, mut far) = bench.open_unix(&options, echo)?;
    for _ in 0..3 {
        bench.run_until_idle();
        far.write_all(&[0; 600])?;
    }
    bench.run_until_idle();
    let written = bench.with(key, |connection| connection.metrics().written);
    assert_eq!(written, 800);
    Ok(())
}

#[test]
fn the_rest_after_a_burst_waits_no_longer_than_needed() -> Result {
    let mut bench = Bench::new()?;
    let limit = || RateLimit::new(10_000, 100_000);
    let (_, mut far) = bench.open_unix(
        &ConnectionOptions::new()
            .read_rate(limit())
            .max_bytes_per_turn(usize::MAX),
        sink(),
    )?;
    far.write_all(&[0; 101_000])?;
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 100_000);
    bench.advance(ms(100));
    assert_eq!(bench.world.received.len(), 101_000, "read");
    let writes = probe(|event, connection, cx| {
        if matches!(event, Event::Open) {
            let _ = connection.write(&[0; 100_500])?;
        }
        Ok(default(&event, connection, cx))
    });
    let (key, _far) = bench.open_unix(&ConnectionOptions::new().write_rate(limit()), writes)?;
    bench.run_until_idle();
    assert_eq!(
        bench.with(key, |connection| connection.metrics().written),
        100_000
    );
    bench.advance(ms(50));
    assert_eq!(
        bench.with(key, |connection| connection.metrics().written),
        100_500
    );
    Ok(())
}

#[test]
fn a_burst_without_a_bound_lets_all_pass_and_a_rate_of_1_a_byte_a_second() -> Result {
    let mut bench = Bench::new()?;
    let options = |rate, burst| ConnectionOptions::new().read_rate(RateLimit::new(rate, burst));
    for (rate, burst) in [
        (0, u64::MAX),
        (1, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
    ] {
        let (_, mut far) = bench.open_unix(&options(rate, burst), sink())?;
        for part in 1..=3 {
            far.write_all(b"x")?;
            bench.run_until_idle();
            bench.advance(ms(1));
            assert_eq!(bench.world.received.len(), part, "{rate}, {burst}");
        }
        bench.world.received.clear();
    }
    let (_, mut far) = bench.open_unix(&options(0, 0), sink())?;
    far.write_all(b"abc")?;
    bench.run_until_idle();
    assert_eq!(bench.world.received, b"a");
    bench.advance(ms(999));
    assert_eq!(bench.world.received, b"a");
    bench.advance(ms(1));
    assert_eq!(bench.world.received, b"ab");
    Ok(())
}

#[test]
fn connections_share_a_rate_and_have_their_own_beside_it() -> Result {
    let mut bench = Bench::new()?;
    let shared = RateLimit::new(1000, 1000);
    let options = ConnectionOptions::new()
        .shared_read_rate(shared)
        .read_rate(RateLimit::new(600, 600));
    let (_, mut one) = bench.open_unix(&options, sink())?;
    let (_, mut other) = bench.open_unix(&options, sink())?;
    one.write_all(&[0; 5000])?;
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 600);
    other.write_all(&[0; 5000])?;
    bench.run_until_idle();
    assert_eq!(bench.world.received.len(), 1000);
    for second in 1..=8 {
        bench.advance(secs(1));
        let received = bench.world.received.len();
        assert!(
            (800 + 1000 * second..=1000 + 1000 * second).contains(&received),
            "{received} in {second} s"
        );
    }
    Ok(())
}

#[test]
fn a_connection_is_not_idle_while_a_rate_holds_it_back() -> Result {
    for shared in [false, true] {
        let mut bench = Bench::new()?;
        let limit = RateLimit::new(1000, 8000);
        let options = ConnectionOptions::new().idle_timeout(ms(500));
        let options = if shared {
            options.shared_read_rate(limit)
        } else {
            options.read_rate(limit)
        };
        let (_, mut far) = bench.open_tcp(&options, sink())?;
        bench.run_until_idle();
        far.write_all(&pattern(20_000))?;
        bench.until(|world| !world.received.is_empty());
        bench.advance(secs(13));
        assert!(
            bench.world.received == pattern(20_000),
            "{} bytes",
            bench.world.received.len()
        );
        bench.advance(secs(1));
        assert_eq!(bench.until_closed(), "close TimedOut(Idle)");
    }
    Ok(())
}
