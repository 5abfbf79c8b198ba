//! W8, tasks: futures on one loop, which are spawned, woken, put to sleep, or idle.
//!
//! Every contestant runs the same futures. An [`Executor`] only says how a task is spawned, and how
//! it sleeps.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hint::{black_box, spin_loop};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::time::{ClockId, clock_gettime};

use crate::pingpong::Side;
use crate::{Result, SEED, at_least_one, random, report, resident_bytes};

/// The operation and its numbers.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Operation to measure
    #[arg(long, value_enum, default_value_t = Op::Spawn)]
    pub op: Op,
    /// Kind of executor
    #[arg(long, value_enum, default_value_t = Form::Usual)]
    pub form: Form,
    /// Number of tasks that exist at the same time; if missing, 1000 that are woken, or 100 000
    /// that sleep or are idle
    #[arg(long, value_parser = at_least_one::<usize>())]
    pub tasks: Option<usize>,
    /// Number of tasks of a ring that are woken at the same time
    #[arg(long, default_value_t = 100, value_parser = at_least_one::<usize>())]
    pub active: usize,
    /// Number of tasks that are spawned and end, or of wakes
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one::<usize>())]
    pub operations: usize,
}

/// The operation on tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Tasks are spawned, 1000 at a time, and end at their first poll
    Spawn,
    /// The same, but each task wakes itself once, and ends at its second poll
    Twice,
    /// Tasks in a ring wake each other
    Ring,
    /// Another thread wakes tasks, each of them again when it has been polled
    Remote,
    /// Tasks sleep for up to 100 ms after a lead, and end; measured in processor time
    Sleep,
    /// Tasks wait for a wake that never comes
    Idle,
}

/// The kind of executor. Not every peer has each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The one of the documentation; a task spawns the others
    Usual,
    /// The fastest one
    Lean,
    /// Callbacks spawn the tasks, and get their outputs
    Callbacks,
}

/// The number of tasks that are spawned at once.
pub const BATCH: usize = 1000;
/// The distance to the task that a task of the ring wakes. It is a prime, so that all tasks of a
/// ring are woken.
const STRIDE: usize = 7919;
/// The delay before the first sleep ends. An executor that spawns tasks may also run those that are
/// due. So no task may be due before all of them sleep.
const LEAD: Duration = Duration::from_secs(1);

impl Options {
    /// Returns the number of tasks: the given one, or the default of the operation.
    fn tasks(&self) -> usize {
        self.tasks.unwrap_or(match self.op {
            Op::Spawn | Op::Twice | Op::Ring | Op::Remote => BATCH,
            Op::Sleep | Op::Idle => 100_000,
        })
    }

    /// Returns the number of batches.
    #[must_use]
    pub const fn batches(&self) -> usize {
        self.operations.div_ceil(BATCH)
    }
}

/// An executor of one thread.
pub trait Executor: 'static {
    /// Spawns a task, and detaches it.
    fn spawn(&self, future: impl Future<Output = ()> + 'static);

    /// Returns a future that ends at `deadline`.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + 'static;
}

/// Measures an executor. The future is the first task of it, and spawns the others. Prints the
/// figures.
///
/// # Errors
/// The errors of the operation.
pub async fn run(options: Options, executor: impl Executor) -> Result {
    match options.op {
        Op::Spawn | Op::Twice => spawn_and_end(&options, &executor).await,
        Op::Ring => ring(&options, &executor).await,
        Op::Remote => remote(&options, &executor).await?,
        Op::Sleep => sleep(&options, &executor).await?,
        Op::Idle => idle(&options, &executor).await?,
    }
    Ok(())
}

/// Prints the time of one operation.
pub fn report_since(began: Instant, operations: usize) {
    let ns = began.elapsed().as_nanos() as f64;
    report(&[("ns_per_op", ns / operations as f64)]);
}

/// A number of events that one task waits for.
#[derive(Debug, Default)]
struct Countdown {
    left: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

impl Countdown {
    fn of(count: usize) -> Rc<Self> {
        let countdown = Self::default();
        countdown.left.set(count);
        Rc::new(countdown)
    }

    fn count(&self) {
        let left = self.left.get() - 1;
        self.left.set(left);
        if left == 0
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
    }

    /// Waits until the number is 0.
    async fn done(&self) {
        poll_fn(|cx| {
            if self.left.get() == 0 {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Gives way once: wakes its own task.
pub async fn wake_oneself() {
    let mut is_woken = false;
    poll_fn(|cx| {
        if is_woken {
            return Poll::Ready(());
        }
        is_woken = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn spawn_and_end(options: &Options, executor: &impl Executor) {
    let countdown = Countdown::of(0);
    let is_woken = options.op == Op::Twice;
    let mut began = Instant::now();
    for batch in 0..=options.batches() {
        if batch == 1 {
            began = Instant::now(); // the first batch is the warm-up
        }
        countdown.left.set(BATCH);
        for _ in 0..BATCH {
            let countdown = Rc::clone(&countdown);
            executor.spawn(async move {
                if is_woken {
                    wake_oneself().await;
                }
                countdown.count();
            });
        }
        countdown.done().await;
    }
    report_since(began, options.batches() * BATCH);
}

/// Spawns tasks, a batch at a time. Returns when each task has counted its first poll.
async fn spawn_in_batches<F>(
    executor: &impl Executor,
    tasks: usize,
    polled: &Countdown,
    task: impl Fn(usize) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    for first in (0..tasks).step_by(BATCH) {
        let batch = BATCH.min(tasks - first);
        polled.left.set(batch);
        (first..first + batch).for_each(|place| executor.spawn(task(place)));
        polled.done().await;
    }
}

/// The wakers of tasks, by their places.
#[derive(Debug)]
struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    fn of(tasks: usize) -> Self {
        Self(RefCell::new(vec![Waker::noop().clone(); tasks]))
    }

    /// Keeps the waker of a task, unless it is the one that is kept.
    #[inline]
    fn keep(&self, place: usize, cx: &Context<'_>) {
        let kept = &mut self.0.borrow_mut()[place];
        if !kept.will_wake(cx.waker()) {
            kept.clone_from(cx.waker());
        }
    }
}

/// Tasks that wake each other. A task that has tokens passes them on.
#[derive(Debug)]
struct Ring {
    tokens: Vec<Cell<usize>>,
    wakers: Wakers,
    /// The number of wakes that are still to come.
    left: Cell<usize>,
    /// The tokens that are still passed on.
    active: Countdown,
}

impl Ring {
    fn poll(&self, place: usize, cx: &Context<'_>) {
        self.wakers.keep(place, cx);
        for _ in 0..self.tokens[place].take() {
            match self.left.get().checked_sub(1) {
                Some(left) => {
                    self.left.set(left);
                    self.pass_to((place + STRIDE) % self.tokens.len());
                }
                None => self.active.count(),
            }
        }
    }

    fn pass_to(&self, place: usize) {
        self.tokens[place].set(self.tokens[place].get() + 1);
        self.wakers.0.borrow()[place].wake_by_ref();
    }

    /// Passes tokens on for this number of wakes.
    async fn turn(&self, active: usize, wakes: usize) {
        self.left.set(wakes);
        self.active.left.set(active);
        let step = (self.tokens.len() / active).max(1);
        (0..active).for_each(|token| self.pass_to(token * step % self.tokens.len()));
        self.active.done().await;
    }
}

async fn ring(options: &Options, executor: &impl Executor) {
    let tasks = options.tasks();
    let ring = Rc::new(Ring {
        tokens: vec![Cell::new(0); tasks],
        wakers: Wakers::of(tasks),
        left: Cell::new(0),
        active: Countdown::default(),
    });
    let polled = Countdown::of(0);
    spawn_in_batches(executor, tasks, &polled, |place| {
        let (ring, polled) = (Rc::clone(&ring), Rc::clone(&polled));
        async move {
            polled.count();
            poll_fn(|cx| {
                ring.poll(place, cx);
                Poll::Pending
            })
            .await
        }
    })
    .await;
    ring.turn(options.active, tasks).await; // the warm-up
    let began = Instant::now();
    ring.turn(options.active, options.operations).await;
    report_since(began, options.operations);
}

/// A mark that another thread sets before it wakes a task, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Mark(AtomicBool);

async fn remote(options: &Options, executor: &impl Executor) -> Result {
    Side::Near.pin()?;
    let tasks = options.tasks();
    let marks: Arc<[Mark]> = (0..tasks).map(|_| Mark::default()).collect();
    let wakers = Rc::new(Wakers::of(tasks));
    let (polled, woken) = (Countdown::of(0), Countdown::of(options.operations));
    spawn_in_batches(executor, tasks, &polled, |place| {
        let (marks, wakers) = (Arc::clone(&marks), Rc::clone(&wakers));
        let (polled, woken) = (Rc::clone(&polled), Rc::clone(&woken));
        async move {
            polled.count();
            poll_fn(|cx| {
                wakers.keep(place, cx);
                if marks[place].0.swap(false, Ordering::AcqRel) {
                    woken.count();
                }
                Poll::Pending
            })
            .await
        }
    })
    .await;
    let (wakers, operations) = (wakers.0.borrow().clone(), options.operations);
    let waking = thread::spawn(move || wake_in_turn(&marks, &wakers, operations));
    woken.done().await;
    let ended = Instant::now();
    let began = waking.join().map_err(|_| "the waking thread panicked")??;
    let ns = (ended - began).as_nanos() as f64;
    report(&[("ns_per_op", ns / operations as f64)]);
    Ok(())
}

/// Wakes tasks in turn. A task is woken again only when it was polled, so each wake causes a poll.
/// Returns the time of the first wake.
fn wake_in_turn(
    marks: &[Mark],
    wakers: &[Waker],
    wakes: usize,
) -> std::result::Result<Instant, String> {
    /// The number of looks at a mark before this thread gives its core away.
    const LOOKS: usize = 1000;
    Side::Far.pin().map_err(|error| error.to_string())?;
    let began = Instant::now();
    for (mark, waker) in marks.iter().zip(wakers).cycle().take(wakes) {
        let mut looks = 0;
        while mark.0.load(Ordering::Acquire) {
            looks += 1;
            if looks % LOOKS == 0 {
                thread::yield_now();
            } else {
                spin_loop();
            }
        }
        mark.0.store(true, Ordering::Release);
        waker.wake_by_ref();
    }
    Ok(began)
}

async fn sleep(options: &Options, executor: &impl Executor) -> Result {
    let tasks = options.tasks();
    let (polled, ended) = (Countdown::of(0), Countdown::of(tasks));
    let seed = Cell::new(SEED);
    let resident = resident_bytes("self")?;
    let (start, began) = (processor_time(), Instant::now());
    spawn_in_batches(executor, tasks, &polled, |_| {
        let mut drawn = seed.get();
        let delay = LEAD + Duration::from_millis(1 + random(&mut drawn) % 100);
        seed.set(drawn);
        let sleep = executor.sleep_until(began + delay);
        let (polled, ended) = (Rc::clone(&polled), Rc::clone(&ended));
        async move {
            polled.count();
            sleep.await;
            ended.count();
        }
    })
    .await;
    if ended.left.get() < tasks {
        return Err("tasks ended while others were being spawned: lower --tasks".into());
    }
    let (arming, bytes) = (processor_time() - start, resident_bytes("self")? - resident);
    ended.done().await;
    let each = |took: Duration| took.as_nanos() as f64 / tasks as f64;
    report(&[
        ("ns_per_op", each(processor_time() - start)),
        ("ns_arm", each(arming)),
        ("bytes", bytes / tasks as f64),
    ]);
    Ok(())
}

/// Returns the processor time of this process so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

async fn idle(options: &Options, executor: &impl Executor) -> Result {
    let tasks = options.tasks();
    let (wakers, polled) = (Rc::new(Wakers::of(tasks)), Countdown::of(0));
    let (resident, began) = (resident_bytes("self")?, Instant::now());
    spawn_in_batches(executor, tasks, &polled, |place| {
        let (wakers, polled) = (Rc::clone(&wakers), Rc::clone(&polled));
        async move {
            let state = [place; 4]; // which lives as long as the task
            polled.count();
            poll_fn(|cx| -> Poll<()> {
                wakers.keep(place, cx);
                Poll::Pending
            })
            .await;
            black_box(&state);
        }
    })
    .await;
    let took = began.elapsed();
    let bytes = resident_bytes("self")? - resident;
    report(&[
        ("ns_per_op", took.as_nanos() as f64 / tasks as f64),
        ("bytes", bytes / tasks as f64),
    ]);
    Ok(())
}
