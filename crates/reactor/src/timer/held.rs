//! Timeouts of sources that are due and cannot be delivered yet.

use std::collections::VecDeque;

use super::wheel::Due;
use crate::sys::reported_until::Sweep;

/// The held timeouts. If a timeout is restarted or ended, its record stays, and is dropped when it
/// is looked at.
#[derive(Debug, Default)]
pub(super) struct HeldTimeouts {
    /// Timeouts whose deadline is later than the last time at which the kernel was asked, in the
    /// order of their deadlines. Each has the sweep after which it is delivered at the latest.
    pub(super) unasked: VecDeque<(Due, Sweep)>,
    /// Timeouts whose source is queued. Each has the number of calls of the source when the timeout
    /// was held.
    pub(super) unserved: VecDeque<(Due, u64)>,
}

impl HeldTimeouts {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.unasked.is_empty() && self.unserved.is_empty()
    }
}
