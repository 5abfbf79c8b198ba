//! Lists: many unordered lists of numbers in one store of small chunks.
//!
//! To add at the end touches a chunk that is warm, to remove puts the last item into the gap, and to empty a list is to
//! read it from end to begin: where linked entries would chase a pointer, the processor sees many items ahead.
//!
//! Ground rule: only the last chunk of a list has room, so `n` items in `k` lists take at most `n / 14 + k` chunks.

/// Items in a chunk of one cache line, which [`OFFSET_BITS`] tell apart.
const ITEMS: usize = 14;
const OFFSET_BITS: u32 = 4;
/// Ends a chain of chunks.
const NO_CHUNK: u32 = u32::MAX;

/// Where an item is: a chunk, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(u32);

impl Position {
    /// In no list. Its offset is beyond all items, so an empty list that ends here has no room.
    pub(super) const NOWHERE: Self = Self(u32::MAX);

    /// After the last item of a full chunk.
    const fn end_of(chunk: u32) -> Self {
        Self(chunk << OFFSET_BITS | ITEMS as u32)
    }

    #[inline]
    const fn chunk(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    #[inline]
    const fn offset(self) -> usize {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as usize
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Chunk {
    items: [u32; ITEMS],
    /// The chunk before this one, all full; of a free chunk the next free one.
    before: u32,
    list: u32,
}

/// `LISTS` lists of numbers.
#[derive(Debug)]
pub(super) struct Lists<const LISTS: usize> {
    /// Of each list where its next item goes: after its last, which may be where its last chunk ends. `NOWHERE` while it
    /// is empty.
    ends: [Position; LISTS],
    chunks: Vec<Chunk>,
    free: u32,
}

impl<const LISTS: usize> Lists<LISTS> {
    pub(super) const fn new() -> Self {
        Self { ends: [Position::NOWHERE; LISTS], chunks: Vec::new(), free: NO_CHUNK }
    }

    /// Makes room for `items` in all, however they are spread.
    #[inline]
    pub(super) fn reserve(&mut self, items: usize) {
        let most = items / ITEMS + items.min(LISTS);
        if self.chunks.capacity() < most {
            self.chunks.reserve(most - self.chunks.len());
        }
    }

    #[inline]
    pub(super) fn is_empty(&self, list: usize) -> bool {
        self.ends[list] == Position::NOWHERE
    }

    /// Adds an item at the end of a list.
    #[inline]
    pub(super) fn push(&mut self, list: usize, item: u32) -> Position {
        if self.ends[list].offset() >= ITEMS {
            self.grow(list);
        }
        let end = &mut self.ends[list];
        let position = *end;
        self.chunks[position.chunk()].items[position.offset()] = item;
        end.0 += 1;
        position
    }

    /// Takes the last item of a list.
    #[inline]
    pub(super) fn pop(&mut self, list: usize) -> Option<u32> {
        if self.is_empty(list) {
            return None;
        }
        let last = Position(self.ends[list].0 - 1);
        let item = self.chunks[last.chunk()].items[last.offset()];
        self.ends[list] = last;
        if last.offset() == 0 {
            self.shrink(list, last.chunk());
        }
        Some(item)
    }

    /// The list that has something at `position`.
    #[inline]
    pub(super) fn list_at(&self, position: Position) -> usize {
        self.chunks[position.chunk()].list as usize
    }

    /// Takes the item at `position` out of its list. Gives the item that is there now instead, if there is one.
    #[inline]
    pub(super) fn remove(&mut self, position: Position) -> Option<u32> {
        let list = self.list_at(position);
        let last = Position(self.ends[list].0 - 1);
        let moved = self.pop(list)?;
        if position == last {
            return None;
        }
        self.chunks[position.chunk()].items[position.offset()] = moved;
        Some(moved)
    }

    fn grow(&mut self, list: usize) {
        let end = self.ends[list];
        let before = if end == Position::NOWHERE { NO_CHUNK } else { end.chunk() as u32 };
        let chunk = Chunk { items: [0; ITEMS], before, list: list as u32 };
        let place = match self.chunks.get_mut(self.free as usize) {
            Some(free) => std::mem::replace(&mut self.free, std::mem::replace(free, chunk).before),
            None => {
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        };
        self.ends[list] = Position(place << OFFSET_BITS);
    }

    fn shrink(&mut self, list: usize, last: usize) {
        let before = std::mem::replace(&mut self.chunks[last].before, self.free);
        self.free = last as u32;
        self.ends[list] = if before == NO_CHUNK { Position::NOWHERE } else { Position::end_of(before) };
    }
}

#[cfg(test)]
impl<const LISTS: usize> Lists<LISTS> {
    /// The items of a list with their positions, last first.
    pub(super) fn items(&self, list: usize) -> Vec<(u32, Position)> {
        let mut items = Vec::new();
        let mut end = self.ends[list];
        while end != Position::NOWHERE {
            let chunk = &self.chunks[end.chunk()];
            assert_eq!(chunk.list as usize, list);
            for offset in (0..end.offset()).rev() {
                items.push((chunk.items[offset], Position((end.chunk() as u32) << OFFSET_BITS | offset as u32)));
            }
            end = if chunk.before == NO_CHUNK { Position::NOWHERE } else { Position::end_of(chunk.before) };
        }
        items
    }

    /// Checks that every chunk is in one list or free, and that no list has one too many.
    #[track_caller]
    pub(super) fn verify(&self) {
        let mut chunks = 0;
        for list in 0..LISTS {
            let items = self.items(list).len();
            assert_eq!(items == 0, self.is_empty(list));
            chunks += items.div_ceil(ITEMS);
        }
        let mut free = self.free;
        while let Some(chunk) = self.chunks.get(free as usize) {
            (free, chunks) = (chunk.before, chunks + 1);
            assert!(chunks <= self.chunks.len(), "a ring of free chunks");
        }
        assert_eq!(chunks, self.chunks.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        Pop(usize),
        Remove(prop::sample::Index),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..3_usize).prop_map(Op::Push),
            1 => (0..3_usize).prop_map(Op::Pop),
            2 => any::<prop::sample::Index>().prop_map(Op::Remove),
        ]
    }

    proptest! {
        /// Against a position for each item, as the wheel keeps it.
        #[test]
        fn every_item_is_where_its_position_says(operations in prop::collection::vec(op(), 1..400)) {
            let mut lists = Lists::<3>::new();
            let mut places: Vec<Option<(usize, Position)>> = Vec::new();
            for operation in operations {
                let filed: Vec<usize> = (0..places.len()).filter(|item| places[*item].is_some()).collect();
                match operation {
                    Op::Push(list) => {
                        lists.reserve(filed.len() + 1);
                        let room = lists.chunks.capacity();
                        let position = lists.push(list, places.len() as u32);
                        prop_assert_eq!(lists.chunks.capacity(), room, "what was reserved did not do");
                        places.push(Some((list, position)));
                    }
                    Op::Pop(list) => match lists.pop(list) {
                        Some(item) => prop_assert_eq!(places[item as usize].take().map(|place| place.0), Some(list)),
                        None => prop_assert!(filed.iter().all(|item| places[*item].unwrap().0 != list)),
                    },
                    Op::Remove(which) if !filed.is_empty() => {
                        let (list, position) = places[*which.get(&filed)].take().unwrap();
                        prop_assert_eq!(lists.list_at(position), list);
                        if let Some(moved) = lists.remove(position) {
                            places[moved as usize].as_mut().unwrap().1 = position;
                        }
                    }
                    Op::Remove(_) => {}
                }
                lists.verify();
                for list in 0..3 {
                    for (item, position) in lists.items(list) {
                        prop_assert_eq!(places[item as usize], Some((list, position)));
                    }
                }
                let filed = places.iter().flatten().count();
                prop_assert_eq!((0..3).map(|list| lists.items(list).len()).sum::<usize>(), filed);
            }
        }
    }
}
