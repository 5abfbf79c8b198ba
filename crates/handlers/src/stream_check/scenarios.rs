//! The scenarios of a check.

use std::time::Duration;

use super::fault::{Result, StreamFault, StreamRule, broken};
use super::party::{Ends, bytes_of};
use super::run::{Open, Run};
use super::setup::{Limits, Setup};
use super::watchdog::Watchdog;
use super::wire::{Break, BreakAfter, Pace};
use super::{SIDES, name, other};
use crate::{CloseReason, Timeout};

/// More than the sockets of the wire hold.
const MUCH: usize = 600_000;

/// More than a turn reads with small limits.
const SOME: usize = 5000;

/// The most output that a stream may hold.
const HELD_MAX: usize = 512 * 1024;

/// The bytes of a piece with which a socket is filled, and the most pieces.
const PIECE: usize = 4096;
const PIECES_MAX: usize = 1000;

/// The bytes of a side in a conversation that is broken.
const CONVERSATION: [usize; 2] = [20, 20];

/// After how many bytes a conversation is broken: the last ones, and others before them.
const LAST_BREAKS: u64 = 64;
const OTHER_BREAKS: u64 = 64;

/// The default of [`ConnectionOptions::handshake_timeout`](crate::ConnectionOptions).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const BREAKS: [Break; 3] = [Break::Cut, Break::Reset, Break::HalfClose];

const ENDS: [[Ends; 2]; 3] = [
    [Ends::First, Ends::Second],
    [Ends::Second, Ends::First],
    [Ends::First, Ends::First],
];

/// Neither side ends by itself.
const STAY: [Ends; 2] = [Ends::Second, Ends::Second];

pub(super) struct Check<'a> {
    pub(super) has_end: bool,
    pub(super) seed: u64,
    pub(super) watchdog: Watchdog,
    pub(super) open: [Open<'a>; 2],
}

impl Check<'_> {
    pub(super) fn run(&mut self) -> std::result::Result<(), StreamFault> {
        for passed in [0, 1] {
            self.stalled_handshake(passed)?;
        }
        self.exchanges()?;
        for side in SIDES {
            for pauses in [false, true] {
                self.small_reads(side, pauses)?;
            }
            self.slow_reader(side)?;
            self.full_socket(side)?;
            self.close_by_handler(side)?;
        }
        self.breaks()
    }

    /// Runs a scenario.
    fn scenario<R>(
        &mut self,
        setup: &Setup,
        act: impl FnOnce(&mut Run<'_>) -> Result<R>,
    ) -> std::result::Result<R, StreamFault> {
        let run = Run::open(setup, &self.watchdog, &mut self.open);
        run.and_then(|mut run| act(&mut run))
            .map_err(|stop| stop.in_scenario(setup))
    }

    /// Both sides send everything and end.
    fn exchanges(&mut self) -> std::result::Result<(), StreamFault> {
        let paces = [Pace::Whole, Pace::Single, Pace::Drawn(self.seed)];
        let sizes = [[0, 0], [1, 0], [0, 1], [1, 1], [1000, 3000]];
        for ends in ENDS {
            for pace in paces {
                for bytes in sizes {
                    self.exchange(&Setup::new(pace, bytes).ends(ends))?;
                }
            }
            for (limits, bytes) in [(Limits::Small, [1000, 3000]), (Limits::Least, [50, 100])] {
                let setup = Setup {
                    limits: [limits; 2],
                    ..Setup::new(Pace::Drawn(self.seed), bytes)
                };
                self.exchange(&setup.ends(ends))?;
            }
        }
        for (pace, bytes) in [
            (Pace::Whole, [MUCH, 0]),
            (Pace::Whole, [0, MUCH]),
            (Pace::Drawn(self.seed), [MUCH, MUCH]),
        ] {
            self.exchange(&Setup::new(pace, bytes))?;
        }
        Ok(())
    }

    fn exchange(&mut self, setup: &Setup) -> std::result::Result<(), StreamFault> {
        self.scenario(setup, |run| {
            run.settle()?;
            run.expect_complete()
        })
    }

    /// A side reads less in a turn than has arrived, and perhaps pauses after each call. No end
    /// follows the bytes, so nothing but the stream says that there are more.
    fn small_reads(&mut self, side: usize, pauses: bool) -> std::result::Result<(), StreamFault> {
        let event = ["nothing follows", "it pauses after each call"];
        let mut setup = Setup::new(Pace::Whole, [SOME; 2])
            .ends(STAY)
            .event(event[usize::from(pauses)]);
        setup.limits[side] = Limits::Small;
        setup.plans[side].pauses = pauses;
        self.scenario(&setup, |run| {
            run.rest()?;
            let mut before = None;
            while before != Some(run.logs[side].received) {
                before = Some(run.logs[side].received);
                run.with(side, |connection| connection.resume_reading())?;
                run.settle()?;
            }
            run.end()
        })
    }

    /// The bytes of `side` stall, those of the other side do not.
    fn slow_reader(&mut self, side: usize) -> std::result::Result<(), StreamFault> {
        self.scenario(&stalls(side), |run| {
            run.stall(side)?;
            write(run, side, 2 * MUCH)?;
            write(run, other(side), SOME)?;
            run.rest()?;
            let held = run.notes[side].most_held.get();
            if held > HELD_MAX {
                let found = format!("{} holds {held} bytes", name(side));
                return broken(StreamRule::BoundedOutput, found);
            }
            let may_wait = run.notes[side].writes_first.get();
            if !run.has_received(side) && !may_wait {
                return run.incomplete(side);
            }
            run.wire.limit(side, None);
            run.end()
        })
    }

    /// The bytes of `side` stall until its socket is full, and until just before that. So the last
    /// bytes are held by the stream, and no write follows.
    fn full_socket(&mut self, side: usize) -> std::result::Result<(), StreamFault> {
        let pieces = self.fill_socket(side, PIECES_MAX)?;
        self.fill_socket(side, pieces - 1).map(drop)
    }

    /// Writes pieces until one is queued, but at most `most`. Returns their number.
    fn fill_socket(&mut self, side: usize, most: usize) -> std::result::Result<usize, StreamFault> {
        self.scenario(&stalls(side), |run| {
            run.stall(side)?;
            let mut pieces = 0;
            while pieces < most {
                pieces += 1;
                write(run, side, PIECE)?;
                let queued = run.with(side, |connection| {
                    let _ = connection.flush(); // the queue says it all
                    connection.queued()
                })?;
                if queued != Some(0) {
                    break;
                }
            }
            run.rest()?;
            run.wire.limit(side, None);
            run.end().map(|()| pieces)
        })
    }

    /// A handler writes and closes its connection in one call. The bytes that the socket does not
    /// take at once are dropped, so the other side must not get a whole stream then.
    fn close_by_handler(&mut self, side: usize) -> std::result::Result<(), StreamFault> {
        let event = ["the stream is closed", "the peer is closed"];
        let setup = Setup::new(Pace::Whole, [0, 0])
            .ends(STAY)
            .event(event[side]);
        let may_look_whole = !self.has_end;
        self.scenario(&setup, |run| {
            run.rest()?;
            write(run, side, 1000)?;
            let dropped = run.with(side, |connection| {
                connection.close();
                connection.queued()
            })?;
            run.settle()?;
            if dropped == Some(0) {
                run.expect_received(other(side))?;
            }
            run.expect_cut(|_, end| may_look_whole || dropped == Some(0) || end == side)
        })
    }

    /// The wire passes some bytes of each side, and no more.
    fn stalled_handshake(&mut self, passed: u64) -> std::result::Result<(), StreamFault> {
        let event = [
            "nothing arrives during the handshake",
            "one byte arrives during the handshake",
        ];
        let setup = Setup::new(Pace::Whole, [0, 0])
            .ends(STAY)
            .event(event[passed as usize]);
        self.scenario(&setup, |run| {
            for side in SIDES {
                run.wire.limit(side, Some(passed));
            }
            run.rest()?;
            let is_open = run.logs.each_ref().map(|log| log.is_open);
            run.advance(HANDSHAKE_TIMEOUT)?;
            run.settle()?;
            for side in SIDES {
                let reason = run.logs[side].closes.first();
                let is_right = matches!(reason, Some(CloseReason::TimedOut(Timeout::Handshake)));
                if !is_open[side] && !is_right {
                    let found = format!("{} ended by {reason:?}", name(side));
                    return broken(StreamRule::Handshake, found);
                }
            }
            Ok(())
        })
    }

    /// The wire breaks at each byte of a short conversation.
    fn breaks(&mut self) -> std::result::Result<(), StreamFault> {
        let whole = Setup::new(Pace::Whole, CONVERSATION);
        let lengths = self.scenario(&whole, |run| {
            run.settle()?;
            run.expect_complete()?;
            Ok(run.wire.passed())
        })?;
        for from in SIDES {
            for (place, bytes) in positions(lengths[from]).enumerate() {
                for (number, kind) in BREAKS.into_iter().enumerate() {
                    // Of a long conversation, each place is broken in one way.
                    let is_short = lengths[from] <= LAST_BREAKS + OTHER_BREAKS;
                    if is_short || place % BREAKS.len() == number {
                        self.broken(BreakAfter { kind, from, bytes })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn broken(&mut self, broken: BreakAfter) -> std::result::Result<(), StreamFault> {
        match self.broken_after_end(broken, [false; 2]) {
            Err(fault) if fault.rule() == Some(StreamRule::Cut) => {
                let is_whole = self.whole_before(broken)?;
                self.broken_after_end(broken, is_whole)
            }
            checked => checked,
        }
    }

    /// The wire breaks. The sides of `is_whole` have got a whole stream before.
    fn broken_after_end(
        &mut self,
        broken: BreakAfter,
        is_whole: [bool; 2],
    ) -> std::result::Result<(), StreamFault> {
        // The end of a socket is a reset, or it is the end of a stream that has no other one.
        let may_look_whole = !self.has_end && broken.kind != Break::Reset;
        self.scenario(&breaks(broken), |run| {
            run.settle()?;
            run.expect_cut(|run, side| {
                may_look_whole || is_whole[side] || run.wire.is_whole(other(side))
            })
        })
    }

    /// Returns which sides get a whole stream from the bytes before a break, without the break. The
    /// end of a stream can come before the last bytes of the wire: those of a stream below it.
    fn whole_before(&mut self, broken: BreakAfter) -> std::result::Result<[bool; 2], StreamFault> {
        let kind = Break::Stall;
        self.scenario(&breaks(BreakAfter { kind, ..broken }), |run| {
            run.settle()?;
            Ok(SIDES.map(|side| run.is_received(side)))
        })
    }
}

/// The wire breaks during a conversation.
fn breaks(broken: BreakAfter) -> Setup {
    Setup {
        break_after: Some(broken),
        ..Setup::new(Pace::Whole, CONVERSATION)
    }
}

/// The bytes of one side stop.
fn stalls(side: usize) -> Setup {
    let event = ["the stream stalls", "the peer stalls"];
    Setup::new(Pace::Whole, [0, 0])
        .ends(STAY)
        .event(event[side])
}

/// Writes bytes of a side in one call.
fn write(run: &mut Run<'_>, side: usize, count: usize) -> Result {
    let bytes = bytes_of(side, run.logs[side].written, count);
    run.logs[side].written += count;
    match run.with(side, |connection| connection.write(&bytes).map(drop))? {
        Some(Ok(())) => Ok(()),
        _ => run.incomplete(other(side)), // the connection has ended or failed
    }
}

/// Returns the numbers of bytes after which a conversation is broken.
fn positions(length: u64) -> impl Iterator<Item = u64> {
    let last = length.saturating_sub(LAST_BREAKS);
    let step = last.div_ceil(OTHER_BREAKS).max(1);
    (0..last).step_by(step as usize).chain(last..=length)
}
