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
    /// Sets the interest of a registration: the kinds of readiness for which its handler is called.
    ///
    /// If the source is known to be ready for the new interest, the handler is called in this
    /// [turn](crate::Reactor::turn) or the next one.
    ///
    /// # Cost
    /// Usually no system call, because the interest is a mask in user space. One `epoll_ctl` if a
    /// direction is wanted for the first time. Also one `epoll_ctl` if a direction is wanted again
    /// after the loop has told the kernel not to report it, because the reports had caused spurious
    /// wakeups.
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

    /// Sets the [priority](Priority) of a source: when several sources are ready, handlers of
    /// sources with a higher priority are called first. The new priority applies from the next time
    /// that the source becomes ready. Default: [`Priority::Normal`].
    ///
    /// # Cost
    /// O(1). While any source has a priority other than normal, each event of the loop costs some
    /// 50 instructions more, because the events must be sorted before handlers are called.
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

    /// Puts a registration into the background, as libuv's `uv_unref` does:
    /// [`Reactor::run`](crate::Reactor::run) does not wait for the end of the registration.
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
        self.sources.foreground -= usize::from(!slot.marks.set_background(true));
        Ok(())
    }

    /// Puts a registration into the foreground, and so undoes
    /// [`set_background`](Self::set_background): [`Reactor::run`](crate::Reactor::run) keeps
    /// running while the registration exists. Default: foreground.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    #[doc(alias("ev_ref", "uv_ref"))]
    pub fn set_foreground(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.sources.foreground += usize::from(slot.marks.set_background(false));
        Ok(())
    }

    /// Makes this registration *essential*: if it fails, [`Reactor::run`](crate::Reactor::run) ends
    /// and returns the error. Use it for a registration without which a daemon cannot work, so that
    /// the daemon ends and reports why.
    ///
    /// A failure is an error that ends the registration, or a panic that
    /// [`PanicPolicy::RemoveHandler`] catches. `run` then returns [`Error::Failed`] at the end of
    /// the turn, with the name and the line of the registration.
    /// [`Next::Remove`](crate::Next::Remove) and [`remove`](Self::remove) are not failures.
    ///
    /// For timers see [`set_timer_essential`](Self::set_timer_essential), and for hooks
    /// [`set_hook_essential`](Self::set_hook_essential). A deferred or posted closure cannot be
    /// made essential, but it can call [`stop_with`](Self::stop_with).
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
            .marks
            .set_essential();
        Ok(())
    }

    /// Sets how the loop treats a panic of the handler of this registration. The setting also
    /// covers [`closed`](crate::Handler::closed), and the destructors that run when the
    /// registration ends.
    ///
    /// Set [`PanicPolicy::RemoveHandler`] for a handler that runs foreign code, for example a
    /// plug-in, while panics of other handlers still end the program. Set
    /// [`PanicPolicy::Propagate`] for a handler whose panic must end the program at once, while
    /// panics of other handlers are caught. Default: the policy of the loop,
    /// [`Builder::on_panic`](crate::Builder::on_panic).
    ///
    /// # Cost
    /// Once [`PanicPolicy::RemoveHandler`] has been set for any registration, every callback of
    /// this loop costs some 20 instructions more.
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
            .marks
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

    /// Sets the source location of a registration, which logs and
    /// [`registrations`](Self::registrations) show. Use it in a library that registers a source on
    /// behalf of its user: the user has called the library earlier, and the registration follows
    /// from that call. Pass the location of the user's call.
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

    /// Returns the source location of a registration, as
    /// [`RegistrationInfo::origin`](crate::RegistrationInfo::origin) does.
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
