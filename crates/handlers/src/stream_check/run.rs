//! One run of a scenario: two connections on one loop, on a manual clock, and the wire between
//! them.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use reactor::{ManualClock, Reactor};

use super::fault::{Result, StreamRule, broken};
use super::observed::{Notes, Observed};
use super::party::{Logs, Party};
use super::setup::{Limits, Setup};
use super::watchdog::Watchdog;
use super::wire::{Break, Wire};
use super::{SIDES, name, other};
use crate::sockets::pair;
use crate::{CloseReason, Connection, ConnectionKey, ConnectionOptions, Stream};

/// A scenario takes far fewer turns.
const TURNS_MAX: usize = 50_000;

/// The wait of a run in which nothing happens.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// The number of turns in a row without a call or a byte.
    turns: usize,
    /// The time that each of them may sleep.
    turn: Duration,
}

impl Patience {
    /// Returns the wait for bytes that are on their way.
    fn new(setup: &Setup) -> Self {
        let is_reset = setup
            .break_after
            .is_some_and(|broken| broken.kind == Break::Reset);
        let (turns, millis) = match (pair::is_simulated(), is_reset) {
            // Longer than any packet takes.
            (true, _) => (10, 1000),
            (false, true) => (5000, 1),
            (false, false) => (0, 0),
        };
        Self {
            turns,
            turn: Duration::from_millis(millis),
        }
    }
}

/// The number of turns in which a run at rest is watched, and the time of each. Together they are
/// shorter than any timeout. Several rests in a row take fewer turns than a simulation accepts
/// without an event.
const TURNS_AT_REST: usize = 50;
const TIME_AT_REST: Duration = Duration::from_millis(100);

/// The parts of one side that is not open yet.
pub(super) struct Opening<'a> {
    reactor: &'a mut Reactor<Logs>,
    fd: OwnedFd,
    notes: Rc<Notes>,
    options: &'a ConnectionOptions,
    party: Party,
}

impl Opening<'_> {
    pub(super) fn open<T: Stream>(
        self,
        make: impl FnOnce(OwnedFd) -> T,
    ) -> Result<ConnectionKey<Logs>> {
        let stream = Observed {
            inner: make(self.fd),
            notes: self.notes,
        };
        let opened = Connection::open(self.reactor, stream, self.options, self.party);
        opened.map_err(|error| error.error.into())
    }
}

/// Opens one side. Everything else does not depend on the types of the streams.
pub(super) type Open<'a> = &'a mut dyn FnMut(Opening<'_>) -> Result<ConnectionKey<Logs>>;

pub(super) struct Run<'a> {
    reactor: Reactor<Logs>,
    clock: ManualClock,
    pub(super) logs: Logs,
    pub(super) wire: Wire,
    keys: [ConnectionKey<Logs>; 2],
    pub(super) notes: [Rc<Notes>; 2],
    watchdog: &'a Watchdog,
    patience: Patience,
}

impl<'a> Run<'a> {
    pub(super) fn open(
        setup: &Setup,
        watchdog: &'a Watchdog,
        open: &mut [Open<'_>; 2],
    ) -> Result<Self> {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(clock.clone()).build()?;
        let notes = [Rc::default(), Rc::default()];
        let (wire, fds) = Wire::new(setup.pace, setup.break_after, notes.clone())?;
        watchdog.guard(wire.sockets());
        let options = setup.limits.map(Limits::options);
        let mut keys = Vec::new();
        for ((side, fd), open) in SIDES.into_iter().zip(fds).zip(open) {
            let opening = Opening {
                reactor: &mut reactor,
                fd,
                notes: Rc::clone(&notes[side]),
                options: &options[side],
                party: Party {
                    side,
                    plan: setup.plans[side],
                },
            };
            keys.push(open(opening)?);
        }
        Ok(Self {
            reactor,
            clock,
            logs: Logs::default(),
            wire,
            keys: [keys[0], keys[1]],
            notes,
            watchdog,
            patience: Patience::new(setup),
        })
    }

    /// Takes a turn. Returns the number of callbacks.
    fn turn(&mut self, timeout: Duration) -> Result<usize> {
        let (reactor, logs) = (&mut self.reactor, &mut self.logs);
        let turned = self.watchdog.watch(|| reactor.turn(logs, Some(timeout)));
        self.after_calls(turned)
    }

    /// Ends a call of the loop. Fails if it has blocked, or if it has shown a fault.
    fn after_calls<R>(&self, called: Option<std::result::Result<R, reactor::Error>>) -> Result<R> {
        let Some(called) = called else {
            return broken(StreamRule::Block, "a call has lasted for 3 seconds");
        };
        for side in SIDES {
            let noted = self.notes[side].broken.borrow();
            if let Some((rule, found)) = noted.as_ref().or(self.logs[side].broken.as_ref()) {
                return broken(*rule, format!("{found} ({})", name(side)));
            }
        }
        Ok(called?)
    }

    /// Moves bytes and takes turns until nothing happens any more.
    pub(super) fn settle(&mut self) -> Result {
        let mut quiet_turns = 0;
        for _ in 0..TURNS_MAX {
            let has_moved = self.wire.pump()?;
            let mut is_quiet = self.turn(Duration::ZERO)? == 0 && !has_moved;
            if is_quiet {
                if quiet_turns == self.patience.turns || self.are_closed() {
                    return Ok(());
                }
                is_quiet = self.turn(self.patience.turn)? == 0;
            }
            quiet_turns = if is_quiet { quiet_turns + 1 } else { 0 };
        }
        broken(StreamRule::Rest, "bytes move without an end")
    }

    fn are_closed(&self) -> bool {
        self.logs.iter().all(|log| !log.closes.is_empty())
    }

    /// Lets the handshake pass, and then no more bytes of a side.
    pub(super) fn stall(&mut self, side: usize) -> Result {
        self.rest()?;
        self.wire.limit(side, Some(self.wire.passed()[side]));
        Ok(())
    }

    /// Settles, and then expects that nothing is called, whatever time passes.
    pub(super) fn rest(&mut self) -> Result {
        self.settle()?;
        let before = self.reactor.metrics().calls;
        for _ in 0..TURNS_AT_REST {
            self.clock.advance(TIME_AT_REST);
            self.turn(Duration::ZERO)?;
        }
        let calls = self.reactor.metrics().calls - before;
        if calls > 0 {
            let found = format!("{calls} calls in {TURNS_AT_REST} turns without an event");
            return broken(StreamRule::Rest, found);
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, time: Duration) -> Result {
        let (reactor, logs) = (&mut self.reactor, &mut self.logs);
        let turned = self.watchdog.watch(|| reactor.advance(logs, time));
        self.after_calls(turned).map(drop)
    }

    /// Accesses the connection of a side, if it has not ended.
    pub(super) fn with<R>(
        &mut self,
        side: usize,
        access: impl FnOnce(&mut Connection<'_, Logs>) -> R,
    ) -> Result<Option<R>> {
        let key = self.keys[side];
        let (reactor, logs) = (&mut self.reactor, &mut self.logs);
        let called = self.watchdog.watch(|| {
            reactor.enter(logs, |cx| {
                Ok(key.with(cx, |connection, _cx| access(connection)).ok())
            })
        });
        self.after_calls(called)
    }

    /// Expects that everything has arrived, and that both connections have ended as intended.
    pub(super) fn expect_complete(&mut self) -> Result {
        for side in SIDES {
            self.expect_received(side)?;
        }
        for side in SIDES {
            match self.logs[side].closes.first() {
                Some(CloseReason::Finished) => {}
                _ => return self.incomplete(side),
            }
        }
        Ok(())
    }

    /// Expects that everything has arrived, and then ends both sides.
    pub(super) fn end(&mut self) -> Result {
        self.rest()?;
        for side in SIDES {
            if !self.has_received(side) {
                return self.incomplete(side);
            }
        }
        for side in SIDES {
            self.with(side, |connection| connection.shutdown())?;
        }
        self.settle()?;
        self.expect_complete()
    }

    /// Expects that all bytes for a side, and the end after them, have arrived.
    pub(super) fn expect_received(&mut self, side: usize) -> Result {
        if self.is_received(side) {
            return Ok(());
        }
        self.incomplete(side)
    }

    /// Returns `true` if all bytes for a side, and the end after them, have arrived.
    pub(super) fn is_received(&self, side: usize) -> bool {
        self.has_received(side) && self.logs[side].ends == 1
    }

    /// Returns `true` if all bytes for a side have arrived.
    pub(super) fn has_received(&self, side: usize) -> bool {
        self.logs[side].received == self.logs[other(side)].written
    }

    /// Fails because a side is not complete, and looks for the reason: claims that this side has
    /// input, and then that the other side has output, and sees if that makes a difference.
    pub(super) fn incomplete(&mut self, side: usize) -> Result {
        let found = self.progress(side);
        self.notes[side].claims_input.set(true);
        self.expect_no_use(side, side, StreamRule::BufferedInput, &found)?;
        self.notes[other(side)].claims_output.set(true);
        self.expect_no_use(side, other(side), StreamRule::BufferedOutput, &found)?;
        broken(StreamRule::Delivery, found)
    }

    /// Expects that a claim for `holder` does not help `side`, which is as far as `found` says.
    fn expect_no_use(
        &mut self,
        side: usize,
        holder: usize,
        rule: StreamRule,
        found: &str,
    ) -> Result {
        let _ = self.with(holder, |_| ())?; // looks at the claim
        self.settle()?;
        if self.progress(side) == found {
            return Ok(());
        }
        broken(rule, format!("{found}, and {} held bytes", name(holder)))
    }

    /// Describes how far a side is.
    fn progress(&self, side: usize) -> String {
        let (log, written) = (&self.logs[side], self.logs[other(side)].written);
        let end = if log.ends > 0 { "the end" } else { "no end" };
        let state = match log.closes.first() {
            Some(reason) => reason.to_string(),
            None if log.is_open => "open".to_owned(),
            None => "in its handshake".to_owned(),
        };
        format!(
            "{} got {} of {written} bytes and {end}, and is {state}",
            name(side),
            log.received
        )
    }

    /// Expects that both connections have ended, and that none looks complete without being it.
    pub(super) fn expect_cut(&self, looks_whole: impl Fn(&Self, usize) -> bool) -> Result {
        for side in SIDES {
            let log = &self.logs[side];
            let Some(reason) = log.closes.first() else {
                return broken(StreamRule::Close, self.progress(side));
            };
            let is_complete = log.ends > 0 || matches!(reason, CloseReason::Finished);
            if is_complete && !looks_whole(self, side) {
                return broken(StreamRule::Cut, self.progress(side));
            }
        }
        Ok(())
    }
}
