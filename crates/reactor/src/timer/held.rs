//! Timeouts of sources that are due and cannot be told yet.

use std::collections::VecDeque;

use super::wheel::Due;
use crate::sys::reported_until::Sweep;

/// Records stay when a timeout is set anew or ended, and are found to be over when their turn comes.
#[derive(Debug, Default)]
pub(super) struct HeldTimeouts {
    /// Due later than the kernel is known to have been asked, by deadline. With the sweep that is waited for at most.
    pub(super) unasked: VecDeque<(Due, Sweep)>,
    /// The source is queued. With how often it had been called when the timeout was held.
    pub(super) unserved: VecDeque<(Due, u64)>,
}

impl HeldTimeouts {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.unasked.is_empty() && self.unserved.is_empty()
    }
}
