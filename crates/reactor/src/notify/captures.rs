//! The captures of posted closures, by their types, and the count of closures that the loop has
//! taken over.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, VecDeque};

use super::address::LoopHub;
use crate::primitives::Arc;

/// An empty lane with more bytes of memory than this frees its memory.
const KEPT_BYTES: usize = 1 << 16;

/// Closures, by their type.
#[derive(Default)]
pub(crate) struct Captures {
    lanes: BTreeMap<TypeId, Box<dyn Lane>>,
}

/// The closures of one type.
trait Lane: Any + Send {
    /// Drops the first closure. Returns `true` if there was one.
    fn drop_next(&mut self) -> bool;
}

impl<F: Send + 'static> Lane for VecDeque<F> {
    fn drop_next(&mut self) -> bool {
        self.pop_front().is_some()
    }
}

impl Captures {
    #[inline]
    pub(super) fn put<F: Send + 'static>(&mut self, callback: F) {
        let lane = self
            .lanes
            .entry(TypeId::of::<F>())
            .or_insert_with(|| Box::new(VecDeque::<F>::new()));
        let lane: &mut dyn Any = &mut **lane;
        if let Some(lane) = lane.downcast_mut::<VecDeque<F>>() {
            lane.push_back(callback);
        }
    }

    #[inline]
    pub(super) fn take<F: 'static>(&mut self) -> Option<F> {
        let lane: &mut dyn Any = &mut **self.lanes.get_mut(&TypeId::of::<F>())?;
        let lane = lane.downcast_mut::<VecDeque<F>>()?;
        let callback = lane.pop_front();
        if lane.is_empty() && lane.capacity() * size_of::<F>() > KEPT_BYTES {
            *lane = VecDeque::new();
        }
        callback
    }

    /// Drops one of the closures, which may panic. Returns `true` if there was one.
    pub(crate) fn drop_next(&mut self) -> bool {
        self.lanes.values_mut().any(|lane| lane.drop_next())
    }
}

/// Counts the posted closures among the deferred callbacks. The count is kept at the hub, where the
/// remotes see it.
#[derive(Default)]
pub(crate) struct HandedOver {
    hub: Option<Arc<LoopHub>>,
    /// `true` while one of the closures runs, and after a panic has ended one.
    pub(super) is_running: bool,
}

impl HandedOver {
    /// Counts at `hub` from now on.
    pub(super) fn count_at(&mut self, hub: &Arc<LoopHub>) {
        self.hub.get_or_insert_with(|| Arc::clone(hub));
    }

    /// Returns `true` if it holds the hub.
    pub(crate) const fn is_counted(&self) -> bool {
        self.hub.is_some()
    }

    #[inline]
    pub(super) fn count_one(&self) {
        if let Some(hub) = &self.hub {
            hub.set_handed_over(hub.handed_over() + 1);
        }
    }

    /// Counts the end of a closure, if one was running.
    #[inline]
    pub(crate) fn end_run(&mut self) {
        if std::mem::take(&mut self.is_running)
            && let Some(hub) = &self.hub
        {
            hub.set_handed_over(hub.handed_over() - 1);
        }
    }
}

/// Closures that are dropped with their loop no longer count as pending.
impl Drop for HandedOver {
    fn drop(&mut self) {
        if let Some(hub) = &self.hub {
            hub.set_handed_over(0);
        }
    }
}
