//! Places with keys that never name another use of the place later. Pure data.
//!
//! Ground rule: nothing here calls the values, but for their default. A value is changed where it
//! lies: copies of a task would take a good part of the time of a spawn.

use super::tasks::TaskKey;

/// Places for values. A value stays in its place while the place is free, for the next user of it.
#[derive(Debug)]
pub(super) struct Places<T> {
    places: Vec<Place<T>>,
    /// The last of the free places, or [`NO_PLACE`]. Each free place names the one before it.
    free: u32,
}

#[derive(Debug)]
struct Place<T> {
    /// Odd while the place is in use.
    generation: u32,
    /// The free place before this one, while this one is free.
    before: u32,
    value: T,
}

/// The number of no place.
const NO_PLACE: u32 = TaskKey::NONE.place;

impl<T: Default> Places<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: NO_PLACE,
        }
    }

    /// Takes a place into use. Returns its key and its value: the one that [`free`](Self::free)
    /// returned, or the default of a new place. Returns `None` if all places are in use.
    #[inline]
    pub(super) fn claim(&mut self) -> Option<(TaskKey, &mut T)> {
        let place = if self.free == NO_PLACE {
            self.add_place()?
        } else {
            self.free
        };
        let claimed = self.places.get_mut(place as usize)?;
        self.free = claimed.before;
        claimed.generation += 1;
        let key = TaskKey {
            place,
            generation: claimed.generation,
        };
        Some((key, &mut claimed.value))
    }

    #[cold]
    fn add_place(&mut self) -> Option<u32> {
        let place = u32::try_from(self.places.len()).ok()?;
        if place == NO_PLACE {
            return None;
        }
        self.places.push(Place {
            generation: 0,
            before: NO_PLACE,
            value: T::default(),
        });
        Some(place)
    }

    /// Returns the value of a key, unless the key is stale.
    #[inline]
    pub(super) fn get_mut(&mut self, key: TaskKey) -> Option<&mut T> {
        self.places
            .get_mut(key.place as usize)
            .filter(|place| place.generation == key.generation)
            .map(|place| &mut place.value)
    }

    /// Makes a key stale, unless it is. Returns the value, whose parts the caller takes out. The
    /// place is used again after [`free`](Self::free).
    #[inline]
    pub(super) fn retire(&mut self, key: TaskKey) -> Option<&mut T> {
        let place = self.places.get_mut(key.place as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.generation = place.generation.wrapping_add(1);
        Some(&mut place.value)
    }

    /// Frees the place of a key that was retired. Returns the value, for the next user of the
    /// place. A place whose generations are used up is never used again.
    #[inline]
    pub(super) fn free(&mut self, retired: TaskKey) -> Option<&mut T> {
        let place = self.places.get_mut(retired.place as usize)?;
        if place.generation != 0 {
            place.before = self.free;
            self.free = retired.place;
        }
        Some(&mut place.value)
    }

    /// Returns the values of the first `max` places, in their order.
    pub(super) fn iter_places(&self, max: usize) -> impl Iterator<Item = (TaskKey, &T)> {
        (0_u32..)
            .zip(self.places.iter().take(max))
            .filter(|(_, entry)| entry.is_used())
            .map(|(place, entry)| {
                let generation = entry.generation;
                (TaskKey { place, generation }, &entry.value)
            })
    }

    /// Takes the values of all used places, in the order of the places. Used at the end of a loop.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.free = NO_PLACE;
        let places = std::mem::take(&mut self.places).into_iter();
        places.filter(Place::is_used).map(|place| place.value)
    }

    /// Uses up the generations of a place, but for the last one.
    #[cfg(test)]
    pub(super) fn use_up(&mut self, place: u32) -> TaskKey {
        let generation = u32::MAX;
        self.places[place as usize].generation = generation;
        TaskKey { place, generation }
    }
}

impl<T> Place<T> {
    const fn is_used(&self) -> bool {
        self.generation % 2 == 1
    }
}
