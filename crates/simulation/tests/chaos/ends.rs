//! Loops on threads of their own, and pools, that end at any moment and in any way, while other
//! threads wait for them. No thread may wait for a loop that is gone.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use handlers::WorkerPool;
use reactor::{
    Capacity, Context, LoopThread, Next, PanicPolicy, Reactor, Registry, Remote, Sender, Then,
    WorkerThread, notification_queue,
};
use simulation::{Seeds, random};

use crate::draw::{PanicsWhenDropped, duration, hide_wanted_panics, once_in, panic};

const WAIT: Duration = Duration::from_secs(3600);

/// The state of a loop. Dropping it joins the threads that it owns.
struct State {
    answers: usize,
    _worker: Option<Joins>,
    pool: Option<WorkerPool<Self>>,
}

impl Drop for State {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else {
            return;
        };
        match random(3) {
            0 => pool.drain(),
            1 => pool.shutdown_now(),
            _ => drop(pool),
        }
    }
}

/// Joins a thread when it is dropped, and panics then if it is to.
struct Joins {
    worker: Option<WorkerThread>,
    _panics: Option<PanicsWhenDropped>,
}

impl Drop for Joins {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// The fate of a loop, as its threads see it.
#[derive(Clone, Default)]
struct Fate {
    /// Set before a panic that ends the loop.
    is_cut: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
    catches: bool,
}

impl Fate {
    fn callback(&self, cx: &mut Context<'_, State>) -> usize {
        if once_in(8) {
            simulation::sleep(duration(Duration::from_millis(10)));
        }
        if once_in(10) {
            self.is_cut.fetch_or(!self.catches, Ordering::Relaxed);
            panic();
        }
        cx.state.answers += 1;
        cx.state.answers
    }
}

/// A thread that asks a loop until the loop is gone.
fn ask(remote: &Remote<State>, sender: &Sender<u64>, fate: &Fate) {
    for _ in 0..random(12) {
        simulation::sleep(duration(Duration::from_secs(2)));
        let fated = fate.clone();
        match random(6) {
            0..=2 => {
                fate.calls.fetch_add(1, Ordering::Relaxed);
                let answer = remote.call(move |cx| fated.callback(cx));
                fate.answers.fetch_add(1, Ordering::Relaxed);
                assert_ne!(answer, Ok(0));
                if remote.is_gone() && once_in(2) {
                    return;
                }
            }
            3 => drop(remote.post(move |cx| _ = fated.callback(cx))),
            4 => drop(sender.send_within(random(100), WAIT)),
            _ => remote.wake(),
        }
    }
}

fn set_up(registry: &mut Registry<State>, fate: &Fate) -> io::Result<State> {
    let remote = registry.remote()?;
    let capacity = Capacity::Bounded(random(3) as usize);
    let (sender, receiver) = notification_queue(capacity);
    // A receiver that nobody handles, or a queue that is handled.
    let is_handled = !once_in(4);
    if is_handled {
        let (fated, kept) = (fate.clone(), joins(registry, fate, &remote, &sender)?);
        let key = registry.consume(receiver, move |_value, cx| {
            let _ = &kept;
            // A handler that ends before its loop must not join a thread that calls the loop.
            if !fated.catches {
                fated.callback(cx);
            }
            Ok(Next::Keep)
        })?;
        registry.set_background(key)?;
    } else {
        let kept = joins(registry, fate, &remote, &sender)?;
        registry.before_wait(move |_cx| {
            let _ = (&receiver, &kept);
            Ok(Next::Keep)
        });
    }
    let (fated, kept) = (fate.clone(), joins(registry, fate, &remote, &sender)?);
    let timer = registry.after(WAIT, move |cx| {
        let _ = &kept;
        fated.callback(cx);
        Ok(Then::Done)
    });
    registry.set_timer_background(timer)?;
    if once_in(8) {
        return Err(io::Error::other("as the seed wants"));
    }
    let pool = if once_in(2) {
        let pool = WorkerPool::builder()
            .workers(1 + random(3) as usize)
            .build(registry)?;
        for _ in 0..random(6) {
            let (remote, fated, done) = (remote.clone(), fate.clone(), fate.clone());
            let job = move || remote.call(move |cx| fated.callback(cx)).is_ok();
            let _ = pool.submit(job, move |_answered, cx| _ = done.callback(cx));
        }
        Some(pool)
    } else {
        None
    };
    Ok(State {
        answers: 0,
        _worker: Some(joins(registry, fate, &remote, &sender)?),
        pool,
    })
}

/// Starts a thread that asks the loop, and returns the value that joins it.
fn joins(
    registry: &Registry<State>,
    fate: &Fate,
    remote: &Remote<State>,
    sender: &Sender<u64>,
) -> io::Result<Joins> {
    let panics = once_in(8);
    let (remote, sender, fated) = (remote.clone(), sender.clone(), fate.clone());
    let worker = registry.spawn_worker("asks", move || ask(&remote, &sender, &fated))?;
    if panics {
        fate.is_cut.fetch_or(!fate.catches, Ordering::Relaxed);
    }
    Ok(Joins {
        worker: Some(worker),
        _panics: panics.then(|| PanicsWhenDropped),
    })
}

fn ends() {
    let fate = Fate {
        catches: once_in(2),
        ..Fate::default()
    };
    let policy = if fate.catches {
        PanicPolicy::RemoveHandler
    } else {
        PanicPolicy::Propagate
    };
    let fated = fate.clone();
    let spawned = LoopThread::spawn_with(
        "loop",
        move || Reactor::builder().on_panic(policy),
        move |registry| set_up(registry, &fated),
    );
    if let Ok(looped) = spawned {
        let askers: Vec<_> = (0..random(3))
            .map(|_| {
                let (remote, fate) = (looped.remote().clone(), fate.clone());
                let (sender, _receiver) = notification_queue(Capacity::Unbounded);
                simulation::thread("asker", move || ask(&remote, &sender, &fate))
            })
            .collect();
        simulation::sleep(duration(Duration::from_secs(20)));
        // The state may panic too when it is dropped here.
        let ended = Rc::new(looped);
        let ended = catch_unwind(AssertUnwindSafe(|| end(ended)));
        let may_panic = fate.is_cut.load(Ordering::Relaxed) || fate.catches;
        assert!(ended.is_ok() || may_panic);
        if let Err(panic) = ended {
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
        }
        askers.into_iter().for_each(simulation::Handle::join);
    }
    let (calls, answers) = (&fate.calls, &fate.answers);
    simulation::wait_until(|| calls.load(Ordering::Relaxed) == answers.load(Ordering::Relaxed));
}

fn end(looped: Rc<LoopThread<State>>) {
    let looped = Rc::into_inner(looped).unwrap();
    match random(3) {
        0 => drop(looped),
        1 => drop(looped.stop()),
        _ => drop(looped.join()),
    }
}

#[test]
fn no_thread_waits_for_a_loop_that_is_gone() {
    hide_wanted_panics();
    Seeds::new(0..100).check(|| {
        simulation::process("daemon", ends).join();
    });
}
