//! `Context::with_handler` and `Context::request`: access from a callback to the source and the
//! handler of another registration, with its types and without.
//!
//! The entry is out of its slot during the access, as it is while its handler runs, and the same
//! rules hold: the closure may use the registry freely, and the readiness that is left goes back
//! into the slot.

use std::any::Any;
use std::os::fd::AsFd;
use std::panic::resume_unwind;

use crate::callback::Entry;
use crate::context::Context;
use crate::error::Error;
use crate::request_context::Accessed;
use crate::slots::Key;
use crate::source::handler::{Handler, Object, Registered};
use crate::source::io::Io;
use crate::source::readiness::{Interest, Readiness};

impl<S> Context<'_, S> {
    /// Calls `access` with the source and the handler object of another registration, and returns
    /// the result of `access`. For example, the handler of one connection can write to another
    /// connection, or change the state of its handler.
    ///
    /// The registration must come from [`Registry::add_handler`](crate::Registry::add_handler),
    /// with the same types. Reads and writes in `access` update the readiness of the source, as in
    /// a call of the handler. The [`Context`] of `access` has the key of the other registration and
    /// an empty readiness. `access` may use the registry freely. If `access` removes the other
    /// registration, the registration ends when `access` returns.
    ///
    /// # Cost
    /// O(1), no system call, no allocation.
    ///
    /// # Errors
    /// `access` is not called if one of these is returned:
    ///
    /// - [`Error::StaleKey`] if the registration has ended.
    /// - [`Error::Running`] if the handler of the registration is running, or is already being
    ///   accessed.
    /// - [`Error::OtherType`] if the source or the handler has another type.
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use reactor::{Context, Handler, Interest, Io, Key, Next, Reactor};
    ///
    /// /// Sends all that it reads to another connection.
    /// struct Forward {
    ///     to: Key,
    /// }
    ///
    /// impl Handler<(), UnixStream> for Forward {
    ///     fn ready(
    ///         &mut self,
    ///         stream: &mut Io<UnixStream>,
    ///         cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<Next> {
    ///         let mut buf = [0; 512];
    ///         let n = stream.read(&mut buf)?;
    ///         cx.with_handler(self.to, |to: &mut Io<UnixStream>, _: &mut Forward, _cx| {
    ///             to.write_all(&buf[..n])
    ///         })??;
    ///         Ok(if n == 0 { Next::Remove } else { Next::Keep })
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let (left, mut alice) = UnixStream::pair()?;
    /// let (right, mut bob) = UnixStream::pair()?;
    /// let right = reactor.add_handler(right, Interest::NONE, Forward { to: Key::NULL })?;
    /// reactor.add_handler(left, Interest::READABLE, Forward { to: right })?;
    /// alice.write_all(b"hello bob")?;
    /// reactor.turn(&mut (), None)?;
    /// let mut received = [0; 9];
    /// bob.read_exact(&mut received)?;
    /// assert_eq!(&received, b"hello bob");
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_handler<T, H, R>(
        &mut self,
        key: Key,
        access: impl FnOnce(&mut Io<T>, &mut H, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error>
    where
        T: AsFd + 'static,
        H: Handler<S, T> + 'static,
    {
        let mut lent = self.lend(key, |entry| {
            entry.as_any().is::<Registered<T, Object<T, H>>>()
        })?;
        let (ready, armed) = lent.facts;
        let registered = lent
            .entry
            .as_deref_mut()
            .and_then(|entry| entry.as_any().downcast_mut::<Registered<T, Object<T, H>>>());
        let Some(registered) = registered else {
            unreachable!("it is of that type")
        };
        let (left, result) = {
            let cx = &mut self.for_access(key);
            registered.access(ready, armed, |io, respond| {
                access(io, respond.handler_mut(), cx)
            })
        };
        self.take_back(key, lent, left);
        result.map_err(|panic| resume_unwind(panic))
    }

    /// Passes `request` to the handler object of another registration, whatever the types of its
    /// source and its handler are. The handler's [`Handler::request`] is called. Define a type of
    /// your own for the request: a handler recognises the requests that it serves by their type.
    /// To return something to the caller, the handler changes the request.
    ///
    /// A handler that does not define [`Handler::request`] ignores requests. Closures and
    /// notification queues ignore them too. If the handler removes its own registration, the
    /// registration ends when `request` returns. A panic of the handler unwinds through this call,
    /// as a panic of `access` in [`with_handler`](Self::with_handler) does.
    ///
    /// # Cost
    /// O(1), no system call, no allocation.
    ///
    /// # Errors
    /// The handler is not called if one of these is returned:
    ///
    /// - [`Error::StaleKey`] if the registration has ended.
    /// - [`Error::Running`] if the handler of the registration is running, or is being accessed.
    ///
    /// ```
    /// use std::any::Any;
    /// use std::io::{self, Write};
    /// use reactor::{Context, Handler, Interest, Io, Next, Reactor};
    ///
    /// /// A request: adds up the calls of handlers.
    /// struct Calls(u32);
    ///
    /// struct Count(u32);
    ///
    /// impl<T> Handler<(), T> for Count {
    ///     fn ready(&mut self, _: &mut Io<T>, _: &mut Context<'_, ()>) -> io::Result<Next> {
    ///         self.0 += 1;
    ///         Err(io::ErrorKind::WouldBlock.into())
    ///     }
    ///
    ///     fn request(&mut self, _: &mut Io<T>, request: &mut dyn Any, _: &mut Context<'_, ()>) {
    ///         if let Some(calls) = request.downcast_mut::<Calls>() {
    ///             calls.0 += self.0;
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let (reader, mut writer) = io::pipe()?;
    /// let key = reactor.add_handler(reader, Interest::READABLE, Count(0))?;
    /// writer.write_all(b"x")?;
    /// reactor.defer(move |cx| {
    ///     let mut calls = Calls(0);
    ///     cx.request(key, &mut calls).unwrap();
    ///     assert_eq!(calls.0, 1);
    /// });
    /// reactor.turn(&mut (), None)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn request(&mut self, key: Key, request: &mut dyn Any) -> Result<(), Error> {
        let mut lent = self.lend(key, |_| true)?;
        let (ready, armed) = lent.facts;
        let Some(entry) = &mut lent.entry else {
            unreachable!("it was lent")
        };
        let (left, result) = entry.request(ready, armed, request, &mut self.for_access(key));
        self.take_back(key, lent, left);
        result.map_err(|panic| resume_unwind(panic))
    }

    /// Moves an entry out of its slot, if it `fits`.
    fn lend(
        &mut self,
        key: Key,
        fits: impl FnOnce(&mut dyn Entry<S>) -> bool,
    ) -> Result<Lent<S>, Error> {
        let slot = self
            .registry
            .sources
            .get_mut(key)
            .ok_or(Error::StaleKey(key))?;
        let Some(entry) = &mut slot.entry else {
            return Err(Error::Running(key));
        };
        if !fits(&mut **entry) {
            return Err(Error::OtherType(key));
        }
        Ok(Lent {
            facts: (slot.ready, slot.armed),
            entry: slot.entry.take(),
            outer: self.registry.contexts.begin_access(key),
        })
    }

    /// Puts an entry back into its slot, with the facts that are `left`. A panic of the access is
    /// resumed only after that: the entry must not be dropped before its watch ends.
    fn take_back(&mut self, key: Key, lent: Lent<S>, left: Readiness) {
        self.registry.contexts.end_access(lent.outer);
        // Announcements that came in meanwhile are still delivered to the handler.
        let announcements = self
            .registry
            .sources
            .get(key)
            .map(|slot| slot.ready.only(Readiness::ANNOUNCEMENTS));
        let left = left | announcements.unwrap_or_default();
        self.registry.return_entry(key, lent.entry, left);
    }
}

/// An entry during an access, with the facts and the watched directions of its slot.
struct Lent<S> {
    facts: (Readiness, Interest),
    entry: Option<Box<dyn Entry<S>>>,
    /// The access from which this one was made.
    outer: Accessed,
}
