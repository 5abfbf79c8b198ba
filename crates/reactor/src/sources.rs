//! Sources: what can be registered, changed and listed.
//!
//! A registration is a slot here and one allocation for its source and handler. The slot holds what the loop needs to
//! decide whether to call; the allocation is touched only when it does.
//!
//! Interest lives here, in user space. The kernel is told of a direction when it is first wanted, and not when it is no
//! longer: an event for a direction that is not wanted is remembered in the slot, which costs less than to take back
//! the watch and set it again. Only a source that wakes the loop in vain [`VAIN_WAKES_MAX`] times without a change of
//! interest is narrowed down in the kernel too.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::Location;

use crate::context::Context;
use crate::error::{AddError, Error};
use crate::handler::{Closed, Closure, Entry, Handler, Next, Object, Registered, Respond};
use crate::io::Io;
use crate::kind::{Kind, TypeFacts};
use crate::metrics::Registration;
use crate::poller::Watch;
use crate::readiness::{Interest, Readiness};
use crate::ready::Priority;
use crate::registry::{Deferred, Registry};
use crate::slots::{Blank, Key, Slots};
use crate::supervise::{Disposal, Label};

/// So many events that are not wanted, and the kernel is asked to stop. Small enough that a talkative peer of a
/// resting handler costs little, large enough that back-pressure that comes and goes costs no `epoll_ctl`.
pub(crate) const VAIN_WAKES_MAX: u8 = 8;

/// One registered source.
pub(crate) struct Slot<S> {
    /// `None` while the handler runs.
    pub(crate) entry: Option<Box<dyn Entry<S>>>,
    pub(crate) origin: &'static Location<'static>,
    pub(crate) calls: u64,
    /// The entry of its timeout in the wheel, if it was ever set.
    pub(crate) timeout: Key,
    pub(crate) fd: RawFd,
    /// The facts that the handler is called for.
    pub(crate) wanted: Readiness,
    /// The facts known between calls. During a call its `Io` knows better.
    pub(crate) ready: Readiness,
    /// The directions that the kernel watches.
    pub(crate) armed: Interest,
    /// Events that were not wanted, since the interest was last changed.
    pub(crate) vain_wakes: u8,
    pub(crate) priority: Priority,
    /// Whether the ready queue holds its key.
    pub(crate) queued: bool,
    pub(crate) always_ready: bool,
    background: bool,
    pub(crate) essential: bool,
    kind: Kind,
}

impl<S> Blank for Slot<S> {
    fn blank() -> Self {
        Self {
            entry: None,
            origin: Location::caller(),
            calls: 0,
            timeout: Key::NULL,
            fd: -1,
            wanted: Interest::NONE.wanted(),
            ready: Readiness::EMPTY,
            armed: Interest::NONE,
            vain_wakes: 0,
            priority: Priority::Normal,
            queued: false,
            always_ready: false,
            background: false,
            essential: false,
            kind: Kind::Anonymous,
        }
    }
}

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
    #[track_caller]
    pub fn add<T, F>(&mut self, source: T, interest: Interest, handler: F) -> Result<Key, AddError<T>>
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
    #[track_caller]
    pub fn add_handler<T, H>(&mut self, source: T, interest: Interest, handler: H) -> Result<Key, AddError<T>>
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
        match self.admit(source.as_fd(), TypeFacts::of::<T>().kind, interest, origin) {
            Ok((key, slot)) => {
                let io = Io::new(source, slot.always_ready);
                slot.entry = Some(Box::new(Registered { io, respond }));
                self.enqueue_if_ready(key);
                Ok(key)
            }
            Err(error) => Err(AddError { source, error }),
        }
    }

    /// What `insert` does that does not depend on the types: a slot, watched by the kernel, without its entry.
    fn admit(
        &mut self,
        fd: BorrowedFd<'_>,
        kind: Kind,
        interest: Interest,
        origin: &'static Location<'static>,
    ) -> Result<(Key, &mut Slot<S>), Error> {
        let raw_fd = fd.as_raw_fd();
        let registrations_max = self.registrations_max;
        let full = || Error::Full { fd: raw_fd, registrations_max };
        let key = match self.sources.next_key() {
            Some(key) if self.sources.len() < registrations_max => key,
            _ => return Err(full()),
        };
        let os_error = |call| move |error: io::Error| Error::Os { call, fd: raw_fd, source: error };
        rustix::io::ioctl_fionbio(fd, true).map_err(|errno| os_error("ioctl(FIONBIO)")(errno.into()))?;
        // Who wants nothing yet is watched for reading: the kernel's objections come now, not later.
        let armed = if interest.is_none() { Interest::READABLE } else { interest };
        let always_ready = self.poller.add(raw_fd, key, armed)? == Watch::Refused;
        self.metrics.kernel_updates += 1;
        let slot = Slot {
            origin,
            fd: raw_fd,
            wanted: interest.wanted(),
            ready: if always_ready { Readiness::READABLE | Readiness::WRITABLE } else { Readiness::EMPTY },
            armed: if always_ready { Interest::NONE } else { armed },
            always_ready,
            kind,
            ..Slot::blank()
        };
        let slot = self.sources.insert(slot).and_then(|key| self.sources.get_mut(key)).ok_or_else(full)?;
        self.foreground += 1;
        tracing::debug!(%key, fd = raw_fd, %kind, %interest, always_ready, %origin, "registered");
        Ok((key, slot))
    }

    /// A slot for a notification queue, of which the kernel knows nothing.
    pub(crate) fn admit_queue(&mut self, origin: &'static Location<'static>) -> Result<Key, Error> {
        let full = Error::Full { fd: -1, registrations_max: self.registrations_max };
        if self.sources.len() >= self.registrations_max {
            return Err(full);
        }
        let wanted = Interest::READABLE.wanted();
        let slot = Slot { origin, wanted, always_ready: true, kind: Kind::Queue, ..Slot::blank() };
        let key = self.sources.insert(slot).ok_or(full)?;
        self.foreground += 1;
        tracing::debug!(%key, %origin, "registered a queue");
        Ok(key)
    }

    /// Gives a queue its entry; it is called next turn if it has something.
    pub(crate) fn fill_queue(&mut self, key: Key, entry: Box<dyn Entry<S>>, has_something: bool) {
        let Some(slot) = self.sources.get_mut(key) else { return };
        slot.entry = Some(entry);
        if has_something {
            slot.ready = Readiness::READABLE;
        }
        self.enqueue_if_ready(key);
    }

    /// Whether `key` names a queue that has something for its handler.
    pub(crate) fn is_ready_queue(&self, key: Key) -> bool {
        self.sources.get(key).is_some_and(|slot| slot.kind == Kind::Queue && slot.ready.intersects(slot.wanted))
    }

    /// Closes the ways by which other threads reach this loop, and answers those that wait: nobody waits for a loop that ends.
    pub(crate) fn close_ways_in(&self) {
        let queues = self.sources.iter().filter(|(_, slot)| slot.kind == Kind::Queue);
        queues.filter_map(|(_, slot)| slot.entry.as_deref()).for_each(Entry::shut);
        if let Some((queue, ..)) = &self.posts {
            self.lose_calls(*queue);
        }
    }

    /// Closes all sources and drops their handlers, with the loop. The kernel needs no word: its list of them goes too.
    pub(crate) fn end_sources(&mut self, disposal: &mut Disposal) {
        let mut sources = std::mem::replace(&mut self.sources, Slots::new());
        for (key, slot) in sources.iter_mut() {
            let entry = slot.entry.take();
            // What would tell the handler of its end is dropped with what is deferred.
            if let Some(task) = entry.and_then(|entry| entry.close(Closed::ByKey, disposal)) {
                self.deferred.push_back(Deferred { task, origin: None, key });
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
    pub fn remove(&mut self, key: Key) -> Result<(), Error> {
        let entry = self.forget(key).ok_or(Error::StaleKey(key))?;
        if let Some(entry) = entry {
            self.close(key, entry, Closed::ByKey);
        }
        Ok(())
    }

    /// Frees the slot of `key` and ends the kernel's watch. The entry is left to the caller, who has it already while it runs.
    pub(crate) fn forget(&mut self, key: Key) -> Option<Option<Box<dyn Entry<S>>>> {
        let slot = self.sources.remove(key)?;
        if !slot.armed.is_none() {
            self.metrics.kernel_updates += 1;
            // That fd is gone already where somebody closed it behind our back: its watch with it.
            if let Err(error) = self.poller.remove(slot.fd, key) {
                tracing::debug!(%key, %error, "the end of a watch");
            }
        }
        if slot.timeout != Key::NULL {
            self.timers.end_timeout(slot.timeout);
        }
        self.foreground -= usize::from(!slot.background);
        self.prioritised -= usize::from(slot.priority != Priority::Normal);
        if !self.names.is_empty() {
            self.names.remove(&key);
        }
        if !self.rests.is_empty() {
            self.rests.remove(&key);
        }
        if !self.queue_limits.is_empty() {
            self.queue_limits.remove(&key);
        }
        tracing::debug!(%key, fd = slot.fd, origin = %slot.origin, calls = slot.calls, "removed");
        Some(slot.entry)
    }

    /// Closes the source of an entry, and lets its handler know with the deferred callbacks.
    ///
    /// # Panics
    /// As the destructors of source and handler do, under [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate); by then all
    /// has been done.
    pub(crate) fn close(&mut self, key: Key, entry: Box<dyn Entry<S>>, reason: Closed) {
        entry.shut();
        self.lose_calls(key);
        let label = Label { name: entry.handler_type(), origin: None };
        let mut disposal = Disposal::default();
        if let Some(task) = entry.close(reason, &mut disposal) {
            self.deferred.push_back(Deferred { task, origin: None, key });
        }
        self.conclude(disposal, label);
    }

    /// Changes what the handler is called for.
    ///
    /// If the source is known to be ready for it, the handler is called this turn or next. A mask in user space: no system
    /// call, unless a direction is wanted for the first time, or again after the kernel was asked to stop reporting it
    /// because it woke the loop in vain; then one `epoll_ctl`.
    ///
    /// # Errors
    /// [`Error::StaleKey`]; [`Error::Os`] if the kernel refuses. The interest is unchanged then.
    pub fn set_interest(&mut self, key: Key, interest: Interest) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        if !slot.armed.watched().contains(interest) && !slot.always_ready {
            let armed = slot.armed | interest;
            self.poller.rearm(slot.fd, key, armed)?;
            self.metrics.kernel_updates += 1;
            slot.armed = armed;
        }
        if slot.wanted != interest.wanted() {
            slot.wanted = interest.wanted();
            slot.vain_wakes = 0;
        }
        self.enqueue_if_ready(key);
        Ok(())
    }

    /// What the handler is called for.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn interest(&self, key: Key) -> Result<Interest, Error> {
        self.sources.get(key).map(|slot| Interest::of_facts(slot.wanted)).ok_or(Error::StaleKey(key))
    }

    /// Sets which of the ready sources are called first; [`Priority::Normal`] in the beginning. Holds from the next
    /// time the source becomes ready. O(1).
    ///
    /// While every source has the normal priority, events are dispatched in one pass over the kernel's list. With any
    /// other, they are collected first, which costs some 50 instructions more for each.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_priority(&mut self, key: Key, priority: Priority) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.prioritised -= usize::from(slot.priority != Priority::Normal);
        self.prioritised += usize::from(priority != Priority::Normal);
        slot.priority = priority;
        Ok(())
    }

    /// Lets [`Reactor::run`](crate::Reactor::run) end although this registration is there (libuv's `unref`).
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_background(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.foreground -= usize::from(!std::mem::replace(&mut slot.background, true));
        Ok(())
    }

    /// Keeps [`Reactor::run`](crate::Reactor::run) going while this registration is there, as it is in the beginning.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_foreground(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.foreground += usize::from(std::mem::replace(&mut slot.background, false));
        Ok(())
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with the error if this registration fails: a daemon that cannot do without it
    /// ends with it, and says why.
    ///
    /// Its failure is an error that its handler returns, or a panic that
    /// [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler) catches. `run` returns
    /// [`Error::Failed`] then, at the end of the turn, with the name and the line of the registration.
    /// [`Next::Remove`] and [`remove`](Self::remove) are no failures. For timers see
    /// [`set_timer_essential`](Self::set_timer_essential), for hooks [`set_hook_essential`](Self::set_hook_essential).
    /// A deferred or posted closure has no key: it calls [`stop_with`](Self::stop_with) itself.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_essential(&mut self, key: Key) -> Result<(), Error> {
        self.sources.get_mut(key).ok_or(Error::StaleKey(key))?.essential = true;
        Ok(())
    }

    /// Names a registration, for logs and lists. Without a name it goes by the type of its handler.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_name(&mut self, key: Key, name: impl Into<Cow<'static, str>>) -> Result<(), Error> {
        if self.sources.get(key).is_none() {
            return Err(Error::StaleKey(key));
        }
        self.names.insert(key, name.into());
        Ok(())
    }

    /// Says where a registration was made, for logs and lists: for a library of handlers, which registers now what a line of its
    /// user's has asked for earlier. In the beginning it is the line that has called [`add`](Self::add), by `#[track_caller]`.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_origin(&mut self, key: Key, origin: &'static Location<'static>) -> Result<(), Error> {
        self.sources.get_mut(key).ok_or(Error::StaleKey(key))?.origin = origin;
        Ok(())
    }

    /// Returns where a registration was made: the line that [`Registration::origin`] shows. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn origin(&self, key: Key) -> Result<&'static Location<'static>, Error> {
        self.sources.get(key).map(|slot| slot.origin).ok_or(Error::StaleKey(key))
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

    /// Everything that is registered, in the order of places: for a status command, a log line at the end, a leak hunt.
    ///
    /// The registration whose handler is running is named `(running)` unless it was given a name.
    pub fn registrations(&self) -> impl Iterator<Item = Registration<'_>> {
        self.sources.iter().map(|(key, slot)| Registration {
            key,
            fd: slot.fd,
            kind: slot.entry.as_deref().map_or(slot.kind, |entry| entry.kind()),
            interest: Interest::of_facts(slot.wanted),
            readiness: slot.ready,
            priority: slot.priority,
            always_ready: slot.always_ready && slot.kind != Kind::Queue,
            keeps_alive: !slot.background,
            name: self.name_of(key, slot.entry.as_deref()),
            origin: slot.origin,
            calls: slot.calls,
        })
    }

    pub(crate) fn name_of<'a>(&'a self, key: Key, entry: Option<&dyn Entry<S>>) -> &'a str {
        match self.names.get(&key) {
            Some(name) => name,
            None => entry.map_or("(running)", |entry| entry.handler_type()),
        }
    }

    /// How `key`, whose entry this is, appears in logs.
    pub(crate) fn label<'a>(&'a self, key: Key, entry: &dyn Entry<S>) -> Label<'a> {
        Label { name: self.name_of(key, Some(entry)), origin: self.sources.get(key).map(|slot| slot.origin) }
    }

    /// Queues a source that is not running, not queued, and ready for what is wanted.
    #[inline(never)]
    pub(crate) fn enqueue_if_ready(&mut self, key: Key) {
        let Some(slot) = self.sources.get_mut(key) else { return };
        if slot.entry.is_some() && !slot.queued && slot.ready.intersects(slot.wanted) {
            slot.queued = true;
            self.ready.push(slot.priority, key);
        }
    }
}
