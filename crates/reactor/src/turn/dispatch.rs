//! Dispatch: from what the kernel reported, and what was deferred, to the calls of callbacks.
//!
//! While every source has the normal priority, an event is delivered as it is met in the kernel's list: one pass. With
//! other priorities they are collected into the ready queue first. Either way a source is called at most once a turn,
//! and once more if its timeout has passed.
//!
//! Ground rule: a key is looked up again, generation and all, just before its call and just after it. Between those two
//! its slot has no entry, and everything may have happened to it.

use std::mem::{forget, replace};

use super::disposal::catch_panic;
use super::peers::is_of_a_peer;
use super::policies::{Label, PanicPolicy};
use super::supervised_call::{Verdict, supervise_under};
use crate::callback::Entry;
use crate::context::Context;
use crate::outcome::CloseReason;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::{Interest, Readiness};
use crate::source::ready::{Priority, Shares};

/// The entry whose handler a panic has unwound through: left to the reactor, which ends its watch before it drops it.
pub(crate) type Running<S> = Option<Box<dyn Entry<S>>>;

/// An entry that is out of its slot while its handler runs. Where that returns this is forgotten: it is for panics, and until
/// there is one the entry is in registers.
struct EntryGuard<'a, S> {
    entry: Option<Box<dyn Entry<S>>>,
    running: &'a mut Running<S>,
}

impl<S> Drop for EntryGuard<'_, S> {
    #[inline(always)]
    fn drop(&mut self) {
        // As in `return_entry`: what is replaced is `None`.
        forget(replace(self.running, self.entry.take()));
    }
}

impl<S> Registry<S> {
    /// Takes the events of the kernel to their handlers, in one pass.
    ///
    /// Whether care must be taken is asked once, and not at each event: what is queued meanwhile is next turn's. Inlined into the turn,
    /// since with one event a turn that is a tenth of it.
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

    /// Apart from its callers: each copy of it is compiled for each state of each program.
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

    /// Takes `facts` about a source to its handler, if it wants to know. With `CARE`, calls may be supervised, and a source that
    /// is queued is left to the queue.
    ///
    /// Inlined into the loop of a turn it takes 20 instructions less an event.
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
    }

    /// Puts the entry that was called or accessed back into its slot, with what is left of its readiness.
    #[inline(always)]
    pub(crate) fn return_entry(
        &mut self,
        key: Key,
        entry: Option<Box<dyn Entry<S>>>,
        left: Readiness,
    ) {
        match self.sources.get_mut(key) {
            Some(slot) if !left.intersects(slot.wanted) => {
                // What is replaced is `None`: forgotten, so that nothing asks whether it is to be dropped.
                forget(replace(&mut slot.entry, entry));
                slot.ready = left;
            }
            _ => self.end_call(key, entry, left),
        }
    }

    /// Tells a source that its timeout has passed.
    pub(crate) fn deliver_timeout(&mut self, key: Key, running: &mut Running<S>, state: &mut S) {
        self.deliver_with_care(key, Readiness::TIMEOUT, running, state);
    }

    /// Tells the queues that have something.
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

    /// Records the events of the kernel, and queues their sources to be called in order of priority.
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

    /// After a call that is not over with its return: something wanted is left, the kernel is to be asked again what is, or
    /// the registration has ended, in one way or another.
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
        // Without a reason it has removed itself by its key: the slot is free already.
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
                .is_some_and(|slot| slot.on_failure.is_essential())
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
            .map_or(removed_itself, |slot| slot.on_failure.panic_policy());
        self.forget(key);
        self.close(key, entry, reason, own_policy);
    }

    /// After a call with something left, or to be asked for.
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
            return; // what ended the wait, an alarm or a signal: its work is done
        }
        if key == Key::WALL_CLOCK {
            return self.timers.record_wall_set();
        }
        self.metrics.stale_events += 1;
        tracing::trace!(%key, "an event for a registration that has ended");
    }
}

/// Outlined, but not cold: daemons do not let a panic end them.
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
        .and_then(|slot| slot.on_failure.panic_policy());
    let policy = own_policy.unwrap_or(cx.registry.turn.supervision.policy());
    let verdict = if cx.registry.turn.supervision.is_timing() {
        supervise_under(policy, cx, |cx| entry.call(armed, cx))
    } else if policy == PanicPolicy::Propagate {
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
