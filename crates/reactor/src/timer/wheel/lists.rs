//! Lists: many unordered lists of numbers in one store of small chunks.
//!
//! To add at the end touches a chunk that is warm, to empty a list is to read it from end to begin, and to forget one hands
//! over its chain of chunks in one piece. Where linked entries would chase a pointer, the processor sees many items ahead.
//!
//! Ground rule: only the last chunk of a list has room, so `n` items in `k` lists take at most `n / 15 + k` chunks.

/// Items in a chunk of 64 bytes. [`OFFSET_BITS`] tell them and the end apart.
const ITEMS: usize = 15;
const OFFSET_BITS: u32 = 4;
const _: () = assert!(ITEMS + 1 == 1 << OFFSET_BITS && size_of::<Chunk>() == 64);
/// Numbers of chunks that an [`End`] tells apart, one of which is no chunk's.
pub(super) const CHUNKS_MAX: usize = (1 << (u32::BITS - OFFSET_BITS)) - 1;
/// Ends a chain of chunks.
const NO_CHUNK: u32 = u32::MAX;

/// Where the next item of a list goes: a chunk, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End(u32);

impl End {
    /// After the last item of a full chunk. Without a chunk it is that of an empty list, which has no room either.
    const fn of_full(chunk: u32) -> Self {
        Self(chunk << OFFSET_BITS | ITEMS as u32)
    }

    const fn of_empty(chunk: u32) -> Self {
        Self(chunk << OFFSET_BITS)
    }

    #[inline]
    const fn chunk(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    #[inline]
    const fn offset(self) -> usize {
        self.0 as usize & ITEMS
    }
}

/// One list. Its items are in the [`Chunks`] that filled it.
#[derive(Debug)]
pub(super) struct List {
    /// After its last item, which may be where its last chunk ends.
    end: End,
    /// The chunk that ends its chain, while it has any.
    first: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { end: End::of_full(NO_CHUNK), first: NO_CHUNK };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.end == Self::EMPTY.end
    }
}

/// Not aligned to the line that it would fill: memory that is aligned cannot grow without being copied.
#[derive(Debug)]
struct Chunk {
    items: [u32; ITEMS],
    /// The chunk before this one, all full; of a free chunk the next free one.
    before: u32,
}

/// The store.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    free: u32,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: NO_CHUNK }
    }

    /// Makes room for `items` in all, however they are spread over `lists`.
    pub(super) fn reserve(&mut self, items: usize, lists: usize) {
        self.chunks.reserve_exact(Self::most(items, lists).saturating_sub(self.chunks.len()));
    }

    /// The most chunks that so many `items` in so many `lists` take.
    pub(super) const fn most(items: usize, lists: usize) -> usize {
        items / ITEMS + if items < lists { items } else { lists }
    }

    /// Adds an item at the end of a list.
    #[inline]
    pub(super) fn push(&mut self, list: &mut List, item: u32) {
        if list.end.offset() == ITEMS {
            self.grow(list);
        }
        self.chunks[list.end.chunk()].items[list.end.offset()] = item;
        list.end.0 += 1;
    }

    /// Takes the last item of a list.
    #[inline]
    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        if list.is_empty() {
            return None;
        }
        let last = End(list.end.0 - 1);
        let chunk = &mut self.chunks[last.chunk()];
        let item = chunk.items[last.offset()];
        list.end = last;
        if last.offset() == 0 {
            list.end = End::of_full(chunk.before);
            chunk.before = std::mem::replace(&mut self.free, last.chunk() as u32);
        }
        Some(item)
    }

    /// Empties a list, however long it is.
    pub(super) fn clear(&mut self, list: &mut List) {
        let forgotten = std::mem::replace(list, List::EMPTY);
        if let Some(first) = self.chunks.get_mut(forgotten.first as usize).filter(|_| !forgotten.is_empty()) {
            first.before = std::mem::replace(&mut self.free, forgotten.end.chunk() as u32);
        }
    }

    #[inline(never)]
    fn grow(&mut self, list: &mut List) {
        let before = if list.is_empty() { NO_CHUNK } else { list.end.chunk() as u32 };
        let chunk = Chunk { items: [0; ITEMS], before };
        let place = match self.chunks.get_mut(self.free as usize) {
            Some(free) => std::mem::replace(&mut self.free, std::mem::replace(free, chunk).before),
            None => {
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        };
        if before == NO_CHUNK {
            list.first = place;
        }
        list.end = End::of_empty(place);
    }
}

#[cfg(test)]
impl Chunks {
    pub(super) const fn room(&self) -> usize {
        self.chunks.capacity()
    }

    /// The items of a list, last first.
    pub(super) fn items(&self, list: &List) -> Vec<u32> {
        let mut items = Vec::new();
        let mut end = list.end;
        while end != List::EMPTY.end {
            let chunk = &self.chunks[end.chunk()];
            items.extend(chunk.items[..end.offset()].iter().rev());
            assert_eq!(chunk.before == NO_CHUNK, end.chunk() as u32 == list.first, "the begin of the chain");
            end = End::of_full(chunk.before);
        }
        items
    }

    /// Checks that every chunk is in one of the `lists` or free, and that no list has one too many.
    #[track_caller]
    pub(super) fn verify<'a>(&self, lists: impl IntoIterator<Item = &'a List>) {
        let mut chunks = 0;
        for list in lists {
            let items = self.items(list).len();
            assert_eq!(items == 0, list.is_empty());
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
        Clear(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            40 => (0..3_usize).prop_map(Op::Push),
            20 => (0..3_usize).prop_map(Op::Pop),
            1 => (0..3_usize).prop_map(Op::Clear),
        ]
    }

    proptest! {
        #[test]
        fn lists_in_one_store_are_as_vectors_of_their_own(operations in prop::collection::vec(op(), 1..400)) {
            let mut chunks = Chunks::new();
            let mut lists = [List::EMPTY; 3];
            let mut vectors: [Vec<u32>; 3] = Default::default();
            for (item, operation) in (0..).zip(operations) {
                match operation {
                    Op::Push(list) => {
                        chunks.reserve(vectors.iter().map(Vec::len).sum::<usize>() + 1, 3);
                        let room = chunks.chunks.capacity();
                        chunks.push(&mut lists[list], item);
                        prop_assert_eq!(chunks.chunks.capacity(), room, "what was reserved did not do");
                        vectors[list].push(item);
                    }
                    Op::Pop(list) => prop_assert_eq!(chunks.pop(&mut lists[list]), vectors[list].pop()),
                    Op::Clear(list) => {
                        chunks.clear(&mut lists[list]);
                        vectors[list].clear();
                    }
                }
                chunks.verify(&lists);
                for (list, vector) in lists.iter().zip(&vectors) {
                    prop_assert!(chunks.items(list).iter().eq(vector.iter().rev()));
                }
            }
        }
    }
}
