//! Lists: many unordered lists of numbers in one store of small chunks.
//!
//! Adding an item touches the last chunk of the list, which is in the cache. A list is emptied from
//! its end to its beginning. Clearing a list frees its chain of chunks in one step. With linked
//! entries the processor would follow a pointer for each item. Here it can load many items ahead.
//!
//! Ground rule: only the last chunk of a list has free words, so `n` items in `k` lists take at
//! most `n / 15 + k` chunks.

/// The number of words of a chunk, which is as long as a cache line. A chunk holds items, and as
/// its last word the link to the chunk before it. The chunks before it are full. The link of a free
/// chunk is the next free one. Chunks are not aligned to the cache line: memory that is aligned
/// cannot grow without being copied.
const WORDS: usize = 1 << OFFSET_BITS;
const ITEMS: usize = WORDS - 1;
const OFFSET_BITS: u32 = 4;
/// The number of chunks that an [`End`] can name. One more number stands for no chunk.
pub(super) const CHUNKS_MAX: usize = NO_CHUNK as usize;
/// Ends a chain of chunks.
const NO_CHUNK: u32 = u32::MAX >> OFFSET_BITS;

/// The place of the next item of a list: a word of the store, or the word of the link if the last
/// chunk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End(u32);

impl End {
    /// Returns the end of a list whose last chunk is full. With [`NO_CHUNK`] it is the end of an
    /// empty list, which has no room either.
    const fn of_full(chunk: u32) -> Self {
        Self(chunk << OFFSET_BITS | ITEMS as u32)
    }

    const fn of_empty(chunk: u32) -> Self {
        Self(chunk << OFFSET_BITS)
    }

    #[inline]
    const fn chunk(self) -> u32 {
        self.0 >> OFFSET_BITS
    }

    #[inline]
    const fn offset(self) -> usize {
        self.0 as usize % WORDS
    }

    #[inline]
    const fn word(self) -> usize {
        self.0 as usize
    }
}

/// One list. Its items are in the [`Chunks`] that filled it.
#[derive(Debug)]
pub(super) struct List {
    /// The place after its last item, which may be where its last chunk ends.
    end: End,
    /// The first chunk, which ends the chain, while the list has any.
    first: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        end: End::of_full(NO_CHUNK),
        first: NO_CHUNK,
    };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.end == Self::EMPTY.end
    }
}

/// The store.
#[derive(Debug)]
pub(super) struct Chunks {
    words: Vec<u32>,
    free: u32,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self {
            words: Vec::new(),
            free: NO_CHUNK,
        }
    }

    /// Makes room for `items` in all, however they are spread over `lists`.
    pub(super) fn reserve(&mut self, items: usize, lists: usize) {
        self.words
            .reserve_exact((Self::most(items, lists) * WORDS).saturating_sub(self.words.len()));
    }

    /// Returns the most chunks that `items` in `lists` can take.
    pub(super) const fn most(items: usize, lists: usize) -> usize {
        items / ITEMS + if items < lists { items } else { lists }
    }

    /// Adds an item at the end of a list.
    #[inline]
    pub(super) fn push(&mut self, list: &mut List, item: u32) {
        if list.end.offset() == ITEMS {
            self.grow(list);
        }
        self.words[list.end.word()] = item;
        list.end.0 += 1;
    }

    /// Removes and returns the last item of a list.
    #[inline]
    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        if list.is_empty() {
            return None;
        }
        list.end.0 -= 1;
        let item = self.words[list.end.word()];
        if list.end.offset() == 0 {
            let chunk = list.end.chunk();
            list.end = End::of_full(self.link(chunk, self.free));
            self.free = chunk;
        }
        Some(item)
    }

    /// Empties a list, at the same cost for any length.
    pub(super) fn clear(&mut self, list: &mut List) {
        let forgotten = std::mem::replace(list, List::EMPTY);
        if !forgotten.is_empty() {
            self.link(forgotten.first, self.free);
            self.free = forgotten.end.chunk();
        }
    }

    /// Links a chunk to the one before it. Returns the chunk that it was linked to.
    #[inline]
    fn link(&mut self, chunk: u32, before: u32) -> u32 {
        std::mem::replace(&mut self.words[End::of_full(chunk).word()], before)
    }

    #[inline(never)]
    fn grow(&mut self, list: &mut List) {
        let chunk = match self.free {
            NO_CHUNK => {
                self.words.extend_from_slice(&[NO_CHUNK; WORDS]);
                (self.words.len() / WORDS) as u32 - 1
            }
            free => free,
        };
        self.free = self.link(chunk, list.end.chunk());
        if list.is_empty() {
            list.first = chunk;
        }
        list.end = End::of_empty(chunk);
    }
}

#[cfg(test)]
impl Chunks {
    pub(super) const fn room(&self) -> usize {
        self.words.capacity()
    }

    fn before(&self, chunk: u32) -> u32 {
        self.words[End::of_full(chunk).word()]
    }

    /// Returns the items of a list, last first.
    pub(super) fn items(&self, list: &List) -> Vec<u32> {
        let mut items = Vec::new();
        let mut end = list.end;
        while end != List::EMPTY.end {
            let (begin, before) = (End::of_empty(end.chunk()).word(), self.before(end.chunk()));
            items.extend(self.words[begin..end.word()].iter().rev());
            assert_eq!(
                before == NO_CHUNK,
                end.chunk() == list.first,
                "the begin of the chain"
            );
            end = End::of_full(before);
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
        while free != NO_CHUNK {
            (free, chunks) = (self.before(free), chunks + 1);
            assert!(chunks * WORDS <= self.words.len(), "a ring of free chunks");
        }
        assert_eq!(chunks * WORDS, self.words.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum ListOp {
        Push(usize),
        Pop(usize),
        Clear(usize),
    }

    fn op() -> impl Strategy<Value = ListOp> {
        prop_oneof![
            40 => (0..3_usize).prop_map(ListOp::Push),
            20 => (0..3_usize).prop_map(ListOp::Pop),
            1 => (0..3_usize).prop_map(ListOp::Clear),
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
                    ListOp::Push(list) => {
                        chunks.reserve(vectors.iter().map(Vec::len).sum::<usize>() + 1, 3);
                        let room = chunks.room();
                        chunks.push(&mut lists[list], item);
                        prop_assert_eq!(chunks.room(), room, "what was reserved did not do");
                        vectors[list].push(item);
                    }
                    ListOp::Pop(list) => prop_assert_eq!(chunks.pop(&mut lists[list]), vectors[list].pop()),
                    ListOp::Clear(list) => {
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
