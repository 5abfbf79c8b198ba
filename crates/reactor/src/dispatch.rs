//! Dispatch: from what the kernel reported to the calls of handlers.
//!
//! While every source has the normal priority, an event is delivered as it is met in the kernel's list: one pass. With
//! other priorities they are collected into the ready queue first. Either way a source is called at most once a turn.
//!
//! Ground rule: a key is looked up again, generation and all, just before its call and just after it. Between those two
//! its slot has no entry, and everything may have happened to it.

use std::io::ErrorKind;

use crate::context::Context;
use crate::handler::{Closed, Entry, Outcome};
use crate::readiness::{Interest, Readiness};
use crate::ready::{Priority, Shares};
use crate::registry::{Registry, Slot, VAIN_WAKES_MAX};
use crate::slots::Key;
use crate::supervise::{Label, supervise};

/// What is taken out of a slot for a call.
struct Call<S> {
    entry: Box<dyn Entry<S>>,
    readiness: Readiness,
    armed: Interest,
}

impl<S> Slot<S> {
    #[inline]
    fn begin_call(&mut self) -> Option<Call<S>> {
        let entry = self.entry.take()?;
        self.calls += 1;
        self.vain_wakes = 0;
        Some(Call { entry, readiness: self.ready, armed: self.armed })
    }
}

impl<S> Registry<S> {
    /// Whether events have to be collected before any is delivered.
    #[inline]
    pub(crate) const fn has_priorities(&self) -> bool {
        self.prioritised > 0
    }

    /// Takes one event of the kernel to its handler.
    #[inline]
    pub(crate) fn deliver(&mut self, key: Key, facts: Readiness, state: &mut S) {
        let Some(slot) = self.sources.get_mut(key) else { return self.note_stale_event(key) };
        slot.ready |= facts;
        if slot.queued || !slot.ready.intersects(slot.wanted) {
            return self.set_aside(key);
        }
        if let Some(call) = slot.begin_call() {
            self.call(key, call, state);
        }
    }

    /// Notes one event of the kernel, and queues its source to be called in order of priority.
    pub(crate) fn collect(&mut self, key: Key, facts: Readiness) {
        let Some(slot) = self.sources.get_mut(key) else { return self.note_stale_event(key) };
        slot.ready |= facts;
        if slot.ready.intersects(slot.wanted) {
            self.enqueue_if_ready(key);
        } else {
            self.set_aside(key);
        }
    }

    /// Calls the sources at the head of the ready queue, as many of each priority as `shares` says.
    pub(crate) fn run_ready(&mut self, shares: Shares, state: &mut S) {
        let rounds =
            [(Priority::High, shares.high), (Priority::Normal, shares.normal), (Priority::Low, shares.low)];
        for (priority, calls) in rounds {
            for _ in 0..calls {
                let Some(key) = self.ready.pop(priority) else { break };
                self.run_queued(key, state);
            }
        }
    }

    fn run_queued(&mut self, key: Key, state: &mut S) {
        let Some(slot) = self.sources.get_mut(key) else { return };
        slot.queued = false;
        if !slot.ready.intersects(slot.wanted) {
            return;
        }
        if let Some(call) = slot.begin_call() {
            self.call(key, call, state);
        }
    }

    /// Calls a handler and puts its entry back.
    #[inline]
    fn call(&mut self, key: Key, call: Call<S>, state: &mut S) {
        let Call { mut entry, readiness, armed } = call;
        self.metrics.calls += 1;
        let mut cx = Context::of_source(state, self, key, readiness);
        let outcome = if cx.registry.supervision.is_active() {
            call_supervised(&mut *entry, armed, &mut cx)
        } else {
            entry.call(armed, &mut cx)
        };
        if let Outcome::Keep(left) = outcome
            && let Some(slot) = self.sources.get_mut(key)
        {
            slot.entry = Some(entry);
            slot.ready = left;
            if left.intersects(slot.wanted) {
                self.enqueue_if_ready(key);
            }
            return;
        }
        self.end_call(key, entry, outcome);
    }

    /// After a call that ended its registration, in one way or another.
    #[cold]
    #[inline(never)]
    fn end_call(&mut self, key: Key, entry: Box<dyn Entry<S>>, outcome: Outcome) {
        let reason = match outcome {
            // It removed itself by its key: the slot is free already.
            Outcome::Keep(_) => Closed::ByKey,
            Outcome::Close(reason) => reason,
        };
        if let Closed::Failed(error) = &reason {
            self.metrics.failures += 1;
            let label = self.label(key, &*entry);
            let name = label.map_or_else(|| entry.handler_type().to_owned(), |label| label.to_string());
            // A peer that vanishes is daily life for a daemon; anything else somebody should look at.
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
            ) {
                tracing::debug!(%key, name, %error, "peer gone, handler removed");
            } else {
                tracing::warn!(%key, name, %error, "handler failed and is removed");
            }
        }
        self.forget(key);
        self.close(entry, reason);
    }

    /// An event whose facts are not wanted, or whose source is to be called later this turn anyway.
    #[cold]
    #[inline(never)]
    fn set_aside(&mut self, key: Key) {
        let Some(slot) = self.sources.get_mut(key) else { return };
        if slot.queued {
            return;
        }
        self.metrics.unwanted_events += 1;
        slot.vain_wakes = slot.vain_wakes.saturating_add(1);
        if slot.vain_wakes >= VAIN_WAKES_MAX {
            slot.vain_wakes = 0;
            let interest = Interest::of_facts(slot.wanted);
            if interest == slot.armed {
                return; // What woke us cannot be switched off: EPOLLERR and EPOLLHUP.
            }
            match self.poller.rearm(slot.fd, key, slot.armed, interest) {
                Ok(()) => {
                    tracing::debug!(%key, from = %slot.armed, to = %interest, "narrowed the kernel's watch");
                    slot.armed = interest;
                    self.metrics.kernel_updates += 1;
                }
                Err(error) => tracing::debug!(%key, %error, "could not narrow the kernel's watch"),
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn note_stale_event(&mut self, key: Key) {
        self.metrics.stale_events += 1;
        tracing::trace!(%key, "an event for a registration that has ended");
    }

    /// Ends the registrations that were out of their slots when a panic unwound through the loop.
    pub(crate) fn remove_unwound(&mut self) {
        let running = self.sources.iter().filter(|(_, slot)| slot.entry.is_none());
        let unwound: Vec<Key> = running.map(|(key, _)| key).collect();
        for key in unwound {
            self.forget(key);
        }
        self.hooks.remove_unwound();
    }
}

#[cold]
#[inline(never)]
fn call_supervised<S>(entry: &mut dyn Entry<S>, armed: Interest, cx: &mut Context<'_, S>) -> Outcome {
    let Some(label) = cx.registry.label(cx.key(), entry) else { return Outcome::Close(Closed::ByKey) };
    let (name, origin) = (label.name.to_owned(), label.origin);
    let label = Label { name: &name, origin };
    supervise(cx, label, |cx| entry.call(armed, cx))
        .unwrap_or_else(|message| Outcome::Close(Closed::Panicked(message)))
}
