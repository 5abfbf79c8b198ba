//! Signals, sent to this process for real; each test has signals of its own, or a process of its own.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod process;
mod storm;
mod watcher;

use handlers::signal::{self, Signal};
use reactor::{Key, Next, Reactor};
use support::{PATIENCE, turn_until};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the handlers of a test note: signals by number.
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
