//! Places with keys that never name another use of the place later. Pure data.
//!
//! The places lie in buckets, each twice as large as the one before it. A bucket never moves. So a
//! task is polled where it lies, while other places are taken into use, and a growing table copies
//! nothing.
//!
//! Ground rule: nothing here calls the values, but for their default.

use std::cell::{Cell, OnceCell};
use std::ops::Deref;

use super::tasks::TaskKey;

/// The number of places of the first bucket, a power of two.
const FIRST: u32 = 32;
/// The number of buckets. Together they have nearly 2^32 places.
const BUCKETS: usize = 27;

/// Places for values. A value stays in its place while the place is free, for the next user of it.
#[derive(Debug)]
pub(super) struct Places<T> {
    buckets: [OnceCell<Box<[Place<T>]>>; BUCKETS],
    /// The number of places that were ever used.
    len: Cell<u32>,
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
        let place = self.len.get();
        let (bucket, _) = locate(place);
        self.buckets.get(bucket)?.get_or_init(|| {
            let places = (0..FIRST << bucket).map(|_| Place {
                generation: Cell::new(0),
                before: Cell::new(NO_PLACE),
                value: T::default(),
            });
            places.collect()
        });
        self.len.set(place + 1);
        Some(place)
    }
}

impl<T> Places<T> {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [const { OnceCell::new() }; BUCKETS],
            len: Cell::new(0),
            free: Cell::new(NO_PLACE),
        }
    }

    #[inline]
    fn place(&self, place: u32) -> Option<&Place<T>> {
        let (bucket, offset) = locate(place);
        self.buckets.get(bucket)?.get()?.get(offset)
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
        let (bucket, offset) = locate(key.place);
        let place = self.buckets.get_mut(bucket)?.get_mut()?.get_mut(offset)?;
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
        let buckets = self.buckets.iter().map_while(OnceCell::get);
        let places = buckets.flat_map(|bucket| bucket.iter());
        (0..self.len.get()).zip(places).map(|(place, entry)| {
            let generation = entry.generation.get();
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

/// Returns the bucket of a place, and the position in the bucket.
#[inline]
const fn locate(place: u32) -> (usize, usize) {
    let number = place as u64 + FIRST as u64;
    let digits = number.ilog2();
    let offset = number - (1 << digits);
    ((digits - FIRST.ilog2()) as usize, offset as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_follows_the_one_before_it_or_begins_a_bucket() {
        let (mut bucket, mut offset) = locate(0);
        assert_eq!((bucket, offset), (0, 0));
        for place in 1..100_000 {
            let expected = if offset + 1 == (FIRST as usize) << bucket {
                (bucket + 1, 0)
            } else {
                (bucket, offset + 1)
            };
            (bucket, offset) = locate(place);
            assert_eq!((bucket, offset), expected, "{place}");
        }
    }

    #[test]
    fn the_buckets_end_before_the_number_of_no_place() {
        let places = (0..BUCKETS)
            .map(|bucket| u64::from(FIRST) << bucket)
            .sum::<u64>();
        assert!(places < u64::from(NO_PLACE));
        assert_eq!(locate(places as u32 - 1).0, BUCKETS - 1);
        assert_eq!(locate(places as u32).0, BUCKETS);
        assert_eq!(locate(NO_PLACE).0, BUCKETS);
    }

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
