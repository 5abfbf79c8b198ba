//! Origins: the places in the source where timers were armed, as small numbers.
//!
//! Many timers are armed at few places in the source. So each timer holds the number of its place,
//! of two bytes, and not the address. Ground rule: no place has the number [`NO_ORIGIN`].

use std::collections::HashMap;
use std::panic::Location;
use std::ptr;

/// The number of an entry without a callback.
pub(super) const NO_ORIGIN: u16 = 0;

/// The places in the source, each of which keeps its number.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The places in the order of their numbers, which begin with 1.
    places: Vec<&'static Location<'static>>,
    /// Numbers by the address of the place.
    numbers: HashMap<usize, u16>,
    /// The places that were asked for last, by a few bits of their addresses.
    recent: [(usize, u16); 16],
}

impl Origins {
    /// Returns the number of a place in the source. Places after the first 65 534 have the number
    /// of the last one.
    #[inline]
    pub(super) fn number(&mut self, origin: &'static Location<'static>) -> u16 {
        let address = ptr::from_ref(origin).addr();
        // Places lie side by side in the program, a few words each. So neighbours have different
        // entries here.
        let recent = self.recent[address / size_of::<usize>() % self.recent.len()];
        if recent.0 == address {
            recent.1
        } else {
            self.find(origin)
        }
    }

    #[inline(never)]
    fn find(&mut self, origin: &'static Location<'static>) -> u16 {
        let address = ptr::from_ref(origin).addr();
        let next = u16::try_from(self.places.len() + 1).unwrap_or(u16::MAX);
        let number = *self.numbers.entry(address).or_insert_with(|| {
            if next < u16::MAX {
                self.places.push(origin);
            }
            next.min(u16::MAX - 1)
        });
        self.recent[address / size_of::<usize>() % self.recent.len()] = (address, number);
        number
    }

    /// Returns the place of a number; `None` for [`NO_ORIGIN`].
    pub(super) fn get(&self, number: u16) -> Option<&'static Location<'static>> {
        self.places
            .get(usize::from(number).checked_sub(1)?)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a place at a new address.
    #[track_caller]
    fn place() -> &'static Location<'static> {
        Box::leak(Box::new(*Location::caller()))
    }

    #[test]
    fn a_place_keeps_its_number_among_any_number_of_others() {
        let mut origins = Origins::default();
        let places: Vec<_> = (0..1000).map(|_| place()).collect();
        let numbers: Vec<_> = places.iter().map(|place| origins.number(place)).collect();
        for (place, number) in places.iter().zip(&numbers) {
            assert_eq!(origins.number(place), *number);
            assert!(ptr::eq(origins.get(*number).unwrap(), *place));
        }
        assert!(!numbers.contains(&NO_ORIGIN) && origins.get(NO_ORIGIN).is_none());
    }

    #[test]
    fn the_last_number_is_shared_by_all_further_places() {
        let mut origins = Origins::default();
        let last = (0..65_534)
            .map(|_| place())
            .inspect(|place| _ = origins.number(place))
            .last()
            .unwrap();
        let numbers = [last, place(), place()].map(|place| origins.number(place));
        assert_eq!(numbers, [65_534; 3]);
        assert!(ptr::eq(origins.get(65_534).unwrap(), last));
    }
}
