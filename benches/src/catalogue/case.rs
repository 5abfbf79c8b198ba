//! A case: one table of a workload, with its arguments, its figures and its contestants.

use workloads::tls::Exchange;

use crate::contestant::{Contestant, Origin};

/// One table: a workload of one size.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) title: &'static str,
    /// The workload and its options, as passed to every program.
    pub(crate) arguments: &'static [&'static str],
    /// Options that reduce the work, for runs that only check that a program works.
    pub(crate) small: &'static [&'static str],
    /// The figures of the table. Contestants are compared by the first one.
    pub(crate) figures: &'static [Figure],
    pub(crate) cores: Cores,
    /// The two run lengths from which the cost of one operation is counted.
    pub(crate) counted: Option<Counted>,
    /// The contestants. The first one is the base of the ratios.
    pub(crate) contestants: Vec<Contestant>,
}

impl Case {
    /// Returns the number of rounds if `wished` rounds are requested. A cold build has at most
    /// [`COLD_BUILDS_MAX`] rounds, since it takes seconds and varies little. A server has a round
    /// for each slice, since slices are short.
    pub(crate) fn rounds(&self, wished: u32) -> u32 {
        let is_long = self
            .contestants
            .iter()
            .any(|contestant| matches!(contestant.origin, Origin::ColdBuild(_)));
        match self.cores {
            Cores::Server(load) => wished.saturating_mul(load.slices),
            _ if is_long => wished.min(COLD_BUILDS_MAX),
            _ => wished,
        }
    }
}

const COLD_BUILDS_MAX: u32 = 3;

/// A number that a program prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Its key in the line of JSON.
    pub(crate) name: &'static str,
    /// The head of its column, with the unit.
    pub(crate) title: &'static str,
    pub(crate) better: Better,
    /// Whether the table shows the ratio of this figure to that of the first contestant. The ratio
    /// of the first figure is always shown.
    pub(crate) compared: bool,
}

impl Figure {
    pub(super) const fn compared(self) -> Self {
        Self {
            compared: true,
            ..self
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

impl Better {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Less => "less",
            Self::More => "more",
        }
    }
}

/// The cores that a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// One core.
    One,
    /// All cores, since the program has several threads.
    All,
    /// One core for a server, and another one for the client that loads it.
    Server(Load),
}

/// The load that a client puts on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    /// The length of a message in bytes.
    pub(crate) message: u32,
    /// The number of slices in each requested round.
    pub(crate) slices: u32,
    /// Whether idle cores may sleep.
    pub(crate) sleep: bool,
    /// The exchange over TLS, or none if the messages are not encrypted.
    pub(crate) tls: Option<Exchange>,
    /// Whether the connections are opened anew in bursts, while the messages of another one are
    /// measured.
    pub(crate) bursts: bool,
}

/// Two run lengths. The difference of their counts leaves out the costs of start and end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// The option that sets the number of operations. If the program is a server, it is an option
    /// of the client.
    pub(crate) option: &'static str,
    pub(crate) short: u32,
    pub(crate) long: u32,
}

pub(super) const fn less(name: &'static str, title: &'static str) -> Figure {
    Figure {
        name,
        title,
        better: Better::Less,
        compared: false,
    }
}

pub(super) const fn more(name: &'static str, title: &'static str) -> Figure {
    Figure {
        name,
        title,
        better: Better::More,
        compared: false,
    }
}

/// Returns the arguments with `option` set to `value`.
pub(crate) fn with_option<'a>(
    arguments: &[&'a str],
    option: &'a str,
    value: &'a str,
) -> Vec<&'a str> {
    let mut arguments = arguments.to_vec();
    match arguments.iter().position(|&argument| argument == option) {
        Some(place) => arguments[place + 1] = value,
        None => arguments.extend([option, value]),
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_takes_the_place_of_the_same_option() {
        assert_eq!(
            with_option(&["chain"], "--events", "9"),
            ["chain", "--events", "9"]
        );
        let arguments = ["registration", "--sources", "1000", "--form", "bare"];
        let replaced = ["registration", "--sources", "9", "--form", "bare"];
        assert_eq!(with_option(&arguments, "--sources", "9"), replaced);
    }
}
