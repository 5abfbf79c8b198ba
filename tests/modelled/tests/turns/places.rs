//! A thread and a callback of the loop act on the loop at the same time. The callback acts at each
//! place of a turn, the thread at any time.
//!
//! Broken once, each of these makes the models fail: a wake that does not look whether the loop
//! sleeps; a gate that is closed after the last look; a turn that collects a wake with the news; a
//! wake that is answered behind the hooks; tokens counted after what is pending; a last token that
//! does not wake the loop.

use std::cell::Cell;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::spawn;
use modelled::{
    Capacity, Context, Exit, Interest, KeepAlive, Next, Reactor, Remote, Then, join, model,
    notification_queue,
};

/// The orders with a third interruption are ten times as many, and take minutes.
const PREEMPTIONS: usize = 2;

/// The place of the callback that acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BeforeWait,
    AfterWait,
    Source,
    Timer,
    Queue,
    Deferred,
    Idle,
    BetweenTurns,
}

/// The hook that has to see what was changed before a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    BeforeWait,
    AfterWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Wake,
    Post,
    Stop,
    Release,
}

/// The state of the loop: how many posted closures have run.
type Posted = usize;

/// Acts once on a loop, which it keeps alive until then.
struct Actor {
    act: Act,
    has_begun: Arc<AtomicBool>,
    remote: Remote<Posted>,
    alive: KeepAlive,
}

impl Actor {
    fn new(act: Act, remote: &Remote<Posted>) -> (Self, Arc<AtomicBool>) {
        let has_begun = Arc::new(AtomicBool::new(false));
        let actor = Self {
            act,
            has_begun: Arc::clone(&has_begun),
            remote: remote.clone(),
            alive: remote.keep_alive(),
        };
        (actor, has_begun)
    }

    fn act(self) {
        // Relaxed: the act itself passes it on to the loop.
        self.has_begun.store(true, Ordering::Relaxed);
        match self.act {
            Act::Wake => self.remote.wake(),
            Act::Post => self.remote.post(|cx| *cx.state += 1).unwrap(),
            Act::Stop => self.remote.stop().unwrap(),
            Act::Release => {}
        }
        drop(self.alive);
    }
}

/// Calls `callback` once, at a place of a turn.
fn call_at(
    (reactor, state): (&mut Reactor<Posted>, &mut Posted),
    place: Place,
    callback: impl FnOnce(&mut Context<'_, Posted>) + 'static,
) {
    let mut callback = Some(callback);
    let mut call_once = move |cx: &mut Context<'_, Posted>| {
        if let Some(callback) = callback.take() {
            callback(cx);
        }
    };
    match place {
        Place::BeforeWait => drop(reactor.before_wait(move |cx| {
            call_once(cx);
            Ok(Next::Remove)
        })),
        Place::AfterWait => {
            reactor.remote().unwrap().wake(); // the first wait ends
            reactor.after_wait(move |cx| {
                call_once(cx);
                Ok(Next::Remove)
            });
        }
        Place::Source => {
            // It is always ready.
            let source = File::open("/dev/null").unwrap();
            let handler = move |_: &mut _, cx: &mut Context<'_, Posted>| {
                call_once(cx);
                Ok(Next::Remove)
            };
            reactor.add(source, Interest::READABLE, handler).unwrap();
        }
        Place::Timer => {
            reactor.after(Duration::from_millis(1), move |cx| {
                call_once(cx);
                Ok(Then::Done)
            });
        }
        Place::Queue => {
            let (sender, receiver) = notification_queue(Capacity::Unbounded);
            sender.try_send(()).unwrap();
            let handler = move |_: Option<()>, cx: &mut Context<'_, Posted>| {
                call_once(cx);
                Ok(Next::Remove)
            };
            reactor.consume(receiver, handler).unwrap();
        }
        Place::Deferred => drop(reactor.defer(call_once)),
        Place::Idle => drop(reactor.idle(move |cx| {
            call_once(cx);
            Ok(Next::Remove)
        })),
        Place::BetweenTurns => {
            reactor.turn(state, Some(Duration::ZERO)).unwrap();
            reactor.enter(state, call_once);
        }
    }
}

/// Runs a loop on which a callback and a thread act at the same time, until nothing is left.
fn act_at_once(place: Place, hook: Hook, here: Act, there: Act) {
    let mut reactor = Reactor::<Posted>::new().unwrap();
    let remote = reactor.remote().unwrap();
    let (actor_here, began_here) = Actor::new(here, &remote);
    let (actor_there, began_there) = Actor::new(there, &remote);
    drop(remote);

    let have_begun = move || [&began_here, &began_there].map(|began| began.load(Ordering::Relaxed));
    let seen = Rc::new(Cell::new([false; 2]));
    let look = {
        let (seen, have_begun) = (Rc::clone(&seen), have_begun.clone());
        move |_: &mut Context<'_, Posted>| {
            seen.set(have_begun());
            Ok(Next::Keep)
        }
    };
    match hook {
        Hook::BeforeWait => reactor.before_wait(look),
        Hook::AfterWait => reactor.after_wait(look),
    };
    let thread = spawn(move || actor_there.act());
    let (mut posted, mut stops) = (0, 0);
    call_at((&mut reactor, &mut posted), place, move |_| {
        actor_here.act()
    });
    while matches!(reactor.run(&mut posted).unwrap(), Exit::Stopped { .. }) {
        stops += 1;
    }
    let count = |act| usize::from(here == act) + usize::from(there == act);
    assert_eq!(posted, count(Act::Post), "a closure did not run");
    let expected = usize::from(count(Act::Stop) > 0)..=count(Act::Stop);
    assert!(expected.contains(&stops), "{stops} stops");
    assert_eq!(
        have_begun(),
        [true, true],
        "the loop ended before the last token"
    );
    let is_seen = |(seen, act): (bool, Act)| seen || act != Act::Wake;
    let all_seen = seen.get().into_iter().zip([here, there]).all(is_seen);
    assert!(all_seen, "no hook began after the wake");
    join(thread);
}

fn check(place: Place) {
    use Act::{Post, Release, Stop, Wake};

    for (here, theirs) in [
        (Wake, &[Wake, Post, Stop, Release][..]),
        (Post, &[Wake, Post, Release]),
        (Release, &[Wake, Post, Stop, Release]),
    ] {
        for there in theirs.iter().copied() {
            model(PREEMPTIONS, move || {
                act_at_once(place, Hook::BeforeWait, here, there)
            });
        }
        model(PREEMPTIONS, move || {
            act_at_once(place, Hook::AfterWait, here, Wake)
        });
    }
}

#[test]
fn acts_in_a_hook_before_the_wait() {
    check(Place::BeforeWait);
}

#[test]
fn acts_in_a_hook_after_the_wait() {
    check(Place::AfterWait);
}

#[test]
fn acts_in_the_handler_of_a_source() {
    check(Place::Source);
}

#[test]
fn acts_in_a_timer() {
    check(Place::Timer);
}

#[test]
fn acts_in_the_handler_of_a_queue() {
    check(Place::Queue);
}

#[test]
fn acts_in_a_deferred_callback() {
    check(Place::Deferred);
}

#[test]
fn acts_in_an_idle_callback() {
    check(Place::Idle);
}

#[test]
fn acts_between_turns() {
    check(Place::BetweenTurns);
}
