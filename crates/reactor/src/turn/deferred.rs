//! Deferred callbacks: once, after the sources of a turn, in the order of deferral.

use std::fmt;
use std::panic::Location;

use super::policies::Label;
use super::supervised_call::supervise_under;
use crate::callback::{Deferred, Task};
use crate::context::Context;
use crate::error::Error;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Readiness;

/// Room for so many deferred callbacks is kept, or for eight times as many as a turn has.
const DEFERRED_KEPT: usize = 4096;

/// The name of a deferred callback. It is stale once the callback runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeferredKey(
    /// How many callbacks had been deferred before it.
    u64,
);

/// As it is shown in [`Error::StaleKey`].
impl From<DeferredKey> for Key {
    fn from(deferred: DeferredKey) -> Self {
        Self::from_token(deferred.0)
    }
}

/// As the key in [`Error::StaleKey`].
impl fmt::Display for DeferredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::from(*self).fmt(f)
    }
}

impl<S> Deferred<S> {
    /// Returns whether it only keeps the place of one that was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.key == Key::CANCELLED
    }
}

impl<S> Registry<S> {
    /// Runs `callback` once, after the sources of this turn, in the order of deferral.
    ///
    /// What a deferred callback defers runs next turn, which does not wait then: deferring for ever starves nobody. The
    /// panic policy holds for it. The key is for [`cancel_deferred`](Self::cancel_deferred).
    ///
    /// O(1); one allocation if the closure captures anything, none if not.
    #[doc(alias("call_soon", "runInLoop", "setImmediate"))]
    #[track_caller]
    pub fn defer(&mut self, callback: impl FnOnce(&mut Context<'_, S>) + 'static) -> DeferredKey {
        self.defer_from(Location::caller(), callback)
    }

    /// Defers `callback` as [`defer`](Self::defer) does, and shows `origin` as its place in the source, in logs and lists.
    ///
    /// It is for a library of handlers, which defers now a callback that a line of its user's has asked for earlier.
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
        });
        key
    }

    /// Drops a deferred callback, which does not run any more. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it runs, has run or was cancelled.
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
        };
        let Deferred { task, origin, .. } = std::mem::replace(deferred, cancelled);
        self.turn.cancelled.places += 1;
        // A run counts places: what is deferred meanwhile must not move up.
        if !self.turn.runs_deferred {
            self.skip_cancelled();
        }
        let name = task.type_name();
        self.dispose(task, Label { name, origin });
        Ok(())
    }

    /// Gives up the places of cancelled callbacks, which are needed only as long as others lie before them.
    #[inline]
    fn skip_cancelled(&mut self) {
        while self.deferred.front().is_some_and(Deferred::is_cancelled) {
            self.deferred.pop_front();
            self.metrics.deferred += 1;
            self.turn.cancelled.end_one();
        }
    }

    /// Runs what has been deferred by now, in order; what it defers itself is left. Gives how many ran.
    #[inline(never)]
    pub(crate) fn run_deferred(&mut self, state: &mut S) -> usize {
        let count = self.deferred.len();
        let cancelled = self.turn.cancelled.ended;
        self.turn.runs_deferred = true;
        for _ in 0..count {
            let Some(Deferred { task, origin, key }) = self.deferred.pop_front() else {
                break;
            };
            self.metrics.deferred += 1; // now, and not of all at the end: one may panic
            let mut cx = Context::new(state, self, key, Readiness::EMPTY);
            if cx.registry.turn.supervision.is_active() {
                run_supervised(task, origin, &mut cx);
            } else {
                task.run(&mut cx);
            }
        }
        let ran = count - (self.turn.cancelled.ended - cancelled) as usize;
        self.end_deferred();
        if self.deferred.capacity() > DEFERRED_KEPT.max(8 * count) {
            self.give_back_deferred(count);
        }
        ran
    }

    /// Ends a run of deferred callbacks, also where a panic has ended it.
    #[inline]
    pub(crate) fn end_deferred(&mut self) {
        self.turn.runs_deferred = false;
        self.skip_cancelled();
    }

    /// Gives back what many callbacks that were deferred at once have taken, once there are far fewer.
    #[cold]
    #[inline(never)]
    fn give_back_deferred(&mut self, usual: usize) {
        self.deferred.shrink_to(2 * usual);
    }
}

/// What a deferred callback leaves behind in a panic is nobody's registration: it is logged, and over.
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
    cx.registry.inbox.handed_over.end_run(); // one that has panicked
}
