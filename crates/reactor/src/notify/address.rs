//! Addresses: the facts about a loop that the senders of a queue need.

use super::hub::{Hub, Signal};
use crate::primitives::Arc;
use crate::slots::Key;
use crate::sys::Wake;

/// The hub that the senders of a loop's queues share with the loop.
pub(crate) type LoopHub = Hub<Key, Wake>;

impl Signal for Wake {
    fn signal(&self) {
        self.wake();
    }
}

/// The place of the handler of a queue.
#[derive(Debug)]
pub(crate) struct QueueAddress {
    hub: Arc<LoopHub>,
    key: Key,
}

impl QueueAddress {
    pub(super) const fn new(hub: Arc<LoopHub>, key: Key) -> Self {
        Self { hub, key }
    }

    pub(crate) fn notify(&self) {
        self.hub.notify(self.key);
    }

    /// Returns `true` on the thread of the loop.
    pub(super) fn is_loop_thread(&self) -> bool {
        self.hub.is_loop_thread()
    }
}
