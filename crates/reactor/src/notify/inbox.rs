//! The state that a loop keeps for other threads.

use std::collections::{HashMap, VecDeque};

use super::address::LoopHub;
use super::calls::Calls;
use super::captures::{Captures, HandedOver};
use crate::primitives::Arc;
use crate::slots::Key;

/// The loop's side of everything that other threads send. `P` is the mailbox of posted closures.
pub(crate) struct LoopInbox<P> {
    /// The hub of this loop, made with the first queue.
    pub(crate) hub: Option<Arc<LoopHub>>,
    /// The queues that have values, on their way from the hub to their handlers.
    pub(crate) announced: VecDeque<Key>,
    pub(crate) queue_limits: HashMap<Key, usize>,
    /// The queue of the remotes, and the calls that wait for an answer from it.
    pub(crate) posts: Option<(Key, P, Arc<Calls>)>,
    /// The captures of the posted closures among the deferred callbacks.
    pub(crate) captures: Captures,
    pub(crate) handed_over: HandedOver,
    pub(crate) max_pending_posts: usize,
}

impl<P> Default for LoopInbox<P> {
    fn default() -> Self {
        Self {
            hub: None,
            announced: VecDeque::new(),
            queue_limits: HashMap::new(),
            posts: None,
            captures: Captures::default(),
            handed_over: HandedOver::default(),
            max_pending_posts: usize::MAX,
        }
    }
}
