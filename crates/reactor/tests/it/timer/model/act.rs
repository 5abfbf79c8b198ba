//! The operations: on the registry and on the list, between turns and within callbacks.

use std::cell::Cell;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Context, Interest, Missed, Next, Reactor, Registry, Then};
use support::Result;

use super::{
    Bomb, How, Id, Listed, NEVER, Nanos, OnPurpose, Op, Outcome, SOURCES, Slack, Step, World,
    duration,
};

impl Outcome {
    fn leave<T>(self, again: T, done: T) -> io::Result<T> {
        match self {
            Self::Again(_) | Self::AtWall(_) => Ok(again),
            Self::Done => Ok(done),
            Self::Fail(kind) => Err(kind.into()),
            Self::Panic => resume_unwind(Box::new(OnPurpose)),
        }
    }
}

/// The first part of every callback of a timer or a timeout.
fn enter(cx: &mut Context<'_, World>, id: Id) -> Outcome {
    let due = cx.state.next_due();
    assert_eq!(due, Some(id));
    assert_eq!(
        Some((cx.now() - cx.state.began.0).as_nanos() as Nanos),
        cx.state.turn
    );
    cx.state.running = cx.timer();
    cx.state.compare(cx.registry);
    let (ops, outcome) = cx
        .state
        .callbacks
        .pop_front()
        .unwrap_or((Vec::new(), Outcome::Done));
    ops.into_iter()
        .for_each(|op| apply(op, cx.state, cx.registry));
    cx.state.running = None;
    outcome
}

fn run_timer(cx: &mut Context<'_, World>) -> io::Result<Then> {
    let id = Id::Timer(cx.timer().unwrap());
    cx.state.counts.ran += 1;
    let outcome = enter(cx, id);
    match outcome {
        Outcome::Again(delay) => {
            cx.state.arm_after(id, delay);
            return Ok(Then::After(duration(delay)));
        }
        Outcome::AtWall(ahead) => {
            let wall = cx.state.wall() + ahead;
            cx.state.arm_at_wall(id, wall);
            return Ok(Then::AtWall(cx.state.wall_time(wall)));
        }
        Outcome::Fail(ErrorKind::Interrupted) => cx.state.arm_after(id, 0),
        _ => cx.state.end(id, outcome),
    }
    outcome.leave(Then::Done, Then::Done)
}

fn run_tick(cx: &mut Context<'_, World>, period: Nanos, missed: Missed) -> io::Result<Next> {
    let id = Id::Timer(cx.timer().unwrap());
    cx.state.counts.ran += 1;
    let outcome = enter(cx, id);
    match outcome {
        Outcome::Again(_) | Outcome::AtWall(_) | Outcome::Fail(ErrorKind::WouldBlock) => {
            cx.state.arm_tick(id, period, missed);
        }
        Outcome::Fail(ErrorKind::Interrupted) => cx.state.arm_after(id, 0),
        _ => cx.state.end(id, outcome),
    }
    outcome.leave(Next::Keep, Next::Remove)
}

fn run_source(cx: &mut Context<'_, World>, place: usize) -> io::Result<Next> {
    assert!(cx.readiness().is_timeout() && cx.timer().is_none());
    let outcome = match enter(cx, Id::TimeoutOf(place)) {
        Outcome::Fail(ErrorKind::Interrupted | ErrorKind::WouldBlock) => Outcome::Again(0),
        outcome => outcome,
    };
    if !matches!(outcome, Outcome::Again(_) | Outcome::AtWall(_)) {
        // It may have removed itself, and another timer may have its slot.
        let own = cx.key();
        let is_there = cx.state.sources[place].take_if(|key| *key == own).is_some();
        cx.state.end(
            Id::TimeoutOf(if is_there { place } else { SOURCES }),
            outcome,
        );
    }
    outcome.leave(Next::Keep, Next::Remove)
}

fn holding(bomb: Bomb) -> impl FnMut(&mut Context<'_, World>) -> io::Result<Then> {
    move |cx| {
        let _captured = &bomb;
        run_timer(cx)
    }
}

fn arm(how: How, is_bomb: bool, world: &mut World, registry: &mut Registry<World>) {
    let is_live = Rc::new(Cell::new(is_bomb));
    let (now, began) = (world.now(), world.began.0);
    let bomb = Bomb {
        is_live: Rc::clone(&is_live),
        went_off: Rc::clone(&world.went_off),
    };
    let (timer, deadline) = match how {
        How::After(delay) => (
            registry.after(duration(delay), holding(bomb)),
            now.saturating_add(delay),
        ),
        How::At(delay) => {
            let deadline = now.saturating_add_signed(delay);
            (
                registry.at(began + duration(deadline), holding(bomb)),
                deadline,
            )
        }
        How::AtWall(ahead) => {
            let time = world.wall_time(world.wall() + ahead);
            (registry.at_wall(time, holding(bomb)).unwrap(), NEVER)
        }
        How::Every(period, missed) => {
            let callback = move |cx: &mut Context<'_, World>| {
                let _captured = &bomb;
                run_tick(cx, period, missed)
            };
            (
                registry.every(duration(period), missed, callback),
                now.saturating_add(period),
            )
        }
    };
    let origin = registry
        .timers()
        .find(|listed| listed.key == timer)
        .map(|listed| listed.origin);
    let at = world.list(Id::Timer(timer), is_live);
    (world.listed[at].origin, world.listed[at].tick) = (origin, deadline);
    world.issued.push(timer);
    match how {
        How::AtWall(ahead) => world.arm_at_wall(Id::Timer(timer), world.wall() + ahead),
        _ => world.arm(at, deadline),
    }
}

/// Applies an operation to the registry and to the list.
fn apply(op: Op, world: &mut World, registry: &mut Registry<World>) {
    match op {
        Op::Arm(how, is_bomb) => arm(how, is_bomb, world, registry),
        Op::Reset(which, delay) => {
            let Some(timer) = world.choose(which) else {
                return;
            };
            assert_eq!(
                registry.reset(timer, duration(delay)).is_ok(),
                world.find(Id::Timer(timer)).is_some()
            );
            world.arm_after(Id::Timer(timer), delay);
        }
        Op::Cancel(which) => {
            let Some(timer) = world.choose(which) else {
                return;
            };
            let listed = world.unlist(Id::Timer(timer));
            let goes_off = !world.catches
                && world.running != Some(timer)
                && listed.as_ref().is_some_and(|listed| listed.bomb.get());
            match catch_unwind(AssertUnwindSafe(|| registry.cancel(timer))) {
                Ok(cancelled) => {
                    assert_eq!((cancelled.is_ok(), goes_off), (listed.is_some(), false))
                }
                Err(payload) => assert!(goes_off && payload.is::<OnPurpose>()),
            }
        }
        Op::Slack(which, most) => {
            let Some(timer) = world.choose(which) else {
                return;
            };
            let at = world.find(Id::Timer(timer));
            assert_eq!(
                registry.set_timer_slack(timer, duration(most)).is_ok(),
                at.is_some()
            );
            let Some(at) = at else { return };
            let listed = &mut world.listed[at];
            let slack = Slack {
                most,
                deadline: listed.slack.map_or(listed.deadline, |slack| slack.deadline),
            };
            listed.slack = (most > 0).then_some(slack);
            if listed.deadline != NEVER && slack.agree() != listed.deadline {
                world.put(at, slack.agree());
            }
        }
        Op::Background(which, is_background) => {
            let Some(timer) = world.choose(which) else {
                return;
            };
            let at = world.find(Id::Timer(timer));
            let set = if is_background {
                Registry::set_timer_background
            } else {
                Registry::set_timer_foreground
            };
            assert_eq!(set(registry, timer).is_ok(), at.is_some());
            at.into_iter()
                .for_each(|at| world.listed[at].is_background = is_background);
        }
        Op::Timeout(place, timeout) => {
            let Some(key) = world.sources[place] else {
                return;
            };
            registry.set_timeout(key, timeout.map(duration)).unwrap();
            match timeout {
                None => drop(world.unlist(Id::TimeoutOf(place))),
                Some(delay) => {
                    world
                        .find(Id::TimeoutOf(place))
                        .unwrap_or_else(|| world.list(Id::TimeoutOf(place), Rc::default()));
                    world.arm_after(Id::TimeoutOf(place), delay);
                }
            }
        }
        Op::Toggle(place) => match world.sources[place].take() {
            Some(key) => {
                registry.remove(key).unwrap();
                world.unlist(Id::TimeoutOf(place));
            }
            None => {
                let (near, far) = UnixStream::pair().unwrap();
                let key = registry
                    .add(near, Interest::READABLE, move |_, cx| run_source(cx, place))
                    .unwrap();
                registry.set_background(key).unwrap();
                world.sources[place] = Some(key);
                world.peers.push(far);
            }
        },
        Op::SetWall(ahead) => {
            world.clock.set_wall(world.wall_time(world.wall() + ahead));
            world.is_wall_set = true;
        }
        Op::Stall(time, looks_again) => {
            world.clock.advance(duration(time));
            if looks_again {
                registry.refresh_now();
                world.end_part();
                world.turn = world.turn.map(|_| world.live());
            }
        }
    }
    world.compare(registry);
}

/// Takes a step of the reactor, which may unwind on purpose.
pub(super) fn step(reactor: &mut Reactor<World>, world: &mut World, step: Step) {
    let turns = world.counts.turns;
    let keeps_alive = |listed: &Listed| matches!(listed.id, Id::Timer(_)) && !listed.is_background;
    let is_alive = world.counts.deferred > 0 || world.listed.iter().any(keeps_alive);
    let stepped = catch_unwind(AssertUnwindSafe(|| match step {
        Step::Do(op) => apply(op, world, reactor),
        Step::Turn(pass) => {
            world.clock.advance(duration(pass));
            reactor.turn(world, Some(Duration::ZERO)).unwrap();
        }
        Step::Advance(time) => {
            world.advanced_from = Some(world.live());
            reactor.advance(world, duration(time)).unwrap();
        }
        Step::Run => {
            world.is_to_stop = true;
            reactor.run(world).unwrap();
            assert_eq!(world.counts.turns > turns, is_alive);
        }
    }));
    if let Err(payload) = stepped
        && !payload.is::<OnPurpose>()
    {
        resume_unwind(payload);
    }
    if reactor.is_stopping() {
        reactor.run(world).unwrap(); // returns without a turn: a stop is pending
    }
    (
        world.turn,
        world.running,
        world.advanced_from,
        world.is_to_stop,
    ) = (None, None, None, false);
    world.compare(reactor);
}

/// Adds a source that is always ready. Its handler runs before the timers of its turn.
pub(super) fn add_driver(reactor: &mut Reactor<World>) -> Result<UnixStream> {
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    let driver = reactor.add(near, Interest::READABLE, |_, cx| {
        cx.state
            .begin_turn((cx.now() - cx.state.began.0).as_nanos() as Nanos);
        if cx.state.counts.turns % 3 == 0
            && let Some((ops, _)) = cx.state.callbacks.pop_front()
        {
            ops.into_iter()
                .for_each(|op| apply(op, cx.state, cx.registry));
        }
        if cx.state.is_to_stop {
            cx.registry.stop();
        }
        cx.state.limit = cx.state.now();
        cx.state
            .listed
            .iter_mut()
            .for_each(|listed| listed.waits_for_next = false);
        cx.state.counts.deferred += 1;
        cx.registry.defer(|cx| {
            cx.state.counts.deferred -= 1;
            assert_eq!(cx.state.next_due(), None, "it did not run");
            cx.state.end_part();
            cx.state.advanced_from = cx.state.advanced_from.map(|_| cx.state.live());
        });
        Ok(Next::Keep)
    })?;
    reactor.set_background(driver)?;
    Ok(far)
}
