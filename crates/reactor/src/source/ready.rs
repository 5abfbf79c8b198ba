//! The ready queue: sources that are called without an event of the kernel, because they were not
//! drained last time.

use std::collections::VecDeque;
use std::fmt;

use crate::slots::Key;

/// Decides which ready sources are called first in a turn: `High` before `Normal` before `Low`. As
/// values they compare as `Low < Normal < High`.
///
/// Set the priority of a source by [`Registry::set_priority`](crate::Registry::set_priority). The
/// handler of each ready source is called once in a [turn](crate::Reactor::turn), the highest
/// priority first. [`Builder::max_calls_per_turn`](crate::Builder::max_calls_per_turn) limits the
/// number of these calls. If more sources are ready, a quarter of the calls is reserved for
/// [`Normal`](Self::Normal) and an eighth for [`Low`](Self::Low), so that no priority starves.
///
/// ```
/// use reactor::{Interest, Next, Priority, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::<Vec<Priority>>::new()?;
/// for priority in [Priority::Low, Priority::High, Priority::Normal] {
///     let (reader, _) = std::io::pipe()?; // the writer is closed: the source is ready
///     let key = reactor.add(reader, Interest::READABLE, move |_reader, cx| {
///         cx.state.push(priority);
///         Ok(Next::Remove)
///     })?;
///     reactor.set_priority(key, priority)?;
/// }
/// let mut order = Vec::new();
/// reactor.run(&mut order)?;
/// assert_eq!(order, [Priority::High, Priority::Normal, Priority::Low]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Called after all others. Use it for bulk transfers and statistics.
    Low,
    /// Called after [`High`](Self::High) and before [`Low`](Self::Low). This is the default.
    #[default]
    Normal,
    /// Called before all others. Use it for the connection to a supervisor, or a heartbeat.
    High,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        })
    }
}

/// The number of calls for each priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) high: usize,
    pub(crate) normal: usize,
    pub(crate) low: usize,
}

impl Shares {
    /// The smallest budget: an eighth of a smaller one is zero.
    pub(crate) const BUDGET_MIN: usize = 8;

    /// Divides `budget` calls among the ready sources counted in `ready`. No call is left over
    /// while a source waits.
    fn of(budget: usize, ready: Self) -> Self {
        let normal_kept = ready.normal.min(budget / 4);
        let low_kept = ready.low.min(budget / 8);
        let high = ready.high.min(budget - normal_kept - low_kept);
        let normal = ready.normal.min(budget - high - low_kept);
        let low = ready.low.min(budget - high - normal);
        Self { high, normal, low }
    }
}

/// Keys in the order in which they became ready, one queue for each priority.
///
/// A key is here at most once, which its slot records by a flag. It may have become stale since.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    high: VecDeque<Key>,
    normal: VecDeque<Key>,
    low: VecDeque<Key>,
    /// The length of all three queues, so that the usual case of an empty queue is one test.
    len: usize,
}

impl ReadyQueue {
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, priority: Priority, key: Key) {
        self.of(priority).push_back(key);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self, priority: Priority) -> Option<Key> {
        let key = self.of(priority).pop_front()?;
        self.len -= 1;
        Some(key)
    }

    /// Returns how `budget` calls are divided among the sources that are queued now; `None` if
    /// there are none.
    #[inline]
    pub(crate) fn shares(&self, budget: usize) -> Option<Shares> {
        let (high, normal, low) = (self.high.len(), self.normal.len(), self.low.len());
        (!self.is_empty()).then(|| Shares::of(budget, Shares { high, normal, low }))
    }

    /// Returns every queued key, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Key> {
        [&self.high, &self.normal, &self.low]
            .into_iter()
            .flatten()
            .copied()
    }

    const fn of(&mut self, priority: Priority) -> &mut VecDeque<Key> {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
            Priority::Low => &mut self.low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_priority_gets_its_share_and_no_call_is_wasted(
            budget in Shares::BUDGET_MIN..2000,
            (high, normal, low) in (0..3000_usize, 0..3000_usize, 0..3000_usize),
        ) {
            let given = Shares::of(budget, Shares { high, normal, low });
            prop_assert_eq!(given.high + given.normal + given.low, budget.min(high + normal + low));
            prop_assert!(given.high >= high.min(budget / 2));
            prop_assert!(given.normal >= normal.min(budget / 4));
            prop_assert!(given.low >= low.min(budget / 8));
        }
    }

    #[test]
    fn a_higher_priority_compares_as_greater() {
        assert!(Priority::Low < Priority::Normal && Priority::Normal < Priority::High);
    }

    #[test]
    fn higher_priorities_take_what_the_lower_ones_leave() {
        let share = |high, normal, low| Shares::of(8, Shares { high, normal, low });
        assert_eq!(
            share(100, 0, 0),
            Shares {
                high: 8,
                normal: 0,
                low: 0
            }
        );
        assert_eq!(
            share(100, 100, 100),
            Shares {
                high: 5,
                normal: 2,
                low: 1
            }
        );
        assert_eq!(
            share(1, 100, 100),
            Shares {
                high: 1,
                normal: 6,
                low: 1
            }
        );
        assert_eq!(
            share(1, 1, 100),
            Shares {
                high: 1,
                normal: 1,
                low: 6
            }
        );
    }
}
