//! Helpers that the tests of several crates share.

use std::error::Error;
use std::time::Duration;

mod haproxy;
mod loops;
mod sockets;
mod system;

pub use haproxy::Haproxy;
pub use loops::{Slow, add_slow_handler, in_time, run_out, turn_until, turn_until_quiet};
pub use sockets::{Silent, listen, reset, silent_listener, tcp_pair};
pub use system::{
    DescriptorLimit, example, file_with, is_installed, is_open, or_skipped, terminal,
    wait_until_readable,
};

/// The result of a helper, and of a test.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The time after which a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns a duration of this many milliseconds.
pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
