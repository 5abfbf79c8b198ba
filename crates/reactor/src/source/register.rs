//! Registration: how a source comes to the loop, and how it ends.
//!
//! Interest lives in user space. The kernel is told of a direction when it is first wanted, and not when it is no longer: see
//! `watch.rs`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::Location;

use super::handler::{Closure, Handler, Object, Registered, Respond};
use super::io::Io;
use super::kind::{Kind, TypeFacts};
use super::readiness::{Interest, Readiness};
use super::slot::Slot;
use crate::callback::{Deferred, Entry};
use crate::context::Context;
use crate::error::{AddError, Error};
use crate::outcome::{CloseReason, Next};
use crate::registry::Registry;
use crate::slots::{Blank, Key};
use crate::sys::fd;
use crate::sys::poller::Watch;
use crate::turn::disposal::Disposal;
use crate::turn::policies::{Label, PanicPolicy};

impl<S> Registry<S> {
    /// Registers `source` with a closure, called while the source is ready for what `interest` says.
    ///
    /// The source, anything that is [`AsFd`], now belongs to the reactor together with the closure. It is put into
    /// non-blocking mode, which it shares with all duplicates of its fd, those of other processes included: with stdin on a
    /// terminal, stdout and the shell get it too. The first call comes next turn at the earliest, never from within
    /// `add`.
    ///
    /// A handler that has not read or written all it could is called again next turn, as long as its source stays ready:
    /// to do a bounded amount of work in each call is right, and fair to its neighbours.
    ///
    /// When the registration ends, by outcome, error or key, the closure is dropped with what it captured, and an error
    /// is logged. An owner who wants to be told why registers an object: [`add_handler`](Self::add_handler).
    ///
    /// Costs one `epoll_ctl`, one `ioctl`, one allocation; O(1). For types that do not tell what they are, their first `WouldBlock`
    /// costs two system calls more: see [`Io::kind`].
    ///
    /// # Errors
    /// [`AddError`] gives the source back. [`Error::AlreadyRegistered`], and the earlier registration is not touched;
    /// [`Error::Full`]; [`Error::Os`] with what the kernel says: `EBADF` for what is no open fd, `ENOSPC` at
    /// `/proc/sys/fs/epoll/max_user_watches`. A source that epoll refuses because it is always ready, a regular file, is
    /// no error: see [`Io::is_always_ready`].
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use reactor::{Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut reactor = Reactor::<Vec<u8>>::new()?;
    /// reactor.add(reader, Interest::READABLE, |reader, cx| {
    ///     let mut buf = [0; 16];
    ///     let n = reader.read(&mut buf)?;
    ///     cx.state.extend(&buf[..n]);
    ///     Ok(if n == 0 { Next::Remove } else { Next::Keep })
    /// })?;
    ///
    /// writer.write_all(b"twenty-four bytes of it.")?;
    /// drop(writer);
    /// let mut received = Vec::new();
    /// reactor.run(&mut received)?; // ends with its last registration
    /// assert_eq!(received, b"twenty-four bytes of it.");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias(
        "event_new",
        "event_add",
        "ev_io",
        "ev_io_start",
        "uv_poll_start",
        "insert_source",
        "register",
        "AsyncFd"
    ))]
    #[track_caller]
    pub fn add<T, F>(
        &mut self,
        source: T,
        interest: Interest,
        handler: F,
    ) -> Result<Key, AddError<T>>
    where
        T: AsFd + 'static,
        F: FnMut(&mut Io<T>, &mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.insert(source, interest, Closure(handler), Location::caller())
    }

    /// Registers `source` with an object; otherwise like [`add`](Self::add).
    ///
    /// # Errors
    /// As [`add`](Self::add).
    #[doc(alias("register_dispatcher", "registerHandler", "EventHandler"))]
    #[track_caller]
    pub fn add_handler<T, H>(
        &mut self,
        source: T,
        interest: Interest,
        handler: H,
    ) -> Result<Key, AddError<T>>
    where
        T: AsFd + 'static,
        H: Handler<S, T> + 'static,
    {
        self.insert(source, interest, Object::new(handler), Location::caller())
    }

    fn insert<T, R>(
        &mut self,
        source: T,
        interest: Interest,
        respond: R,
        origin: &'static Location<'static>,
    ) -> Result<Key, AddError<T>>
    where
        T: AsFd + 'static,
        R: Respond<S, T>,
    {
        match self.insert_slot(source.as_fd(), TypeFacts::of::<T>().kind, interest, origin) {
            Ok((key, slot)) => {
                let io = Io::new(source, slot.always_ready);
                slot.entry = Some(Box::new(Registered { io, respond }));
                self.sources.enqueue_if_ready(key);
                Ok(key)
            }
            Err(error) => Err(AddError {
                inner: source,
                error,
            }),
        }
    }

    /// What `insert` does that does not depend on the types: a slot, watched by the kernel, without its entry.
    fn insert_slot(
        &mut self,
        fd: BorrowedFd<'_>,
        kind: Kind,
        interest: Interest,
        origin: &'static Location<'static>,
    ) -> Result<(Key, &mut Slot<dyn Entry<S>>), Error> {
        let raw_fd = fd.as_raw_fd();
        let max_registrations = self.sources.max_registrations;
        let full = || Error::Full {
            fd: raw_fd,
            max_registrations,
        };
        let key = self.sources.next_key().ok_or_else(full)?;
        fd::set_nonblocking(fd)?;
        // Who wants nothing yet is watched for reading: the kernel's objections come now, not later.
        let armed = if interest.is_none() {
            Interest::READABLE
        } else {
            interest
        };
        let always_ready = self.sys.poller.add(raw_fd, key, armed)? == Watch::Refused;
        self.metrics.kernel_updates += 1;
        let slot = Slot {
            origin,
            fd: raw_fd,
            wanted: interest.wanted(),
            ready: if always_ready {
                Readiness::READABLE | Readiness::WRITABLE
            } else {
                Readiness::EMPTY
            },
            armed: if always_ready { Interest::NONE } else { armed },
            always_ready,
            kind,
            ..Slot::blank()
        };
        let (key, slot) = self.sources.insert(slot).ok_or_else(full)?;
        tracing::debug!(%key, fd = raw_fd, %kind, %interest, always_ready, %origin, "registered");
        Ok((key, slot))
    }

    /// A slot for a notification queue, of which the kernel knows nothing.
    pub(crate) fn insert_queue_slot(
        &mut self,
        origin: &'static Location<'static>,
    ) -> Result<Key, Error> {
        let full = Error::Full {
            fd: -1,
            max_registrations: self.sources.max_registrations,
        };
        let wanted = Interest::READABLE.wanted();
        let slot = Slot {
            origin,
            wanted,
            always_ready: true,
            kind: Kind::Queue,
            ..Slot::blank()
        };
        let is_room = self.sources.next_key().is_some();
        let (key, _) = is_room
            .then(|| self.sources.insert(slot))
            .flatten()
            .ok_or(full)?;
        tracing::debug!(%key, %origin, "registered a queue");
        Ok(key)
    }

    /// Gives a queue its entry; it is called next turn if it has something.
    pub(crate) fn fill_queue(&mut self, key: Key, entry: Box<dyn Entry<S>>, has_something: bool) {
        let Some(slot) = self.sources.get_mut(key) else {
            return;
        };
        slot.entry = Some(entry);
        if has_something {
            slot.ready = Readiness::READABLE;
        }
        self.sources.enqueue_if_ready(key);
    }

    /// Closes the ways by which other threads reach this loop, and answers those that wait: nobody waits for a loop that ends.
    pub(crate) fn close_ways_in(&self) {
        let queues = self
            .sources
            .iter()
            .filter(|(_, slot)| slot.kind == Kind::Queue);
        queues
            .filter_map(|(_, slot)| slot.entry.as_deref())
            .for_each(Entry::shut);
        if let Some((queue, ..)) = &self.inbox.posts {
            self.answer_lost_calls(*queue);
        }
    }

    /// Closes all sources and drops their handlers, with the loop. The kernel needs no word: its list of them goes too.
    pub(crate) fn end_sources(&mut self, disposal: &mut Disposal) {
        for (key, slot) in self.sources.take_slots().iter_mut() {
            let entry = slot.entry.take();
            // What would tell the handler of its end is dropped with what is deferred.
            if let Some(task) = entry.and_then(|entry| entry.close(CloseReason::ByKey, disposal)) {
                self.deferred.push_back(Deferred {
                    task,
                    origin: None,
                    key,
                });
            }
        }
    }

    /// Ends a registration: the kernel's watch first, then the source is closed, then the handler dropped.
    ///
    /// All of that happens within this call, so that an address or a file is free again after it, unless `key` is the
    /// registration whose handler is running: then source and handler go when it returns. No event that was already
    /// collected reaches the handler any more. An object's [`Handler::closed`] is called with the deferred callbacks.
    /// One `epoll_ctl`, and what it costs to drop the two; O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    #[doc(alias(
        "event_del",
        "ev_io_stop",
        "uv_poll_stop",
        "uv_close",
        "deregister",
        "unregisterHandler"
    ))]
    pub fn remove(&mut self, key: Key) -> Result<(), Error> {
        let own_policy = self
            .sources
            .get(key)
            .and_then(|slot| slot.on_failure.panic_policy());
        match self.forget(key).ok_or(Error::StaleKey(key))? {
            Some(entry) => self.close(key, entry, CloseReason::ByKey, own_policy),
            // It is running, and closed when it returns.
            None => self.turn.policy_of_running = own_policy,
        }
        Ok(())
    }

    /// Frees the slot of `key` and ends the kernel's watch. The entry is left to the caller, who has it already while it runs.
    pub(crate) fn forget(&mut self, key: Key) -> Option<Option<Box<dyn Entry<S>>>> {
        let slot = self.sources.remove(key)?;
        if !slot.armed.is_none() {
            self.metrics.kernel_updates += 1;
            // That fd is gone already where somebody closed it behind our back: its watch with it.
            if let Err(error) = self.sys.poller.remove(slot.fd, key) {
                tracing::debug!(%key, %error, "the end of a watch");
            }
        }
        if slot.timeout != Key::NULL {
            self.timers.end_timeout(slot.timeout);
        }
        if !self.inbox.queue_limits.is_empty() {
            self.inbox.queue_limits.remove(&key);
        }
        tracing::debug!(%key, fd = slot.fd, origin = %slot.origin, calls = slot.calls, "removed");
        Some(slot.entry)
    }

    /// Closes the source of an entry, and lets its handler know with the deferred callbacks.
    ///
    /// # Panics
    /// As the destructors of source and handler do, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate); by then all
    /// has been done.
    pub(crate) fn close(
        &mut self,
        key: Key,
        entry: Box<dyn Entry<S>>,
        reason: CloseReason,
        own_policy: Option<PanicPolicy>,
    ) {
        entry.shut();
        self.answer_lost_calls(key);
        let label = Label {
            name: entry.handler_type(),
            origin: None,
        };
        let mut disposal = Disposal::default();
        if let Some(task) = entry.close(reason, &mut disposal) {
            self.deferred.push_back(Deferred {
                task,
                origin: None,
                key,
            });
            let other = own_policy.filter(|policy| *policy != self.turn.supervision.policy());
            self.turn
                .policies_of_ended
                .extend(other.map(|policy| (key, policy)));
        }
        self.handle_drop_panics(
            disposal,
            label,
            own_policy.unwrap_or(self.turn.supervision.policy()),
        );
    }

    /// Whether `key` names a registration.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.sources.get(key).is_some()
    }

    /// Returns how many sources are registered: notification queues count, and so does the one queue of all
    /// [remotes](Self::remote), which is there from the first `remote` on.
    #[inline]
    pub const fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether no source is registered.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.sources.len() == 0
    }
}
