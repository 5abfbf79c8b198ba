//! Changes to the kernel's watch of a source after its registration.
//!
//! The kernel is told to watch a direction when it is first wanted (`settings.rs`), and is not told
//! when it is no longer wanted. An event for an unwanted direction is recorded in the slot, which
//! costs less than ending the watch and setting it again. Only a source that causes
//! [`UNWANTED_EVENTS_MAX`] spurious wakeups without a change of interest is narrowed down in the
//! kernel too.

use super::readiness::Interest;
use crate::registry::Registry;
use crate::slots::Key;

/// The number of unwanted events after which the kernel is asked to stop. It is small enough that a
/// talkative peer of a paused handler costs little, and large enough that back-pressure that comes
/// and goes costs no `epoll_ctl`.
const UNWANTED_EVENTS_MAX: u8 = 8;

impl<S> Registry<S> {
    /// Makes the kernel report again what is ready.
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
