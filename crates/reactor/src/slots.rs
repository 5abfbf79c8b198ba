//! Slots: an arena whose keys never come to name another value.
//!
//! A key is an index and a generation. The generation of a cell rises each time its value is
//! removed, so a key that was issued before no longer fits. A cell whose generations are used up is
//! retired instead of starting again: after 2^32 - 1 reuses of one cell its few bytes are lost, and
//! no key ever changes its meaning.
//!
//! This differs from `slotmap`, whose generations wrap. Values here can be requested by a key that
//! has outlived them, and some are requested for each event. Values that no index outlives are kept
//! in a `slab`, which has no generations. Generations on top of a `slab` cost more:
//! docs/decisions/0011.

use std::{fmt, iter};

/// The name of a registration. A key is `Copy`, and is checked at every use.
///
/// A key is *stale* once its registration has ended. Every call with a stale key returns
/// [`Error::StaleKey`](crate::Error::StaleKey), because no later registration gets the same key. A
/// key is meaningful only to the [`Registry`](crate::Registry) that issued it. Keys are ordered, so
/// that they can be used in ordered maps. The order does not show which registration is older.
#[doc(alias("Token", "RegistrationToken"))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(
    /// The generation above the index, as the kernel carries it: comparing two keys is one
    /// instruction.
    u64,
);

impl Key {
    /// A key that no registration has. It is stale in every registry.
    ///
    /// Use it for a field that is filled later. [`Context::key`](crate::Context::key) returns it in
    /// callbacks that do not belong to a source.
    ///
    /// ```
    /// use reactor::{Key, Reactor};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// let reactor = Reactor::<()>::new()?;
    /// assert!(!reactor.contains(Key::NULL));
    /// # Ok(())
    /// # }
    /// ```
    pub const NULL: Self = Self(u64::MAX);

    /// Returns a key with `number` that no registration has. It is stale in every registry, like
    /// [`NULL`](Self::NULL).
    ///
    /// Use it in a library of handlers with objects that are not registrations. Calls on such an
    /// object can return [`Error::StaleKey`](crate::Error::StaleKey) with this key after the object
    /// has ended.
    ///
    /// ```
    /// use reactor::Key;
    ///
    /// assert_eq!(Key::unregistered(7).to_string(), "7v0");
    /// ```
    pub const fn unregistered(number: u32) -> Self {
        Self::new(number, 0)
    }

    /// The key of the events of the wall clock. No registration has it: generations begin at 1.
    pub(crate) const WALL_CLOCK: Self = Self(0);

    /// The key of the events of the alarm, which no registration has either.
    pub(crate) const ALARM: Self = Self(1);

    /// Marks the place of a deferred callback that was cancelled.
    pub(crate) const CANCELLED: Self = Self(2);

    const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// Returns the index of the key, for a table of your own beside the registrations. Indexes are
    /// small: an index is used again after its registration has ended. So let the table hold the
    /// whole key too, and compare it.
    ///
    /// The indexes of timers, by [`Key::from`] of a [`TimerKey`](crate::TimerKey), are numbers of
    /// their own. [`NULL`](Self::NULL) has the index `u32::MAX`.
    ///
    /// ```
    /// use reactor::{Key, Reactor, Then, TimerKey};
    ///
    /// # fn main() -> Result<(), reactor::Error> {
    /// /// The payload of each timer. The callbacks capture nothing, so they need no allocation.
    /// type Payloads = Vec<Option<(TimerKey, &'static str)>>;
    ///
    /// fn arm(reactor: &mut Reactor<Payloads>, payloads: &mut Payloads, payload: &'static str) {
    ///     let timer = reactor.after(std::time::Duration::ZERO, |cx| {
    ///         let timer = cx.timer();
    ///         let index = timer.map(|timer| Key::from(timer).index() as usize);
    ///         let found = index.and_then(|index| cx.state.get(index).copied().flatten());
    ///         let (owner, payload) = found.unzip();
    ///         assert_eq!(owner, timer);
    ///         println!("{}", payload.unwrap_or_default());
    ///         Ok(Then::Done)
    ///     });
    ///     let index = Key::from(timer).index() as usize;
    ///     payloads.resize(payloads.len().max(index + 1), None);
    ///     payloads[index] = Some((timer, payload));
    /// }
    ///
    /// let (mut reactor, mut payloads) = (Reactor::new()?, Payloads::new());
    /// arm(&mut reactor, &mut payloads, "first");
    /// arm(&mut reactor, &mut payloads, "second");
    /// reactor.run(&mut payloads)?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the key as a word that the kernel carries.
    #[inline]
    pub(crate) const fn to_token(self) -> u64 {
        self.0
    }

    /// Returns the key of a word that [`to_token`](Self::to_token) has returned.
    #[inline]
    pub(crate) const fn from_token(token: u64) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Formats a key as `7v2`: slot 7, second generation.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index(), self.generation())
    }
}

/// Ends the free list, and is never the index of a cell: [`Key::NULL`] relies on it.
const NO_CELL: u32 = u32::MAX;

#[derive(Debug)]
struct Cell<V> {
    /// The key of the value. While the cell is vacant: the generation of the next value, above the
    /// index of the next vacant cell. No key with that generation has been issued for this cell, so
    /// none can fit by chance.
    key: Key,
    /// A blank while the cell is vacant.
    value: V,
}

/// A value that has a blank, which a vacant cell holds.
///
/// A key that fits proves that there is a value. An `Option` would make the hot path check a second
/// time.
pub(crate) trait Blank {
    fn blank() -> Self;
}

/// An arena of `V`. Insert, look up and remove are O(1). The only allocation is the growth of the
/// arena.
///
/// `GENERATION_MAX` is a parameter so that tests can reach the end of a cell's life.
#[derive(Debug)]
pub(crate) struct Slots<V, const GENERATION_MAX: u32 = { u32::MAX }> {
    cells: Vec<Cell<V>>,
    /// INVARIANT (free list): starting here, every vacant cell that is not retired is met exactly
    /// once. Kept by `insert` and `remove`, checked by `verify`. Last in, first out: a warm cell is
    /// reused.
    free_head: u32,
    len: usize,
}

impl<V: Blank, const GENERATION_MAX: u32> Slots<V, GENERATION_MAX> {
    const FIRST_GENERATION: u32 = 1;

    pub(crate) const fn new() -> Self {
        Self {
            cells: Vec::new(),
            free_head: NO_CELL,
            len: 0,
        }
    }

    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of values that fit before the arena grows.
    pub(crate) const fn capacity(&self) -> usize {
        self.cells.capacity()
    }

    /// Grows the arena now if the next value would make it grow.
    pub(crate) fn reserve(&mut self) {
        self.cells.reserve(1);
    }

    /// Returns the key that the next [`insert`](Self::insert) will return, or `None` if the arena
    /// cannot grow any more.
    #[inline]
    pub(crate) fn next_key(&self) -> Option<Key> {
        match self.cells.get(self.free_head as usize) {
            Some(cell) => Some(Key::new(self.free_head, cell.key.generation())),
            None => {
                let index = u32::try_from(self.cells.len())
                    .ok()
                    .filter(|index| *index != NO_CELL)?;
                Some(Key::new(index, Self::FIRST_GENERATION))
            }
        }
    }

    /// Stores `value` and returns its key. Returns `None`, and drops the value, only if
    /// [`next_key`](Self::next_key) is `None` too.
    pub(crate) fn insert(&mut self, value: V) -> Option<Key> {
        let (key, place) = self.occupy()?;
        *place = value;
        Some(key)
    }

    /// Stores a blank, as [`insert`](Self::insert) does, and returns it for the caller to fill in
    /// place. Moving a value of mixed fields in would make the processor wait until the fields have
    /// been written, before it can read them as words.
    #[inline]
    pub(crate) fn occupy(&mut self) -> Option<(Key, &mut V)> {
        let place = self.free_head as usize;
        if place >= self.cells.len() {
            return self.extend();
        }
        let cell = &mut self.cells[place];
        let key = Key::new(self.free_head, cell.key.generation());
        self.free_head = std::mem::replace(&mut cell.key, key).index();
        self.len += 1;
        Some((key, &mut cell.value))
    }

    /// Does the work of [`occupy`](Self::occupy) if no cell is vacant.
    #[inline]
    fn extend(&mut self) -> Option<(Key, &mut V)> {
        let key = self.next_key()?;
        self.cells.extend(
            iter::repeat_with(|| Cell {
                key,
                value: V::blank(),
            })
            .take(1),
        );
        self.len += 1;
        self.cells.last_mut().map(|cell| (key, &mut cell.value))
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&V> {
        match self.cells.get(key.index() as usize) {
            Some(cell) if cell.key == key => Some(&cell.value),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        match self.cells.get_mut(key.index() as usize) {
            Some(cell) if cell.key == key => Some(&mut cell.value),
            _ => None,
        }
    }

    /// Returns the value in the cell `index`, and its key. Use it for lists that store indices.
    #[inline]
    pub(crate) fn at_index_mut(&mut self, index: u32) -> Option<(Key, &mut V)> {
        match self.cells.get_mut(index as usize) {
            Some(cell) if cell.key.index() == index => Some((cell.key, &mut cell.value)),
            _ => None,
        }
    }

    /// Returns the value in the cell `index`, which the caller knows to be filled. The cell is not
    /// checked, because that may be a cache miss.
    #[inline]
    pub(crate) fn filled_mut(&mut self, index: u32) -> Option<&mut V> {
        self.cells
            .get_mut(index as usize)
            .map(|cell| &mut cell.value)
    }

    /// Returns the value in the cell `index`, and its key, as [`at_index_mut`](Self::at_index_mut)
    /// does.
    #[cfg(test)]
    pub(crate) fn at_index(&self, index: u32) -> Option<(Key, &V)> {
        self.cells
            .get(index as usize)
            .filter(|cell| cell.key.index() == index)
            .map(|cell| (cell.key, &cell.value))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<V> {
        Some(std::mem::replace(self.free(key)?, V::blank()))
    }

    /// Frees the cell of a value, and returns the value for the caller to make blank.
    #[inline]
    pub(crate) fn free(&mut self, key: Key) -> Option<&mut V> {
        let cell = self
            .cells
            .get_mut(key.index() as usize)
            .filter(|cell| cell.key == key)?;
        self.len -= 1;
        if key.generation() < GENERATION_MAX {
            cell.key = Key::new(self.free_head, key.generation() + 1);
            self.free_head = key.index();
        } else {
            cell.key = Key::NULL; // retired
        }
        Some(&mut cell.value)
    }

    /// Returns every value with its key, in the order of cells.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &V)> {
        // A vacant cell has the index of another cell, or of none, in its key.
        let cells = self
            .cells
            .iter()
            .zip(0..)
            .filter(|(cell, place)| cell.key.index() == *place);
        cells.map(|(cell, _)| (cell.key, &cell.value))
    }
}

impl<V: Blank, const GENERATION_MAX: u32> Slots<V, GENERATION_MAX> {
    /// Returns every value with its key, as [`iter`](Self::iter) does, to change the values.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut V)> {
        let cells = self
            .cells
            .iter_mut()
            .zip(0..)
            .filter(|(cell, place)| cell.key.index() == *place);
        cells.map(|(cell, _)| (cell.key, &mut cell.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl<V: Blank, const GENERATION_MAX: u32> Slots<V, GENERATION_MAX> {
        #[track_caller]
        fn verify(&self) {
            let mut free = vec![false; self.cells.len()];
            let mut at = self.free_head;
            while at != NO_CELL {
                let seen = std::mem::replace(&mut free[at as usize], true);
                assert!(!seen, "cell {at} is on the free list twice");
                at = self.cells[at as usize].key.index();
            }
            for (place, (cell, free)) in self.cells.iter().zip(free).enumerate() {
                let filled = cell.key.index() as usize == place;
                let retired = cell.key == Key::NULL;
                assert_eq!(
                    [filled, free, retired]
                        .into_iter()
                        .filter(|state| *state)
                        .count(),
                    1,
                    "cell {place}"
                );
            }
            assert_eq!(self.len, self.iter().count());
        }
    }

    macro_rules! blank_is_zero {
        ($($number:ty),*) => { $(impl Blank for $number { fn blank() -> Self { 0 } })* };
    }
    blank_is_zero!(u8, u32, usize);

    proptest! {
        /// Compares the arena with a map of all keys ever issued. A cell has three generations, so
        /// that cells are retired.
        #[test]
        fn a_key_never_names_another_value(operations in prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..200)) {
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
                        prop_assert!((1..=3).contains(&key.generation()), "{key} is past its cell's life");
                        issued.push(key);
                        model.insert(key, value);
                    }
                    Some(which) => {
                        let key = *which.get(&issued);
                        prop_assert_eq!(slots.remove(key), model.remove(&key));
                    }
                }
                slots.verify();
                prop_assert_eq!(slots.len(), model.len());
                let filled: BTreeMap<_, _> =
                    model.iter().map(|(key, value)| (key.index(), (*key, *value))).collect();
                for key in &issued {
                    prop_assert_eq!(slots.get(*key), model.get(key));
                    prop_assert_eq!(slots.get_mut(*key).copied(), model.get(key).copied());
                    let at_index = slots.at_index_mut(key.index()).map(|(key, value)| (key, *value));
                    prop_assert_eq!(at_index, filled.get(&key.index()).copied());
                }
                for (index, (_, value)) in filled {
                    prop_assert_eq!(slots.filled_mut(index).copied(), Some(value));
                }
                prop_assert!(slots.iter().map(|(key, value)| (key, *value)).eq(in_order_of_place(&model)));
                prop_assert!(slots.iter_mut().map(|(key, value)| (key, *value)).eq(in_order_of_place(&model)));
            }
        }
    }

    fn in_order_of_place(model: &BTreeMap<Key, usize>) -> impl Iterator<Item = (Key, usize)> {
        let mut values: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
        values.sort_by_key(|(key, _)| key.index());
        values.into_iter()
    }

    #[test]
    fn seventy_thousand_reuses_of_one_slot_make_as_many_different_keys() {
        let mut slots = Slots::<u32>::new();
        let mut last = Key::NULL;
        for value in 0..70_000 {
            let key = slots.insert(value).unwrap();
            assert_eq!(key.index(), 0);
            assert_ne!(key, last);
            assert_eq!(slots.get(last), None);
            assert_eq!(slots.remove(key), Some(value));
            last = key;
        }
        assert_eq!(slots.cells.len(), 1);
    }

    #[test]
    fn a_key_survives_its_way_through_the_kernel() {
        for (index, generation) in [(0, 1), (0xdead_beef, 0x8000_0001), (u32::MAX, u32::MAX)] {
            let key = Key::from_token(Key::new(index, generation).to_token());
            assert_eq!((key.index(), key.generation()), (index, generation));
        }
    }

    #[test]
    fn room_for_the_next_value_is_made_before_it_comes() {
        let mut slots = Slots::<u8>::new();
        for value in 0..100 {
            slots.reserve();
            let capacity = slots.capacity();
            assert!(capacity > slots.len());
            slots.insert(value).unwrap();
            assert_eq!(slots.capacity(), capacity);
        }
    }

    #[test]
    fn a_key_is_shown_as_its_slot_and_its_generation() {
        let key = Key::new(7, 2);
        assert_eq!(format!("{key} {key:?}"), "7v2 Key(7v2)");
    }

    #[test]
    fn the_null_key_names_nothing() {
        let mut slots = Slots::<u8>::new();
        slots.insert(1).unwrap();
        assert_eq!(slots.get(Key::NULL), None);
        assert_eq!(slots.remove(Key::NULL), None);
    }
}
