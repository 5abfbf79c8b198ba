//! Tasks that spawn, join, cancel, sleep, time out, wait and send to each other at random, on
//! several loops, while threads wake, spawn, cancel and drop. A naive model knows what must come of
//! them.

mod model;
mod steps;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::StreamExt;
use handlers::WorkerPool;
use handlers::futures::{self, Spawner};
use reactor::{
    Capacity, Context, Next, PanicPolicy, Reactor, Receiver, Registry, Remote, Sender,
    notification_queue,
};
use simulation::{Faults, Handle, Seeds, Simulation, process, random, sleep};

use crate::draw::{forget_failures, has_failed, hide_wanted_panics};

use self::model::{Place, Sent, Shared, State};
use self::steps::{cancel_one, draw_time, work};

const LOOPS: usize = 2;

/// Counts the values of a queue until no sender is left.
fn receive(place: &Place, number: usize, queue: Receiver<Sent>, registry: &mut Registry<State>) {
    let mut values = futures::receive(registry, queue).unwrap();
    let shared = Rc::clone(&place.shared);
    let receiving = async move {
        while let Some(value) = values.next().await {
            shared.receives(value, number);
            if random(10) == 0 {
                futures::sleep(draw_time()).await;
            }
        }
    };
    futures::spawn(registry, receiving, |(), _cx| ()).unwrap();
}

/// Starts a thread that cancels tasks.
fn start_cancelling(remote: Remote<State>) {
    simulation::thread("cancels", move || {
        for _ in 0..random(6) {
            sleep(draw_time());
            let _ = remote.post(|cx| cancel_one(cx.state, cx.registry)); // it may have ended
        }
    });
}

/// Runs a loop until its tasks have ended.
fn run(
    number: usize,
    shared: &Rc<Shared>,
    queue: Receiver<Sent>,
    queues: Vec<Sender<Sent>>,
    is_calm: bool,
) {
    let builder = Reactor::<State>::builder().on_panic(PanicPolicy::RemoveHandler);
    let mut reactor = builder.build().unwrap();
    let pool = WorkerPool::builder()
        .workers(2)
        .build(&mut reactor)
        .unwrap();
    let (turn, keys) = (Rc::<Cell<u64>>::default(), Rc::<RefCell<Vec<_>>>::default());
    let turns = Rc::clone(&turn);
    reactor.after_wait(move |_cx| {
        turns.set(turns.get() + 1);
        Ok(Next::Keep)
    });
    let remote = reactor.remote().unwrap();
    let place = Place {
        shared: Rc::clone(shared),
        turn,
        remote: remote.clone(),
        spawner: Spawner::new(&mut reactor).unwrap(),
        pool: pool.handle(),
        keys: Rc::clone(&keys),
        queues,
        is_calm,
    };
    receive(&place, number, queue, &mut reactor);
    for _ in 0..1 + random(4) {
        let alive = shared.begin();
        let id = alive.id;
        let working = work(alive, place.clone(), 3);
        let then = move |output, cx: &mut Context<'_, State>| {
            assert_eq!(output, id);
            cx.state.finished += 1;
        };
        let key = futures::spawn(&mut reactor, working, then).unwrap();
        keys.borrow_mut().push((id, key));
    }
    drop(place);
    start_cancelling(remote);
    let mut state = State {
        shared: Rc::clone(shared),
        keys,
        calls: 0,
        finished: 0,
    };
    reactor.run(&mut state).unwrap();
    assert_eq!(futures::tasks(&mut reactor).len(), 0);
    assert_eq!(reactor.timers().count(), 0);
    assert!(
        reactor.registrations().all(|it| it.fd < 0),
        "a source is left"
    );
    drop(reactor);
    pool.drain();
}

fn mix(is_calm: bool) {
    hide_wanted_panics();
    forget_failures();
    simulation::set_name("a.test", [[192, 0, 2, 1].into()]);
    let shared = Shared::new();
    let capacity = match random(2) {
        0 => Capacity::Unbounded,
        _ => Capacity::Bounded(1 + random(4) as usize),
    };
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..LOOPS)
        .map(|_| notification_queue::<Sent>(capacity))
        .unzip();
    let loops: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(number, queue)| {
            let (shared, queues) = (Rc::clone(&shared), senders.clone());
            process(&format!("loop {number}"), move || {
                run(number, &shared, queue, queues, is_calm);
            })
        })
        .collect();
    drop(senders);
    if !is_calm && random(2) == 0 {
        sleep(draw_time());
        loops[random(LOOPS as u64) as usize].stop(Duration::from_secs(random(100)));
    }
    loops.into_iter().for_each(Handle::join);
    shared.check();
    assert!(!has_failed(), "a task has failed, see above");
}

#[test]
fn tasks_do_what_a_naive_model_says() {
    Seeds::new(0..300)
        .faults(Faults::none())
        .check(|| mix(true));
    Seeds::new(0..200).check(|| mix(false));
    Seeds::new(0..200)
        .faults(Faults::all())
        .check(|| mix(false));
}

#[test]
fn a_run_of_a_mixture_is_the_same_for_the_same_seed() {
    for seed in 0..20 {
        let run = || {
            let simulation = Simulation::new(seed).faults(Faults::all());
            simulation.run(|| mix(false)).hash
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
