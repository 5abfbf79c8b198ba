//! Sources and calls of the registry, compared with a list of what each source has to be told.
//!
//! Every source is the end of a socket pair. A handler that is ready, wanted and left alone is
//! called once a turn, and none is called otherwise.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use reactor::{
    Context, Error, Interest, Io, Key, ManualClock, Next, Priority, Reactor, Registry, Then,
};

const SOURCES_MAX: usize = 40;
const STEPS_MAX: usize = 80;
const CALLBACKS_MAX: usize = 80;

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(Interest),
    Remove(usize),
    SetInterest(usize, Interest),
    SetPriority(usize, Priority),
    Background(usize, bool),
    Timeout(usize, Option<u64>),
    /// Sends bytes to a source from its peer.
    Send(usize, usize),
    ClosePeer(usize),
    /// Defers the removal of a source.
    DeferRemove(usize),
    /// Arms a timer that removes a source.
    RemoveAfter(usize, u64),
}

/// The behaviour of a handler: it reads a number of bytes some times, and then applies operations.
#[derive(Debug)]
struct Plan {
    reads: Vec<usize>,
    ops: Vec<Op>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Keep,
    Remove,
    Fail,
}

struct Source {
    key: Key,
    peer: Option<UnixStream>,
    interest: Interest,
    /// The number of bytes in the kernel.
    unread: usize,
    is_open: bool,
    has_timeout: bool,
    calls: usize,
    /// Set if its timeout was reported in this turn.
    is_timed_out: bool,
    /// Set if an operation has changed in this turn what the source is told.
    is_changed: bool,
}

#[derive(Default)]
struct World {
    sources: Vec<Source>,
    plans: VecDeque<Plan>,
}

impl Source {
    /// Returns whether the handler has to be called.
    fn is_due(&self) -> bool {
        let readable = self.unread > 0 || self.peer.is_none();
        let writable = true; // no byte is ever sent to the peer
        self.is_open
            && (readable && self.interest.contains(Interest::READABLE)
                || writable && self.interest.contains(Interest::WRITABLE))
    }
}

impl World {
    fn choose(&mut self, which: usize) -> Option<&mut Source> {
        let count = self.sources.len();
        self.sources.get_mut(which % count.max(1))
    }
}

fn is_stale<T>(result: std::result::Result<T, Error>, key: Key) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::StaleKey(stale)) => stale == key,
        Err(error) => panic!("{error}"),
    }
}

fn call(place: usize, io: &mut Io<UnixStream>, cx: &mut Context<'_, World>) -> io::Result<Next> {
    let plan = cx.state.plans.pop_front();
    let (key, readiness) = (cx.key(), cx.readiness());
    let source = &mut cx.state.sources[place];
    let interest = source.interest;
    assert!(source.is_open, "called after its end");
    assert_eq!(source.key, key);
    if readiness.is_timeout() {
        assert!(source.has_timeout && !source.is_timed_out);
        source.is_timed_out = true;
    } else {
        source.calls += 1;
        assert_eq!(source.calls, 1, "called twice in a turn");
    }
    let readable = readiness.is_readable() || readiness.is_read_closed();
    let writable = readiness.is_writable() || readiness.is_write_closed();
    assert!(
        readiness.is_timeout()
            || readable && interest.contains(Interest::READABLE)
            || writable && interest.contains(Interest::WRITABLE),
        "called for {readiness} with {interest}"
    );
    let Some(plan) = plan else {
        return Ok(Next::Keep);
    };
    let mut is_blocked = false;
    for length in plan.reads {
        match io.read(&mut vec![0; length]) {
            Ok(0) => assert!(source.unread == 0 && source.peer.is_none() || length == 0),
            Ok(read) => {
                assert_eq!(read, length.min(source.unread));
                source.unread -= read;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // What has come in this turn may be reported in the next one.
                let is_drained = source.unread == 0 && source.peer.is_some();
                assert!(is_drained || source.is_changed, "bytes are held back");
                is_blocked = true;
                break;
            }
            // A peer that is closed with unread bytes resets: it has none here.
            Err(error) => panic!("{error}"),
        }
    }
    for op in plan.ops {
        apply(op, cx.state, cx.registry);
    }
    let source = &mut cx.state.sources[place];
    match plan.end {
        End::Keep if is_blocked => Err(ErrorKind::WouldBlock.into()),
        End::Keep => Ok(Next::Keep),
        End::Remove => {
            source.is_open = false;
            Ok(Next::Remove)
        }
        End::Fail => {
            source.is_open = false;
            Err(io::Error::other("on purpose"))
        }
    }
}

fn remove(place: usize, world: &mut World, registry: &mut Registry<World>) {
    let source = &mut world.sources[place];
    assert_eq!(
        is_stale(registry.remove(source.key), source.key),
        !source.is_open
    );
    source.is_open = false;
}

fn apply(op: Op, world: &mut World, registry: &mut Registry<World>) {
    let place = |which: usize, world: &World| which % world.sources.len().max(1);
    match op {
        Op::Add(interest) if world.sources.len() < SOURCES_MAX => {
            let (near, far) = UnixStream::pair().unwrap();
            let place = world.sources.len();
            let added = registry.add(near, interest, move |io, cx| call(place, io, cx));
            let key = added.unwrap();
            assert!(
                world.sources.iter().all(|source| source.key != key),
                "a key is reused"
            );
            world.sources.push(Source {
                key,
                peer: Some(far),
                interest,
                unread: 0,
                is_open: true,
                has_timeout: false,
                calls: 0,
                is_timed_out: false,
                is_changed: true,
            });
        }
        _ if world.sources.is_empty() => {}
        Op::Add(_) => {}
        Op::Remove(which) => remove(place(which, world), world, registry),
        Op::DeferRemove(which) => {
            let place = place(which, world);
            registry.defer(move |cx| remove(place, cx.state, cx.registry));
        }
        Op::RemoveAfter(which, ms) => {
            let place = place(which, world);
            registry.after(Duration::from_millis(ms), move |cx| {
                remove(place, cx.state, cx.registry);
                Ok(Then::Done)
            });
        }
        Op::SetInterest(which, interest) => {
            let Some(source) = world.choose(which) else {
                return;
            };
            let set = registry.set_interest(source.key, interest);
            assert_eq!(is_stale(set, source.key), !source.is_open);
            (source.interest, source.is_changed) = (interest, true);
        }
        Op::SetPriority(which, priority) => {
            let Some(source) = world.choose(which) else {
                return;
            };
            let set = registry.set_priority(source.key, priority);
            assert_eq!(is_stale(set, source.key), !source.is_open);
        }
        Op::Background(which, is_background) => {
            let Some(source) = world.choose(which) else {
                return;
            };
            let set = if is_background {
                registry.set_background(source.key)
            } else {
                registry.set_foreground(source.key)
            };
            assert_eq!(is_stale(set, source.key), !source.is_open);
        }
        Op::Timeout(which, ms) => {
            let Some(source) = world.choose(which) else {
                return;
            };
            let set = registry.set_timeout(source.key, ms.map(Duration::from_millis));
            assert_eq!(is_stale(set, source.key), !source.is_open);
            source.has_timeout = ms.is_some();
        }
        Op::Send(which, length) => {
            let Some(source) = world.choose(which) else {
                return;
            };
            let Some(peer) = source.peer.as_mut().filter(|_| source.is_open) else {
                return;
            };
            if source.unread < 10_000 && peer.write_all(&vec![b'x'; length]).is_ok() {
                (source.unread, source.is_changed) = (source.unread + length, true);
            }
        }
        Op::ClosePeer(which) => {
            let Some(source) = world.choose(which) else {
                return;
            };
            (source.peer, source.is_changed) = (None, true);
        }
    }
    check(world, registry);
}

/// Compares what the registry reports.
fn check(world: &World, registry: &Registry<World>) {
    for source in &world.sources {
        let interest = registry.interest(source.key).ok();
        assert_eq!(interest, source.is_open.then_some(source.interest));
        assert_eq!(registry.contains(source.key), source.is_open);
    }
}

fn interest(u: &mut Unstructured<'_>) -> Result<Interest> {
    let both = Interest::READABLE | Interest::WRITABLE;
    Ok(*u.choose(&[Interest::READABLE, Interest::NONE, both, Interest::WRITABLE])?)
}

fn op(u: &mut Unstructured<'_>) -> Result<Op> {
    let which = usize::from(u.arbitrary::<u8>()?);
    let ms = |u: &mut Unstructured<'_>| u.int_in_range(0..=40_u64);
    Ok(match u.int_in_range(0..=12)? {
        0 | 1 => Op::Add(interest(u)?),
        2 => Op::Remove(which),
        3 | 4 => Op::SetInterest(which, interest(u)?),
        5 => Op::SetPriority(
            which,
            *u.choose(&[Priority::High, Priority::Normal, Priority::Low])?,
        ),
        6 => Op::Background(which, u.arbitrary()?),
        7 => Op::Timeout(which, if u.arbitrary()? { Some(ms(u)?) } else { None }),
        8 | 9 => Op::Send(which, u.int_in_range(1..=20)?),
        10 => Op::ClosePeer(which),
        11 => Op::DeferRemove(which),
        _ => Op::RemoveAfter(which, ms(u)?),
    })
}

fn plan(u: &mut Unstructured<'_>) -> Result<Plan> {
    let reads = (0..u.int_in_range(0..=3)?)
        .map(|_| u.int_in_range(0..=30))
        .collect::<Result<_>>()?;
    let ops = (0..u.int_in_range(0..=3)?)
        .map(|_| op(u))
        .collect::<Result<_>>()?;
    let end = match u.int_in_range(0..=9)? {
        0 => End::Remove,
        1 => End::Fail,
        _ => End::Keep,
    };
    Ok(Plan { reads, ops, end })
}

/// Takes a turn and checks who was called.
fn turn(reactor: &mut Reactor<World>, world: &mut World) {
    let due: Vec<_> = world.sources.iter().map(Source::is_due).collect();
    for source in &mut world.sources {
        (source.calls, source.is_timed_out, source.is_changed) = (0, false, false);
    }
    reactor.turn(world, Some(Duration::ZERO)).unwrap();
    for (place, (source, was_due)) in world.sources.iter().zip(due).enumerate() {
        let has_to_be_told = was_due && source.is_open && !source.is_changed;
        let is_told = source.calls == 1 || source.is_timed_out;
        assert!(!has_to_be_told || is_told, "source {place} is not called");
    }
    check(world, reactor);
    let open = world.sources.iter().filter(|source| source.is_open).count();
    assert_eq!(reactor.len(), open);
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(clock.clone()).build().unwrap();
    let mut world = World::default();
    for _ in 0..STEPS_MAX {
        if u.is_empty() {
            break;
        }
        match u.int_in_range(0..=11)? {
            0..=5 => apply(op(u)?, &mut world, &mut reactor),
            6..=8 if world.plans.len() < CALLBACKS_MAX => world.plans.push_back(plan(u)?),
            9 => clock.advance(Duration::from_millis(u.int_in_range(0..=60)?)),
            _ => turn(&mut reactor, &mut world),
        }
    }
    for _ in 0..3 {
        turn(&mut reactor, &mut world);
    }
    for place in 0..world.sources.len() {
        remove(place, &mut world, &mut reactor);
    }
    assert!(reactor.is_empty());
    Ok(())
}
