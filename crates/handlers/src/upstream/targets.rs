//! The choice of the next target. Knows neither a clock nor a socket.

use std::hash::{BuildHasher, RandomState};

use crate::splitmix;

/// The order in which an [`Upstream`](crate::Upstream) tries its targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetOrder {
    /// In the order of the list, again and again. After a connection has ended, the next target of
    /// the list is tried.
    #[default]
    InTurn,
    /// In rounds, each with all targets in an order that is drawn anew. So a target that does not
    /// answer is not tried again before all others. Use this to spread many clients over several
    /// servers.
    Random,
}

/// The targets of an upstream, and the rest of the present round.
#[derive(Debug)]
pub(super) struct Targets<T> {
    targets: Vec<T>,
    order: TargetOrder,
    /// The targets of this round that were not tried, the next one last.
    round: Vec<usize>,
    /// The state of the generator. `None` until the first draw, unless a seed was set.
    random: Option<u64>,
}

impl<T: Clone> Targets<T> {
    pub(super) fn new(targets: Vec<T>, order: TargetOrder, seed: Option<u64>) -> Self {
        Self {
            targets,
            order,
            round: Vec::new(),
            random: seed,
        }
    }

    /// Returns the next target, or `None` if the list is empty.
    pub(super) fn next(&mut self) -> Option<T> {
        if self.round.is_empty() {
            self.round = (0..self.targets.len()).rev().collect();
            if self.order == TargetOrder::Random {
                self.shuffle();
            }
        }
        let next = self.round.pop()?;
        self.targets.get(next).cloned()
    }

    /// Shuffles the round by the algorithm of Fisher and Yates.
    fn shuffle(&mut self) {
        let random = self
            .random
            .get_or_insert_with(|| RandomState::new().hash_one(()));
        for last in (1..self.round.len()).rev() {
            let other = splitmix::next(random) % (last as u64 + 1);
            self.round.swap(last, other as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw<const N: usize>(targets: &mut Targets<char>) -> [char; N] {
        [(); N].map(|()| targets.next().unwrap_or('-'))
    }

    #[test]
    fn targets_in_turn_begin_again_after_the_last() {
        let mut targets = Targets::new(vec!['a', 'b', 'c'], TargetOrder::InTurn, None);
        assert_eq!(draw(&mut targets), ['a', 'b', 'c', 'a', 'b', 'c', 'a']);
    }

    #[test]
    fn a_random_round_has_each_target_once() {
        let mut targets = Targets::new(vec!['a', 'b', 'c'], TargetOrder::Random, Some(1));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut round: [char; 3] = draw(&mut targets);
            seen.insert(round);
            round.sort_unstable();
            assert_eq!(round, ['a', 'b', 'c']);
        }
        assert_eq!(seen.len(), 6, "all orders occur");
    }

    #[test]
    fn a_seed_fixes_the_order_and_no_seed_does_not() {
        let list: Vec<char> = ('a'..='z').collect();
        let round = |seed| draw::<26>(&mut Targets::new(list.clone(), TargetOrder::Random, seed));
        assert_eq!(round(Some(7)), round(Some(7)));
        // These are equal once in 26! runs.
        assert_ne!(round(Some(7)), round(Some(8)));
        assert_ne!(round(None), round(None));
    }

    #[test]
    fn an_empty_list_has_no_next_target_and_a_single_one_is_always_next() {
        for order in [TargetOrder::InTurn, TargetOrder::Random] {
            assert_eq!(draw(&mut Targets::new(vec![], order, None)), ['-'; 3]);
            assert_eq!(draw(&mut Targets::new(vec!['a'], order, None)), ['a'; 3]);
        }
    }
}
