//! Timers: a periodic one that arms, moves and cancels others, one that is postponed all the time,
//! and one of the wall clock. No timer may be early, and none may be missing from the list.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use reactor::{Missed, Next, Registry, Then, TimerKey};

use super::{Cx, Daemon};
use crate::draw::Draw;

const TICK: Duration = Duration::from_millis(10);
const ARMED_MAX: usize = 200;
const DELAY_MAX_MS: usize = 500;
/// The delay of the timer that each tick postpones, unless it draws not to.
const QUIET: Duration = Duration::from_millis(40);
const WALL: Duration = Duration::from_secs(1);

pub(super) struct Timers {
    draw: Draw,
    started: Instant,
    ticks: u128,
    numbers: u64,
    armed: BTreeMap<u64, (TimerKey, Instant)>,
    fixed: Vec<TimerKey>,
    quiet_until: Instant,
}

impl Timers {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            draw: Draw::new(seed, u64::MAX),
            started: now,
            ticks: 0,
            numbers: 0,
            armed: BTreeMap::new(),
            fixed: Vec::new(),
            quiet_until: now,
        }
    }

    /// Returns how many timers of this file should be armed.
    pub(super) fn armed(&self) -> usize {
        self.armed.len() + self.fixed.len()
    }

    /// Returns how many timers of this file the loop lists.
    pub(super) fn listed(&self, registry: &Registry<Daemon>) -> usize {
        let ours = |timer: &reactor::TimerInfo| timer.origin.file() == file!();
        registry.timers().filter(ours).count()
    }
}

pub(super) fn register(cx: &mut Cx<'_>) -> io::Result<()> {
    cx.state.timers.started = cx.registry.now();
    let tick = cx.registry.every(TICK, Missed::Skip, |cx| {
        tick(cx).map_err(io::Error::from)?;
        Ok(Next::Keep)
    });
    cx.state.timers.quiet_until = cx.registry.now() + QUIET;
    let quiet = cx.registry.after(QUIET, |cx| {
        if cx.now() < cx.state.timers.quiet_until {
            cx.state.deviate("a postponed timer was early");
        }
        cx.state.timers.quiet_until = cx.now() + QUIET;
        Ok(Then::After(QUIET))
    });
    let wall = at_wall(cx)?;
    cx.state.timers.fixed = vec![tick, quiet, wall];
    Ok(())
}

fn at_wall(cx: &mut Cx<'_>) -> Result<TimerKey, reactor::Error> {
    let mut due: SystemTime = cx.registry.wall_now() + WALL;
    cx.registry.at_wall(due, move |cx| {
        if cx.registry.wall_now() < due {
            cx.state.deviate("a timer of the wall clock was early");
        }
        due = cx.registry.wall_now() + WALL;
        Ok(Then::AtWall(due))
    })
}

fn tick(cx: &mut Cx<'_>) -> Result<(), reactor::Error> {
    let timers = &mut cx.state.timers;
    timers.ticks += 1;
    let elapsed = cx.registry.now().duration_since(timers.started);
    if timers.ticks > elapsed.as_nanos() / TICK.as_nanos() {
        cx.state.deviate("a periodic timer was early");
        return Ok(());
    }
    let (arms, cancels, moves) = (
        timers.draw.below(4),
        timers.draw.below(2),
        timers.draw.below(3),
    );
    if !timers.draw.once_in(10) {
        timers.quiet_until = cx.registry.now() + QUIET;
        cx.registry.reset(timers.fixed[1], QUIET)?;
    }
    for _ in 0..cancels {
        if let Some((_, (timer, _))) = cx.state.timers.armed.pop_first() {
            cx.registry.cancel(timer)?;
        }
    }
    for _ in 0..moves {
        let delay = cx.state.timers.draw.ms(DELAY_MAX_MS);
        if let Some(mut last) = cx.state.timers.armed.last_entry() {
            last.get_mut().1 = cx.registry.now() + delay;
            let timer = last.get().0;
            cx.registry.reset(timer, delay)?;
        }
    }
    for _ in 0..arms {
        if cx.state.timers.armed.len() < ARMED_MAX {
            arm(cx);
        }
    }
    Ok(())
}

fn arm(cx: &mut Cx<'_>) {
    let timers = &mut cx.state.timers;
    timers.numbers += 1;
    let (number, delay) = (timers.numbers, timers.draw.ms(DELAY_MAX_MS));
    let due = cx.registry.now() + delay;
    let timer = cx.registry.after(delay, move |cx| {
        match cx.state.timers.armed.remove(&number) {
            Some((_, due)) if cx.now() >= due => {}
            Some(_) => cx.state.deviate("a timer was early"),
            None => cx.state.deviate("a cancelled timer was called"),
        }
        Ok(Then::Done)
    });
    cx.state.timers.armed.insert(number, (timer, due));
}

pub(super) fn end(cx: &mut Cx<'_>) {
    let timers = &mut cx.state.timers;
    let armed = std::mem::take(&mut timers.armed)
        .into_values()
        .map(|(timer, _)| timer);
    let all: Vec<_> = armed.chain(std::mem::take(&mut timers.fixed)).collect();
    for timer in all {
        if let Err(error) = cx.registry.cancel(timer) {
            cx.state.deviate(format!("a timer at the end: {error}"));
        }
    }
}
