//! Back-off: pauses for sources that are ready according to the kernel, while their handlers find
//! nothing to do.
//!
//! A regular file at its end, a FIFO between two writers, a socket that is not connected yet: each
//! is reported as ready at once, and its handler can only return `WouldBlock`. Calling it again at
//! once would spin. After [`FRUITLESS_CALLS_MAX`] such calls in as many turns, there is therefore a
//! pause before each further call. The pause doubles each time. A change that the kernel reports
//! ends the pause at once.

use std::time::Duration;

use super::slot::Backoff;
use crate::callback::Entry;
use crate::context::Context;
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::Key;
use crate::source::readiness::{Interest, Readiness};
use crate::sys::fd;
use crate::timer::Then;
use crate::turn::nanos::nanos;
use crate::turn::policies::Label;

/// The number of fruitless calls, turn after turn, before the first pause: a few may be a
/// coincidence.
const FRUITLESS_CALLS_MAX: u32 = 8;
/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

impl<S> Registry<S> {
    /// Records that a handler has returned `WouldBlock`, although no operation has disproved the
    /// readiness of its source. Returns `true` if the source pauses, until a timer or the kernel
    /// ends the pause.
    #[cold]
    #[inline(never)]
    pub(crate) fn must_back_off(&mut self, key: Key, entry: &dyn Entry<S>) -> bool {
        let Some(slot) = self.sources.get(key) else {
            return false;
        };
        let (always_ready, wanted, origin) = (
            slot.always_ready,
            Interest::of_facts(slot.wanted),
            slot.origin,
        );
        let turn = self.metrics.turns;
        let backoff = self.sources.backoffs.entry(key).or_insert(Backoff {
            turn,
            calls: 0,
            next: PAUSES.0,
        });
        // The turn between the two calls had a result or no call: the count starts again.
        if turn - backoff.turn > 1 {
            (backoff.calls, backoff.next) = (0, PAUSES.0);
        }
        (backoff.turn, backoff.calls) = (turn, backoff.calls + 1);
        if backoff.calls <= FRUITLESS_CALLS_MAX {
            return false;
        }
        if !always_ready && !is_ready(entry, wanted) {
            // The source was not ready any more after the call: each call had a new event.
            self.sources.backoffs.remove(&key);
            return false;
        }
        let pause = backoff.next;
        backoff.next = (backoff.next * 2).min(PAUSES.1);
        if pause == PAUSES.0 {
            let name = self.label(key, entry);
            log_backoff(key, name);
        }
        let now_ns = self.time.now_ns();
        let ends = Box::new(move |cx: &mut Context<'_, S>| {
            cx.registry.end_backoff(key);
            Ok(Then::Done)
        });
        // The pause may outlast the registration and its context.
        let timer = Carried::NONE
            .scope(|| self.add_timer(now_ns.saturating_add(nanos(pause)), now_ns, ends, origin));
        let _ = self.set_timer_background(timer); // it was armed just now
        true
    }

    /// Ends the pause of a source, so that it is called again.
    fn end_backoff(&mut self, key: Key) {
        let turn = self.metrics.turns;
        let Some(backoff) = self.sources.backoffs.get_mut(&key) else {
            return;
        };
        backoff.turn = turn;
        let Some(slot) = self.sources.get_mut(key) else {
            return;
        };
        if slot.always_ready {
            slot.ready |= Readiness::READABLE | Readiness::WRITABLE;
            self.sources.enqueue_if_ready(key);
        } else {
            self.ask_again(key);
        }
    }
}

#[cold]
fn log_backoff(key: Key, name: Label<'_>) {
    tracing::warn!(%key, %name, longest = ?PAUSES.1, "handler returns WouldBlock while its source stays ready: backing off");
}

/// Returns `true` if the kernel reports at this moment that a wanted operation can be done, or that
/// its direction has ended.
fn is_ready<S>(entry: &dyn Entry<S>, wanted: Interest) -> bool {
    entry
        .fd()
        .is_some_and(|fd| fd::readiness_now(fd, wanted).is_ok_and(|ready| !ready.is_empty()))
}
