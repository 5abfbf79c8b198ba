//! What a loop keeps of its other threads.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::calls::Calls;
use super::consumer::LoopHub;
use super::posts::{Captures, HandedOver, PostBox};
use crate::slots::Key;

/// The loop's side of all that other threads send.
pub(crate) struct LoopInbox<S> {
    /// Where other threads meet this loop, once there may be any.
    pub(crate) hub: Option<Arc<LoopHub>>,
    /// The queues that have something, on their way from the hub to their handlers.
    pub(crate) announced: VecDeque<Key>,
    pub(crate) queue_limits: HashMap<Key, usize>,
    /// The queue of the remotes, and the calls that wait for an answer to what is in it.
    pub(crate) posts: Option<(Key, PostBox<S>, Arc<Calls>)>,
    /// What the posted closures among the deferred callbacks have captured.
    pub(crate) captures: Captures,
    pub(crate) handed_over: HandedOver,
    pub(crate) max_pending_posts: usize,
}

impl<S> Default for LoopInbox<S> {
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
