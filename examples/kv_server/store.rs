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

use super::protocol::{Refusal, integer};

pub(crate) const NOT_AN_INTEGER: &str = "value is not an integer or out of range";

/// How long a key lives; `None` is for ever.
type Ttl = Option<Duration>;

/// Keys and values. The state of the loop gives it by `AsMut`, so that its timers find it.
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

    fn is_alive<S>(&self, timers: &Registry<S>) -> bool {
        self.timer.is_none_or(|timer| !remaining(timer, timers).is_zero())
    }

    /// Ends the timer, if there is one: whether there was.
    fn disarm<S>(&mut self, timers: &mut Registry<S>) -> bool {
        self.timer.take().is_some_and(|timer| timers.cancel(timer).is_ok())
    }
}

/// How long until a timer is due; one that has ended is.
fn remaining<S>(timer: TimerKey, timers: &Registry<S>) -> Duration {
    timers.remaining(timer).map_or(Duration::ZERO, |left| left.unwrap_or(Duration::MAX))
}

impl Store {
    /// How many keys there are, with those that are due and not yet removed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get<S>(&self, key: &[u8], timers: &Registry<S>) -> Option<&[u8]> {
        self.entries.get(key).filter(|entry| entry.is_alive(timers)).map(|entry| &*entry.value)
    }

    pub(crate) fn ttl<S>(&self, key: &[u8], timers: &Registry<S>) -> Option<Ttl> {
        let entry = self.entries.get(key).filter(|entry| entry.is_alive(timers))?;
        Some(entry.timer.map(|timer| remaining(timer, timers)))
    }

    /// Sets a key, also its time to live.
    pub(crate) fn set<S: AsMut<Self>>(&mut self, key: &[u8], value: &[u8], ttl: Ttl, timers: &mut Registry<S>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.replace(value);
            if ttl.is_none() || !entry.is_alive(timers) {
                entry.disarm(timers);
            }
        } else {
            self.entries.insert(key.into(), Entry { value: value.into(), timer: None });
        }
        if let Some(ttl) = ttl {
            self.expire(key, ttl, timers);
        }
    }

    /// Adds to a key that is a number, 0 if there is none; its time to live stays.
    pub(crate) fn add<S>(&mut self, key: &[u8], delta: i64, timers: &mut Registry<S>) -> Result<i64, Refusal>
    where
        S: AsMut<Self>,
    {
        let entry = self.entries.get_mut(key).filter(|entry| entry.is_alive(timers));
        let before = entry.as_ref().map_or(Some(0), |entry| integer(&entry.value)).ok_or(NOT_AN_INTEGER)?;
        let sum = before.checked_add(delta).ok_or("increment or decrement would overflow")?;
        match (entry, itoa::Buffer::new().format(sum).as_bytes()) {
            (Some(entry), value) => entry.replace(value),
            (None, value) => self.set(key, value, None, timers),
        }
        Ok(sum)
    }

    /// Lets a key live for `ttl` from now on: whether there is such a key.
    pub(crate) fn expire<S: AsMut<Self>>(&mut self, key: &[u8], ttl: Duration, timers: &mut Registry<S>) -> bool {
        let found = self.entries.get_key_value(key).filter(|(_, entry)| entry.is_alive(timers));
        let Some((name, entry)) = found else { return false };
        if entry.timer.is_none_or(|timer| timers.reset(timer, ttl).is_err()) {
            let name = Rc::clone(name);
            let timer = timers.after(ttl, move |cx| {
                cx.state.as_mut().entries.remove(&name);
                Ok(Then::Done)
            });
            let _ = timers.set_timer_background(timer); // no key keeps a server running
            if let Some(entry) = self.entries.get_mut(key) {
                entry.timer = Some(timer);
            }
        }
        true
    }

    /// Lets a key live for ever: whether it would not have.
    pub(crate) fn persist<S>(&mut self, key: &[u8], timers: &mut Registry<S>) -> bool {
        let entry = self.entries.get_mut(key).filter(|entry| entry.is_alive(timers));
        entry.is_some_and(|entry| entry.disarm(timers))
    }

    /// Whether there was such a key.
    pub(crate) fn remove<S>(&mut self, key: &[u8], timers: &mut Registry<S>) -> bool {
        let Some(mut entry) = self.entries.remove(key) else { return false };
        let alive = entry.is_alive(timers);
        entry.disarm(timers);
        alive
    }

    /// Removes every key, in one go: O(n).
    pub(crate) fn clear<S>(&mut self, timers: &mut Registry<S>) {
        for mut entry in std::mem::take(&mut self.entries).into_values() {
            entry.disarm(timers);
        }
    }
}
