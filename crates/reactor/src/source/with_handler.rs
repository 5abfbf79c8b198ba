//! `Context::with_handler`: access from a callback to the source and the handler of another
//! registration.
//!
//! The entry is out of its slot during the access, as it is while its handler runs, and the same
//! rules hold: the closure may use the registry freely, and the readiness that is left goes back
//! into the slot.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::context::Context;
use crate::error::Error;
use crate::slots::Key;
use crate::source::handler::{Handler, Object, Registered};
use crate::source::io::Io;
use crate::source::readiness::Readiness;

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
        let slot = self
            .registry
            .sources
            .get_mut(key)
            .ok_or(Error::StaleKey(key))?;
        let (ready, armed) = (slot.ready, slot.armed);
        let Some(entry) = &mut slot.entry else {
            return Err(Error::Running(key));
        };
        if !entry.as_any().is::<Registered<T, Object<T, H>>>() {
            return Err(Error::OtherType(key));
        }
        let mut entry = slot.entry.take();
        let registered = entry
            .as_deref_mut()
            .and_then(|entry| entry.as_any().downcast_mut());
        let Some(Registered::<T, Object<T, H>> { io, respond }) = registered else {
            unreachable!("it is of that type")
        };
        io.begin(ready, armed);
        io.apply_announcements();
        // A panic here is a panic of `access`. The entry goes back into its slot first, so that it
        // cannot be dropped before its watch ends.
        let result = {
            let cx = &mut self.for_access(key);
            catch_unwind(AssertUnwindSafe(|| access(io, respond.handler_mut(), cx)))
        };
        // Announcements that came in meanwhile are still delivered to the handler.
        let announcements = self
            .registry
            .sources
            .get(key)
            .map(|slot| slot.ready.only(Readiness::ANNOUNCEMENTS));
        let left = io.left() | announcements.unwrap_or_default();
        self.registry.return_entry(key, entry, left);
        result.map_err(|panic| resume_unwind(panic))
    }
}
