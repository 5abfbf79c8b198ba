//! Futures on the loop.

mod spawning;

use reactor::{ManualClock, Reactor};

/// Returns a loop whose clock jumps to the next timer.
fn reactor<S: 'static>() -> Reactor<S> {
    let builder = Reactor::builder().clock(ManualClock::jumping());
    builder.build().expect("a loop")
}
