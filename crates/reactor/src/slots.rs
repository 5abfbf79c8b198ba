//! Slots: an arena whose keys never come to name something else.
//!
//! A key is an index and a generation. The generation of a cell rises each time its value is taken out, so a key that
//! was issued before no longer fits. A cell whose generations are used up is retired instead of starting again: after
//! 2^32 - 1 reuses of one cell we lose its few bytes, and never a key's meaning.
//!
//! Unlike `slab`, which knows no generations, and `slotmap`, whose generations wrap.

use std::fmt;

/// The name of a registration: `Copy`, and checked at every use.
///
/// A key whose registration is gone is *stale*: whatever is asked of it is answered with
/// [`Error::StaleKey`](crate::Error::StaleKey), also when the registration's place has been used again since. A key is
/// meaningful to the [`Registry`](crate::Registry) that issued it, and to no other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// A key that no registration has: stale from the beginning, everywhere.
    ///
    /// For a place that is filled later, and what [`Context::key`](crate::Context::key) gives in callbacks that do not
    /// belong to a source.
    pub const NULL: Self = Self { index: u32::MAX, generation: u32::MAX };

    /// The key in one word, for the kernel to carry.
    #[inline]
    pub(crate) const fn to_token(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key that [`to_token`](Self::to_token) packed.
    #[inline]
    pub(crate) const fn from_token(token: u64) -> Self {
        Self { index: token as u32, generation: (token >> 32) as u32 }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// `7v2`: place 7, second generation.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

/// Ends the free list, and is never the index of a cell: [`Key::NULL`] relies on it.
const NO_CELL: u32 = u32::MAX;

#[derive(Debug)]
struct Cell<V> {
    generation: u32,
    /// The next vacant cell, while this one is vacant.
    next_free: u32,
    value: Option<V>,
}

/// An arena of `V`. Insert, look up and remove in O(1); no allocation but the growth of the arena.
///
/// `GENERATION_MAX` is a parameter so that tests can reach the end of a cell's life.
#[derive(Debug)]
pub(crate) struct Slots<V, const GENERATION_MAX: u32 = { u32::MAX }> {
    cells: Vec<Cell<V>>,
    /// INVARIANT (free list): starting here and following `next_free`, every vacant cell that is not retired is met
    /// exactly once. Kept by `insert` and `remove`, checked by `verify`. Last in, first out: a warm cell is reused.
    free_head: u32,
    len: usize,
}

impl<V, const GENERATION_MAX: u32> Slots<V, GENERATION_MAX> {
    const FIRST_GENERATION: u32 = 1;

    pub(crate) const fn new() -> Self {
        Self { cells: Vec::new(), free_head: NO_CELL, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The key that the next [`insert`](Self::insert) will give, or `None` if the arena cannot grow any more.
    pub(crate) fn next_key(&self) -> Option<Key> {
        match self.cells.get(self.free_head as usize) {
            Some(cell) => Some(Key { index: self.free_head, generation: cell.generation }),
            None => {
                let index = u32::try_from(self.cells.len()).ok().filter(|index| *index != NO_CELL)?;
                Some(Key { index, generation: Self::FIRST_GENERATION })
            }
        }
    }

    /// Stores `value` and gives its key. `None`, and the value is dropped, only where [`next_key`](Self::next_key) is
    /// `None` too.
    pub(crate) fn insert(&mut self, value: V) -> Option<Key> {
        let key = self.next_key()?;
        match self.cells.get_mut(key.index as usize) {
            Some(cell) => {
                self.free_head = cell.next_free;
                cell.value = Some(value);
            }
            None => self.cells.push(Cell { generation: key.generation, next_free: NO_CELL, value: Some(value) }),
        }
        self.len += 1;
        Some(key)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&V> {
        match self.cells.get(key.index as usize) {
            Some(cell) if cell.generation == key.generation => cell.value.as_ref(),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        match self.cells.get_mut(key.index as usize) {
            Some(cell) if cell.generation == key.generation => cell.value.as_mut(),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<V> {
        let cell = self.cells.get_mut(key.index as usize).filter(|cell| cell.generation == key.generation)?;
        let value = cell.value.take()?;
        self.len -= 1;
        if cell.generation < GENERATION_MAX {
            cell.generation += 1;
            cell.next_free = self.free_head;
            self.free_head = key.index;
        }
        Some(value)
    }

    /// Every value with its key, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &V)> {
        self.cells.iter().zip(0..).filter_map(|(cell, index)| {
            let key = Key { index, generation: cell.generation };
            cell.value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl<V, const GENERATION_MAX: u32> Slots<V, GENERATION_MAX> {
        #[track_caller]
        fn verify(&self) {
            let mut free = vec![false; self.cells.len()];
            let mut at = self.free_head;
            while at != NO_CELL {
                let seen = std::mem::replace(&mut free[at as usize], true);
                assert!(!seen, "cell {at} is on the free list twice");
                at = self.cells[at as usize].next_free;
            }
            for (cell, free) in self.cells.iter().zip(free) {
                let retired = cell.value.is_none() && cell.generation == GENERATION_MAX && !free;
                assert_eq!(cell.value.is_none(), free || retired);
            }
            assert_eq!(self.len, self.cells.iter().filter(|cell| cell.value.is_some()).count());
        }
    }

    proptest! {
        /// Against a map from every key ever issued; three generations a cell, so that cells end their lives.
        #[test]
        fn a_key_never_comes_to_name_another_value(operations in prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..400)) {
            let mut slots = Slots::<usize, 3>::new();
            let mut issued = Vec::new();
            let mut model = BTreeMap::new();
            for (value, operation) in operations.into_iter().enumerate() {
                match operation.filter(|_| !issued.is_empty()) {
                    None => {
                        let promised = slots.next_key();
                        let key = slots.insert(value);
                        prop_assert_eq!(key, promised);
                        let key = key.expect("far from full");
                        prop_assert!(!issued.contains(&key), "{key} was issued before");
                        issued.push(key);
                        model.insert(key, value);
                    }
                    Some(which) => {
                        let key = *which.get(&issued);
                        prop_assert_eq!(slots.remove(key), model.remove(&key));
                    }
                }
                slots.verify();
                for key in &issued {
                    prop_assert_eq!(slots.get(*key), model.get(key));
                }
                prop_assert!(slots.iter().map(|(key, value)| (key, *value)).eq(in_order_of_place(&model)));
            }
        }
    }

    fn in_order_of_place(model: &BTreeMap<Key, usize>) -> impl Iterator<Item = (Key, usize)> {
        model.iter().map(|(key, value)| (*key, *value))
    }

    #[test]
    fn seventy_thousand_reuses_of_one_place_make_seventy_thousand_different_keys() {
        let mut slots = Slots::<u32>::new();
        let mut last = Key::NULL;
        for value in 0..70_000 {
            let key = slots.insert(value).unwrap();
            assert_eq!(key.index, 0);
            assert_ne!(key, last);
            assert_eq!(slots.get(last), None);
            assert_eq!(slots.remove(key), Some(value));
            last = key;
        }
        assert_eq!(slots.cells.len(), 1);
    }

    #[test]
    fn a_key_survives_its_way_through_the_kernel() {
        for key in [Key { index: 0, generation: 1 }, Key { index: 0xdead_beef, generation: 0x8000_0001 }, Key::NULL] {
            assert_eq!(Key::from_token(key.to_token()), key);
        }
    }

    #[test]
    fn the_null_key_names_nothing() {
        let mut slots = Slots::<u8>::new();
        slots.insert(1).unwrap();
        assert_eq!(slots.get(Key::NULL), None);
        assert_eq!(slots.remove(Key::NULL), None);
    }
}
