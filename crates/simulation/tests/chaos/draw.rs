//! Numbers that the random daemons draw, and panics that they want.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;
use std::time::Duration;

use simulation::random;

/// The words of a panic that a daemon wants.
const WANTED: &str = "as the seed wants";

/// Returns `true` once in `times` on average.
pub(crate) fn once_in(times: u64) -> bool {
    random(times) == 0
}

/// Returns a duration below `most`. Short ones are as likely as long ones.
pub(crate) fn duration(most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap();
    let magnitude = random(u64::from(u64::BITS - nanos.leading_zeros()));
    Duration::from_nanos(random(nanos >> magnitude))
}

/// Returns a number below `most`. Small ones are as likely as large ones.
pub(crate) fn size(most: u64) -> usize {
    let magnitude = random(u64::from(u64::BITS - most.leading_zeros()));
    random(most >> magnitude) as usize
}

/// Panics, sometimes with a payload that panics when it is dropped.
pub(crate) fn panic() -> ! {
    if once_in(2) {
        panic::panic_any(PanicsWhenDropped);
    }
    panic::panic_any(WANTED);
}

/// A value whose destructor panics, unless a panic unwinds already.
pub(crate) struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic::panic_any(WANTED);
        }
    }
}

/// Returns `true` for the payload of a panic that a daemon wants.
pub(crate) fn is_wanted(payload: &(dyn Any + Send)) -> bool {
    payload.is::<PanicsWhenDropped>() || payload.downcast_ref::<&str>() == Some(&WANTED)
}

thread_local! {
    /// Whether a panic of this simulation was not wanted. The loop may have caught it.
    static HAS_FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Begins a simulation: forgets the panics of the one before on this thread.
pub(crate) fn forget_failures() {
    HAS_FAILED.set(false);
}

/// Returns `true` if a panic of this simulation was not wanted.
pub(crate) fn has_failed() -> bool {
    HAS_FAILED.get()
}

/// Keeps the panics that daemons want out of the output, and records all others.
pub(crate) fn hide_wanted_panics() {
    static HIDDEN: Once = Once::new();
    HIDDEN.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !is_wanted(info.payload()) {
                HAS_FAILED.set(true);
                before(info);
            }
        }));
    });
}
