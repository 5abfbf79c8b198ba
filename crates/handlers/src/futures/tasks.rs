//! A table with keys that never name another value later. Used for tasks and for sleeps.
//!
//! Ground rule: the table calls nothing of the values that it holds. Its user takes a value out,
//! and then polls or drops the value.

use std::fmt;

/// The name of a task. Once the task has ended the key is *stale*: it never names another task.
///
/// A key belongs to the loop on which its task was spawned. On another loop it may name another
/// task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey {
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl TaskKey {
    /// The key of no task: its place is never used.
    pub(super) const NONE: Self = Self {
        place: u32::MAX,
        generation: u32::MAX,
    };

    pub(super) const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.place as u64
    }

    pub(super) const fn from_bits(bits: u64) -> Self {
        Self {
            place: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// Displays as `3v1`: the second task in place 3.
impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.place, self.generation)
    }
}

/// Values by their keys.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Place<T>>,
    /// The last of the free places. Each free place names the one before it.
    free: Option<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Value(T),
    Free { before: Option<u32> },
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: None,
        }
    }

    /// Returns the key of the next value. `None` if all places are in use.
    pub(super) fn next_key(&self) -> Option<TaskKey> {
        let place = match self.free {
            Some(place) => place,
            None => u32::try_from(self.places.len())
                .ok()
                .filter(|place| *place != TaskKey::NONE.place)?,
        };
        let generation = self
            .places
            .get(place as usize)
            .map_or(0, |place| place.generation);
        Some(TaskKey { place, generation })
    }

    /// Adds a value. Returns its key, which is the [`next_key`](Self::next_key), or the value if
    /// there is no place.
    pub(super) fn insert(&mut self, value: T) -> Result<TaskKey, T> {
        let Some(key) = self.next_key() else {
            return Err(value);
        };
        match self.places.get_mut(key.place as usize) {
            Some(place) => {
                if let Content::Free { before } = place.content {
                    self.free = before;
                }
                place.content = Content::Value(value);
            }
            None => self.places.push(Place {
                generation: key.generation,
                content: Content::Value(value),
            }),
        }
        Ok(key)
    }

    /// Returns the value of a key, unless the key is stale.
    pub(super) fn get_mut(&mut self, key: TaskKey) -> Option<&mut T> {
        match self.places.get_mut(key.place as usize) {
            Some(Place {
                generation,
                content: Content::Value(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Takes the value of a key, unless the key is stale. A place whose generations are used up is
    /// never used again.
    pub(super) fn remove(&mut self, key: TaskKey) -> Option<T> {
        self.get_mut(key)?;
        let place = self.places.get_mut(key.place as usize)?;
        let before = self.free;
        let content = std::mem::replace(&mut place.content, Content::Free { before });
        if let Some(next) = place.generation.checked_add(1) {
            place.generation = next;
            self.free = Some(key.place);
        }
        match content {
            Content::Value(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// Returns the values of the first `max` places, in their order.
    pub(super) fn iter_places(&self, max: usize) -> impl Iterator<Item = (TaskKey, &T)> {
        (0_u32..)
            .zip(self.places.iter().take(max))
            .filter_map(|(place, entry)| match &entry.content {
                Content::Value(value) => Some((
                    TaskKey {
                        place,
                        generation: entry.generation,
                    },
                    value,
                )),
                Content::Free { .. } => None,
            })
    }

    /// Takes all values, in the order of their places. Used at the end of a loop.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.free = None;
        let places = std::mem::take(&mut self.places).into_iter();
        places.filter_map(|place| match place.content {
            Content::Value(value) => Some(value),
            Content::Free { .. } => None,
        })
    }
}
