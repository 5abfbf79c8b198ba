//! Dispatch: from the kernel's events and the ready queue to the calls of callbacks.
//!
//! While every source has the normal priority, events are delivered in the order of the kernel's
//! list: one pass. With other priorities they are collected into the ready queue first. Either way
//! a source is called at most once a turn, and once more if its timeout has passed.
//!
//! Ground rule: a key is looked up again, including its generation, just before its call and just
//! after it. Between the two its slot has no entry, and the callback may have changed anything.

use std::mem::{forget, replace};

use super::disposal::catch_panic;
use super::peers::is_of_a_peer;
use super::policies::{Label, PanicPolicy};
use super::supervised_call::{Verdict, supervise_under};
use crate::callback::Entry;
use crate::context::Context;
use crate::outcome::CloseReason;
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::Key;
use crate::source::readiness::{Interest, Readiness};
use crate::source::ready::{Priority, Shares};

/// The entry whose handler a panic has unwound through. The reactor keeps it, and ends its watch
/// before it drops it.
pub(crate) type Running<S> = Option<Box<dyn Entry<S>>>;

/// An entry that is out of its slot while its handler runs. If the handler panics, the guard stores
/// the entry in `running`. If the handler returns, the guard is forgotten, and the entry has stayed
/// in registers.
struct EntryGuard<'a, S> {
    entry: Option<Box<dyn Entry<S>>>,
    running: &'a mut Running<S>,
}

impl<S> Drop for EntryGuard<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        // As in `return_entry`, the replaced value is `None`.
        forget(replace(self.running, self.entry.take()));
    }
}

impl<S> Registry<S> {
    /// Delivers the events of the kernel to their handlers, in one pass.
    ///
    /// The test for care is made once, not at each event: a source that is queued meanwhile belongs
    /// to the next turn. This function is inlined, because the call would be a tenth of the cost of
    /// a turn with one event.
    #[inline(always)]
    pub(crate) fn deliver_all(&mut self, running: &mut Running<S>, state: &mut S) {
        if self.turn.supervision.is_active() || !self.sources.ready.is_empty() {
            return self.deliver_all_with_care(running, state);
        }
        while let Some((key, facts)) = self.sys.events.pop() {
            self.deliver::<false>(key, facts, running, state);
        }
    }

    #[inline(never)]
    fn deliver_all_with_care(&mut self, running: &mut Running<S>, state: &mut S) {
        while let Some((key, facts)) = self.sys.events.pop() {
            self.deliver_with_care(key, facts, running, state);
        }
    }

    /// Calls `deliver` with care. It is a function of its own because each copy of `deliver` is
    /// compiled for each state of each program.
    #[inline(never)]
    fn deliver_with_care(
        &mut self,
        key: Key,
        facts: Readiness,
        running: &mut Running<S>,
        state: &mut S,
    ) {
        self.deliver::<true>(key, facts, running, state);
    }

    /// Calls a source that is ready, in its context. It is a call of its own, so that nothing is
    /// kept on the stack for it where there is no context.
    #[inline(never)]
    fn deliver_in_context(&mut self, key: Key, running: &mut Running<S>, state: &mut S) {
        self.enter_context(self.contexts.of_sources.get(key).clone());
        self.deliver_with_care(key, Readiness::EMPTY, running, state);
    }

    /// Delivers `facts` about a source to its handler, if they are wanted. With `CARE`, calls may
    /// be supervised, and a source that is queued is left to the queue.
    ///
    /// Inlining it into the loop of a turn saves 20 instructions for each event.
    #[inline(always)]
    fn deliver<const CARE: bool>(
        &mut self,
        key: Key,
        facts: Readiness,
        running: &mut Running<S>,
        state: &mut S,
    ) {
        let Some(slot) = self.sources.get_mut(key) else {
            return self.record_stale_event(key);
        };
        slot.ready |= facts;
        let ready = slot.ready;
        if CARE && slot.queued || !ready.intersects(slot.wanted) {
            return self.record_unwanted_event(key);
        }
        if Carried::ENABLED && slot.marks.has_context() && !self.contexts.is_entered() {
            return self.deliver_in_context(key, running, state);
        }
        // The entry leaves its slot, so that the handler may do anything to its registration.
        let mut guard = EntryGuard {
            entry: slot.entry.take(),
            running,
        };
        let Some(entry) = &mut guard.entry else {
            return;
        };
        let armed = slot.armed;
        slot.calls += 1;
        self.metrics.calls += 1;
        let mut cx = Context::new(state, self, key, ready);
        let left = if CARE && cx.registry.turn.supervision.is_active() {
            call_supervised(&mut **entry, armed, &mut cx)
        } else {
            entry.call(armed, &mut cx)
        };
        let entry = guard.entry.take();
        forget(guard);
        self.return_entry(key, entry, left);
        self.leave_context();
    }

    /// Puts the entry that was called or accessed back into its slot, with the readiness that is
    /// left.
    #[inline(always)]
    pub(crate) fn return_entry(
        &mut self,
        key: Key,
        entry: Option<Box<dyn Entry<S>>>,
        left: Readiness,
    ) {
        match self.sources.get_mut(key) {
            Some(slot) if !left.intersects(slot.wanted) => {
                // The replaced value is `None`. It is forgotten, so that no code tests whether to
                // drop it.
                forget(replace(&mut slot.entry, entry));
                slot.ready = left;
            }
            _ => self.end_call(key, entry, left),
        }
    }

    /// Calls a source because its timeout has passed.
    pub(crate) fn deliver_timeout(&mut self, key: Key, running: &mut Running<S>, state: &mut S) {
        self.deliver_with_care(key, Readiness::TIMEOUT, running, state);
    }

    /// Calls the queues that have values.
    #[inline(never)]
    pub(crate) fn deliver_messages(&mut self, running: &mut Running<S>, state: &mut S) {
        let Some(hub) = &self.inbox.hub else { return };
        if hub.has_news() {
            hub.collect(&mut self.inbox.announced);
            self.turn.stopping |= hub.is_to_stop();
        }
        while let Some(key) = self.inbox.announced.pop_front() {
            self.deliver_with_care(key, Readiness::READABLE, running, state);
        }
    }

    /// Records the events of the kernel, and queues their sources to be called in order of
    /// priority.
    #[inline(never)]
    pub(crate) fn collect_all(&mut self) {
        while let Some((key, facts)) = self.sys.events.pop() {
            match self.sources.get_mut(key) {
                None => self.record_stale_event(key),
                Some(slot) => {
                    slot.ready |= facts;
                    if slot.ready.intersects(slot.wanted) {
                        self.sources.enqueue_if_ready(key);
                    } else {
                        self.record_unwanted_event(key);
                    }
                }
            }
        }
    }

    /// Calls the sources at the head of the ready queue, as many of each priority as `shares` says.
    #[inline(never)]
    pub(crate) fn run_ready(&mut self, shares: Shares, running: &mut Running<S>, state: &mut S) {
        let rounds = [
            (Priority::High, shares.high),
            (Priority::Normal, shares.normal),
            (Priority::Low, shares.low),
        ];
        for (priority, calls) in rounds {
            for _ in 0..calls {
                let Some(key) = self.sources.ready.pop(priority) else {
                    break;
                };
                self.run_queued(key, running, state);
            }
        }
    }

    fn run_queued(&mut self, key: Key, running: &mut Running<S>, state: &mut S) {
        let Some(slot) = self.sources.get_mut(key) else {
            return;
        };
        slot.queued = false;
        if slot.ready.intersects(slot.wanted) {
            self.deliver_with_care(key, Readiness::EMPTY, running, state);
        }
    }

    /// Handles a call after which there is more to do: a wanted fact is left, the kernel must be
    /// asked again, or the registration has ended.
    #[cold]
    #[inline(never)]
    fn end_call(&mut self, key: Key, entry: Option<Box<dyn Entry<S>>>, left: Readiness) {
        let Some(entry) = entry else { return };
        if !left.intersects(Readiness::ENDED)
            && let Some(slot) = self.sources.get_mut(key)
        {
            if !left.intersects(Readiness::AS_BEFORE) {
                slot.ready = left.without_bits(Readiness::RECHECK);
            }
            return self.go_on(key, entry, left);
        }
        // Without a reason the handler has removed its registration by its key: the slot is already
        // free.
        let reason = self
            .turn
            .end_of_running
            .take()
            .unwrap_or(CloseReason::ByKey);
        if let CloseReason::Failed(error) = &reason {
            let name = self.label(key, &*entry);
            if is_of_a_peer(error) {
                tracing::debug!(%key, %name, %error, "a peer failed, its handler is removed");
            } else {
                tracing::warn!(%key, %name, %error, "handler failed and is removed");
            }
            self.metrics.failures += 1;
        }
        if matches!(reason, CloseReason::Failed(_) | CloseReason::Panicked(_))
            && self
                .sources
                .get(key)
                .is_some_and(|slot| slot.marks.is_essential())
        {
            let label = self.label(key, &*entry);
            let (name, origin) = (label.name.to_owned(), label.origin);
            self.stop_run_if_failed(
                &reason,
                Label {
                    name: &name,
                    origin,
                },
            );
        }
        let removed_itself = self.turn.policy_of_running.take();
        let own_policy = self
            .sources
            .get(key)
            .map_or(removed_itself, |slot| slot.marks.panic_policy());
        let context = match self.forget(key) {
            Some(removed) => removed.context,
            None => self.contexts.take_kept(key),
        };
        self.close(key, entry, reason, own_policy, context);
    }

    /// Keeps a registration after a call with facts left, or with facts to ask the kernel for.
    fn go_on(&mut self, key: Key, entry: Box<dyn Entry<S>>, left: Readiness) {
        let backs_off = left.intersects(Readiness::RECHECK) && self.must_back_off(key, &*entry);
        let Some(slot) = self.sources.get_mut(key) else {
            return;
        };
        slot.entry = Some(entry);
        if slot.always_ready && backs_off {
            slot.ready = Readiness::EMPTY;
        } else if left.intersects(Readiness::RECHECK) && !backs_off {
            self.ask_again(key);
        }
        self.sources.enqueue_if_ready(key);
    }

    #[cold]
    #[inline(never)]
    fn record_stale_event(&mut self, key: Key) {
        if key == Key::NULL || key == Key::ALARM {
            // Events of the eventfd and of the alarm have done their work: they ended the wait.
            return;
        }
        if key == Key::WALL_CLOCK {
            return self.timers.record_wall_set();
        }
        self.metrics.stale_events += 1;
        tracing::trace!(%key, "an event for a registration that has ended");
    }
}

/// Calls a handler under supervision. It is not inlined, but not cold either: most daemons catch
/// panics.
#[inline(never)]
fn call_supervised<S>(
    entry: &mut dyn Entry<S>,
    armed: Interest,
    cx: &mut Context<'_, S>,
) -> Readiness {
    let key = cx.key();
    let own_policy = cx
        .registry
        .sources
        .get(key)
        .and_then(|slot| slot.marks.panic_policy());
    let policy = own_policy.unwrap_or(cx.registry.turn.supervision.policy());
    let verdict = if cx.registry.turn.supervision.is_timing() {
        supervise_under(policy, cx, |cx| entry.call(armed, cx))
    } else if policy == PanicPolicy::Propagate {
        // There is nothing to time and nothing to catch.
        return entry.call(armed, cx);
    } else {
        match catch_panic(|| entry.call(armed, cx)) {
            Ok(left) => return left,
            Err(message) => Verdict::panicked(message),
        }
    };
    verdict.report(cx.registry, |registry| registry.label(key, entry));
    verdict
        .result
        .unwrap_or_else(|message| cx.registry.turn.end_running(CloseReason::Panicked(message)))
}
