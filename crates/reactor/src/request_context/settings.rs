//! The contexts of registrations, timers and hooks, as users read and change them.

use std::mem::replace;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::RequestContext;
use crate::context::Context;
use crate::error::Error;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::kind::Kind;
use crate::timer::TimerKey;
use crate::turn::hook_list::HookKey;

impl<S> Context<'_, S> {
    /// Makes `context` current for the rest of this callback, and gives it to the source, the timer
    /// or the hook whose callback is running: it is current in the further calls too.
    ///
    /// Use it for a connection that serves one request after the other: each request has a context
    /// of its own, and none outlives its answer. With [`RequestContext::NONE`] nothing is current
    /// from then on.
    ///
    /// In the handler of a queue or of an [`Event`](crate::Event), and in a callback that runs
    /// once, the context is current for the rest of the call, and is not kept. In a closure of
    /// [`with_handler`](Self::with_handler) and in [`Handler::request`](crate::Handler::request)
    /// the context is given to the accessed registration, and what is current does not change,
    /// except within [`in_own_context`](Self::in_own_context). In a
    /// [`scope`](RequestContext::scope) the context is current until the scope ends.
    ///
    /// # Cost
    /// O(1). A table with 8 bytes for each registration grows with the greatest number of
    /// registrations so far.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use reactor::{Interest, Next, Reactor, RequestContext};
    ///
    /// /// The number of a request.
    /// #[derive(Clone, Copy)]
    /// struct Number(u32);
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut reactor = Reactor::<Vec<u32>>::new()?;
    /// let mut requests = 0;
    /// reactor.add(reader, Interest::READABLE, move |reader, cx| {
    ///     let n = reader.read(&mut [0; 1])?; // a request has one byte
    ///     requests += 1;
    ///     cx.set_context(RequestContext::NONE.with(Number(requests)));
    ///     cx.registry.defer(|cx| {
    ///         let number = RequestContext::current().get::<Number>().copied();
    ///         cx.state.extend(number.map(|number| number.0));
    ///     });
    ///     Ok(if n == 0 { Next::Remove } else { Next::Keep })
    /// })?;
    /// writer.write_all(b"ab")?;
    /// drop(writer);
    /// let mut numbers = Vec::new();
    /// reactor.run(&mut numbers)?;
    /// assert_eq!(numbers, [1, 2, 3]); // the last is the end of the pipe
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("setContext", "saveContext"))]
    pub fn set_context(&mut self, context: RequestContext) {
        let key = self.key();
        if self.registry.contexts.is_accessing() {
            // The context of the caller stays current.
            let _ = self.registry.set_context(key, context); // it may be removed
            return;
        }
        if let Some(slot) = self.registry.sources.get(key) {
            if slot.kind != Kind::Queue {
                let _ = self.registry.set_context(key, context.clone()); // it exists
            }
        } else if key != Key::NULL {
            // Its registration has ended: the context is current, and is not kept.
        } else if let Some(timer) = self.timer() {
            let _ = self.registry.set_timer_context(timer, context.clone()); // it may be cancelled
        } else if let Some(hook) = self.registry.hooks.running_hook() {
            let _ = self.registry.set_hook_context(hook, context.clone()); // it may be removed
        }
        self.registry.enter_some_context(context);
    }

    /// Runs `callback` in the context of the accessed registration, and returns its result. Use it
    /// in a closure of [`with_handler`](Self::with_handler) or in
    /// [`Handler::request`](crate::Handler::request), if you call functions of your users there
    /// which must not run in the context of the caller. In `callback`,
    /// [`set_context`](Self::set_context) changes what is current too.
    ///
    /// The context of the caller is restored when `callback` returns or panics. Without an accessed
    /// registration, nothing is current in `callback`.
    ///
    /// ```
    /// use std::any::Any;
    /// use std::io;
    /// use reactor::{Context, Handler, Interest, Io, Next, Reactor, RequestContext};
    ///
    /// fn current() -> Option<&'static str> {
    ///     RequestContext::current().get::<&str>().copied()
    /// }
    ///
    /// struct Commands;
    ///
    /// impl<T> Handler<(), T> for Commands {
    ///     fn ready(&mut self, _: &mut Io<T>, _: &mut Context<'_, ()>) -> io::Result<Next> {
    ///         Ok(Next::Remove)
    ///     }
    ///
    ///     fn request(&mut self, _: &mut Io<T>, _: &mut dyn Any, cx: &mut Context<'_, ()>) {
    ///         assert_eq!(current(), Some("the caller"));
    ///         cx.in_own_context(|_cx| assert_eq!(current(), Some("commands")));
    ///         assert_eq!(current(), Some("the caller"));
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let (reader, _writer) = io::pipe()?;
    /// let mut reactor = Reactor::new()?;
    /// let commands = RequestContext::NONE.with("commands");
    /// let key = commands.scope(|| reactor.add_handler(reader, Interest::READABLE, Commands))?;
    /// reactor.set_background(key)?;
    /// RequestContext::NONE.with("the caller").scope(|| {
    ///     reactor.defer(move |cx| assert!(cx.request(key, &mut ()).is_ok()));
    /// });
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_own_context<R>(&mut self, callback: impl FnOnce(&mut Self) -> R) -> R {
        let key = self.key();
        let own = self.registry.context(key).unwrap_or_default();
        // Within `callback` this is a call of its own, not an access.
        let outer = self.registry.contexts.suspend_access();
        let result = catch_unwind(AssertUnwindSafe(|| own.scope(|| callback(self))));
        self.registry.contexts.end_access(outer);
        self.registry.drop_context(own);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl<S> Registry<S> {
    /// Returns the context of a registration.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    pub fn context(&self, key: Key) -> Result<RequestContext, Error> {
        if !self.contains(key) {
            return Err(Error::StaleKey(key));
        }
        Ok(self.contexts.of_sources.get(key).clone())
    }

    /// Gives a registration another context, from its next call on. The context before is dropped.
    /// Within a callback of the registration itself use
    /// [`Context::set_context`](crate::Context::set_context), which also changes what is current.
    /// Default: the context that was current when the source was registered.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the registration has ended.
    ///
    /// ```
    /// use reactor::{Interest, Next, Reactor, RequestContext};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut reactor = Reactor::<()>::new()?;
    /// let key = reactor.add(reader, Interest::READABLE, |_, _| Ok(Next::Remove))?;
    /// reactor.set_context(key, RequestContext::NONE.with("commands"))?;
    /// assert_eq!(reactor.context(key)?.get::<&str>(), Some(&"commands"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_context(&mut self, key: Key, context: RequestContext) -> Result<(), Error> {
        let slot = self.sources.get_mut(key).ok_or(Error::StaleKey(key))?;
        slot.marks.set_has_context(!context.is_none());
        // The next value of a queue that is running is handled in this context.
        self.contexts.is_entered |= slot.entry.is_none();
        let before = self.contexts.of_sources.put(key, context);
        self.drop_context(before);
        Ok(())
    }

    /// Returns the context of a timer.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    pub fn timer_context(&self, timer: TimerKey) -> Result<RequestContext, Error> {
        self.remaining(timer)?;
        Ok(self.contexts.of_timers.get(timer.into()).clone())
    }

    /// Gives a timer another context, from its next call on: see
    /// [`set_context`](Self::set_context). Default: the context that was current when the timer was
    /// made. A [`reset`](Self::reset) does not change it.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the timer has ended.
    pub fn set_timer_context(
        &mut self,
        timer: TimerKey,
        context: RequestContext,
    ) -> Result<(), Error> {
        self.timers.mark_context(timer, !context.is_none())?;
        let before = self.contexts.of_timers.put(timer.into(), context);
        self.drop_context(before);
        Ok(())
    }

    /// Returns the context of a hook.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the hook has ended.
    pub fn hook_context(&self, hook: HookKey) -> Result<RequestContext, Error> {
        let hook = self.hooks.get(hook).ok_or(Error::StaleKey(hook.into()))?;
        Ok(hook.context.clone())
    }

    /// Gives a hook another context, from its next call on: see [`set_context`](Self::set_context).
    /// Default: the context that was current when the hook was registered.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the hook has ended.
    pub fn set_hook_context(
        &mut self,
        hook: HookKey,
        context: RequestContext,
    ) -> Result<(), Error> {
        let place = self
            .hooks
            .get_mut(hook)
            .ok_or(Error::StaleKey(hook.into()))?;
        let before = replace(&mut place.context, context);
        self.drop_context(before);
        Ok(())
    }
}
