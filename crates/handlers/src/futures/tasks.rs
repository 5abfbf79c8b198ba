//! A table with keys that never name another value later. Used for tasks and for sleeps.
//!
//! Ground rule: the table calls nothing of the values that it holds. Its user takes a value out,
//! and then polls or drops the value.

use std::fmt;
use std::mem;

use super::places::Places;

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
        write!(f, "{}v{}", self.place, self.generation / 2)
    }
}

/// Values by their keys.
#[derive(Debug)]
pub(super) struct Table<T>(Places<Option<T>>);

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self(Places::new())
    }

    /// Adds a value. Returns its key, or the value if there is no place.
    pub(super) fn insert(&mut self, value: T) -> Result<TaskKey, T> {
        let key = self.0.claim().map(|(key, _)| key);
        match key.and_then(|key| Some((key, self.0.get_mut(key)?))) {
            Some((key, place)) => {
                *place = Some(value);
                Ok(key)
            }
            None => Err(value),
        }
    }

    /// Returns the value of a key, unless the key is stale.
    pub(super) fn get_mut(&mut self, key: TaskKey) -> Option<&mut T> {
        self.0.get_mut(key)?.as_mut()
    }

    /// Takes the value of a key, unless the key is stale.
    pub(super) fn remove(&mut self, key: TaskKey) -> Option<T> {
        let value = self.0.get_mut(key)?.take();
        if let Some(place) = self.0.get(key) {
            place.retire();
            self.0.free(key, place);
        }
        value
    }

    /// Takes all values, in the order of their places. Used at the end of a loop.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        let keys: Vec<_> = self.0.iter_places(usize::MAX).map(|(key, _)| key).collect();
        let mut places = mem::replace(&mut self.0, Places::new());
        keys.into_iter()
            .filter_map(move |key| places.get_mut(key)?.take())
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
                        let key = table.insert(value).unwrap();
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
                let places = table.0.iter_places(usize::MAX);
                let places = places.filter_map(|(key, value)| Some((key, (*value)?)));
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
        let last = table.0.use_up(key.place);
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
