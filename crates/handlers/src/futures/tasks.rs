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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert,
        /// Removes the value of a key that was given out, which may be stale.
        Remove(usize),
        Get(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Insert),
            any::<usize>().prop_map(Step::Remove),
            any::<usize>().prop_map(Step::Get),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn a_table_behaves_as_a_map_whose_keys_are_never_used_again(steps in steps()) {
            let (mut table, mut model) = (Table::new(), HashMap::new());
            let mut given = Vec::new();
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert => {
                        let next = table.next_key();
                        let key = table.insert(value).unwrap();
                        prop_assert_eq!(next, Some(key));
                        prop_assert!(!given.contains(&key));
                        given.push(key);
                        model.insert(key, value);
                    }
                    Step::Remove(which) if !given.is_empty() => {
                        let key = given[which % given.len()];
                        prop_assert_eq!(table.remove(key), model.remove(&key));
                    }
                    Step::Get(which) if !given.is_empty() => {
                        let key = given[which % given.len()];
                        prop_assert_eq!(table.get_mut(key).copied(), model.get(&key).copied());
                    }
                    _ => (),
                }
                let mut listed: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
                listed.sort_by_key(|(key, _)| key.place);
                let places = table.iter_places(usize::MAX).map(|(key, value)| (key, *value));
                prop_assert!(places.eq(listed));
            }
            let left = table.take_all().count();
            prop_assert_eq!(left, model.len());
        }
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_never_used_again() {
        let mut table = Table::new();
        let key = table.insert(1).unwrap();
        table.places[0].generation = u32::MAX;
        let last = TaskKey {
            generation: u32::MAX,
            ..key
        };
        assert_eq!(table.remove(last), Some(1));
        assert_eq!(table.get_mut(last), None);
        let next = table.insert(2).unwrap();
        assert_eq!(next.place, 1);
        assert_eq!(table.get_mut(last), None);
    }

    #[test]
    fn a_key_is_the_same_after_a_way_through_its_bits() {
        for key in [
            TaskKey::NONE,
            TaskKey {
                place: 3,
                generation: 1,
            },
        ] {
            assert_eq!(TaskKey::from_bits(key.to_bits()), key);
        }
    }
}
