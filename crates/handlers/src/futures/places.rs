//! Places with keys that never name another use of the place later. Pure data.
//!
//! A place never moves. So a task is polled where it lies, while other places are taken into use,
//! and a growing table copies nothing. The memory of places that were never used is not touched.
//!
//! Ground rule: nothing here calls the values, but for their default.

use std::cell::Cell;
use std::ops::Deref;

use super::tasks::TaskKey;

/// Places for values. A value stays in its place while the place is free, for the next user of it.
#[derive(Debug)]
pub(super) struct Places<T> {
    places: boxcar::Vec<Place<T>>,
    /// The last of the free places, or [`NO_PLACE`]. Each free place names the one before it.
    free: Cell<u32>,
}

/// A place, which derefs to its value. Its fields stay in this order, since a poll needs the first
/// bytes of the value, in the same line of the cache.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Place<T> {
    /// Odd while the place is in use.
    generation: Cell<u32>,
    /// The free place before this one, while this one is free.
    before: Cell<u32>,
    value: T,
}

/// The number of no place.
const NO_PLACE: u32 = TaskKey::NONE.place;

impl<T: Default> Places<T> {
    /// Takes a place into use. Returns its key and its value: the one that was left when the place
    /// was [freed](Self::free), or the default in a new place. Returns `None` if all places are in
    /// use.
    #[inline]
    pub(super) fn claim(&self) -> Option<(TaskKey, &Place<T>)> {
        let place = if self.free.get() == NO_PLACE {
            self.add_place()?
        } else {
            self.free.get()
        };
        let claimed = self.place(place)?;
        self.free.set(claimed.before.get());
        let generation = claimed.generation.get() + 1;
        claimed.generation.set(generation);
        Some((TaskKey { place, generation }, claimed))
    }

    #[cold]
    fn add_place(&self) -> Option<u32> {
        if self.places.count() >= NO_PLACE as usize {
            return None;
        }
        let place = self.places.push(Place {
            generation: Cell::new(0),
            before: Cell::new(NO_PLACE),
            value: T::default(),
        });
        Some(place as u32)
    }
}

impl<T> Places<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: boxcar::Vec::new(),
            free: Cell::new(NO_PLACE),
        }
    }

    #[inline]
    fn place(&self, place: u32) -> Option<&Place<T>> {
        self.places.get(place as usize)
    }

    /// Returns the place of a key, unless the key is stale.
    #[inline]
    pub(super) fn get(&self, key: TaskKey) -> Option<&Place<T>> {
        self.place(key.place)
            .filter(|place| place.generation.get() == key.generation)
    }

    /// Returns the value of a key, unless the key is stale.
    #[inline]
    pub(super) fn get_mut(&mut self, key: TaskKey) -> Option<&mut T> {
        let place = self.places.get_mut(key.place as usize)?;
        (place.generation.get() == key.generation).then_some(&mut place.value)
    }

    /// Returns the place of a key that was [retired](Place::retire), until the place is used again.
    /// The value shows whether the place was freed.
    pub(super) fn get_retired(&self, key: TaskKey) -> Option<&Place<T>> {
        let generation = key.generation.wrapping_add(1);
        self.get(TaskKey { generation, ..key })
    }

    /// Frees the place of a key that was [retired](Place::retire). The value stays there, for the
    /// next user of the place. A place whose generations are used up is never used again.
    #[inline]
    pub(super) fn free(&self, key: TaskKey, retired: &Place<T>) {
        if retired.generation.get() != 0 {
            retired.before.set(self.free.replace(key.place));
        }
    }

    fn iter_all(&self) -> impl Iterator<Item = (TaskKey, &T)> {
        self.places.iter().map(|(place, entry)| {
            let (place, generation) = (place as u32, entry.generation.get());
            (TaskKey { place, generation }, &entry.value)
        })
    }

    /// Returns the values of the first `max` places, in the order of the places. Leaves out those
    /// that are not in use.
    pub(super) fn iter_places(&self, max: usize) -> impl Iterator<Item = (TaskKey, &T)> {
        self.iter_all().take(max).filter(|(key, _)| is_used(*key))
    }

    /// Returns the values whose last key is stale, with that key. The value shows whether the place
    /// was freed.
    pub(super) fn iter_retired(&self) -> impl Iterator<Item = (TaskKey, &T)> {
        self.iter_all()
            .filter(|(key, _)| !is_used(*key))
            .map(|(key, value)| {
                let generation = key.generation.wrapping_sub(1);
                (TaskKey { generation, ..key }, value)
            })
    }

    /// Uses up the generations of a place, but for the last one.
    #[cfg(test)]
    pub(super) fn use_up(&mut self, place: u32) -> TaskKey {
        let generation = u32::MAX;
        self.place(place).unwrap().generation.set(generation);
        TaskKey { place, generation }
    }
}

impl<T> Place<T> {
    /// Makes the key of this place stale. The place is used again after [`Places::free`].
    #[inline]
    pub(super) fn retire(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
    }
}

impl<T> Deref for Place<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

const fn is_used(key: TaskKey) -> bool {
    key.generation % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_stays_where_it_is_while_others_are_taken_into_use() {
        let places = Places::<Cell<u32>>::new();
        let (first, value) = places.claim().unwrap();
        for _ in 0..1000 {
            places.claim().unwrap().1.set(2);
        }
        value.set(1);
        assert_eq!(places.get(first).unwrap().get(), 1);
    }
}
