//! Addresses: what the senders of a queue know of its loop.

use std::sync::Arc;

use super::hub::{Hub, Signal};
use crate::slots::Key;
use crate::sys::Wake;

/// What the senders of a loop's queues share with it.
pub(crate) type LoopHub = Hub<Key, Wake>;

impl Signal for Wake {
    fn signal(&self) {
        self.wake();
    }
}

/// Where the handler of a queue is.
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

    /// Whether this is the thread of the loop.
    pub(super) fn is_loop_thread(&self) -> bool {
        self.hub.is_loop_thread()
    }
}
