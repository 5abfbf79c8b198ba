//! Signals, really sent to this process. Each test has its own signals or its own process.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod process;
mod storm;
mod watcher;

use handlers::signal::{self, Signal};
use reactor::{Key, Next, Reactor};
use support::{PATIENCE, Result, turn_until};

/// The notes of the handlers of a test: the numbers of signals.
type Seen = Vec<i32>;

fn real_time(offset: u8) -> Signal {
    Signal::real_time(offset).expect("there are 30 of them")
}

/// Watches `signals`, and notes their numbers.
fn watch(reactor: &mut Reactor<Seen>, signals: &[Signal]) -> Result<Key> {
    Ok(signal::watch(
        reactor,
        signals.iter().copied(),
        |arrival, cx| {
            cx.state.push(arrival.signal.as_raw());
            Ok(Next::Keep)
        },
    )?)
}
