//! `Registry::take` and `Registry::take_source`: a registration ends, and its source goes back to
//! the user, with its handler or without.

use std::os::fd::AsFd;

use crate::error::Error;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::handler::{Handler, Object, Registered};

impl<S> Registry<S> {
    /// Ends a registration and returns its source and its handler object. The source stays open.
    /// Use it, for example, to move a source to another loop, or to register it with another
    /// handler.
    ///
    /// The registration must come from [`add_handler`](Self::add_handler), with the same types.
    /// After `take`, the key is stale and the timeout is cancelled. Neither [`Handler::closing`]
    /// nor [`Handler::closed`] is called. An event that the kernel has already reported does not
    /// reach the handler any more. No byte is lost: `take` does not read. If the source is
    /// registered again, here or on another loop, its handler is called for what is ready then.
    ///
    /// The source stays non-blocking.
    ///
    /// # Cost
    /// O(1): one `epoll_ctl`, or none for a source that is always ready, such as a file. No
    /// allocation.
    ///
    /// # Errors
    /// The registration is unchanged if one of these is returned:
    ///
    /// - [`Error::StaleKey`] if the registration has ended.
    /// - [`Error::Running`] if the handler of the registration is running, or is being accessed by
    ///   [`Context::with_handler`](crate::Context::with_handler). Call `take` later, for example in
    ///   a [deferred](Self::defer) callback.
    /// - [`Error::OtherType`] if the source or the handler has another type.
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use reactor::{Context, Handler, Interest, Io, Next, Reactor};
    ///
    /// /// Counts bytes.
    /// struct Count(usize);
    ///
    /// impl Handler<(), UnixStream> for Count {
    ///     fn ready(
    ///         &mut self,
    ///         stream: &mut Io<UnixStream>,
    ///         _cx: &mut Context<'_, ()>,
    ///     ) -> io::Result<Next> {
    ///         self.0 += stream.read(&mut [0; 512])?;
    ///         Ok(Next::Keep)
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let mut first = Reactor::new()?;
    /// let mut second = Reactor::new()?;
    /// let (near, mut far) = UnixStream::pair()?;
    /// let key = first.add_handler(near, Interest::READABLE, Count(0))?;
    /// far.write_all(b"hello")?;
    /// first.turn(&mut (), None)?;
    /// far.write_all(b" again")?;
    ///
    /// let (stream, count): (UnixStream, Count) = first.take(key)?;
    /// assert_eq!(count.0, 5);
    /// let key = second.add_handler(stream, Interest::READABLE, count)?;
    /// second.turn(&mut (), None)?;
    /// let (_stream, count): (UnixStream, Count) = second.take(key)?;
    /// assert_eq!(count.0, 11);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("into_source_inner", "deregister", "detach", "bufferevent_setfd"))]
    pub fn take<T, H>(&mut self, key: Key) -> Result<(T, H), Error>
    where
        T: AsFd + 'static,
        H: Handler<S, T> + 'static,
    {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        let entry = slot.entry.as_mut().ok_or(Error::Running(key))?;
        if !entry.as_any().is::<Registered<T, Object<T, H>>>() {
            return Err(Error::OtherType(key));
        }
        let removed = self.forget(key).ok_or(Error::StaleKey(key))?;
        let entry = removed.entry;
        let registered = entry.and_then(|entry| entry.into_any().downcast().ok());
        let Some(registered) = registered else {
            unreachable!("it is of that type")
        };
        let Registered::<T, Object<T, H>> { io, respond } = *registered;
        let taken = (io.into_source(), respond.into_handler());
        self.drop_context(removed.context);
        Ok(taken)
    }

    /// Ends a registration and returns its source. The source stays open. The type of the handler
    /// does not matter: its [`Handler::closed`] is called with
    /// [`CloseReason::Taken`](crate::CloseReason::Taken), among the [deferred](Self::defer)
    /// callbacks. A closure is dropped.
    ///
    /// [`Handler::closing`] is not called. Apart from the handler, all is as after
    /// [`take`](Self::take).
    ///
    /// # Cost
    /// O(1): one `epoll_ctl`, or none for a source that is always ready, such as a file. One
    /// allocation if the handler is an object.
    ///
    /// # Errors
    /// The registration is unchanged if one of these is returned:
    ///
    /// - [`Error::StaleKey`] if the registration has ended.
    /// - [`Error::Running`] if the handler of the registration is running, or is being accessed by
    ///   [`Context::with_handler`](crate::Context::with_handler) or
    ///   [`Context::request`](crate::Context::request).
    /// - [`Error::OtherType`] if the source has another type, or is a notification queue.
    ///
    /// ```
    /// use std::io::PipeReader;
    /// use reactor::{Interest, Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let (reader, _writer) = std::io::pipe()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_reader, _cx| Ok(Next::Keep))?;
    /// let _reader: PipeReader = reactor.take_source(key)?;
    /// assert!(reactor.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_source<T: AsFd + 'static>(&mut self, key: Key) -> Result<T, Error> {
        let mut source = None::<T>;
        let slot = self.sources.get(key).ok_or(Error::StaleKey(key))?;
        let entry = slot.entry.as_ref().ok_or(Error::Running(key))?;
        if !entry.has_source_for(&source) {
            return Err(Error::OtherType(key));
        }
        let own_policy = slot.marks.panic_policy();
        if let Some(removed) = self.forget(key)
            && let Some(entry) = removed.entry
        {
            self.close_with(
                key,
                entry,
                own_policy,
                removed.context,
                |entry, disposal| entry.release_source(&mut source, disposal),
            );
        }
        let Some(source) = source else {
            unreachable!("it is of that type")
        };
        Ok(source)
    }
}
