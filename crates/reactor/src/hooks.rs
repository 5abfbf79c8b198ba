//! Hooks: callbacks at fixed places of every turn.

use std::io::{self, ErrorKind};
use std::panic::Location;

use crate::context::Context;
use crate::error::Error;
use crate::handler::{Closed, Next};
use crate::readiness::Readiness;
use crate::registry::Registry;
use crate::slots::{Blank, Key, Slots};
use crate::supervise::{Disposal, Label, OnStack, supervise};

/// The name of a hook, checked at each use like a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookKey(Key);

impl HookKey {
    /// Stands in the list of a place where a hook has been removed.
    const EMPTY: Self = Self(Key::NULL);
}

/// As it is shown in [`Error::StaleKey`](crate::Error::StaleKey).
impl From<HookKey> for Key {
    fn from(hook: HookKey) -> Self {
        hook.0
    }
}

/// A place in the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    BeforeWait,
    AfterWait,
    Idle,
}

type HookFn<S> = dyn FnMut(&mut Context<'_, S>) -> io::Result<Next>;

struct Hook<S> {
    /// `None` while it runs.
    callback: Option<Box<HookFn<S>>>,
    type_name: &'static str,
    origin: &'static Location<'static>,
    essential: bool,
}

impl<S> Hook<S> {
    const fn label(&self) -> Label<'static> {
        Label { name: self.type_name, origin: Some(self.origin) }
    }
}

impl<S> Blank for Hook<S> {
    fn blank() -> Self {
        Self { callback: None, type_name: "", origin: Location::caller(), essential: false }
    }
}

/// The hooks of a registry, each place's in the order of their registration.
pub(crate) struct Hooks<S> {
    hooks: Slots<Hook<S>>,
    before_wait: Vec<HookKey>,
    after_wait: Vec<HookKey>,
    idle: Vec<HookKey>,
    /// The list that is running.
    running: Option<Place>,
}

impl<S> Hooks<S> {
    pub(crate) const fn new() -> Self {
        Self { hooks: Slots::new(), before_wait: Vec::new(), after_wait: Vec::new(), idle: Vec::new(), running: None }
    }

    pub(crate) fn add<F>(&mut self, place: Place, origin: &'static Location<'static>, callback: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        let type_name = std::any::type_name::<F>();
        let hook = Hook { callback: Some(Box::new(callback)), type_name, origin, essential: false };
        // Memory ends long before 2^32 - 1 hooks; one more than that would be a key that is stale from the beginning.
        let key = HookKey(self.hooks.insert(hook).unwrap_or(Key::NULL));
        self.at(place).push(key);
        key
    }

    /// Ends a hook, if it is there, and gives it for the caller to drop. While its list is running its place in it stays, empty.
    fn remove(&mut self, key: HookKey) -> Option<Hook<S>> {
        let removed = self.hooks.remove(key.0)?;
        for place in [Place::BeforeWait, Place::AfterWait, Place::Idle] {
            if self.running == Some(place) {
                self.at(place).iter_mut().filter(|listed| **listed == key).for_each(|listed| *listed = HookKey::EMPTY);
            } else {
                self.at(place).retain(|listed| *listed != key);
            }
        }
        Some(removed)
    }

    #[inline]
    pub(crate) const fn is_empty(&self, place: Place) -> bool {
        match place {
            Place::BeforeWait => self.before_wait.is_empty(),
            Place::AfterWait => self.after_wait.is_empty(),
            Place::Idle => self.idle.is_empty(),
        }
    }

    /// The idle callbacks: their keys, names and lines.
    pub(crate) fn idle(&self) -> impl Iterator<Item = (HookKey, &'static str, &'static Location<'static>)> {
        self.idle.iter().filter_map(|key| self.hooks.get(key.0).map(|hook| (*key, hook.type_name, hook.origin)))
    }

    /// Begins to run a list: how long it is now.
    fn begin(&mut self, place: Place) -> usize {
        self.running = Some(place);
        self.at(place).len()
    }

    /// Ends the run of a list, whose empty places go.
    fn end(&mut self) {
        if let Some(place) = self.running.take() {
            self.at(place).retain(|key| *key != HookKey::EMPTY);
        }
    }

    /// Ends the hooks that were out of their place when a panic unwound.
    pub(crate) fn remove_unwound(&mut self) {
        let running = self.hooks.iter().filter(|(_, hook)| hook.callback.is_none());
        let unwound: Vec<_> = running.map(|(key, _)| HookKey(key)).collect();
        self.end();
        for key in unwound {
            self.remove(key); // its callback went with the panic
        }
    }

    /// Ends all of them with the loop.
    pub(crate) fn end_all(&mut self, disposal: &mut Disposal) {
        let keys: Vec<_> = self.hooks.iter().map(|(key, _)| HookKey(key)).collect();
        for key in keys {
            let hook = self.remove(key);
            disposal.drop_one(hook);
        }
    }

    const fn at(&mut self, place: Place) -> &mut Vec<HookKey> {
        match place {
            Place::BeforeWait => &mut self.before_wait,
            Place::AfterWait => &mut self.after_wait,
            Place::Idle => &mut self.idle,
        }
    }
}

impl<S> Registry<S> {
    /// Runs `hook` every turn just before the wait. It may make the wait short by what it does, `defer` for one, and end
    /// [`Reactor::run`](crate::Reactor::run) by taking away what that waits for.
    ///
    /// For state that other threads change see [`Waker::wake`](crate::Waker::wake).
    /// Hooks do not keep [`Reactor::run`](crate::Reactor::run) alive. A hook that returns an error other than `WouldBlock`
    /// or `Interrupted` is removed and logged.
    #[track_caller]
    pub fn before_wait<F>(&mut self, hook: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.hooks.add(Place::BeforeWait, Location::caller(), hook)
    }

    /// Runs `hook` every turn just after the wait, before any handler. Otherwise like [`before_wait`](Self::before_wait).
    #[track_caller]
    pub fn after_wait<F>(&mut self, hook: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.hooks.add(Place::AfterWait, Location::caller(), hook)
    }

    /// Runs `callback` in every turn that found nothing else to do, until it returns [`Next::Remove`]. Anything that
    /// [`Reactor::turn`](crate::Reactor::turn) counts is something else.
    ///
    /// While it is there the loop never sleeps, and [`Reactor::run`](crate::Reactor::run) does not end: it is for work
    /// that can be cut into short pieces, not for waiting.
    #[track_caller]
    pub fn idle<F>(&mut self, callback: F) -> HookKey
    where
        F: FnMut(&mut Context<'_, S>) -> io::Result<Next> + 'static,
    {
        self.hooks.add(Place::Idle, Location::caller(), callback)
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
        self.hooks.hooks.get_mut(hook.0).ok_or(Error::StaleKey(hook.into()))?.essential = true;
        Ok(())
    }

    /// Runs the hooks of one place, those that were there when it began; gives how many ran.
    #[cold]
    pub(crate) fn run_hooks(&mut self, place: Place, state: &mut S) -> usize {
        let mut ran = 0;
        for index in 0..self.hooks.begin(place) {
            let key = self.hooks.at(place).get(index).copied().unwrap_or(HookKey::EMPTY);
            ran += usize::from(self.run_hook(place, key, state));
        }
        self.hooks.end();
        ran
    }

    /// Runs one hook, unless another has removed it meanwhile.
    fn run_hook(&mut self, place: Place, key: HookKey, state: &mut S) -> bool {
        let Some(hook) = self.hooks.hooks.get_mut(key.0) else { return false };
        let label = hook.label();
        let mut lent = OnStack(hook.callback.take());
        let Some(callback) = &mut lent.0 else { return false };
        self.metrics.idle += u64::from(place == Place::Idle);
        let mut cx = Context::new(state, self, Key::NULL, Readiness::EMPTY);
        let result = if cx.registry.supervision.is_active() {
            let verdict = supervise(&mut cx, |cx| callback(cx));
            verdict.report(self, |_| label);
            verdict.result
        } else {
            Ok(callback(&mut cx))
        };
        let callback = lent.0.take();
        let ended = match result {
            Ok(Ok(Next::Keep)) => None,
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Ok(Ok(Next::Remove)) => Some(Closed::ByHandler),
            Ok(Err(error)) => {
                self.metrics.failures += 1;
                tracing::warn!(callback = %label, %error, "hook failed and is removed");
                Some(Closed::Failed(error))
            }
            Err(message) => Some(Closed::Panicked(message)),
        };
        match (self.hooks.hooks.get_mut(key.0), ended) {
            (Some(hook), None) => hook.callback = callback,
            (_, ended) => self.end_hook(key, (callback, ended), label),
        }
        true
    }

    /// Ends a hook that has just run, unless another has removed it meanwhile; its callback, and why it ends, go last.
    fn end_hook(&mut self, key: HookKey, last: (Option<Box<HookFn<S>>>, Option<Closed>), label: Label<'static>) {
        if let Some(hook) = self.hooks.remove(key)
            && hook.essential
            && let Some(reason) = &last.1
        {
            self.note_end_of_essential(reason, label);
        }
        self.dispose(last, label);
    }
}
