//! What can be changed of a registration: its interest, its priority, its name, whether the loop ends without it.

use std::borrow::Cow;
use std::panic::Location;

use super::readiness::Interest;
use super::ready::Priority;
use crate::error::Error;
use crate::registry::Registry;
use crate::slots::Key;
use crate::turn::policies::PanicPolicy;

impl<S> Registry<S> {
    /// Changes what the handler is called for.
    ///
    /// If the source is known to be ready for it, the handler is called this turn or next. A mask in user space: no system
    /// call, unless a direction is wanted for the first time, or again after the kernel was asked to stop reporting it
    /// because it woke the loop in vain; then one `epoll_ctl`.
    ///
    /// # Errors
    /// [`Error::StaleKey`]; [`Error::Os`] if the kernel refuses. The interest is unchanged then.
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

    /// What the handler is called for.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn interest(&self, key: Key) -> Result<Interest, Error> {
        self.sources
            .get(key)
            .map(|slot| Interest::of_facts(slot.wanted))
            .ok_or(Error::StaleKey(key))
    }

    /// Sets which of the ready sources are called first; [`Priority::Normal`] in the beginning. Holds from the next
    /// time the source becomes ready. O(1).
    ///
    /// While every source has the normal priority, events are dispatched in one pass over the kernel's list. With any
    /// other, they are collected first, which costs some 50 instructions more for each.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    #[doc(alias("event_priority_set", "ev_set_priority"))]
    pub fn set_priority(&mut self, key: Key, priority: Priority) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        let before = std::mem::replace(&mut slot.priority, priority);
        self.sources.prioritised -= usize::from(before != Priority::Normal);
        self.sources.prioritised += usize::from(priority != Priority::Normal);
        Ok(())
    }

    /// Lets [`Reactor::run`](crate::Reactor::run) end although this registration is there (libuv's `unref`).
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    #[doc(alias("ev_unref", "uv_unref"))]
    pub fn set_background(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.sources.foreground -= usize::from(!std::mem::replace(&mut slot.background, true));
        Ok(())
    }

    /// Keeps [`Reactor::run`](crate::Reactor::run) going while this registration is there, as it is in the beginning.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    #[doc(alias("ev_ref", "uv_ref"))]
    pub fn set_foreground(&mut self, key: Key) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        self.sources.foreground += usize::from(std::mem::replace(&mut slot.background, false));
        Ok(())
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with the error if this registration fails: a daemon that cannot do without it
    /// ends with it, and says why.
    ///
    /// Its failure is an error that its handler returns, or a panic that
    /// [`PanicPolicy::RemoveHandler`](crate::PanicPolicy::RemoveHandler) catches. `run` returns
    /// [`Error::Failed`] then, at the end of the turn, with the name and the line of the registration.
    /// [`Next::Remove`](crate::Next::Remove) and [`remove`](Self::remove) are no failures. For timers see
    /// [`set_timer_essential`](Self::set_timer_essential), for hooks [`set_hook_essential`](Self::set_hook_essential).
    /// A deferred or posted closure has no key: it calls [`stop_with`](Self::stop_with) itself.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn set_essential(&mut self, key: Key) -> Result<(), Error> {
        self.sources
            .get_mut(key)
            .ok_or(Error::StaleKey(key))?
            .on_failure
            .set_essential();
        Ok(())
    }

    /// Sets what a panic of this registration does, of its handler, [`closed`](crate::Handler::closed) included, or of a destructor
    /// when it ends. Default: the policy of the loop, [`Builder::on_panic`](crate::Builder::on_panic).
    ///
    /// For a handler that runs code of others, a plug-in, in a loop whose other handlers may not panic; or for one without which the
    /// program is to end at once. From the first registration with [`PanicPolicy::RemoveHandler`] on, each call of
    /// this loop is made so that a panic can be caught, which costs some 20 instructions.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
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
                self.collect_all(); // what this turn still has in hand would be called without care
            }
            self.turn.supervision.catch_some();
        }
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
        self.sources.names.insert(key, name.into());
        Ok(())
    }

    /// Says where a registration was made, for logs and lists: for a library of handlers, which registers now what a line of its
    /// user's has asked for earlier. In the beginning it is the line that has called [`add`](Self::add), by `#[track_caller]`.
    ///
    /// # Errors
    /// [`Error::StaleKey`].
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

    /// Returns where a registration was made: the line that [`RegistrationInfo::origin`](crate::RegistrationInfo::origin) shows. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`].
    pub fn origin(&self, key: Key) -> Result<&'static Location<'static>, Error> {
        self.sources
            .get(key)
            .map(|slot| slot.origin)
            .ok_or(Error::StaleKey(key))
    }
}
