//! Wakeups: for one at any place of a turn, the hooks see changes made before it, and the loop does
//! not sleep after it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Capacity, CloseReason, Context, Handler, Interest, Io, ManualClock, Next, PanicPolicy, Reactor,
    Spin, Then, Waker, notification_queue,
};

use crate::{Result, readable, set_event, turn_now};

/// The changes that the hooks before and after the wait have seen.
type Seen = [u32; 2];

/// Makes a change and wakes the loop for it, once.
#[derive(Clone)]
struct Change {
    changes: Rc<Cell<u32>>,
    waker: Waker,
}

impl Change {
    fn once(&self) {
        if self.changes.get() == 0 {
            self.changes.set(1);
            self.waker.wake();
        }
    }
}

struct Farewell(Change);

impl<T> Handler<Seen, T> for Farewell {
    fn ready(&mut self, _: &mut Io<T>, _: &mut Context<'_, Seen>) -> std::io::Result<Next> {
        Ok(Next::Keep)
    }

    fn closed(&mut self, _: CloseReason, _: &mut Context<'_, Seen>) {
        self.0.once();
    }
}

/// Registers a callback that makes the change at one place of a turn.
type Place = (&'static str, fn(&mut Reactor<Seen>, Change) -> Result);

fn at_hook(
    reactor: &mut Reactor<Seen>,
    change: Change,
    add: fn(&mut Reactor<Seen>, Box<dyn Fn()>),
) -> Result {
    add(reactor, Box::new(move || change.once()));
    Ok(())
}

/// Every place of a turn at which user code runs.
const PLACES: [Place; 10] = [
    ("between turns", |reactor, change| {
        turn_now(reactor, &mut Seen::default());
        change.once();
        Ok(())
    }),
    ("hook before the wait", |reactor, change| {
        at_hook(reactor, change, |reactor, change| {
            reactor.before_wait(move |_| {
                change();
                Ok(Next::Keep)
            });
        })
    }),
    ("hook after the wait", |reactor, change| {
        at_hook(reactor, change, |reactor, change| {
            reactor.after_wait(move |_| {
                change();
                Ok(Next::Keep)
            });
        })
    }),
    ("source", |reactor, change| {
        let (near, far) = readable()?;
        reactor.add(near, Interest::READABLE, move |_, _| {
            let _open = &far;
            change.once();
            Ok(Next::Remove)
        })?;
        Ok(())
    }),
    ("timer", |reactor, change| {
        reactor.after(Duration::ZERO, move |_| {
            change.once();
            Ok(Then::Done)
        });
        Ok(())
    }),
    ("queue", |reactor, change| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        sender.try_send(())?;
        reactor.consume(receiver, move |_, _| {
            let _open = &sender;
            change.once();
            Ok(Next::Keep)
        })?;
        Ok(())
    }),
    ("event", |reactor, change| {
        reactor.on_event(&set_event(), move |_| {
            change.once();
            Ok(Next::Keep)
        })?;
        Ok(())
    }),
    ("deferred callback", |reactor, change| {
        reactor.defer(move |_| change.once());
        Ok(())
    }),
    ("end of a registration", |reactor, change| {
        let (near, _far) = readable()?;
        let key = reactor.add_handler(near, Interest::READABLE, Farewell(change))?;
        reactor.remove(key)?;
        Ok(())
    }),
    ("idle callback", |reactor, change| {
        reactor.idle(move |_| {
            change.once();
            Ok(Next::Remove)
        });
        Ok(())
    }),
];

/// Returns a loop with a hook before and after the wait, and the maker of the change.
fn watching(mut reactor: Reactor<Seen>) -> Result<(Reactor<Seen>, Change)> {
    let changes = Rc::new(Cell::new(0));
    let (before, after) = (Rc::clone(&changes), Rc::clone(&changes));
    reactor.before_wait(move |cx| {
        cx.state[0] = before.get();
        Ok(Next::Keep)
    });
    reactor.after_wait(move |cx| {
        cx.state[1] = after.get();
        Ok(Next::Keep)
    });
    let waker = reactor.remote()?.waker();
    Ok((reactor, Change { changes, waker }))
}

fn on_a_clock_that_stands() -> Result<Reactor<Seen>> {
    Ok(Reactor::builder().clock(ManualClock::new()).build()?)
}

/// Takes turns that do not wait until the change has been made.
fn turn_until_changed(reactor: &mut Reactor<Seen>, change: &Change, seen: &mut Seen) {
    while change.changes.get() == 0 {
        turn_now(reactor, seen);
    }
}

/// Takes a turn that may wait. Returns `true` if it was about to.
fn sleeps(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result<bool> {
    let before = reactor.metrics().sleeps;
    reactor.turn(seen, Some(Duration::from_millis(1)))?;
    Ok(reactor.metrics().sleeps > before)
}

#[test]
fn no_loop_sleeps_after_a_wake_at_any_place_of_a_turn() -> Result {
    for (place, add) in PLACES {
        let (mut reactor, change) = watching(on_a_clock_that_stands()?)?;
        add(&mut reactor, change.clone())?;
        let mut seen = Seen::default();
        turn_until_changed(&mut reactor, &change, &mut seen);
        assert!(!sleeps(&mut reactor, &mut seen)?, "{place}");
        assert_eq!(seen, [1, 1], "{place}");
        // An event or a queue that is checked again without a result costs another turn.
        turn_now(&mut reactor, &mut seen);
        assert!(
            sleeps(&mut reactor, &mut seen)?,
            "a wake is answered once: {place}"
        );
    }
    Ok(())
}

#[test]
fn a_loop_without_hooks_takes_a_turn_for_a_wake_and_then_sleeps() -> Result {
    for (place, add) in PLACES {
        let mut reactor = on_a_clock_that_stands()?;
        let change = Change {
            changes: Rc::default(),
            waker: reactor.remote()?.waker(),
        };
        add(&mut reactor, change.clone())?;
        let mut seen = Seen::default();
        turn_until_changed(&mut reactor, &change, &mut seen);
        assert!(!sleeps(&mut reactor, &mut seen)?, "{place}");
        turn_now(&mut reactor, &mut seen);
        assert!(sleeps(&mut reactor, &mut seen)?, "{place}");
    }
    Ok(())
}

#[test]
fn a_wake_survives_the_panic_of_a_hook_that_ran_before_another() -> Result {
    for after_wait in [false, true] {
        let mut reactor = on_a_clock_that_stands()?;
        let panics = |_: &mut Context<'_, Seen>| panic!("as the test wants");
        if after_wait {
            reactor.after_wait(panics);
        } else {
            reactor.before_wait(panics);
        }
        let (mut reactor, change) = watching(reactor)?;
        change.once();
        let mut seen = Seen::default();
        assert!(catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut seen))).is_err());
        reactor.turn(&mut seen, Some(Duration::from_millis(1)))?;
        assert_eq!(
            (seen, reactor.metrics().sleeps),
            ([1, 1], 0),
            "after the wait: {after_wait}"
        );
    }
    let mut survives = Reactor::<Seen>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    survives.before_wait(|_| panic!("as the test wants"));
    let (mut reactor, change) = watching(survives)?;
    change.once();
    let mut seen = Seen::default();
    turn_now(&mut reactor, &mut seen);
    assert_eq!(seen, [1, 1]);
    Ok(())
}

#[test]
fn a_wake_in_a_turn_of_a_nested_loop_is_a_turn_more() -> Result {
    for (place, add) in PLACES.into_iter().skip(1) {
        let (mut reactor, change) = watching(on_a_clock_that_stands()?)?;
        add(&mut reactor, change.clone())?;
        let mut seen = Seen::default();
        turn_until_changed(&mut reactor, &change, &mut seen);
        while reactor.prepare_to_wait() == Some(Duration::ZERO) {
            turn_now(&mut reactor, &mut seen);
        }
        assert_eq!(seen, [1, 1], "{place}");
    }
    Ok(())
}

#[test]
fn a_wake_that_ends_a_spin_is_answered_and_over() -> Result {
    for hooks in [true, false] {
        let mut reactor = Reactor::<Seen>::builder()
            .spin(Spin::Fixed(crate::PATIENCE))
            .build()?;
        let waker = reactor.remote()?.waker();
        let changes = Rc::new(Cell::new(0));
        if hooks {
            (reactor, _) = watching(reactor)?;
        }
        changes.set(1);
        waker.wake();
        let mut seen = Seen::default();
        reactor.turn(&mut seen, None)?;
        let before = reactor.metrics();
        reactor.turn(&mut seen, Some(Duration::from_millis(1)))?;
        let now = reactor.metrics();
        assert_eq!(
            (now.idle_spins, before.idle_spins),
            (1, 0),
            "hooks: {hooks}"
        );
    }
    Ok(())
}

#[test]
fn a_wake_of_a_sleeping_loop_without_hooks_is_one_write_and_one_turn() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let waker = reactor.remote()?.waker();
    let mut seen = Seen::default();
    for round in 1..=3 {
        assert_eq!(reactor.prepare_to_wait(), None);
        waker.wake();
        waker.wake();
        assert_eq!(reactor.metrics().wakeups, round);
        reactor.turn(&mut seen, None)?;
    }
    assert_eq!(reactor.metrics().turns, 3);
    Ok(())
}
