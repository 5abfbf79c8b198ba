//! Fairness between tasks: how many operations a task may do in one poll.
//!
//! A source, a queue or a stream that is always ready lets its task go on without an end, and the
//! budget of a turn is looked at between polls only. So after some operations the task is woken and
//! gives way, as if it had met a `WouldBlock`.

use std::cell::Cell;
use std::task::{Context, Poll};

/// The number of operations in a poll. At 64 KiB each it is 4 MiB, about a millisecond.
const MAX_OPERATIONS: u32 = 64;

thread_local! {
    /// The number of operations that the poll may still do.
    static LEFT: Cell<u32> = const { Cell::new(MAX_OPERATIONS) };
}

/// Begins a poll of a task.
pub(super) fn begin_poll() {
    set_left(MAX_OPERATIONS);
}

/// Counts an operation. Returns `Pending`, and wakes the task, if it has done enough of them.
pub(super) fn poll_proceed(cx: &Context<'_>) -> Poll<()> {
    match LEFT.try_with(Cell::get).unwrap_or(MAX_OPERATIONS) {
        0 => {
            set_left(MAX_OPERATIONS); // for a poll that is not begun here
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        left => {
            set_left(left - 1);
            Poll::Ready(())
        }
    }
}

/// Returns `true` if the next operation of the poll gives way.
pub(super) fn is_used_up() -> bool {
    LEFT.try_with(Cell::get).is_ok_and(|left| left == 0)
}

fn set_left(left: u32) {
    let _ = LEFT.try_with(|cell| cell.set(left)); // the thread may be ending
}

/// The operations that are left to the task that a thread polls.
#[cfg(feature = "simulation")]
pub(super) struct Left(u32);

#[cfg(feature = "simulation")]
impl Default for Left {
    fn default() -> Self {
        Self(MAX_OPERATIONS)
    }
}

/// Replaces the number of this thread. Returns the number before.
#[cfg(feature = "simulation")]
pub(super) fn replace(left: Left) -> Left {
    Left(LEFT.replace(left.0))
}
