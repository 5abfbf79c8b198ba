//! Rests: what becomes of sources that are ready by what the kernel says, and have nothing by what their handlers say.
//!
//! A regular file at its end, a FIFO between two writers, a socket that is not connected yet: each is reported as ready at once, and its
//! handler can only answer `WouldBlock`. To call it again at once would spin. So after [`VAIN_CALLS_MAX`] such calls in as many turns
//! the source rests, for twice as long each time. A change that the kernel reports ends the rest at once.

use std::time::Duration;

use super::slot::Rest;
use crate::callback::Entry;
use crate::context::Context;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::{Interest, Readiness};
use crate::sys::fd;
use crate::timer::Then;
use crate::turn::nanos::nanos;
use crate::turn::policies::Label;

/// So many calls in vain, turn after turn, before the first rest: what looks so may be a coincidence.
const VAIN_CALLS_MAX: u32 = 8;
/// The first rest, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

impl<S> Registry<S> {
    /// Notes that a handler waits for more, though nothing says that there is less than before: whether its source is to rest,
    /// until a timer or the kernel ends that.
    #[cold]
    #[inline(never)]
    pub(crate) fn rests(&mut self, key: Key, entry: &dyn Entry<S>) -> bool {
        let Some(slot) = self.sources.get(key) else { return false };
        let (always_ready, wanted, origin) = (slot.always_ready, Interest::of_facts(slot.wanted), slot.origin);
        let turn = self.metrics.turns;
        let rest = self.sources.rests.entry(key).or_insert(Rest { turn, calls: 0, next: RESTS.0 });
        if turn - rest.turn > 1 {
            (rest.calls, rest.next) = (0, RESTS.0);
        }
        (rest.turn, rest.calls) = (turn, rest.calls + 1);
        if rest.calls <= VAIN_CALLS_MAX {
            return false;
        }
        if !always_ready && !is_ready(entry, wanted) {
            self.sources.rests.remove(&key); // it has waited for more, and more had come each time
            return false;
        }
        let pause = rest.next;
        rest.next = (rest.next * 2).min(RESTS.1);
        if pause == RESTS.0 {
            let name = self.label(key, entry);
            log_rest(key, name);
        }
        let now_ns = self.time.now_ns();
        let ends = Box::new(move |cx: &mut Context<'_, S>| {
            cx.registry.end_rest(key);
            Ok(Then::Done)
        });
        let timer = self.add_timer(now_ns.saturating_add(nanos(pause)), now_ns, ends, origin);
        let _ = self.set_timer_background(timer); // it was armed just now
        true
    }

    /// The source is asked again.
    fn end_rest(&mut self, key: Key) {
        let turn = self.metrics.turns;
        let Some(rest) = self.sources.rests.get_mut(&key) else { return };
        rest.turn = turn;
        let Some(slot) = self.sources.get_mut(key) else { return };
        if slot.always_ready {
            slot.ready |= Readiness::READABLE | Readiness::WRITABLE;
            self.sources.enqueue_if_ready(key);
        } else {
            self.ask_again(key);
        }
    }
}

#[cold]
fn log_rest(key: Key, name: Label<'_>) {
    tracing::warn!(%key, %name, longest = ?RESTS.1, "a source is ready, and its handler waits for more: it rests, longer each time");
}

/// Whether the kernel says that something that is wanted can be done, or has ended, at this moment.
fn is_ready<S>(entry: &dyn Entry<S>, wanted: Interest) -> bool {
    entry.fd().is_some_and(|fd| fd::readiness_now(fd, wanted).is_ok_and(|ready| !ready.is_empty()))
}
