//! A wait of a loop for events and fds together: a source that is an epoll instance, which watches
//! all of them.
//!
//! Ground rule: nothing is consumed before one look finds all events set and all fds readable. The
//! epoll instance only says when to look again: when a missing fd becomes readable, or when the
//! events are all set. It is never emptied. It is edge-triggered and reports each change.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::object::Event;
use super::state::{Condition, EventIndex, WaiterIndex};
use super::table::{WaiterSignal, lock_table};
use crate::context::Context;
use crate::error::Error;
use crate::outcome::Next;
use crate::primitives::Arc;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Interest;
use crate::sys::eventfd::EventFd;
use crate::sys::poller::Poller;
use crate::sys::readable::{are_all_readable, to_poll};

/// Events and fds that a loop waits for together.
struct EventsAndFds {
    poller: Poller,
    /// Watched by `poller`. Written when the events are all set.
    all_set: Arc<EventFd>,
    fds: Vec<OwnedFd>,
    events: Vec<EventIndex>,
    /// Keeps the events at their indices.
    _held: Vec<Event>,
    waiter: Option<WaiterIndex>,
}

impl EventsAndFds {
    fn new(events: &[&Event], fds: &[BorrowedFd<'_>]) -> Result<Self, Error> {
        let (mut poller, all_set) = (Poller::new()?, Arc::new(EventFd::for_loop()?));
        poller.add(all_set.as_raw_fd(), Key::NULL, Interest::READABLE)?;
        let fds = fds.iter().map(duplicate).collect::<Result<Vec<_>, _>>()?;
        for fd in &fds {
            // An fd that epoll refuses is always readable.
            poller.add(fd.as_raw_fd(), Key::NULL, Interest::READABLE)?;
        }
        let held: Vec<_> = events.iter().map(|event| (*event).clone()).collect();
        Ok(Self {
            poller,
            all_set,
            fds,
            events: held.iter().map(Event::index).collect(),
            _held: held,
            waiter: None,
        })
    }

    /// Passes through the events, if all of them are set and all fds are readable.
    ///
    /// # Errors
    /// `WouldBlock` if not. The poller then reports when to look again.
    fn look(&mut self) -> io::Result<()> {
        // The fds first, since polling them consumes nothing.
        let mut polled = to_poll(self.fds.iter().map(AsFd::as_fd));
        if !are_all_readable(&mut polled)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut table = lock_table();
        self.waiter
            .take()
            .and_then(|waiter| table.remove_waiter(waiter));
        if table
            .events
            .try_complete(&self.events, Condition::All)
            .is_some()
        {
            return Ok(());
        }
        let signal = WaiterSignal::EventFd(Arc::clone(&self.all_set));
        self.waiter = Some(table.add_waiter(&self.events, Condition::AllSet, signal));
        Err(ErrorKind::WouldBlock.into())
    }
}

fn duplicate(fd: &BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Os {
        call: "fcntl(F_DUPFD_CLOEXEC)",
        fd: fd.as_raw_fd(),
        source,
    };
    fd.try_clone_to_owned().map_err(failed)
}

impl AsFd for EventsAndFds {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl Drop for EventsAndFds {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            lock_table().remove_waiter(waiter); // it has consumed nothing
        }
    }
}

impl<S> Registry<S> {
    /// Calls `handler` on this loop each time that all of `events` are set and all of `fds` are
    /// readable at the same time. The loop then [passes through](Event) all of the events. While
    /// any event is not set or any fd is not readable, the loop passes through none. If `events`
    /// and `fds` are both empty, the handler is never called.
    ///
    /// An fd also counts as readable if its other side is closed. The loop does not read from the
    /// fds: let the handler capture the sources, and read from each of them. The handler is called
    /// again next [turn](crate::Reactor::turn) if all events are still set and all fds still
    /// readable.
    ///
    /// The loop watches a duplicate of each fd, so you may also register the fd on its own. The
    /// duplicate is not put into non-blocking mode, and stays open until this registration ends.
    ///
    /// The registration is like any other: it can be removed, named, set into the
    /// [background](Self::set_background), given a [priority](Self::set_priority), and paused by an
    /// interest of [`Interest::NONE`]. It ends when the handler returns [`Next::Remove`] or an
    /// error. The errors `WouldBlock` and `Interrupted` do not end it and have no meaning here.
    /// [`set_timeout`](Self::set_timeout) has no effect on it.
    ///
    /// To wait for any of several fds, [`add`](Self::add) each of them.
    ///
    /// # Cost
    /// - Two fds, and one more for each of `fds`.
    /// - One `poll` each time that an fd becomes readable.
    /// - One `poll` each time that the last missing event is set while all fds are readable.
    ///
    /// # Errors
    /// - [`Error::Full`] at the limit of registrations.
    /// - [`Error::Loop`] if `epoll_create1(2)` or `eventfd(2)` fails: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`] if an fd cannot be duplicated by `fcntl(2)` (`EMFILE`), or cannot be watched
    ///   by `epoll_ctl(2)` (`ENOSPC` at `/proc/sys/fs/epoll/max_user_watches`).
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    /// use reactor::{Event, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (orders, mut customer) = std::io::pipe()?;
    /// let kitchen_is_open = Event::manual_reset();
    /// let mut reactor = Reactor::<String>::new()?;
    /// reactor.on_all_and_readable(&[&kitchen_is_open], &[orders.as_fd()], {
    ///     let mut orders = orders.try_clone()?;
    ///     move |cx| {
    ///         orders.read_to_string(cx.state)?;
    ///         Ok(Next::Remove)
    ///     }
    /// })?;
    /// customer.write_all(b"soup")?;
    /// drop(customer);
    /// std::thread::spawn(move || kitchen_is_open.set());
    /// let mut order = String::new();
    /// reactor.run(&mut order)?;
    /// assert_eq!(order, "soup");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "WaitForMultipleObjects")]
    #[track_caller]
    pub fn on_all_and_readable<F>(
        &mut self,
        events: &[&Event],
        fds: &[BorrowedFd<'_>],
        mut handler: F,
    ) -> Result<Key, Error>
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let source = EventsAndFds::new(events, fds)?;
        if !(events.is_empty() && fds.is_empty()) {
            let _ = source.all_set.add(1); // for the first look; an empty counter has room
        }
        let key = self.add(source, Interest::READABLE, move |source, cx| {
            if let Err(error) = source.try_io(Interest::READABLE, EventsAndFds::look) {
                cx.registry.uncount_call(cx.key()); // no code of the user has run
                return Err(error);
            }
            match handler(cx) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    Ok(Next::Keep)
                }
                result => result,
            }
        });
        Ok(key?)
    }
}
