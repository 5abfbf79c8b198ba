//! Hooks: callbacks at fixed places of every turn.

use std::any::type_name;
use std::io::{self, ErrorKind};
use std::panic::Location;

use super::disposal::OnStack;
use super::hook_list::{HookKey, Place};
use super::policies::Label;
use super::supervised_call::supervise;
use crate::callback::HookFn;
use crate::context::Context;
use crate::error::Error;
use crate::outcome::{CloseReason, Next};
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::readiness::Readiness;

impl<S> Registry<S> {
    /// Runs `hook` every [turn](crate::Reactor::turn), just before the wait. Returns the key of the
    /// hook.
    ///
    /// A hook can shorten the wait, for example by a [`defer`](Self::defer). It can end
    /// [`Reactor::run`](crate::Reactor::run) by removing the last registration that `run` waits
    /// for. If a hook reads state that other threads change, these threads must call
    /// [`Waker::wake`](crate::Waker::wake) after the change.
    ///
    /// [`Reactor::run`](crate::Reactor::run) may return while hooks exist. A hook that returns an
    /// error is removed, and the error is logged. The errors `WouldBlock` and `Interrupted` have no
    /// effect.
    ///
    /// ```
    /// use reactor::{Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<Vec<&str>>::new()?;
    /// reactor.before_wait(|cx| {
    ///     cx.state.push("before the wait"); // flush buffers here, for example
    ///     Ok(Next::Keep)
    /// });
    /// reactor.defer(|cx| cx.state.push("deferred"));
    /// let mut log = Vec::new();
    /// reactor.run(&mut log)?;
    /// assert_eq!(log, ["before the wait", "deferred"]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("ev_prepare", "uv_prepare_start", "runBeforeLoop", "before_sleep"))]
    #[track_caller]
    pub fn before_wait<F>(&mut self, hook: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.add_hook(Place::BeforeWait, Location::caller(), hook)
    }

    /// Runs `hook` every [turn](crate::Reactor::turn), just after the wait and before any handler.
    /// Returns the key of the hook.
    ///
    /// [`Reactor::run`](crate::Reactor::run) may return while hooks exist. A hook that returns an
    /// error is removed, and the error is logged. The errors `WouldBlock` and `Interrupted` have no
    /// effect. See [`before_wait`](Self::before_wait).
    #[doc(alias("ev_check", "uv_check_start"))]
    #[track_caller]
    pub fn after_wait<F>(&mut self, hook: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.add_hook(Place::AfterWait, Location::caller(), hook)
    }

    /// Runs `callback` at the end of every turn in which the loop had nothing else to do. Returns
    /// the key of the callback.
    ///
    /// The idle callbacks run if no handler, timer, deferred callback or posted closure has run in
    /// the turn. Hooks before and after the wait make no difference. For the exact list see
    /// [`Reactor::turn`](crate::Reactor::turn).
    ///
    /// An idle callback is removed when it returns [`Next::Remove`] or an error. An error is
    /// logged. `WouldBlock` and `Interrupted` have no effect.
    ///
    /// While an idle callback is registered, the loop never sleeps.
    /// [`Reactor::run`](crate::Reactor::run) then returns only after a [`stop`](Self::stop), or
    /// with an error. Use an idle callback for work that can be divided into short pieces, not for
    /// waiting.
    ///
    /// ```
    /// use reactor::{Next, Reactor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<u64>::new()?;
    /// let mut numbers = 1..=1000;
    /// reactor.idle(move |cx| {
    ///     *cx.state += numbers.by_ref().take(100).sum::<u64>(); // one short piece of the work
    ///     Ok(if numbers.is_empty() { Next::Remove } else { Next::Keep })
    /// });
    /// let mut sum = 0;
    /// reactor.run(&mut sum)?;
    /// assert_eq!(sum, 500_500);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("ev_idle", "uv_idle_start", "insert_idle"))]
    #[track_caller]
    pub fn idle<F>(&mut self, callback: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.add_hook(Place::Idle, Location::caller(), callback)
    }

    fn add_hook<F>(
        &mut self,
        place: Place,
        origin: &'static Location<'static>,
        callback: F,
    ) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.hooks
            .add(place, origin, type_name::<F>(), Box::new(callback))
    }

    /// Removes a hook or an idle callback. The hook does not run any more, not even later in this
    /// turn.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the hook has ended.
    pub fn remove_hook(&mut self, key: HookKey) -> Result<(), Error> {
        let hook = self.hooks.remove(key).ok_or(Error::StaleKey(key.into()))?;
        let label = hook.label();
        self.dispose(hook, label);
        Ok(())
    }

    /// Makes this hook essential: if it fails, [`Reactor::run`](crate::Reactor::run) ends and
    /// returns the error. [`set_essential`](Self::set_essential) does the same for a source.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the hook has ended.
    pub fn set_hook_essential(&mut self, hook: HookKey) -> Result<(), Error> {
        self.hooks
            .get_mut(hook)
            .ok_or(Error::StaleKey(hook.into()))?
            .essential = true;
        Ok(())
    }

    /// Runs the hooks of one place that were registered when the run began. Returns how many ran.
    #[cold]
    pub(crate) fn run_hooks(&mut self, place: Place, state: &mut S) -> usize {
        let mut ran = 0;
        for index in 0..self.hooks.begin(place) {
            let key = self.hooks.key_at(place, index);
            ran += usize::from(key.is_some_and(|key| self.run_hook(place, key, state)));
        }
        self.hooks.end();
        ran
    }

    /// Runs one hook, unless another hook has removed it meanwhile.
    fn run_hook(&mut self, place: Place, key: HookKey, state: &mut S) -> bool {
        // The callback leaves its place, so that it may remove its own hook.
        let Some((callback, label, context)) = self.hooks.begin_hook(key) else {
            return false;
        };
        let mut taken = OnStack(Some(callback));
        let Some(callback) = &mut taken.0 else {
            return false;
        };
        self.enter_context(context);
        self.metrics.idle += u64::from(place == Place::Idle);
        let mut cx = Context::new(state, self, Key::NULL, Readiness::EMPTY);
        let result = if cx.registry.turn.supervision.is_active() {
            let verdict = supervise(&mut cx, |cx| callback(cx));
            verdict.report(self, |_| label);
            verdict.result
        } else {
            Ok(callback(&mut cx))
        };
        let callback = taken.0.take();
        let ended = match result {
            Ok(Ok(Next::Keep)) => None,
            Ok(Err(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                None
            }
            Ok(Ok(Next::Remove)) => Some(CloseReason::ByHandler),
            Ok(Err(error)) => {
                self.metrics.failures += 1;
                tracing::warn!(callback = %label, %error, "hook failed and is removed");
                Some(CloseReason::Failed(error))
            }
            Err(message) => Some(CloseReason::Panicked(message)),
        };
        // A hook that has removed itself has no place any more: its callback is dropped.
        match (self.hooks.get_mut(key), ended) {
            (Some(hook), None) => hook.callback = callback,
            (_, ended) => self.end_hook(key, (callback, ended), label),
        }
        self.leave_context();
        true
    }

    /// Ends a hook that has just run, unless it was removed meanwhile. Its callback and the reason
    /// for its end are dropped last.
    fn end_hook(
        &mut self,
        key: HookKey,
        last: (Option<Box<HookFn<S>>>, Option<CloseReason>),
        label: Label<'static>,
    ) {
        if let Some(hook) = self.hooks.remove(key)
            && hook.essential
            && let Some(reason) = &last.1
        {
            self.stop_run_if_failed(reason, label);
        }
        self.dispose(last, label);
    }
}
