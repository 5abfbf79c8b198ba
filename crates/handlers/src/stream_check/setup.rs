//! A scenario: what both sides do, and what the wire does to them.

use std::fmt;

use super::party::{Ends, Plan};
use super::wire::{BreakAfter, Pace};
use super::{SIDES, name};
use crate::ConnectionOptions;

/// The limits of both connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    Default,
    Small,
    Least,
}

impl Limits {
    pub(super) fn options(self) -> ConnectionOptions {
        let options = ConnectionOptions::new();
        match self {
            Self::Default => options,
            Self::Small => options.max_bytes_per_turn(777).watermarks(100, 5000),
            Self::Least => options.max_bytes_per_turn(1).watermarks(0, 1),
        }
    }

    fn fmt_of(self, side: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = match self {
            Self::Default => return Ok(()),
            Self::Small => "777 bytes per turn and watermarks of 100 and 5000",
            Self::Least => "1 byte per turn and watermarks of 0 and 1",
        };
        write!(f, ", {side} has {limits}")
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) pace: Pace,
    pub(super) limits: [Limits; 2],
    pub(super) plans: [Plan; 2],
    pub(super) break_after: Option<BreakAfter>,
    /// An event that no other field describes.
    pub(super) event: &'static str,
}

impl Setup {
    /// Two sides that write these numbers of bytes over a whole wire. The first one ends first.
    pub(super) fn new(pace: Pace, bytes: [usize; 2]) -> Self {
        let plan = |bytes, ends| Plan {
            bytes,
            ends,
            pauses: false,
        };
        Self {
            pace,
            limits: [Limits::Default; 2],
            plans: [plan(bytes[0], Ends::First), plan(bytes[1], Ends::Second)],
            break_after: None,
            event: "",
        }
    }

    pub(super) fn ends(mut self, ends: [Ends; 2]) -> Self {
        (self.plans[0].ends, self.plans[1].ends) = (ends[0], ends[1]);
        self
    }

    pub(super) const fn event(mut self, event: &'static str) -> Self {
        self.event = event;
        self
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [stream, peer] = self.plans.map(|plan| plan.bytes);
        write!(
            f,
            "{}, {stream} bytes of the stream, {peer} bytes of the peer",
            self.pace
        )?;
        for side in SIDES {
            self.limits[side].fmt_of(name(side), f)?;
        }
        f.write_str(match self.plans.map(|plan| plan.ends) {
            [Ends::First, Ends::First] => ", both end at once",
            [Ends::First, Ends::Second] => ", the stream ends first",
            [Ends::Second, Ends::First] => ", the peer ends first",
            [Ends::Second, Ends::Second] => ", no side ends by itself",
        })?;
        if let Some(broken) = &self.break_after {
            write!(f, ", {broken}")?;
        }
        if !self.event.is_empty() {
            write!(f, ", {}", self.event)?;
        }
        Ok(())
    }
}
