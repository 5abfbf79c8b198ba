//! Keys, their values, and when they expire.
//!
//! An entry with a time to live has one timer of the loop, which removes it; a new time moves that timer. Timers run after
//! the sources of a turn, and so many a turn: a key may be due and still there, so every look at an entry asks.
//!
//! Keys are hashed by the standard library's SipHash with a secret key: clients choose the keys, and must not be able to
//! choose them so that they collide. A key is shared by the map and its timer.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Registry, Then, TimerKey};

use super::protocol::{NOT_AN_INTEGER, Refusal, integer};
use super::server::Server;

/// The loop, for its timers: they find the store in its state.
pub(crate) type Timers = Registry<Server>;

#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: HashMap<Rc<[u8]>, Entry>,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    // INVARIANT (one timer): this one is armed, and no other is for this key. Kept by whatever takes it out or drops an
    // entry. The timer relies on it: it removes the entry without asking whether it is still the same.
    timer: Option<TimerKey>,
}

impl Entry {
    /// Writes over a value of the same length, as counters and records of a fixed size have: no allocation.
    fn replace(&mut self, value: &[u8]) {
        if self.value.len() == value.len() {
            self.value.copy_from_slice(value);
        } else {
            self.value = value.into();
        }
    }

    /// How long it will live; `None` is for ever.
    fn ttl(&self, timers: &Timers) -> Option<Duration> {
        self.timer
            .map(|timer| timers.remaining(timer).ok().flatten().unwrap_or_default())
    }

    fn is_alive(&self, timers: &Timers) -> bool {
        self.ttl(timers) != Some(Duration::ZERO)
    }

    /// Ends the timer, if there is one: whether there was.
    fn disarm(&mut self, timers: &mut Timers) -> bool {
        self.timer
            .take()
            .is_some_and(|timer| timers.cancel(timer).is_ok())
    }
}

impl Store {
    /// How many keys there are, with those that are due and not yet removed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn find(&self, key: &[u8], timers: &Timers) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_alive(timers))
    }

    fn find_mut(&mut self, key: &[u8], timers: &Timers) -> Option<&mut Entry> {
        self.entries
            .get_mut(key)
            .filter(|entry| entry.is_alive(timers))
    }

    pub(crate) fn get(&self, key: &[u8], timers: &Timers) -> Option<&[u8]> {
        self.find(key, timers).map(|entry| &*entry.value)
    }

    /// How long a key will live, where `Some(None)` is for ever; `None` if there is no such key.
    pub(crate) fn ttl(&self, key: &[u8], timers: &Timers) -> Option<Option<Duration>> {
        self.find(key, timers).map(|entry| entry.ttl(timers))
    }

    /// Sets a key, also how long it will live.
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        ttl: Option<Duration>,
        timers: &mut Timers,
    ) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.replace(value);
            if ttl.is_none() || !entry.is_alive(timers) {
                entry.disarm(timers);
            }
        } else {
            self.entries.insert(
                key.into(),
                Entry {
                    value: value.into(),
                    timer: None,
                },
            );
        }
        if let Some(ttl) = ttl {
            self.expire(key, ttl, timers);
        }
    }

    /// Adds to a key that is a number, 0 if there is none; its time to live stays.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        delta: i64,
        timers: &mut Timers,
    ) -> Result<i64, Refusal> {
        let entry = self.find_mut(key, timers);
        let before = entry
            .as_ref()
            .map_or(Some(0), |entry| integer(&entry.value))
            .ok_or(NOT_AN_INTEGER)?;
        let sum = before
            .checked_add(delta)
            .ok_or("increment or decrement would overflow")?;
        match (entry, itoa::Buffer::new().format(sum).as_bytes()) {
            (Some(entry), value) => entry.replace(value),
            (None, value) => self.set(key, value, None, timers),
        }
        Ok(sum)
    }

    /// Lets a key live for `ttl` from now on: whether there is such a key.
    pub(crate) fn expire(&mut self, key: &[u8], ttl: Duration, timers: &mut Timers) -> bool {
        let Some((name, _)) = self.entries.get_key_value(key) else {
            return false;
        };
        let name = Rc::clone(name);
        let Some(entry) = self.find_mut(key, timers) else {
            return false;
        };
        if entry
            .timer
            .is_none_or(|timer| timers.reset(timer, ttl).is_err())
        {
            let timer = timers.after(ttl, move |cx| {
                cx.state.store.entries.remove(&name);
                Ok(Then::Done)
            });
            let _ = timers.set_timer_background(timer); // no key keeps a server running
            entry.timer = Some(timer);
        }
        true
    }

    /// Lets a key live for ever: whether it would not have.
    pub(crate) fn persist(&mut self, key: &[u8], timers: &mut Timers) -> bool {
        self.find_mut(key, timers)
            .is_some_and(|entry| entry.disarm(timers))
    }

    /// Whether there was such a key.
    pub(crate) fn remove(&mut self, key: &[u8], timers: &mut Timers) -> bool {
        let Some(mut entry) = self.entries.remove(key) else {
            return false;
        };
        let was_alive = entry.is_alive(timers);
        entry.disarm(timers);
        was_alive
    }

    /// Removes every key, in one go: O(n).
    pub(crate) fn clear(&mut self, timers: &mut Timers) {
        for mut entry in std::mem::take(&mut self.entries).into_values() {
            entry.disarm(timers);
        }
    }
}
