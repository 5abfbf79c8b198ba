//! Slack: timers that may be late, so that they share a wakeup.

use std::time::Duration;

use reactor::{Missed, Next, Then};

use super::{Log, manual, ms, note};
use crate::Result;

#[test]
fn slack_can_be_set_again_and_taken_back() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let aligned = Duration::from_nanos(1 << 25);
    let first = reactor.after(aligned, note("first", began, Then::Done));
    let second = reactor.after(aligned, note("second", began, Then::Done));
    // No slack before and now: the timer keeps its rank.
    reactor.set_timer_slack(first, Duration::ZERO)?;
    reactor.set_timer_slack(second, ms(20))?;
    assert_eq!(
        reactor.remaining(second)?,
        Some(aligned),
        "the time with most zeros is its own"
    );
    let moved = reactor.after(ms(1), note("moved", began, Then::Done));
    for _ in 0..10 {
        reactor.set_timer_slack(moved, ms(50))?;
    }
    assert!(
        reactor
            .remaining(moved)?
            .is_some_and(|left| left > ms(1) && left <= ms(51))
    );
    reactor.set_timer_slack(moved, Duration::ZERO)?;
    assert_eq!(reactor.remaining(moved)?, Some(ms(1)));
    let never = reactor.after(Duration::MAX, note("never", began, Then::Done));
    reactor.set_timer_slack(never, Duration::MAX)?;
    // Unlimited slack is no slack: there is no such time.
    reactor.set_timer_slack(first, Duration::MAX)?;
    let mut log = Log::new();
    reactor.advance(&mut log, ms(40))?;
    assert_eq!(
        log.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["moved", "first", "second"]
    );
    Ok(())
}

#[test]
fn slack_lets_timers_share_a_wakeup_and_none_is_early_or_too_late() -> Result {
    let wakes = |slack| -> Result<usize> {
        let (mut reactor, _clock, began) = manual()?;
        for delay in 1..=1000_u64 {
            let timer = reactor.after(Duration::ZERO, note("", began, Then::Done));
            reactor.set_timer_slack(timer, slack)?;
            reactor.reset(timer, Duration::from_micros(delay * 1234))?;
        }
        let mut log = Log::new();
        reactor.advance(&mut log, Duration::from_secs(2))?;
        assert_eq!(log.len(), 1000);
        for (ran, delay) in log.iter().map(|(_, ran)| *ran).zip(1..) {
            let due = Duration::from_micros(delay * 1234);
            assert!((due..=due + slack).contains(&ran), "{due:?} ran at {ran:?}");
        }
        log.dedup_by_key(|(_, ran)| *ran);
        Ok(log.len())
    };
    assert_eq!(wakes(Duration::ZERO)?, 1000);
    // 2^25 ns, which is 34 ms, fits into 50 ms, and 2^26 ns does not.
    assert_eq!(wakes(ms(50))?, 1234_usize.div_ceil(34) + 1);
    Ok(())
}

#[test]
fn slack_moves_a_periodic_timer_s_ticks_but_not_its_period() -> Result {
    let (mut reactor, _clock, began) = manual()?;
    let timer = reactor.every(ms(100), Missed::Skip, move |cx| {
        cx.state.push(("tick", cx.now() - began));
        Ok(Next::Keep)
    });
    reactor.set_timer_slack(timer, ms(20))?;
    let mut log = Log::new();
    reactor.advance(&mut log, ms(1000) + ms(20))?;
    assert_eq!(log.len(), 10);
    for ((_, ran), tick) in log.iter().zip(1..) {
        assert!(
            (ms(100 * tick)..=ms(100 * tick + 20)).contains(ran),
            "tick {tick} at {ran:?}"
        );
    }
    Ok(())
}
