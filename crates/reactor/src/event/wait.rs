//! Waits of a thread for events, and for events and fds together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::object::Event;
use super::state::{Condition, EventIndex};
use super::table::{EventTable, PENDING, ParkedThread, WaiterSignal, lock_table};
use crate::primitives::{Arc, AtomicUsize, MutexGuard, thread};
use crate::sys::eventfd::EventFd;
use crate::sys::readable::{poll_until, to_poll, wait_until_all_readable};
use crate::sys::thread::{now, park_while_not};

/// The event or fd that has ended a wait: the result of [`Event::wait_any_or_readable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// The event with this index is set. The wait has [passed through](Event) it.
    Event(usize),
    /// The fd with this index is readable, or its other side is closed.
    Readable(usize),
}

impl Event {
    /// Waits until the event is set, and [passes through](Self) it. Returns `false` if `timeout`
    /// elapses first. With a timeout of `None` it waits forever, and with a timeout of zero it does
    /// not wait.
    ///
    /// Blocks the thread, by [`thread::park`]. On the thread of a loop use
    /// [`Registry::on_event`](crate::Registry::on_event).
    ///
    /// ```
    /// use reactor::Event;
    /// use std::time::Duration;
    ///
    /// let done = Event::manual_reset();
    /// let worker = std::thread::spawn({
    ///     let done = done.clone();
    ///     move || done.set()
    /// });
    /// assert!(done.wait(Some(Duration::from_secs(10))));
    /// # worker.join().expect("it does not panic");
    /// ```
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        Self::wait_any(&[self], timeout).is_some()
    }

    /// Waits until any of `events` is set, [passes through](Self) this event, and returns its
    /// index. If several events are set, passes through the one with the lowest index only. Returns
    /// `None` if `timeout` elapses first, and at once if `events` is empty. With a timeout of
    /// `None` it waits forever, and with a timeout of zero it does not wait.
    ///
    /// Blocks the thread, by [`thread::park`]. On the thread of a loop use
    /// [`Registry::on_any`](crate::Registry::on_any).
    ///
    /// ```
    /// use reactor::Event;
    /// use std::time::Duration;
    ///
    /// let (stop, work) = (Event::manual_reset(), Event::auto_reset());
    /// work.set();
    /// assert_eq!(Event::wait_any(&[&stop, &work], None), Some(1));
    /// assert_eq!(Event::wait_any(&[&stop, &work], Some(Duration::ZERO)), None);
    /// ```
    #[doc(alias("WaitForMultipleObjects", "select"))]
    pub fn wait_any(events: &[&Self], timeout: Option<Duration>) -> Option<usize> {
        if events.is_empty() {
            None
        } else {
            wait_for(events, Condition::Any, timeout)
        }
    }

    /// Waits until all of `events` are set at the same time, and [passes through](Self) all of
    /// them. Returns `false` if `timeout` elapses first: the wait has then passed through none of
    /// them. Returns `true` at once if `events` is empty. With a timeout of `None` it waits
    /// forever, and with a timeout of zero it does not wait.
    ///
    /// If `events` contains an event n times, the wait passes through the event n times. A
    /// semaphore must then have a count of at least n. A wait that contains an auto-reset event
    /// twice ends only by its timeout, because an auto-reset event lets one wait through once.
    ///
    /// Blocks the thread, by [`thread::park`]. On the thread of a loop use
    /// [`Registry::on_all`](crate::Registry::on_all).
    ///
    /// ```
    /// use reactor::Event;
    /// use std::time::Duration;
    ///
    /// let (left, right) = (Event::auto_reset(), Event::auto_reset());
    /// left.set();
    /// assert!(!Event::wait_all(&[&left, &right], Some(Duration::ZERO)));
    /// right.set(); // `left` is still set: the first wait has consumed nothing
    /// assert!(Event::wait_all(&[&left, &right], None));
    /// ```
    pub fn wait_all(events: &[&Self], timeout: Option<Duration>) -> bool {
        wait_for(events, Condition::All, timeout).is_some()
    }

    /// Waits until any of `events` is set, or any of `fds` is readable. Returns the index of the
    /// event or of the fd. If both an event and an fd are ready, returns the event. A wait that
    /// returns an event [passes through](Self) it: an auto-reset event is reset, and the count of a
    /// semaphore goes down by one. Returns `None` if `timeout` elapses first. If `events` and `fds`
    /// are both empty, waits until the timeout.
    ///
    /// Use it on a thread that waits for stdin and for events. Blocks the thread, by `poll`.
    ///
    /// # Cost
    /// No system call if an event is set. Otherwise one eventfd and one `poll`.
    ///
    /// # Errors
    /// The errors of `eventfd(2)` and `poll(2)`.
    ///
    /// ```
    /// use reactor::{Event, Signalled};
    /// use std::{io::Write, os::fd::AsFd};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?; // in a program perhaps stdin
    /// let stop = Event::manual_reset();
    /// writer.write_all(b"a line\n")?;
    /// let first = Event::wait_any_or_readable(&[&stop], &[reader.as_fd()], None)?;
    /// assert_eq!(first, Some(Signalled::Readable(0)));
    /// stop.set(); // events come first
    /// let second = Event::wait_any_or_readable(&[&stop], &[reader.as_fd()], None)?;
    /// assert_eq!(second, Some(Signalled::Event(0)));
    /// # Ok(())
    /// # }
    /// ```
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
        // An event that was consumed for this wait meanwhile is its outcome, even if `poll` failed
        // or an fd is readable.
        if let Some((index, _)) = lock_table().remove_waiter(waiter) {
            return Ok(Some(Signalled::Event(index)));
        }
        polled_for?;
        Ok(polled[1..]
            .iter()
            .position(|fd| !fd.revents().is_empty())
            .map(Signalled::Readable))
    }

    /// Waits until all of `events` are set and all of `fds` are readable at the same time, and
    /// [passes through](Self) the events. Returns `false` if `timeout` elapses first: the wait has
    /// then passed through no event. Returns `true` at once if `events` and `fds` are both empty.
    ///
    /// An fd also counts as readable if its other side is closed. This call does not read from the
    /// fds. If another thread reads from an fd, the fd may be empty again when this call returns.
    ///
    /// Blocks the thread: by `poll` while an fd is not readable, and by [`thread::park`] while an
    /// event is not set. On the thread of a loop use
    /// [`Registry::on_all_and_readable`](crate::Registry::on_all_and_readable).
    ///
    /// # Cost
    /// One `poll` if all events are set and all fds are readable at the time of the call.
    ///
    /// # Errors
    /// The errors of `poll(2)`.
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
        // First the fds are waited for, then the events, without passing through any. Then both are
        // tested again.
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
    // Most waits are for a few events: their indices need no allocation.
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

/// Waits for a condition that the table has just been found not to fulfil. Releases the table
/// meanwhile. Returns the outcome, or `None` after `deadline`.
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
    if park_while_not(deadline, || parked.outcome().is_some()) {
        parked.outcome()
    } else {
        lock_table().remove_parked(waiter, &parked)
    }
}
