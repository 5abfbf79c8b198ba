//! What the kernel is told of a source after it was registered.
//!
//! It is told of a direction when that is first wanted (`settings.rs`), and not when it is wanted no longer: an event for a direction
//! that is not wanted is remembered in the slot, which costs less than to take back the watch and set it again. Only a source
//! that wakes the loop for nothing [`UNWANTED_EVENTS_MAX`] times without a change of interest is narrowed down in the kernel too.

use super::readiness::Interest;
use crate::registry::Registry;
use crate::slots::Key;

/// So many events that are not wanted, and the kernel is asked to stop. Small enough that a talkative peer of a
/// resting handler costs little, large enough that back-pressure that comes and goes costs no `epoll_ctl`.
const UNWANTED_EVENTS_MAX: u8 = 8;

impl<S> Registry<S> {
    /// Has the kernel report anew what is ready.
    pub(crate) fn ask_again(&mut self, key: Key) {
        let Some(slot) = self.sources.get(key).filter(|slot| !slot.always_ready) else {
            return;
        };
        self.metrics.kernel_updates += 1;
        if let Err(error) = self.sys.poller.rearm(slot.fd, key, slot.armed) {
            tracing::warn!(%key, %error, "cannot ask the kernel what is left");
        }
    }

    /// Records an event whose facts are not wanted, or whose source is to be called later this turn anyway.
    #[cold]
    #[inline(never)]
    pub(crate) fn record_unwanted_event(&mut self, key: Key) {
        let Some(slot) = self.sources.get_mut(key) else {
            return;
        };
        if slot.queued {
            return;
        }
        self.metrics.unwanted_events += 1;
        slot.unwanted_events = slot.unwanted_events.saturating_add(1);
        if slot.unwanted_events >= UNWANTED_EVENTS_MAX {
            slot.unwanted_events = 0;
            let interest = Interest::of_facts(slot.wanted).or_least();
            if interest == slot.armed {
                return; // What woke us cannot be switched off: EPOLLERR and EPOLLHUP.
            }
            match self.sys.poller.rearm(slot.fd, key, interest) {
                Ok(()) => {
                    tracing::debug!(%key, from = %slot.armed, to = %interest, "narrowed the kernel's watch");
                    slot.armed = interest;
                    self.metrics.kernel_updates += 1;
                }
                Err(error) => tracing::debug!(%key, %error, "could not narrow the kernel's watch"),
            }
        }
    }
}
