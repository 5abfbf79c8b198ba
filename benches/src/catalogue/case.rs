//! A case: one table of a workload, what is told of it, and by whom and where it is run.

use crate::contestant::{Contestant, Origin};

/// One table: a workload of one size.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) title: &'static str,
    /// The workload and its options, as every program takes them.
    pub(crate) arguments: &'static [&'static str],
    /// Options that leave it little to do, where it is only to show that it works.
    pub(crate) small: &'static [&'static str],
    /// What is told of it; the first is what contestants are compared by.
    pub(crate) figures: &'static [Figure],
    pub(crate) cores: Cores,
    /// What one operation is counted by.
    pub(crate) counted: Option<Counted>,
    /// The first is what the others are held against.
    pub(crate) contestants: Vec<Contestant>,
}

impl Case {
    /// How many rounds it runs if so many are wished for: a cold build takes seconds, and varies
    /// little; a server is loaded in slices, which are short.
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
    /// Its name in the line of JSON.
    pub(crate) name: &'static str,
    /// What it is, with its unit.
    pub(crate) title: &'static str,
    pub(crate) better: Better,
    /// Whether the table has its ratio to that of the first contestant, as it always has of the
    /// first figure.
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

/// Where a program may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    /// On one core.
    One,
    /// On all of them: it has several threads.
    All,
    /// The program is a server, on one core; a client loads it from another.
    Server(Load),
}

/// What a client does to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    /// Bytes of a message.
    pub(crate) message: u32,
    /// So many slices stand for a round.
    pub(crate) slices: u32,
    /// Whether cores sleep that have nothing to do.
    pub(crate) sleep: bool,
}

/// Two run lengths, whose difference is free of what start and end cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// The option that says how many operations there are, of the client where the program is a
    /// server.
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

/// The arguments with another value of an option.
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
