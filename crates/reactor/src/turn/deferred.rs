//! Deferred callbacks: each runs once, after the sources of a turn, in the order of deferral.

use std::fmt;
use std::panic::Location;

use super::policies::Label;
use super::supervised_call::supervise_under;
use crate::callback::{Deferred, Task};
use crate::context::Context;
use crate::error::Error;
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::Key;
use crate::source::readiness::Readiness;

/// The number of deferred callbacks for which room is always kept. If a turn has more than an
/// eighth of this number, room for eight times as many as the turn has is kept.
const DEFERRED_KEPT: usize = 4096;

/// The name of a deferred callback, for
/// [`Registry::cancel_deferred`](crate::Registry::cancel_deferred). It is stale, like a [`Key`],
/// once the callback runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeferredKey(
    /// The number of callbacks that had been deferred before this one.
    u64,
);

/// The key as shown in [`Error::StaleKey`].
impl From<DeferredKey> for Key {
    fn from(deferred: DeferredKey) -> Self {
        Self::from_token(deferred.0)
    }
}

/// Displays as the key in [`Error::StaleKey`] does.
impl fmt::Display for DeferredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::from(*self).fmt(f)
    }
}

impl<S> Deferred<S> {
    /// Returns `true` if this is only the place of a callback that was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.key == Key::CANCELLED
    }
}

impl<S> Registry<S> {
    /// Runs `callback` once, after the handlers of the sources of this
    /// [turn](crate::Reactor::turn), or of the next turn if no turn is running. Deferred callbacks
    /// run in the order in which they were deferred. Returns a key for
    /// [`cancel_deferred`](Self::cancel_deferred).
    ///
    /// If a deferred callback defers another callback, the new callback runs next turn, and the
    /// loop does not sleep before the next turn. A callback that always defers itself therefore
    /// starves no other callback. If a deferred callback panics, the [panic
    /// policy](crate::PanicPolicy) of the loop applies.
    ///
    /// # Cost
    /// O(1). One allocation if the closure captures anything.
    ///
    /// ```
    /// use reactor::Reactor;
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = Reactor::<Vec<u32>>::new()?;
    /// reactor.defer(|cx| {
    ///     cx.registry.defer(|cx| cx.state.push(3)); // next turn
    ///     cx.state.push(1);
    /// });
    /// reactor.defer(|cx| cx.state.push(2));
    /// let mut order = Vec::new();
    /// reactor.run(&mut order)?;
    /// assert_eq!(order, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("call_soon", "runInLoop", "setImmediate"))]
    #[track_caller]
    pub fn defer(&mut self, callback: impl FnOnce(&mut Context<'_, S>) + 'static) -> DeferredKey {
        self.defer_from(Location::caller(), callback)
    }

    /// Defers `callback` as [`defer`](Self::defer) does. Logs and lists show `origin` as the source
    /// location of the callback.
    ///
    /// Use it in a library that defers a callback on behalf of its user: the user has called the
    /// library earlier, and the callback follows from that call. Pass the location of the user's
    /// call.
    #[inline]
    pub fn defer_from(
        &mut self,
        origin: &'static Location<'static>,
        callback: impl FnOnce(&mut Context<'_, S>) + 'static,
    ) -> DeferredKey {
        let key = DeferredKey(self.metrics.deferred + self.deferred.len() as u64);
        self.deferred.push_back(Deferred {
            task: Box::new(callback),
            origin: Some(origin),
            key: Key::NULL,
            context: Carried::current(),
        });
        key
    }

    /// Cancels a deferred callback and drops it.
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the callback is running, has run or was cancelled.
    ///
    /// ```
    /// # fn main() -> Result<(), reactor::Error> {
    /// let mut reactor = reactor::Reactor::<Vec<u8>>::new()?;
    /// reactor.defer(|cx| cx.state.push(1));
    /// let second = reactor.defer(|cx| cx.state.push(2));
    /// reactor.cancel_deferred(second)?;
    /// let mut ran = Vec::new();
    /// reactor.run(&mut ran)?;
    /// assert_eq!(ran, [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cancel_deferred(&mut self, key: DeferredKey) -> Result<(), Error> {
        let stale = Error::StaleKey(key.into());
        let Some(place) = key
            .0
            .checked_sub(self.metrics.deferred)
            .and_then(|place| usize::try_from(place).ok())
        else {
            return Err(stale);
        };
        let Some(deferred) = self
            .deferred
            .get_mut(place)
            .filter(|deferred| !deferred.is_cancelled())
        else {
            return Err(stale);
        };
        let end_it = |cx: &mut Context<'_, S>| cx.registry.turn.cancelled.end_one();
        let cancelled = Deferred {
            task: Box::new(end_it),
            origin: None,
            key: Key::CANCELLED,
            context: Carried::NONE,
        };
        let Deferred {
            task,
            origin,
            context,
            ..
        } = std::mem::replace(deferred, cancelled);
        self.turn.cancelled.places += 1;
        // A run counts places. So during a run no place is removed: a callback that is deferred
        // meanwhile would move up into the run.
        if !self.turn.runs_deferred {
            self.skip_cancelled();
        }
        let name = task.type_name();
        self.dispose((task, context), Label { name, origin });
        Ok(())
    }

    /// Removes the places of cancelled callbacks at the front. A place is needed only while others
    /// lie before it.
    #[inline]
    fn skip_cancelled(&mut self) {
        while self.deferred.front().is_some_and(Deferred::is_cancelled) {
            self.deferred.pop_front();
            self.metrics.deferred += 1;
            self.turn.cancelled.end_one();
        }
    }

    /// Runs the callbacks that are deferred by now, in order. Callbacks that they defer are left
    /// for the next turn. Returns how many ran.
    #[inline(never)]
    pub(crate) fn run_deferred(&mut self, state: &mut S) -> usize {
        let count = self.deferred.len();
        let cancelled = self.turn.cancelled.ended;
        self.turn.runs_deferred = true;
        for _ in 0..count {
            let Some(Deferred {
                task,
                origin,
                key,
                context,
            }) = self.deferred.pop_front()
            else {
                break;
            };
            // Counted one by one, because a task may panic.
            self.metrics.deferred += 1;
            self.enter_context(context);
            let mut cx = Context::new(state, self, key, Readiness::EMPTY);
            if cx.registry.turn.supervision.is_active() {
                run_supervised(task, origin, &mut cx);
            } else {
                task.run(&mut cx);
            }
            self.leave_context();
        }
        let ran = count - (self.turn.cancelled.ended - cancelled) as usize;
        self.end_deferred();
        if self.deferred.capacity() > DEFERRED_KEPT.max(8 * count) {
            self.give_back_deferred(count);
        }
        ran
    }

    /// Ends a run of deferred callbacks, also after a panic.
    #[inline]
    pub(crate) fn end_deferred(&mut self) {
        self.turn.runs_deferred = false;
        self.skip_cancelled();
    }

    /// Gives back memory after many callbacks were deferred at once, when there are far fewer.
    #[cold]
    #[inline(never)]
    fn give_back_deferred(&mut self, usual: usize) {
        self.deferred.shrink_to(2 * usual);
    }
}

/// Runs a deferred callback under its panic policy. A panic of it ends no registration: it is only
/// logged.
#[inline(never)]
fn run_supervised<S>(
    task: Box<dyn Task<S>>,
    origin: Option<&'static Location<'static>>,
    cx: &mut Context<'_, S>,
) {
    let (name, policy) = (
        task.type_name(),
        cx.registry.turn.policy_of_deferred(cx.key()),
    );
    supervise_under(policy, cx, |cx| task.run(cx)).report(cx.registry, |_| Label { name, origin });
    // A posted closure that has panicked has not ended its own run.
    cx.registry.inbox.handed_over.end_run();
}
