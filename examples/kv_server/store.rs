//! Keys, their values, and their expiry.
//!
//! An entry with a time to live has one timer of the loop, which removes it. A new time to live
//! re-arms that timer. Timers run after the sources of a turn, and only some per turn. A key may
//! therefore be due and still exist, so every access checks the time.
//!
//! Keys are hashed by the standard library's SipHash with a secret key: clients choose the keys,
//! and must not be able to make them collide. A key is shared by the map and its timer.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Registry, Then, TimerKey};

use super::protocol::{NOT_AN_INTEGER, Refusal, integer};
use super::server::Server;

/// The loop, for its timers. They reach the store through the state.
pub(crate) type Timers = Registry<Server>;

#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: HashMap<Rc<[u8]>, Entry>,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    // INVARIANT (one timer): this timer is armed, and no other timer is for this key. All code that
    // takes the timer out or drops an entry keeps it so. The timer's callback relies on that: it
    // removes the entry of its key without checking that the entry is still the same.
    timer: Option<TimerKey>,
}

impl Entry {
    /// Replaces the value. A value of the same length, such as a counter or a fixed-size record, is
    /// overwritten without an allocation.
    fn replace(&mut self, value: &[u8]) {
        if self.value.len() == value.len() {
            self.value.copy_from_slice(value);
        } else {
            self.value = value.into();
        }
    }

    /// Returns the time to live. `None` is for ever.
    fn ttl(&self, timers: &Timers) -> Option<Duration> {
        self.timer
            .map(|timer| timers.remaining(timer).ok().flatten().unwrap_or_default())
    }

    fn is_alive(&self, timers: &Timers) -> bool {
        self.ttl(timers) != Some(Duration::ZERO)
    }

    /// Cancels the timer. Returns `true` if there was one.
    fn disarm(&mut self, timers: &mut Timers) -> bool {
        self.timer
            .take()
            .is_some_and(|timer| timers.cancel(timer).is_ok())
    }
}

impl Store {
    /// Returns the number of keys, including those that are due and not removed yet.
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

    /// Returns the time to live of a key; `Some(None)` is for ever. Returns `None` if the key does
    /// not exist.
    pub(crate) fn ttl(&self, key: &[u8], timers: &Timers) -> Option<Option<Duration>> {
        self.find(key, timers).map(|entry| entry.ttl(timers))
    }

    /// Sets the value and the time to live of a key.
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

    /// Adds to a key that is a number, or 0 if it does not exist. Its time to live is kept.
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

    /// Sets the time to live of a key, from now. Returns `true` if the key exists.
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
            let _ = timers.set_timer_background(timer); // no key keeps the server running
            entry.timer = Some(timer);
        }
        true
    }

    /// Removes the time to live of a key. Returns `true` if it had one.
    pub(crate) fn persist(&mut self, key: &[u8], timers: &mut Timers) -> bool {
        self.find_mut(key, timers)
            .is_some_and(|entry| entry.disarm(timers))
    }

    /// Removes a key. Returns `true` if it existed.
    pub(crate) fn remove(&mut self, key: &[u8], timers: &mut Timers) -> bool {
        let Some(mut entry) = self.entries.remove(key) else {
            return false;
        };
        let was_alive = entry.is_alive(timers);
        entry.disarm(timers);
        was_alive
    }

    /// Removes all keys in one go: O(n).
    pub(crate) fn clear(&mut self, timers: &mut Timers) {
        for mut entry in std::mem::take(&mut self.entries).into_values() {
            entry.disarm(timers);
        }
    }
}
