//! Settings of a registration: its interest, priority, name and origin, and how its end and its
//! failures affect the loop.

use std::borrow::Cow;
use std::panic::Location;

use super::readiness::Interest;
use super::ready::Priority;
use crate::error::Error;
use crate::registry::Registry;
use crate::slots::Key;
use crate::turn::policies::PanicPolicy;

impl<S> Registry<S> {
    /// Sets the facts that the handler is called for.
    ///
    /// If the source is known to be ready for the new interest, the handler is called in this turn
    /// or the next one.
    ///
    /// # Cost
    /// No system call: the interest is a mask in user space. One `epoll_ctl` if a direction is
    /// wanted for the first time, or again after the kernel was asked to stop reporting it because
    /// of spurious wakeups.
    ///
    /// # Errors
    /// The interest is unchanged if one of these is returned:
    ///
    /// - [`Error::StaleKey`] if the registration has ended.
    /// - [`Error::Os`] if the kernel refuses the `epoll_ctl`.
    ///
    /// ```
    /// use reactor::{Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (reader, _writer) = std::io::pipe()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_reader, _cx| Ok(Next::Keep))?;
    /// reactor.set_interest(key, Interest::NONE)?; // paused: bytes wait in the pipe
    /// reactor.set_interest(key, Interest::READABLE)?; // resumed
    /// assert_eq!(reactor.interest(key)?, Interest::READABLE);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("event_assign", "ev_io_modify", "reregister"))]
    pub fn set_interest(&mut self, key: Key, interest: Interest) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        if !slot.armed.watched().contains(interest) && !slot.always_ready {
            let armed = slot.armed | interest;
            self.sys.poller.rearm(slot.fd, key, armed)?;
            self.metrics.kernel_updates += 1;
            slot.armed = armed;
        }
        if slot.wanted != interest.wanted() {
            slot.wanted = interest.wanted();
            slot.unwanted_events = 0;
        }
        self.sources.enqueue_if_ready(key);
        Ok(())
    }

    /// Returns the interest of a registration.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn interest(&self, key: Key) -> Result<Interest, Error> {
        self.sources
            .get(key)
            .map(|slot| Interest::of_facts(slot.wanted))
            .ok_or(Error::StaleKey(key))
    }

    /// Sets the rank of a source among the ready sources. The new rank applies from the next time
    /// that the source becomes ready. Default: [`Priority::Normal`].
    ///
    /// # Cost
    /// O(1). While every source has the normal priority, events are dispatched in one pass over the
    /// kernel's list. Once a source has another priority, all events are collected first, which
    /// costs some 50 instructions more for each event.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use reactor::{Interest, Next, Priority, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (reader, _writer) = std::io::pipe()?;
    /// let heartbeat = reactor.add(reader, Interest::READABLE, |_reader, _cx| Ok(Next::Keep))?;
    /// reactor.set_priority(heartbeat, Priority::High)?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("event_priority_set", "ev_set_priority"))]
    pub fn set_priority(&mut self, key: Key, priority: Priority) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        let before = std::mem::replace(&mut slot.priority, priority);
        self.sources.prioritised -= usize::from(before != Priority::Normal);
        self.sources.prioritised += usize::from(priority != Priority::Normal);
        Ok(())
    }

    /// Puts a registration into the background: [`Reactor::run`](crate::Reactor::run) may return
    /// while the registration exists, as with libuv's `uv_unref`.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use reactor::{Exit, Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let status = reactor.add(listener, Interest::READABLE, |_listener, _cx| Ok(Next::Keep))?;
    /// reactor.set_background(status)?;
    /// assert_eq!(reactor.run(&mut ())?, Exit::NothingLeft);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("ev_unref", "uv_unref"))]
    pub fn set_background(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.sources.foreground -= usize::from(!std::mem::replace(&mut slot.background, true));
        Ok(())
    }

    /// Makes a registration keep [`Reactor::run`](crate::Reactor::run) alive while it exists:
    /// undoes [`set_background`](Self::set_background). Default: foreground.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    #[doc(alias("ev_ref", "uv_ref"))]
    pub fn set_foreground(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.sources.foreground += usize::from(std::mem::replace(&mut slot.background, false));
        Ok(())
    }

    /// Makes a failure of this registration end [`Reactor::run`](crate::Reactor::run) with the
    /// error. Use it for a registration without which a daemon cannot work: the daemon ends and
    /// reports why.
    ///
    /// A failure is an error that ends the registration, or a panic that
    /// [`PanicPolicy::RemoveHandler`] catches. `run` then returns [`Error::Failed`] at the end of
    /// the turn, with the name and the line of the registration.
    /// [`Next::Remove`](crate::Next::Remove) and [`remove`](Self::remove) are not failures. For
    /// timers see [`set_timer_essential`](Self::set_timer_essential), for hooks
    /// [`set_hook_essential`](Self::set_hook_essential). A deferred or posted closure has no such
    /// setting: it calls [`stop_with`](Self::stop_with) itself.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use reactor::{Error, Interest, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (reader, _) = std::io::pipe()?; // the writer is closed: the source is ready
    /// let source = reactor.add(reader, Interest::READABLE, |_reader, _cx| {
    ///     Err(std::io::Error::other("no configuration"))
    /// })?;
    /// reactor.set_essential(source)?;
    /// assert!(matches!(reactor.run(&mut ()), Err(Error::Failed(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_essential(&mut self, key: Key) -> Result<(), Error> {
        self.sources
            .get_mut(key)
            .ok_or(Error::StaleKey(key))?
            .on_failure
            .set_essential();
        Ok(())
    }

    /// Sets how the loop treats a panic of this registration: of its handler, of
    /// [`closed`](crate::Handler::closed), or of a destructor when the registration ends.
    ///
    /// Set [`PanicPolicy::RemoveHandler`] for a handler that runs the code of others, such as a
    /// plug-in, in a loop whose other handlers must not panic. Set [`PanicPolicy::Propagate`] for a
    /// handler without which the program must end at once. Default: the policy of the loop,
    /// [`Builder::on_panic`](crate::Builder::on_panic).
    ///
    /// # Cost
    /// Once a registration has had [`PanicPolicy::RemoveHandler`], every callback of this loop
    /// costs some 20 instructions more.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use std::io::Write;
    /// use reactor::{Interest, PanicPolicy, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut reactor = Reactor::<()>::new()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_, _| panic!("a fault of a plug-in"))?;
    /// reactor.set_panic_policy(key, PanicPolicy::RemoveHandler)?;
    /// writer.write_all(b"x")?;
    /// reactor.run(&mut ())?; // ends with its last registration
    /// assert_eq!(reactor.metrics().panics, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_panic_policy(&mut self, key: Key, policy: PanicPolicy) -> Result<(), Error> {
        self.sources
            .get_mut(key)
            .ok_or(Error::StaleKey(key))?
            .on_failure
            .set_panic_policy(policy);
        if policy == PanicPolicy::RemoveHandler {
            if !self.turn.supervision.is_active() {
                // Otherwise the remaining events of this turn would be delivered without care.
                self.collect_all();
            }
            self.turn.supervision.catch_some();
        }
        Ok(())
    }

    /// Sets the name of a registration for logs and lists. [`registrations`](Self::registrations)
    /// has an example. Default: the type of the handler.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn set_name(&mut self, key: Key, name: impl Into<Cow<'static, str>>) -> Result<(), Error> {
        if self.sources.get(key).is_none() {
            return Err(Error::StaleKey(key));
        }
        self.sources.names.insert(key, name.into());
        Ok(())
    }

    /// Overrides the source location recorded for a registration and shown in logs and in
    /// [`registrations`](Self::registrations). Use it in a library of handlers that registers a
    /// source later than the user's call that requested it.
    ///
    /// Default: the line that called [`add`](Self::add), by `#[track_caller]`.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn set_origin(
        &mut self,
        key: Key,
        origin: &'static Location<'static>,
    ) -> Result<(), Error> {
        self.sources
            .get_mut(key)
            .ok_or(Error::StaleKey(key))?
            .origin = origin;
        Ok(())
    }

    /// Returns the source location of a registration, which
    /// [`RegistrationInfo::origin`](crate::RegistrationInfo::origin) shows.
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn origin(&self, key: Key) -> Result<&'static Location<'static>, Error> {
        self.sources
            .get(key)
            .map(|slot| slot.origin)
            .ok_or(Error::StaleKey(key))
    }
}
