//! Levels: in which slot a timer waits, which slot is next, and which items ended timers have left
//! in a slot.
//!
//! A timer knows its slot, and the list of the slot holds the timer's place. Taking a timer out of
//! its slot only changes counts. The item stays in the list and is *stale* from then on: the timer
//! in that place, if any, no longer names this slot. A timer that comes back to the slot has two
//! items, of which only the one that is read first counts.
//!
//! Ground rules:
//! - A slot that has lost its last timer is emptied at once, with its stale items.
//! - There are never more stale items than places of timers. The owner of the timers has to
//!   [`sweep`](Levels::sweep) in time.

use super::lists::{CHUNKS_MAX, Chunks, List};
use super::{NEVER, TICK_BITS};

const SLOT_BITS: u32 = 6;
/// Slots of a level.
const SLOTS: usize = 1 << SLOT_BITS;
/// As many levels as 64 bits of nanoseconds need.
const LEVELS: usize = 8;
const _: () = assert!(TICK_BITS + SLOT_BITS * LEVELS as u32 >= u64::BITS);

/// The maximum number of timers. The lists have numbers of chunks for this many, and memory ends
/// before. It is a power of two, since memory is doubled.
pub(super) const TIMERS_MAX: usize = 1 << 30;
const _: () = assert!(Chunks::most(2 * TIMERS_MAX, LISTS_MAX) < CHUNKS_MAX);
/// A slot without a timer has no list. One more list is that of a slot that was taken.
const LISTS_MAX: usize = LEVELS * SLOTS + 1;

/// A slot of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(u16);

impl SlotId {
    /// In no slot.
    pub(super) const NOWHERE: Self = Self((LEVELS * SLOTS) as u16);

    #[inline]
    const fn new(level: u32, slot: u32) -> Self {
        Self((level << SLOT_BITS | slot) as u16)
    }

    #[inline]
    const fn level(self) -> u32 {
        self.0 as u32 >> SLOT_BITS
    }

    #[inline]
    const fn slot(self) -> u32 {
        self.0 as u32 % SLOTS as u32
    }

    #[inline]
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The slot of a timer, and the marks of the caller. One word, so that one test sees both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filing(u16);

impl Filing {
    /// In no slot, and without a mark.
    pub(super) const NONE: Self = Self(SlotId::NOWHERE.0);

    const SLOT_BITS: u32 = SlotId::NOWHERE.0.ilog2() + 1;
    const SLOT: u16 = (1 << Self::SLOT_BITS) - 1;

    #[inline]
    pub(super) const fn slot(self) -> SlotId {
        SlotId(self.0 & Self::SLOT)
    }

    #[inline]
    pub(super) const fn set_slot(&mut self, slot: SlotId) {
        self.0 = self.0 & !Self::SLOT | slot.0;
    }

    /// Clears the slot. Returns the slot that the timer was in.
    #[inline]
    pub(super) const fn clear_slot(&mut self) -> SlotId {
        let slot = self.slot();
        self.set_slot(SlotId::NOWHERE);
        slot
    }

    #[inline]
    pub(super) const fn marks(self) -> u16 {
        self.0 >> Self::SLOT_BITS
    }

    pub(super) const fn set_marks(&mut self, marks: u16) {
        self.0 = self.0 & Self::SLOT | marks << Self::SLOT_BITS;
    }

    /// Returns `true` if it is in a slot, and has none of the marks of `but`.
    #[inline]
    pub(super) const fn is_plain(self, but: u16) -> bool {
        self.0 & (SlotId::NOWHERE.0 | but << Self::SLOT_BITS) == 0
    }
}

impl From<SlotId> for Filing {
    #[inline]
    fn from(slot: SlotId) -> Self {
        Self(slot.0)
    }
}

#[derive(Debug)]
struct WheelSlot {
    /// INVARIANT (bound): no timer of the slot has an earlier deadline; [`NEVER`] while it is
    /// empty. Extending and cancelling leave it too low, which wakes the loop early and does no
    /// harm.
    earliest: u64,
    /// INVARIANT (items): the list has an item of each of the slot's `timers`, and `stale` more.
    /// Kept by `file`, `unfile`, `take` and `sweep`, checked by `verify`.
    timers: u32,
    stale: u32,
    list: List,
}

impl WheelSlot {
    const EMPTY: Self = Self {
        earliest: NEVER,
        timers: 0,
        stale: 0,
        list: List::EMPTY,
    };
}

#[derive(Debug)]
pub(super) struct Levels {
    slots: Box<[WheelSlot; LEVELS * SLOTS]>,
    chunks: Chunks,
    /// INVARIANT (occupancy): bit `s` of level `n` is set exactly when that slot has a timer. A bit
    /// set wrongly wakes the loop spuriously. A bit missing loses a timer.
    occupied: [u64; LEVELS],
    /// INVARIANT: bit `n` is set exactly when level `n` has an occupied slot.
    occupied_levels: u8,
    /// Stale items of all slots.
    stale: usize,
    stale_max: usize,
    /// Every slot that begins by this tick has been emptied.
    now_tick: u64,
}

impl Levels {
    /// Makes empty levels at tick 0.
    pub(super) fn new() -> Self {
        Self {
            slots: Box::new([WheelSlot::EMPTY; LEVELS * SLOTS]),
            chunks: Chunks::new(),
            occupied: [0; LEVELS],
            occupied_levels: 0,
            stale: 0,
            stale_max: 0,
            now_tick: 0,
        }
    }

    /// Makes room for `timers`, at most [`TIMERS_MAX`], and as many stale items.
    pub(super) fn reserve(&mut self, timers: usize) {
        self.stale_max = timers;
        self.chunks.reserve(2 * timers, LISTS_MAX.min(timers + 1));
    }

    #[inline]
    pub(super) const fn now_tick(&self) -> u64 {
        self.now_tick
    }

    /// Returns `true` if a deadline is within the present tick.
    #[inline]
    pub(super) const fn is_now(&self, deadline: u64) -> bool {
        deadline >> TICK_BITS == self.now_tick
    }

    /// Moves time on, over slots that are empty.
    #[inline]
    pub(super) const fn skip_to(&mut self, tick: u64) {
        self.now_tick = tick;
    }

    /// Files the timer in `place` under the slot of its deadline, which is of a later tick than the
    /// present one. Returns the slot.
    #[inline]
    pub(super) fn file(&mut self, place: u32, deadline: u64) -> SlotId {
        let tick = deadline >> TICK_BITS;
        let level = (tick ^ self.now_tick | 1).ilog2() / SLOT_BITS;
        let id = SlotId::new(level, (tick >> (level * SLOT_BITS)) as u32 % SLOTS as u32);
        let slot = &mut self.slots[id.index() % (LEVELS * SLOTS)];
        if slot.timers == 0 {
            self.occupied[level as usize] |= 1 << id.slot();
            self.occupied_levels |= 1 << level;
        }
        slot.earliest = slot.earliest.min(deadline);
        slot.timers += 1;
        self.chunks.push(&mut slot.list, place);
        id
    }

    /// Takes a timer out of its slot, if it is in one. Returns `true` if it is time to
    /// [`sweep`](Self::sweep).
    #[inline]
    pub(super) fn unfile(&mut self, id: SlotId) -> bool {
        let Some(slot) = self.slots.get_mut(id.index()) else {
            return false;
        };
        slot.timers -= 1;
        slot.stale += 1;
        self.stale += 1;
        if slot.timers == 0 {
            self.vacate(id);
        }
        self.stale > self.stale_max
    }

    /// Forgets stale items. `filed` is every timer that is in a slot, with its place.
    #[cold]
    pub(super) fn sweep(&mut self, filed: impl Iterator<Item = (u32, SlotId)>) {
        for (level, mut occupied) in (0..).zip(self.occupied) {
            while occupied != 0 {
                let slot = &mut self.slots[SlotId::new(level, occupied.trailing_zeros()).index()];
                slot.stale = 0;
                self.chunks.clear(&mut slot.list);
                occupied &= occupied - 1;
            }
        }
        self.stale = 0;
        filed.for_each(|(place, id)| self.chunks.push(&mut self.slots[id.index()].list, place));
    }

    /// Begins to empty a slot. Returns its items, for [`pop`](Self::pop). Each of its timers counts
    /// once.
    pub(super) fn take(&mut self, id: SlotId) -> List {
        self.now_tick = self.begin_of(id);
        let list = std::mem::replace(&mut self.slots[id.index()].list, List::EMPTY);
        self.vacate(id);
        list
    }

    /// Removes and returns the last item of a list that was taken.
    #[inline]
    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        self.chunks.pop(list)
    }

    /// Returns a time that is not after the first filed timer is due.
    #[inline]
    pub(super) fn earliest(&self) -> Option<u64> {
        self.first_slot().map(|id| self.slots[id.index()].earliest)
    }

    /// Returns the first slot, if it has begun by `tick`.
    #[inline]
    pub(super) fn slot_begun_by(&self, tick: u64) -> Option<SlotId> {
        self.first_slot().filter(|id| self.begin_of(*id) <= tick)
    }

    /// Returns the tick at which a slot begins, in the present lap of its level.
    #[inline]
    pub(super) const fn begin_of(&self, id: SlotId) -> u64 {
        let shift = id.level() * SLOT_BITS;
        let lap = self.now_tick >> shift >> SLOT_BITS;
        (lap << SLOT_BITS | id.slot() as u64) << shift
    }

    /// Returns the occupied slot that begins first.
    #[inline]
    fn first_slot(&self) -> Option<SlotId> {
        let level = self.occupied_levels.trailing_zeros();
        let slot = self.occupied.get(level as usize)?.trailing_zeros();
        Some(SlotId::new(level, slot % SLOTS as u32))
    }

    #[inline(never)]
    fn vacate(&mut self, id: SlotId) {
        let slot = &mut self.slots[id.index()];
        self.stale -= slot.stale as usize;
        self.chunks.clear(&mut slot.list);
        *slot = WheelSlot::EMPTY;
        let level = id.level() as usize;
        self.occupied[level] &= !(1 << id.slot());
        if self.occupied[level] == 0 {
            self.occupied_levels &= !(1 << level);
        }
    }
}

#[cfg(test)]
impl Levels {
    pub(super) const fn stale(&self) -> usize {
        self.stale
    }

    /// Returns how many chunks the lists have room for.
    pub(super) const fn room(&self) -> usize {
        self.chunks.room()
    }

    /// Checks every invariant. `filed` returns the deadline and the slot of the timer in a place,
    /// if there is one.
    #[track_caller]
    pub(super) fn verify(&self, timers: usize, filed: impl Fn(u32) -> Option<(u64, SlotId)>) {
        self.chunks.verify(self.slots.iter().map(|slot| &slot.list));
        for (level, occupied) in self.occupied.iter().enumerate() {
            assert_eq!(
                self.occupied_levels >> level & 1 == 1,
                *occupied != 0,
                "level {level}"
            );
        }
        for (slot, number) in self.slots.iter().zip(0..) {
            let id = SlotId(number);
            assert_eq!(
                self.occupied[id.level() as usize] >> id.slot() & 1 == 1,
                slot.timers > 0,
                "{id:?}"
            );
            let mut places = self.chunks.items(&slot.list);
            assert_eq!(
                places.len(),
                (slot.timers + slot.stale) as usize,
                "the items of {id:?}"
            );
            places.sort_unstable();
            places.dedup();
            let here = |place| filed(place).filter(|(_, is_in)| *is_in == id);
            let deadlines: Vec<u64> = places
                .into_iter()
                .filter_map(here)
                .map(|(deadline, _)| deadline)
                .collect();
            assert_eq!(
                deadlines.len(),
                slot.timers as usize,
                "the timers of {id:?}"
            );
            assert!(
                slot.timers > 0 || slot.list.is_empty() && slot.earliest == NEVER,
                "left in {id:?}"
            );
            for deadline in deadlines {
                assert!(deadline >= slot.earliest, "the bound of {id:?}");
                assert!(
                    self.begin_of(id) > self.now_tick,
                    "{id:?} should have been emptied"
                );
                assert!(deadline >> TICK_BITS >= self.begin_of(id));
            }
        }
        assert_eq!(
            self.slots
                .iter()
                .map(|slot| slot.timers as usize)
                .sum::<usize>(),
            timers
        );
        assert_eq!(
            self.slots
                .iter()
                .map(|slot| slot.stale as usize)
                .sum::<usize>(),
            self.stale
        );
        assert!(self.stale <= self.stale_max);
    }
}
