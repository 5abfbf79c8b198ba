//! Timers and timeouts, on a clock that the tests drive.

mod asked;
mod changed;
mod clock;
mod drawn;
mod due;
mod model;
mod periodic;
mod slack;
mod timeout;
mod wall;

use std::io;
use std::time::{Duration, Instant};

use reactor::{Context, ManualClock, Reactor, Then};
use support::ms;

use crate::Result;

/// The callbacks that ran, with the time since the beginning.
type Log = Vec<(&'static str, Duration)>;

/// Returns a reactor on a manual clock, the clock, and its time at the beginning.
fn manual() -> Result<(Reactor<Log>, ManualClock, Instant)> {
    let clock = ManualClock::new();
    let began = clock.now();
    Ok((
        Reactor::builder().clock(clock.clone()).build()?,
        clock,
        began,
    ))
}

/// Returns a callback that notes its name and its time.
fn note(
    name: &'static str,
    began: Instant,
    then: Then,
) -> impl FnMut(&mut Context<'_, Log>) -> io::Result<Then> {
    move |cx| {
        cx.state.push((name, cx.now() - began));
        Ok(then)
    }
}
