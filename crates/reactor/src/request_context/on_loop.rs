//! The contexts of a loop: those that registrations and timers carry, and the one that is current
//! while a callback runs.

use super::Carried;
use crate::registry::Registry;
use crate::slots::Key;
use crate::source::slot::Slot;
use crate::turn::disposal::Disposal;
use crate::turn::policies::Label;

/// The contexts of registrations, or of timers, by the index of the key. Few have a context, so a
/// slot and a timer have only a mark.
///
/// INVARIANT (marks): there is a context at an index exactly if the registration or the timer with
/// that index has the mark.
#[derive(Default)]
pub(crate) struct ByIndex(Vec<Carried>);

impl ByIndex {
    /// Stores a context. Returns the one before. The caller marks whether there is one.
    pub(crate) fn put(&mut self, key: Key, context: Carried) -> Carried {
        let index = key.index() as usize;
        if context.is_none() && self.0.len() <= index {
            return context;
        }
        if self.0.len() <= index {
            self.0.resize(index + 1, Carried::NONE);
        }
        std::mem::replace(&mut self.0[index], context)
    }

    pub(crate) fn get(&self, key: Key) -> &Carried {
        self.0.get(key.index() as usize).unwrap_or(&Carried::NONE)
    }

    pub(crate) fn take(&mut self, key: Key) -> Carried {
        self.put(key, Carried::NONE)
    }
}

/// The registration that a callback accesses now, if it accesses one.
pub(crate) type Accessed = Option<Key>;

/// The contexts of a loop.
#[derive(Default)]
pub(crate) struct Contexts {
    pub(crate) of_sources: ByIndex,
    pub(crate) of_timers: ByIndex,
    /// The contexts of registrations that were removed while their handlers run.
    of_running: Vec<(Key, Carried)>,
    /// `true` if a context was made current for the callback that runs, or by it.
    pub(super) is_entered: bool,
    accessed: Accessed,
}

impl Contexts {
    /// Keeps the context of a registration that was removed while its handler runs.
    pub(crate) fn keep_for_end(&mut self, key: Key, context: Carried) {
        if !context.is_none() {
            self.of_running.push((key, context));
        }
    }

    /// Returns the context of a registration that was removed while its handler ran.
    pub(crate) fn take_kept(&mut self, key: Key) -> Carried {
        let place = self.of_running.iter().position(|(kept, _)| *kept == key);
        place.map_or(Carried::NONE, |place| self.of_running.swap_remove(place).1)
    }

    /// Returns `true` if a context was made current for the callback that runs, or by it.
    #[inline]
    pub(crate) const fn is_entered(&self) -> bool {
        self.is_entered
    }

    /// Begins the access of a callback to another registration. Returns the access around it.
    #[inline]
    pub(crate) const fn begin_access(&mut self, key: Key) -> Accessed {
        let outer = self.accessed;
        if Carried::ENABLED {
            self.accessed = Some(key);
        }
        outer
    }

    /// Returns the access of a callback, which is a call of its own from now on.
    #[cfg(feature = "request-context")]
    pub(super) const fn suspend_access(&mut self) -> Accessed {
        self.accessed.take()
    }

    #[inline]
    pub(crate) const fn end_access(&mut self, outer: Accessed) {
        if Carried::ENABLED {
            self.accessed = outer;
        }
    }

    /// Returns `true` if a callback accesses another registration now.
    #[cfg(feature = "request-context")]
    pub(super) const fn is_accessing(&self) -> bool {
        self.accessed.is_some()
    }

    /// Ends the context of a callback that a panic has unwound through. Returns it, and that of its
    /// registration if the callback has removed it. They are to be dropped last.
    pub(crate) fn end_unwound(&mut self) -> (Carried, Carried) {
        if Carried::ENABLED {
            self.is_entered = false;
            let kept = self.of_running.pop().map(|(_, context)| context);
            (Carried::NONE.make_current(), kept.unwrap_or_default())
        } else {
            (Carried::NONE, Carried::NONE)
        }
    }

    /// Drops the contexts of timers, with the loop.
    pub(crate) fn end_all(&mut self, disposal: &mut Disposal) {
        disposal.drop_each(|| self.of_timers.0.pop().is_some());
    }
}

impl<S> Registry<S> {
    /// Makes `context` current for the callback that runs next.
    #[inline]
    pub(crate) fn enter_context(&mut self, context: Carried) {
        if !context.is_none() {
            self.enter_some_context(context);
        }
    }

    #[inline(never)]
    pub(super) fn enter_some_context(&mut self, context: Carried) {
        self.contexts.is_entered = true;
        let before = context.make_current();
        self.drop_context(before);
    }

    /// Ends the context of the callback that has run, if there was one.
    #[inline]
    pub(crate) fn leave_context(&mut self) {
        if Carried::ENABLED && self.contexts.is_entered {
            self.leave_entered_context();
        }
    }

    #[inline(never)]
    fn leave_entered_context(&mut self) {
        self.contexts.is_entered = false;
        let before = Carried::NONE.make_current();
        self.drop_context(before);
    }

    /// Makes the context of a queue current again, after a value with another one.
    #[inline]
    pub(crate) fn leave_context_of_value(&mut self, queue: Key) {
        if Carried::ENABLED && self.contexts.is_entered {
            // A queue that was removed meanwhile has none.
            self.enter_some_context(self.contexts.of_sources.get(queue).clone());
        }
    }

    /// Stores the context that is current as that of a new registration.
    #[inline]
    pub(crate) fn carry_to_source(&mut self, key: Key) {
        let context = Carried::current();
        if !context.is_none()
            && let Some(slot) = self.sources.get_mut(key)
        {
            slot.marks.set_has_context(true);
            self.contexts.of_sources.put(key, context);
        }
    }

    /// Takes the context of a registration that has just been removed from the slots.
    #[inline]
    pub(crate) fn take_context_of<E: ?Sized>(&mut self, key: Key, slot: &Slot<E>) -> Carried {
        if Carried::ENABLED && slot.marks.has_context() {
            self.contexts.of_sources.take(key)
        } else {
            Carried::NONE
        }
    }

    /// Drops a context, which may hold the last values of the user.
    #[inline]
    pub(crate) fn drop_context(&mut self, context: Carried) {
        if !context.is_none() {
            let label = Label {
                name: "context",
                origin: None,
            };
            self.dispose(context, label);
        }
    }
}
