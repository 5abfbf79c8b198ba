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
    /// Runs `hook` every turn just before the wait. It may make the wait short by what it does, `defer` for one, and end
    /// [`Reactor::run`](crate::Reactor::run) by taking away what that waits for.
    ///
    /// For state that other threads change see [`Waker::wake`](crate::Waker::wake).
    /// Hooks do not keep [`Reactor::run`](crate::Reactor::run) alive. A hook that returns an error other than `WouldBlock`
    /// or `Interrupted` is removed and logged.
    #[doc(alias("ev_prepare", "uv_prepare_start", "runBeforeLoop", "before_sleep"))]
    #[track_caller]
    pub fn before_wait<F>(&mut self, hook: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.add_hook(Place::BeforeWait, Location::caller(), hook)
    }

    /// Runs `hook` every turn just after the wait, before any handler. Otherwise like [`before_wait`](Self::before_wait).
    #[doc(alias("ev_check", "uv_check_start"))]
    #[track_caller]
    pub fn after_wait<F>(&mut self, hook: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.add_hook(Place::AfterWait, Location::caller(), hook)
    }

    /// Runs `callback` in every turn that found nothing else to do, until it returns [`Next::Remove`]. Anything that
    /// [`Reactor::turn`](crate::Reactor::turn) counts is something else.
    ///
    /// While it is there the loop never sleeps, and [`Reactor::run`](crate::Reactor::run) does not end: it is for work
    /// that can be cut into short pieces, not for waiting.
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

    /// Ends a hook or an idle callback. One that has been collected for this turn does not run any more.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended already.
    pub fn remove_hook(&mut self, key: HookKey) -> Result<(), Error> {
        let hook = self.hooks.remove(key).ok_or(Error::StaleKey(key.into()))?;
        let label = hook.label();
        self.dispose(hook, label);
        Ok(())
    }

    /// Ends [`Reactor::run`](crate::Reactor::run) with the error if this hook fails:
    /// [`set_essential`](Self::set_essential).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended.
    pub fn set_hook_essential(&mut self, hook: HookKey) -> Result<(), Error> {
        self.hooks
            .get_mut(hook)
            .ok_or(Error::StaleKey(hook.into()))?
            .essential = true;
        Ok(())
    }

    /// Runs the hooks of one place, those that were there when it began; gives how many ran.
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

    /// Runs one hook, unless another has removed it meanwhile.
    fn run_hook(&mut self, place: Place, key: HookKey, state: &mut S) -> bool {
        let Some(hook) = self.hooks.get_mut(key) else {
            return false;
        };
        let label = hook.label();
        let mut taken = OnStack(hook.callback.take());
        let Some(callback) = &mut taken.0 else {
            return false;
        };
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
        match (self.hooks.get_mut(key), ended) {
            (Some(hook), None) => hook.callback = callback,
            (_, ended) => self.end_hook(key, (callback, ended), label),
        }
        true
    }

    /// Ends a hook that has just run, unless another has removed it meanwhile; its callback, and why it ends, go last.
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
