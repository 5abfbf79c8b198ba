//! The list of hooks: which callbacks run at which place of a turn, and in which order.

use std::fmt;
use std::panic::Location;

use super::disposal::Disposal;
use super::policies::Label;
use crate::request_context::Carried;
use crate::slots::{Blank, Key, Slots};

/// The name of a hook, checked at each use like a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookKey(Key);

impl HookKey {
    /// Marks the place of a hook that was removed, in the list of its phase.
    const EMPTY: Self = Self(Key::NULL);
}

/// The key as shown in [`Error::StaleKey`](crate::Error::StaleKey).
impl From<HookKey> for Key {
    fn from(hook: HookKey) -> Self {
        hook.0
    }
}

/// Displays as its [`Key`]: `7v2`.
impl fmt::Display for HookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    BeforeWait,
    AfterWait,
    Idle,
}

/// One hook, whose callback is an `F`.
pub(crate) struct Hook<F: ?Sized> {
    /// `None` while it runs.
    pub(crate) callback: Option<Box<F>>,
    type_name: &'static str,
    origin: &'static Location<'static>,
    pub(crate) essential: bool,
    pub(crate) context: Carried,
}

impl<F: ?Sized> Hook<F> {
    pub(crate) const fn label(&self) -> Label<'static> {
        Label {
            name: self.type_name,
            origin: Some(self.origin),
        }
    }
}

impl<F: ?Sized> Blank for Hook<F> {
    fn blank() -> Self {
        Self {
            callback: None,
            type_name: "",
            origin: Location::caller(),
            essential: false,
            context: Carried::NONE,
        }
    }
}

/// The hooks of a registry. The hooks of each place are in the order of their registration.
pub(crate) struct Hooks<F: ?Sized> {
    hooks: Slots<Hook<F>>,
    before_wait: Vec<HookKey>,
    after_wait: Vec<HookKey>,
    idle: Vec<HookKey>,
    /// The list that is running.
    running: Option<Place>,
    /// The hook that is running.
    running_hook: Option<HookKey>,
}

impl<F: ?Sized> Hooks<F> {
    pub(crate) const fn new() -> Self {
        Self {
            hooks: Slots::new(),
            before_wait: Vec::new(),
            after_wait: Vec::new(),
            idle: Vec::new(),
            running: None,
            running_hook: None,
        }
    }

    /// Adds a hook at the end of its list.
    pub(crate) fn add(
        &mut self,
        place: Place,
        origin: &'static Location<'static>,
        type_name: &'static str,
        callback: Box<F>,
    ) -> HookKey {
        let hook = Hook {
            callback: Some(callback),
            type_name,
            origin,
            essential: false,
            context: Carried::current(),
        };
        // Memory ends long before 2^32 - 1 hooks. A hook beyond that number would get a stale key.
        let key = HookKey(self.hooks.insert(hook).unwrap_or(Key::NULL));
        self.at(place).push(key);
        key
    }

    #[cfg(feature = "request-context")]
    pub(crate) fn get(&self, key: HookKey) -> Option<&Hook<F>> {
        self.hooks.get(key.0)
    }

    pub(crate) fn get_mut(&mut self, key: HookKey) -> Option<&mut Hook<F>> {
        self.hooks.get_mut(key.0)
    }

    /// Returns the key at an index of a list, unless its hook has been removed.
    pub(crate) fn key_at(&mut self, place: Place, index: usize) -> Option<HookKey> {
        self.at(place)
            .get(index)
            .copied()
            .filter(|key| *key != HookKey::EMPTY)
    }

    /// Ends a hook, if it exists, and returns it for the caller to drop. While its list runs, its
    /// place in the list stays, empty.
    pub(crate) fn remove(&mut self, key: HookKey) -> Option<Hook<F>> {
        let removed = self.hooks.remove(key.0)?;
        for place in [Place::BeforeWait, Place::AfterWait, Place::Idle] {
            if self.running == Some(place) {
                self.at(place)
                    .iter_mut()
                    .filter(|listed| **listed == key)
                    .for_each(|listed| *listed = HookKey::EMPTY);
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

    /// Returns the keys, names and lines of the idle callbacks.
    pub(crate) fn idle(
        &self,
    ) -> impl Iterator<Item = (HookKey, &'static str, &'static Location<'static>)> {
        self.idle.iter().filter_map(|key| {
            self.hooks
                .get(key.0)
                .map(|hook| (*key, hook.type_name, hook.origin))
        })
    }

    /// Begins to run a list. Returns its present length.
    pub(crate) fn begin(&mut self, place: Place) -> usize {
        self.running = Some(place);
        self.at(place).len()
    }

    /// Takes the callback of a hook, which runs next, with its context.
    pub(crate) fn begin_hook(&mut self, key: HookKey) -> Option<(Box<F>, Label<'static>, Carried)> {
        let hook = self.get_mut(key)?;
        let callback = hook.callback.take()?;
        let begun = (callback, hook.label(), hook.context.clone());
        self.running_hook = Some(key);
        Some(begun)
    }

    /// Returns the hook that is running.
    #[cfg(feature = "request-context")]
    pub(crate) const fn running_hook(&self) -> Option<HookKey> {
        self.running_hook
    }

    /// Ends the run of a list, and removes its empty places.
    pub(crate) fn end(&mut self) {
        self.running_hook = None;
        if let Some(place) = self.running.take() {
            self.at(place).retain(|key| *key != HookKey::EMPTY);
        }
    }

    /// Ends the hooks that were running when a panic unwound.
    pub(crate) fn remove_unwound(&mut self) {
        let running = self
            .hooks
            .iter()
            .filter(|(_, hook)| hook.callback.is_none());
        let unwound: Vec<_> = running.map(|(key, _)| HookKey(key)).collect();
        self.end();
        for key in unwound {
            // The panic has dropped its callback.
            self.remove(key);
        }
    }

    /// Ends all hooks at the end of the loop.
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
