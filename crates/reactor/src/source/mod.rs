//! Sources: the registrations, and the facts known about each source between two calls.
//!
//! A registration is a slot in the arena of [`Sources`] and one allocation for its source and
//! handler. The slot holds the data by which the loop decides whether to call the handler. The
//! allocation is touched only for a call.
//!
//! Below the registry lie the facts (`readiness.rs`, `kind.rs`), the slots (`slot.rs`) and the
//! queue of ready sources (`ready.rs`). Above it lie the operations: `register.rs`, `settings.rs`,
//! `list.rs`, `watch.rs`, `backoff.rs`, `with_handler.rs`, `take.rs`.

pub(crate) mod backoff;
pub(crate) mod handler;
pub(crate) mod io;
pub(crate) mod io_state;
pub(crate) mod kind;
pub(crate) mod list;
pub(crate) mod readiness;
pub(crate) mod ready;
pub(crate) mod register;
pub(crate) mod settings;
pub(crate) mod slot;
pub(crate) mod take;
pub(crate) mod watch;
pub(crate) mod with_handler;

use std::borrow::Cow;
use std::collections::HashMap;

use self::ready::ReadyQueue;
use self::slot::{Backoff, Slot};
use crate::slots::{Key, Slots};

/// The sources of a registry. `E` is a source and its handler without their types.
pub(crate) struct Sources<E: ?Sized> {
    slots: Slots<Slot<E>>,
    pub(crate) ready: ReadyQueue,
    /// The number of sources with a priority other than normal.
    pub(crate) prioritised: usize,
    /// The number of sources that keep `run` alive.
    pub(crate) foreground: usize,
    pub(crate) names: HashMap<Key, Cow<'static, str>>,
    /// The sources whose handlers were called without a result.
    pub(crate) backoffs: HashMap<Key, Backoff>,
    pub(crate) max_registrations: usize,
}

impl<E: ?Sized> Sources<E> {
    pub(crate) fn new(max_registrations: usize) -> Self {
        Self {
            slots: Slots::new(),
            ready: ReadyQueue::default(),
            prioritised: 0,
            foreground: 0,
            names: HashMap::new(),
            backoffs: HashMap::new(),
            max_registrations,
        }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&Slot<E>> {
        self.slots.get(key)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Slot<E>> {
        self.slots.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Slot<E>)> {
        self.slots.iter()
    }

    /// Returns the key of the next registration, or `None` if there is no room for one.
    #[inline]
    pub(crate) fn next_key(&self) -> Option<Key> {
        self.slots
            .next_key()
            .filter(|_| self.slots.len() < self.max_registrations)
    }

    /// Stores a slot, which keeps `run` alive. There is room for it if [`next_key`](Self::next_key)
    /// returns a key.
    #[inline]
    pub(crate) fn insert(&mut self, slot: Slot<E>) -> Option<(Key, &mut Slot<E>)> {
        let (key, place) = self.slots.occupy()?;
        *place = slot;
        self.foreground += 1;
        Some((key, place))
    }

    /// Removes a slot, with all that is counted and stored for it.
    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> Option<Slot<E>> {
        let slot = self.slots.remove(key)?;
        self.foreground -= usize::from(!slot.marks.is_background());
        self.prioritised -= usize::from(slot.priority != ready::Priority::Normal);
        if !self.names.is_empty() {
            self.names.remove(&key);
        }
        if !self.backoffs.is_empty() {
            self.backoffs.remove(&key);
        }
        Some(slot)
    }

    /// Removes all slots at the end of the loop.
    pub(crate) fn take_slots(&mut self) -> Slots<Slot<E>> {
        std::mem::replace(&mut self.slots, Slots::new())
    }

    /// Queues a source that is not running, not queued, and ready for a wanted fact.
    #[inline(never)]
    pub(crate) fn enqueue_if_ready(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        if slot.entry.is_some() && !slot.queued && slot.ready.intersects(slot.wanted) {
            slot.queued = true;
            self.ready.push(slot.priority, key);
        }
    }

    /// Returns `true` if events must be collected before any is delivered.
    #[inline]
    pub(crate) const fn has_priorities(&self) -> bool {
        self.prioritised > 0
    }

    /// Returns `true` if `key` names a queue that has a value for its handler.
    pub(crate) fn is_ready_queue(&self, key: Key) -> bool {
        self.get(key).is_some_and(|slot| {
            slot.kind == kind::Kind::Queue && slot.ready.intersects(slot.wanted)
        })
    }

    /// Returns `true` if a queue has a value that was sent and not handled yet. Queues in the
    /// background count too.
    pub(crate) fn has_messages(&self) -> bool {
        self.ready.iter().any(|key| self.is_ready_queue(key))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Capacity, Next, Priority, Reactor, notification_queue};

    #[test]
    fn a_removed_registration_leaves_none_of_its_settings_behind() {
        let mut reactor = Reactor::<()>::new().unwrap();
        let (_sender, receiver) = notification_queue::<u8>(Capacity::Unbounded);
        let queue = reactor.consume(receiver, |_, _| Ok(Next::Keep)).unwrap();
        reactor.set_name(queue, "a queue").unwrap();
        reactor.set_priority(queue, Priority::High).unwrap();
        reactor.set_max_messages_per_turn(queue, 1).unwrap();
        reactor.remove(queue).unwrap();
        let sources = &reactor.sources;
        assert!(sources.names.is_empty() && reactor.inbox.queue_limits.is_empty());
        assert_eq!(sources.prioritised, 0);
    }
}
