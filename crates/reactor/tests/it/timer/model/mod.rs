//! Timers and timeouts compared with a list that is searched from end to end, after any operations
//! from any place.
//!
//! The operations come between turns, before the timers of a turn, and in the callbacks of timers
//! and of sources. Each is applied to the registry and to the list. Each callback asks the list
//! whether its time has come, and everything that the registry reports is compared.

mod act;
mod list;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::panic::{Location, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use reactor::{Key, ManualClock, Missed, PanicPolicy, Reactor, TimerKey};
use support::Result;

use self::act::{add_driver, step};

/// Nanoseconds: delays, and times since the beginning.
pub(crate) type Nanos = u64;
pub(crate) const NEVER: Nanos = Nanos::MAX;
pub(crate) const MS: Nanos = 1_000_000;
/// A turn of this length counts for the timeouts that were set in it.
const LONG: Nanos = 50 * MS;
pub(crate) const SOURCES: usize = 3;

const fn duration(nanos: Nanos) -> Duration {
    if nanos == NEVER {
        Duration::MAX
    } else {
        Duration::from_nanos(nanos)
    }
}

/// An operation on timers or sources. A `usize` chooses a timer that exists or existed, or a
/// source.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Arms a timer. With `true`, it captures a value that may panic when it is dropped.
    Arm(How, bool),
    Reset(usize, Nanos),
    Cancel(usize),
    Slack(usize, Nanos),
    Background(usize, bool),
    Timeout(usize, Option<Nanos>),
    /// Adds a source, or removes it.
    Toggle(usize),
    SetWall(i64),
    /// Lets time pass in a callback, which may read the clock again.
    Stall(Nanos, bool),
}

/// The way in which a timer is armed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    After(Nanos),
    /// This long after now, or before.
    At(i64),
    AtWall(i64),
    Every(Nanos, Missed),
}

/// A step between turns.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Do(Op),
    Turn(Nanos),
    Advance(Nanos),
    Run,
}

/// The end of a callback.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Again(Nanos),
    AtWall(i64),
    Done,
    Fail(ErrorKind),
    Panic,
}

/// The payload of intended panics: no panic hook is called for them.
struct OnPurpose;

/// Panics when it is dropped, if it is live, and counts that.
struct Bomb {
    is_live: Rc<Cell<bool>>,
    went_off: Rc<Cell<u64>>,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.is_live.get() && !std::thread::panicking() {
            self.went_off.set(self.went_off.get() + 1);
            resume_unwind(Box::new(OnPurpose));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Id {
    Timer(TimerKey),
    TimeoutOf(usize),
}

#[derive(Clone, Copy, Debug)]
struct Slack {
    most: Nanos,
    deadline: Nanos,
}

/// A timer or a timeout in the list.
struct Listed {
    id: Id,
    /// [`NEVER`] for one that is not armed, also while it runs.
    deadline: Nanos,
    /// The sort key: the deadline, or the time of arming if the deadline had passed, and the number
    /// of the arming.
    rank: (Nanos, u64),
    /// It was armed with a past deadline, since timers ran last.
    waits_for_next: bool,
    /// It was due in a turn older than its deadline: the kernel is polled first.
    is_held: bool,
    slack: Option<Slack>,
    /// The time on the wall clock, with the number of the request.
    wall: Option<(i64, u64)>,
    is_background: bool,
    bomb: Rc<Cell<bool>>,
    /// The last tick.
    tick: Nanos,
    origin: Option<&'static Location<'static>>,
}

/// The state of the reactor: the list, and the operations of its callbacks.
struct World {
    clock: ManualClock,
    began: (Instant, SystemTime),
    /// The time of the turn, while there is one.
    turn: Option<Nanos>,
    listed: Vec<Listed>,
    armings: u64,
    /// Timers that are due by this time may run.
    limit: Nanos,
    /// The time before the wait: timeouts that are due later are reported next turn.
    kernel_asked: Nanos,
    /// The number of armings before the wait: timeouts that are armed later are reported next turn.
    armings_asked: u64,
    /// The lengths of long turns, and the numbers of the armings in them.
    pauses: Vec<(Nanos, RangeInclusive<u64>)>,
    armings_before: u64,
    /// The assumed distance of the wall clock from the monotonic one.
    wall_ahead: Option<i64>,
    is_wall_set: bool,
    asked: u64,
    issued: Vec<TimerKey>,
    sources: [Option<Key>; SOURCES],
    peers: Vec<UnixStream>,
    callbacks: VecDeque<(Vec<Op>, Outcome)>,
    running: Option<TimerKey>,
    counts: Counts,
    /// Within [`Reactor::advance`]: the time when the loop checked its timers last.
    advanced_from: Option<Nanos>,
    is_to_stop: bool,
    went_off: Rc<Cell<u64>>,
    /// `true` if the loop survives panics, including those of destructors.
    catches: bool,
}

#[derive(Default)]
struct Counts {
    turns: u64,
    /// The number of timer callbacks that ran.
    ran: u64,
    failures: u64,
    panics: u64,
    /// The number of deferred callbacks still to come.
    deferred: u64,
}

pub(crate) fn compare(
    steps: Vec<Step>,
    callbacks: Vec<(Vec<Op>, Outcome)>,
    policy: PanicPolicy,
) -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<World>::builder()
        .clock(clock.clone())
        .on_panic(policy)
        .build()?;
    let mut world = World {
        began: (clock.now(), clock.wall()),
        clock,
        turn: None,
        listed: Vec::new(),
        armings: 0,
        limit: 0,
        armings_asked: 0,
        kernel_asked: 0,
        pauses: Vec::new(),
        armings_before: 0,
        wall_ahead: None,
        is_wall_set: false,
        asked: 0,
        issued: Vec::new(),
        sources: [None; SOURCES],
        peers: vec![add_driver(&mut reactor)?],
        callbacks: callbacks.into(),
        running: None,
        counts: Counts::default(),
        advanced_from: None,
        is_to_stop: false,
        went_off: Rc::default(),
        catches: policy == PanicPolicy::RemoveHandler,
    };
    steps
        .into_iter()
        .for_each(|taken| step(&mut reactor, &mut world, taken));
    world.callbacks.clear(); // from here on no callback does anything
    for listed in &mut world.listed {
        listed.bomb.set(false);
        listed.is_background = true;
        if let Id::Timer(timer) = listed.id {
            reactor.set_timer_background(timer)?;
        }
    }
    step(&mut reactor, &mut world, Step::Turn(0));
    step(&mut reactor, &mut world, Step::Run); // returns
    let metrics = reactor.metrics();
    let panics = if world.catches {
        world.counts.panics + world.went_off.get()
    } else {
        0
    };
    assert_eq!(
        [metrics.timers, metrics.failures, metrics.panics],
        [world.counts.ran, world.counts.failures, panics]
    );
    Ok(())
}
