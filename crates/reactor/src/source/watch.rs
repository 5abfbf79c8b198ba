//! Changes to the kernel's watch of a source after its registration.
//!
//! The kernel is asked to watch a direction when the direction is first wanted (`settings.rs`). It
//! is not asked to stop when the direction is no longer wanted. An event for an unwanted direction
//! is recorded in the slot, which costs less than ending the watch and setting it again. The
//! kernel's watch is narrowed only after [`UNWANTED_EVENTS_MAX`] spurious wakeups of a source
//! without a change of its interest.

use super::readiness::Interest;
use crate::registry::Registry;
use crate::slots::Key;

/// The number of unwanted events after which the kernel is asked to stop. It is small enough that a
/// paused handler whose peer goes on sending costs little. It is large enough that short pauses by
/// back-pressure cost no `epoll_ctl`.
const UNWANTED_EVENTS_MAX: u8 = 8;

impl<S> Registry<S> {
    /// Makes the kernel report again the directions that are ready.
    pub(crate) fn ask_again(&mut self, key: Key) {
        let Some(slot) = self.sources.get(key).filter(|slot| !slot.always_ready) else {
            return;
        };
        self.metrics.kernel_updates += 1;
        if let Err(error) = self.sys.poller.rearm(slot.fd, key, slot.armed) {
            tracing::warn!(%key, %error, "cannot ask the kernel for the readiness again");
        }
    }

    /// Records an event whose facts are not wanted, or whose source is called later this turn
    /// anyway.
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
                // The kernel reports EPOLLERR and EPOLLHUP in any case (epoll_ctl(2)).
                return;
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
