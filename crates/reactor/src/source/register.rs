//! Registration: how a source is added to the loop, and how its registration ends.
//!
//! Interest lives in user space. The kernel is asked to watch a direction when the direction is
//! first wanted. It is not asked to stop when the direction is no longer wanted: see `watch.rs`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::Location;

use super::handler::{Closure, Handler, Object, Registered, Respond};
use super::io::Io;
use super::kind::{Kind, TypeFacts};
use super::readiness::{Interest, Readiness};
use super::slot::Slot;
use crate::callback::{Deferred, Entry, Task};
use crate::context::Context;
use crate::error::{AddError, Error};
use crate::outcome::{CloseReason, Next};
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::slots::{Blank, Key};
use crate::sys::fd;
use crate::sys::poller::Watch;
use crate::turn::disposal::Disposal;
use crate::turn::policies::{Label, PanicPolicy};

/// A registration that is out of its slot for good.
pub(crate) struct Removed<S> {
    /// `None` if its handler is running.
    pub(crate) entry: Option<Box<dyn Entry<S>>>,
    pub(crate) context: Carried,
}

impl<S> Registry<S> {
    /// Registers `source` with a closure, which is called while the source is ready for `interest`.
    ///
    /// The source can be of any type that is [`AsFd`]. From then on the reactor owns the source and
    /// the closure. `add` itself never calls the closure. If a handler calls `add`, the first call
    /// comes in the next [turn](crate::Reactor::turn) at the earliest.
    ///
    /// `add` sets `O_NONBLOCK`. The flag belongs to the open file description, so it also affects
    /// every duplicate of the fd, in this process and others. If stdin is a terminal, registering
    /// it therefore also makes stdout and the stdin of the shell non-blocking.
    ///
    /// A handler that has not read or written everything is called again next turn while its source
    /// stays ready. A bounded amount of work in each call is therefore correct, and fair to other
    /// handlers.
    ///
    /// The registration ends by [`Next::Remove`], by an error of the closure or by
    /// [`remove`](Self::remove). The closure is then dropped with its captures. An error of the
    /// closure is logged: see [`Handler::ready`]. To be notified of the end and its reason,
    /// register an object by [`add_handler`](Self::add_handler).
    ///
    /// # Cost
    /// O(1): one `epoll_ctl`, one `ioctl`, one allocation. A table with 4 bytes for each fd number
    /// grows with the greatest number so far. If the Rust type does not determine the [`Kind`] of
    /// the source, as `File` does not, the first `WouldBlock` of the source costs two additional
    /// system calls: see [`Io::kind`].
    ///
    /// # Errors
    /// [`AddError`] contains the source and one of these errors:
    ///
    /// - [`Error::AlreadyRegistered`] if this reactor already has a registration for the fd. This
    ///   earlier registration is unchanged.
    /// - [`Error::Full`] at the limit of
    ///   [`Builder::max_registrations`](crate::Builder::max_registrations).
    /// - [`Error::Os`] with the errno of the kernel: `EBADF` if the fd is not open, `ENOSPC` at
    ///   `/proc/sys/fs/epoll/max_user_watches`.
    ///
    /// A source that epoll refuses because it is always ready, such as a regular file, is
    /// registered without an error: see [`Io::is_always_ready`].
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

    /// Registers `source` with a handler object. Its method [`ready`](crate::Handler::ready) is
    /// called while the source is ready for `interest`. Its method
    /// [`closed`](crate::Handler::closed) is called after the registration has ended. Everything
    /// else is as described at [`add`](Self::add), including the time of the first call and
    /// `O_NONBLOCK`.
    ///
    /// # Cost
    /// O(1): one `epoll_ctl`, one `ioctl`, one allocation, as for [`add`](Self::add).
    ///
    /// # Errors
    /// [`AddError`] returns the source, with [`Error::AlreadyRegistered`], [`Error::Full`], or
    /// [`Error::Os`] (`EBADF`, `ENOSPC`): see [`add`](Self::add).
    ///
    /// ```
    /// use std::io::{self, PipeReader, Read, Write};
    /// use reactor::{CloseReason, Context, Handler, Interest, Io, Next, Reactor};
    ///
    /// /// Counts the bytes of a pipe.
    /// struct Count(usize);
    ///
    /// impl Handler<usize, PipeReader> for Count {
    ///     fn ready(
    ///         &mut self,
    ///         pipe: &mut Io<PipeReader>,
    ///         _cx: &mut Context<'_, usize>,
    ///     ) -> io::Result<Next> {
    ///         let n = pipe.read(&mut [0; 64])?;
    ///         self.0 += n;
    ///         Ok(if n == 0 { Next::Remove } else { Next::Keep })
    ///     }
    ///
    ///     fn closed(&mut self, _reason: CloseReason, cx: &mut Context<'_, usize>) {
    ///         *cx.state = self.0;
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let (reader, mut writer) = io::pipe()?;
    /// let mut reactor = Reactor::new()?;
    /// reactor.add_handler(reader, Interest::READABLE, Count(0))?;
    /// writer.write_all(b"hello")?;
    /// drop(writer);
    /// let mut bytes = 0;
    /// reactor.run(&mut bytes)?;
    /// assert_eq!(bytes, 5);
    /// # Ok(())
    /// # }
    /// ```
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
                // Only now: a source that the kernel has refused goes back to the caller.
                let io = Io::new(source, slot.always_ready);
                slot.entry = Some(Box::new(Registered { io, respond }));
                self.carry_to_source(key);
                self.sources.enqueue_if_ready(key);
                Ok(key)
            }
            Err(error) => Err(AddError {
                inner: source,
                error,
            }),
        }
    }

    /// Does the part of `insert` that does not depend on the types: adds a slot, watched by the
    /// kernel, without its entry.
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
        // A source with empty interest is watched for reading, so that the kernel's refusal comes
        // now, not later.
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

    /// Adds a slot for a notification queue, which the kernel does not know.
    pub(crate) fn insert_queue_slot(
        &mut self,
        origin: &'static Location<'static>,
    ) -> Result<Key, Error> {
        let full = Error::Full {
            fd: -1,
            max_registrations: self.sources.max_registrations,
        };
        let wanted = Interest::READABLE.wanted();
        // `always_ready`: the kernel does not watch a queue, its senders announce their values.
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

    /// Gives a queue its entry. The queue is called next turn if it has a value.
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

    /// Closes the queues of this loop to other threads, and answers the callers that wait for it:
    /// no thread must wait for a loop that ends.
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

    /// Closes all sources and drops their handlers, with the loop. No watch is ended in the kernel:
    /// they all end with the epoll fd.
    pub(crate) fn end_sources(&mut self, disposal: &mut Disposal) {
        for (key, slot) in self.sources.take_slots().iter_mut() {
            let entry = slot.entry.take();
            let context = self.take_context_of(key, slot);
            // The task that would notify the handler of its end is dropped with the deferred
            // callbacks.
            let task =
                entry.and_then(|entry| context.scope(|| entry.close(CloseReason::ByKey, disposal)));
            if let Some(task) = task {
                self.deferred.push_back(Deferred {
                    task,
                    origin: None,
                    key,
                    context,
                });
            } else {
                disposal.drop_one(context);
            }
        }
    }

    /// Ends a registration. First the fd is removed from epoll, then the source is closed, and last
    /// the handler is dropped.
    ///
    /// All of this happens within this call, so that an address or a file is free again when the
    /// call returns. The exception is the registration whose handler is running: its source and
    /// handler are dropped when the handler returns. An event that the kernel has already reported
    /// does not reach the handler any more. If the handler is an object, its [`Handler::closed`] is
    /// called later, among the [deferred](Self::defer) callbacks.
    ///
    /// # Cost
    /// O(1): one `epoll_ctl`, and the destructors of source and handler.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use reactor::{Error, Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (reader, _writer) = std::io::pipe()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_reader, _cx| Ok(Next::Keep))?;
    /// reactor.remove(key)?;
    /// assert!(matches!(reactor.remove(key), Err(Error::StaleKey(_))));
    /// # Ok(())
    /// # }
    /// ```
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
            .and_then(|slot| slot.marks.panic_policy());
        let removed = self.forget(key).ok_or(Error::StaleKey(key))?;
        match removed.entry {
            Some(entry) => {
                self.close(key, entry, CloseReason::ByKey, own_policy, removed.context);
            }
            // The handler is running: source and handler are dropped when it returns.
            None => {
                self.turn.policy_of_running = own_policy;
                self.contexts.keep_for_end(key, removed.context);
            }
        }
        Ok(())
    }

    /// Frees the slot of `key` and ends the kernel's watch. Returns the entry for the caller to
    /// drop. While the handler runs the entry is out of its slot, and the caller has it already.
    pub(crate) fn forget(&mut self, key: Key) -> Option<Removed<S>> {
        let slot = self.sources.remove(key)?;
        let context = self.take_context_of(key, &slot);
        if !slot.armed.is_none() {
            self.metrics.kernel_updates += 1;
            // If the fd was closed outside of this reactor, its watch has ended with it.
            if let Err(error) = self.sys.poller.remove(slot.fd, key) {
                tracing::debug!(%key, %error, "the kernel's watch could not be ended");
            }
        }
        if slot.timeout != Key::NULL {
            self.timers.end_timeout(slot.timeout);
        }
        if !self.inbox.queue_limits.is_empty() {
            self.inbox.queue_limits.remove(&key);
        }
        tracing::debug!(%key, fd = slot.fd, origin = %slot.origin, calls = slot.calls, "removed");
        Some(Removed {
            entry: slot.entry,
            context,
        })
    }

    /// Closes the source of an entry, and defers the notification of its handler.
    ///
    /// # Panics
    /// If the destructor of source or handler panics under
    /// [`PanicPolicy::Propagate`]. By then everything has been done.
    pub(crate) fn close(
        &mut self,
        key: Key,
        entry: Box<dyn Entry<S>>,
        reason: CloseReason,
        own_policy: Option<PanicPolicy>,
        context: Carried,
    ) {
        self.close_with(key, entry, own_policy, context, |entry, disposal| {
            entry.close(reason, disposal)
        });
    }

    /// Ends an entry by `end`, which returns the notification of its handler, and defers that.
    ///
    /// # Panics
    /// As [`close`](Self::close) does.
    pub(crate) fn close_with(
        &mut self,
        key: Key,
        entry: Box<dyn Entry<S>>,
        own_policy: Option<PanicPolicy>,
        context: Carried,
        end: impl FnOnce(Box<dyn Entry<S>>, &mut Disposal) -> Option<Box<dyn Task<S>>>,
    ) {
        // Before any destructor of the user runs: one may join a thread that waits for the handler.
        entry.shut();
        self.answer_lost_calls(key);
        let label = Label {
            name: entry.handler_type(),
            origin: None,
        };
        let mut disposal = Disposal::default();
        if let Some(task) = context.scope(|| end(entry, &mut disposal)) {
            self.deferred.push_back(Deferred {
                task,
                origin: None,
                key,
                context,
            });
            // The task runs later, and the slot with the policy is free by then.
            let other = own_policy.filter(|policy| *policy != self.turn.supervision.policy());
            self.turn
                .policies_of_ended
                .extend(other.map(|policy| (key, policy)));
        } else {
            disposal.drop_one(context);
        }
        self.handle_drop_panics(
            disposal,
            label,
            own_policy.unwrap_or(self.turn.supervision.policy()),
        );
    }

    /// Returns `true` if `key` names a registration.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        self.sources.get(key).is_some()
    }

    /// Returns the number of registered sources. Notification queues are counted too. All
    /// [remotes](Self::remote) together count as one queue, which exists from the first call of
    /// `remote` on.
    #[inline]
    pub const fn len(&self) -> usize {
        self.sources.len()
    }

    /// Returns `true` if no source is registered.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.sources.len() == 0
    }
}
