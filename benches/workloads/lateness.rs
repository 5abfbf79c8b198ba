//! How late timers of 100 us to 1 ms run, one after the other, in high resolution.

use std::time::{Duration, Instant};

use reactor::{Reactor, Then};

use crate::{Result, random};

const TIMERS: usize = 2000;

pub(crate) fn run() -> Result {
    let mut reactor = Reactor::<Vec<u128>>::builder().high_resolution().build()?;
    let mut seed = 88_172_645_463_325_252;
    let mut due = Instant::now();
    reactor.after(Duration::ZERO, move |cx| {
        let now = Instant::now();
        cx.state.push((now - due).as_nanos());
        if cx.state.len() > TIMERS {
            return Ok(Then::Done);
        }
        due = now + Duration::from_nanos(100_000 + random(&mut seed) % 900_000);
        Ok(Then::At(due))
    });
    let mut late = Vec::with_capacity(TIMERS + 1);
    reactor.run(&mut late)?;
    late.remove(0);
    late.sort_unstable();
    println!("{{\"ns_per_op\": {}, \"ns_median\": {}}}", late[TIMERS * 99 / 100], late[TIMERS / 2]);
    Ok(())
}
