//! The spread of several rounds: the median, the range, and the uncertainty of the median.

use std::f64::consts::LN_2;

use serde_json::{Value, json};

/// The spread of a figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
    /// The ends of the interval in which the median of ever more rounds like these would lie, in 95
    /// of 100 cases. For fewer than six rounds it is the whole range.
    pub(crate) interval: (f64, f64),
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (*figures.first()?, *figures.last()?);
        // For an odd number of figures, both are the figure in the middle.
        let middle = [(figures.len() - 1) / 2, figures.len() / 2];
        let median = f64::midpoint(figures[middle[0]], figures[middle[1]]);
        let cut = cut(figures.len());
        Some(Self {
            least,
            median,
            most,
            interval: (figures[cut], figures[figures.len() - 1 - cut]),
        })
    }

    /// Returns the uncertainty of the median: the distance to the farther end of the interval.
    pub(crate) fn off_by(&self) -> f64 {
        let (from, to) = self.interval;
        (self.median - from).max(to - self.median)
    }

    pub(crate) fn json(self) -> Value {
        let (from, to) = self.interval;
        json!({ "least": self.least, "from": from, "median": self.median, "to": to, "most": self.most })
    }
}

/// Returns how many of `count` figures lie outside of the interval, at each of its ends.
///
/// Each figure is as likely above the true median as below it, however the figures are distributed.
/// So the number of figures below it has a binomial distribution, whose tails are cut off here.
fn cut(count: usize) -> usize {
    let (mut log, mut below) = (-LN_2 * count as f64, 0.0);
    for outside in 0..count {
        below += log.exp();
        if 2.0 * below > 1.0 - CONFIDENCE {
            return outside.saturating_sub(1);
        }
        log += ((count - outside) as f64 / (outside + 1) as f64).ln();
    }
    0
}

/// The usual confidence level.
const CONFIDENCE: f64 = 0.95;

#[cfg(test)]
mod tests {
    use workloads::{SEED, random};

    use super::*;

    /// An even number of figures has two in the middle.
    #[test]
    fn a_spread_ignores_order_and_its_median_averages_the_middle_two() {
        let spread =
            |figures: &[f64]| Spread::of(figures.to_vec()).map(|it| (it.least, it.median, it.most));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[5.0]), Some((5.0, 5.0, 5.0)));
        assert_eq!(spread(&[9.0, 1.0, 4.0]), Some((1.0, 4.0, 9.0)));
        assert_eq!(spread(&[9.0, 1.0, 4.0, 6.0]), Some((1.0, 5.0, 9.0)));
    }

    #[test]
    fn an_interval_has_the_ranks_that_the_tables_of_the_sign_test_have() {
        // For each count, the greatest k with P(X <= k) of at most 0.025, from the tables for a
        // two-sided test at 5 %. It is -1 if there is none.
        for (count, k) in [
            (5, -1),
            (6, 0),
            (8, 0),
            (9, 1),
            (12, 2),
            (15, 3),
            (20, 5),
            (25, 7),
            (40, 13),
            (50, 17),
        ] {
            assert_eq!(cut(count) as i32, k.max(0), "{count}");
        }
        assert_eq!((cut(0), cut(1)), (0, 0));
        // Here 2^-n is too small for a float. By the normal distribution, the interval ends 0.98
        // times the square root of the count away from the middle.
        assert!(cut(10_000).abs_diff(5000 - 98) <= 1, "{}", cut(10_000));
    }

    #[test]
    fn an_interval_holds_the_true_median_about_as_often_as_it_says() {
        let mut seed = SEED;
        let holds = (0..2000).filter(|_| {
            // Some figures are far off to one side, like those of rounds on a busy machine.
            let mut figure = || (random(&mut seed) >> 11) as f64 / (1u64 << 53) as f64;
            let figures = (0..40)
                .map(|_| figure())
                .map(|it| if it > 0.8 { it * 10.0 } else { it })
                .collect();
            let (from, to) = Spread::of(figures).unwrap().interval;
            from <= 0.5 && 0.5 <= to
        });
        let holds = holds.count();
        assert!(
            (1900..1960).contains(&holds),
            "{holds} of 2000, of which 1923 are expected"
        );
    }

    #[test]
    fn a_median_is_off_by_as_much_as_the_farther_end_is_away() {
        let spread = Spread {
            least: 0.1,
            median: 1.0,
            most: 9.0,
            interval: (0.75, 1.125),
        };
        assert_eq!(spread.off_by(), 0.25);
    }
}
