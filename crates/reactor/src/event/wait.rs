//! How a thread waits for events, and for fds beside them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::object::Event;
use super::state::{Condition, EventIndex};
use super::table::{EventTable, PENDING, ParkedThread, WaiterSignal, lock_table};
use crate::sys::eventfd::EventFd;
use crate::sys::readable::{poll_until, to_poll, wait_until_all_readable};
use crate::sys::thread::now;

/// What has ended a wait for events and fds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// The event with this index, which it has passed through.
    Event(usize),
    /// The fd with this index is readable, or its other side is closed.
    Readable(usize),
}

impl Event {
    /// Waits until it is set and passes through it: whether that was before `timeout` had passed.
    ///
    /// Blocks the thread, by [`thread::park`]: on the thread of a loop see
    /// [`Registry::on_event`](crate::Registry::on_event). `None` waits for ever; zero only looks.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        Self::wait_any(&[self], timeout).is_some()
    }

    /// Waits until any of `events` is set, and passes through that: which, the lowest of those that are set; `None`
    /// after `timeout`, or for no events. Otherwise like [`wait`](Self::wait).
    #[doc(alias("WaitForMultipleObjects", "select"))]
    pub fn wait_any(events: &[&Self], timeout: Option<Duration>) -> Option<usize> {
        if events.is_empty() {
            None
        } else {
            wait_for(events, Condition::Any, timeout)
        }
    }

    /// Waits until all of `events` are set at once, and passes through them all: whether that was before `timeout` had
    /// passed. Until then, and if not, it passes through none. All of none are set. Otherwise like
    /// [`wait`](Self::wait).
    ///
    /// An event that is named several times is passed as often. A semaphore needs as many counts at once. An auto-reset
    /// event, which lets one through, is never passed twice at once: such a wait ends by its timeout only.
    pub fn wait_all(events: &[&Self], timeout: Option<Duration>) -> bool {
        wait_for(events, Condition::All, timeout).is_some()
    }

    /// Waits until any of `events` is set, or any of `fds` is readable; the events first. `None` after `timeout`. For a
    /// thread that waits for stdin beside events. Where none is set, an eventfd and a `poll`. For neither events nor
    /// fds it waits until its time is over.
    ///
    /// # Errors
    /// What `eventfd(2)` and `poll(2)` give.
    pub fn wait_any_or_readable(
        events: &[&Self],
        fds: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<Option<Signalled>> {
        let indices: Vec<_> = events.iter().map(|event| event.index()).collect();
        let deadline = timeout.and_then(|timeout| now().checked_add(timeout));
        if let Some(index) = lock_table().events.try_complete(&indices, Condition::Any) {
            return Ok(Some(Signalled::Event(index)));
        }
        let notified = Arc::new(EventFd::counter(0)?);
        let waiter = {
            let mut table = lock_table();
            if let Some(index) = table.events.try_complete(&indices, Condition::Any) {
                return Ok(Some(Signalled::Event(index)));
            }
            table.add_waiter(
                &indices,
                Condition::Any,
                WaiterSignal::EventFd(Arc::clone(&notified)),
            )
        };
        let mut polled = to_poll(std::iter::once(notified.as_fd()).chain(fds.iter().copied()));
        let polled_for = poll_until(&mut polled, deadline);
        // What was handed over meanwhile is ours, whatever else has happened.
        if let Some((index, _)) = lock_table().remove_waiter(waiter) {
            return Ok(Some(Signalled::Event(index)));
        }
        polled_for?;
        Ok(polled[1..]
            .iter()
            .position(|fd| !fd.revents().is_empty())
            .map(Signalled::Readable))
    }

    /// Waits until all of `events` are set and all of `fds` are readable, and passes through the events; `false` after
    /// `timeout`. As long as one of them is missing, none of the events is passed through.
    ///
    /// An fd counts as readable also where its other side is closed. It is looked at and not read, so it has to stay
    /// readable: an fd that another thread reads may be empty again when this returns. All of none are set and
    /// readable.
    ///
    /// Blocks the thread, by `poll` while an fd is missing and by [`thread::park`] while an event is: on the thread of
    /// a loop see [`Registry::on_all_and_readable`](crate::Registry::on_all_and_readable). One `poll` where all is
    /// there.
    ///
    /// # Errors
    /// What `poll(2)` gives.
    ///
    /// ```
    /// use reactor::Event;
    /// use std::{io::Write, os::fd::AsFd, time::Duration};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let allowed = Event::auto_reset();
    /// let wait = |timeout| Event::wait_all_and_readable(&[&allowed], &[reader.as_fd()], timeout);
    /// allowed.set();
    /// assert!(!wait(Some(Duration::ZERO))?);
    /// assert!(allowed.is_set(), "there is nothing to read, so it was not passed through");
    /// writer.write_all(b"an order")?;
    /// assert!(wait(None)?);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "WaitForMultipleObjects")]
    pub fn wait_all_and_readable(
        events: &[&Self],
        fds: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let indices: Vec<_> = events.iter().map(|event| event.index()).collect();
        let deadline = timeout.and_then(|timeout| now().checked_add(timeout));
        let mut polled = to_poll(fds.iter().copied());
        // First the fds, then the events, of which this is told without consuming any; then both anew.
        loop {
            if !wait_until_all_readable(&mut polled, deadline)? {
                return Ok(false);
            }
            let mut table = lock_table();
            if table
                .events
                .try_complete(&indices, Condition::All)
                .is_some()
            {
                return Ok(true);
            }
            if park_until(table, &indices, Condition::AllSet, deadline).is_none() {
                return Ok(false);
            }
        }
    }
}

fn wait_for(events: &[&Event], condition: Condition, timeout: Option<Duration>) -> Option<usize> {
    // Most waits are for a few.
    let mut few = [EventIndex::NONE; 8];
    let many: Vec<_>;
    let indices = if let Some(few) = few.get_mut(..events.len()) {
        few.iter_mut()
            .zip(events)
            .for_each(|(index, event)| *index = event.index());
        &*few
    } else {
        many = events.iter().map(|event| event.index()).collect();
        &many
    };
    let mut table = lock_table();
    let outcome = table.events.try_complete(indices, condition);
    if outcome.is_some() || timeout == Some(Duration::ZERO) {
        return outcome;
    }
    park_until(
        table,
        indices,
        condition,
        timeout.and_then(|timeout| now().checked_add(timeout)),
    )
}

/// Waits for what the table was just found not to have, and gives it back meanwhile. Returns the outcome, `None` after
/// `deadline`.
#[cold]
#[inline(never)]
fn park_until(
    mut table: MutexGuard<'_, EventTable>,
    indices: &[EventIndex],
    condition: Condition,
    deadline: Option<Instant>,
) -> Option<usize> {
    let parked = Arc::new(ParkedThread {
        thread: thread::current(),
        outcome: AtomicUsize::new(PENDING),
    });
    let waiter = table.add_waiter(
        indices,
        condition,
        WaiterSignal::Thread(Arc::clone(&parked)),
    );
    drop(table);
    loop {
        if let Some(outcome) = parked.outcome() {
            return Some(outcome);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(now())) {
            None => thread::park(),
            Some(Duration::ZERO) => {
                return lock_table().remove_parked(waiter, &parked);
            }
            Some(left) => thread::park_timeout(left),
        }
    }
}
