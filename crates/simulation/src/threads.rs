//! The threads of a simulation: coroutines on one thread of the system, one of which runs at a
//! time.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use generator::{Generator, Gn};
use handlers::simulation::set_tasks_aside;
use reactor::simulation::{ThreadNumber, set_context_aside};

use crate::world::{ProcessNumber, State, World};

/// The stack of a thread, in words: 1 MiB. The kernel provides only the part that is used.
const STACK_WORDS: usize = (1 << 20) / size_of::<usize>();

/// A run in which threads go on more often than this does not come to an end.
const STEPS_MAX: u64 = 10_000_000;

/// The code of a thread.
pub(crate) struct Body(pub(crate) Box<dyn FnOnce()>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) name: Rc<str>,
    pub(crate) process: ProcessNumber,
    pub(crate) condition: Condition,
}

/// The reason why a thread does not run. Times are in nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition {
    Ready {
        at: u64,
    },
    /// In the wait of a loop.
    Waiting {
        epoll: u64,
        deadline: Option<u64>,
        /// The progress when it last looked.
        seen: u64,
    },
    /// For another thread.
    Blocked {
        deadline: Option<u64>,
        seen: u64,
    },
    Ended,
}

thread_local! {
    /// The body of a thread that is about to start. A coroutine takes only closures that are
    /// `Send`, although it stays on this thread.
    static STARTING: RefCell<Option<Body>> = const { RefCell::new(None) };
    /// Whether a thread runs that can be suspended.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    /// Whether the present thread is being ended from outside.
    static ENDING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<Box<dyn Any + Send>>> = const { RefCell::new(None) };
}

/// Returns `true` if the present thread cannot be suspended: it is being ended, or none runs.
///
/// Unwinds a thread that is being ended, unless it unwinds already.
pub(crate) fn is_unwinding() -> bool {
    if ENDING.get() && !std::thread::panicking() {
        resume_unwind(Box::new(Ended));
    }
    !RUNNING.get() || std::thread::panicking()
}

/// Suspends the present thread until the scheduler chooses it again. Its context and its tasks
/// stay with it.
pub(crate) fn suspend() {
    let (_context, _tasks) = (set_context_aside(), set_tasks_aside());
    #[expect(
        deprecated,
        reason = "the scoped form needs a handle that a system call has not"
    )]
    generator::yield_with(());
    let _ = is_unwinding();
}

/// The coroutines of all threads.
#[derive(Default)]
pub(crate) struct Threads {
    coroutines: BTreeMap<ThreadNumber, Generator<'static, (), ()>>,
}

impl Threads {
    fn start(&mut self, number: ThreadNumber, body: Body) {
        STARTING.set(Some(body));
        let mut coroutine = Gn::<()>::new_opt(STACK_WORDS, run_body);
        // Runs up to the first suspension, which takes the body.
        coroutine.resume();
        self.coroutines.insert(number, coroutine);
    }

    /// Runs threads until all have ended, nothing is left to happen, or one has failed. Returns
    /// the reason of a failure.
    pub(crate) fn run(&mut self, world: &World, time_max: u64) -> Result<(), String> {
        let mut steps = 0;
        loop {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(format!(
                    "threads have run {STEPS_MAX} times, and these have not ended: {}",
                    world.with(|state| state.living())
                ));
            }
            for (number, body) in world.with(|state| std::mem::take(&mut state.spawned)) {
                self.start(number, body);
            }
            let next = world.with(|state| state.next_thread(time_max))?;
            let Some(number) = next else {
                return Ok(());
            };
            let Some(coroutine) = self.coroutines.get_mut(&number) else {
                continue;
            };
            RUNNING.set(true);
            coroutine.resume();
            RUNNING.set(false);
            if coroutine.is_done() {
                self.coroutines.remove(&number);
                world.with(|state| state.end_thread(number));
            }
            self.end_killed(world);
            if let Some(panic) = PANIC.take() {
                let name = world.with(|state| Rc::clone(&state.threads[number as usize].name));
                return Err(format!("thread {name:?} panicked: {}", message(&*panic)));
            }
            if let Some(failure) = world.with(|state| state.failure.take()) {
                return Err(failure);
            }
        }
    }

    /// Ends all threads that are left.
    pub(crate) fn end_all(&mut self, world: &World) {
        while let Some((number, coroutine)) = self.coroutines.pop_first() {
            end(world, number, coroutine);
        }
    }

    /// Ends the threads of the processes that were killed.
    fn end_killed(&mut self, world: &World) {
        for number in world.with(State::take_killed) {
            if let Some(coroutine) = self.coroutines.remove(&number) {
                end(world, number, coroutine);
            }
        }
    }
}

/// Ends a thread: its stack is unwound, and nothing that it calls meanwhile blocks.
fn end(world: &World, number: ThreadNumber, mut coroutine: Generator<'static, (), ()>) {
    let before = world.with(|state| std::mem::replace(&mut state.current, number));
    ENDING.set(true);
    coroutine.resume();
    ENDING.set(false);
    world.with(|state| {
        state.end_thread(number);
        state.current = before;
    });
}

/// The payload of the panic that ends a thread from outside.
struct Ended;

/// The body of every coroutine.
fn run_body() {
    let _tasks = set_tasks_aside(); // those that the thread leaves behind end with it
    let body = STARTING.take();
    let result = catch_unwind(AssertUnwindSafe(|| {
        suspend();
        if let Some(Body(body)) = body {
            body();
        }
    }));
    if let Err(panic) = result
        && !panic.is::<Ended>()
    {
        PANIC.set(Some(panic));
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "no text",
    }
}

impl State {
    /// Chooses the thread that runs next, and lets time pass until there is one. Returns `None` if
    /// all have ended.
    ///
    /// # Errors
    /// The reason why no thread will ever run again, or that the time is over.
    fn next_thread(&mut self, time_max: u64) -> Result<Option<ThreadNumber>, String> {
        loop {
            self.settle();
            let runnable: Vec<ThreadNumber> = (0..self.threads.len() as ThreadNumber)
                .filter(|number| self.is_runnable(*number))
                .collect();
            if !runnable.is_empty() {
                let drawn = self.network.draw.index(runnable.len());
                self.current = runnable[drawn];
                return Ok(Some(runnable[drawn]));
            }
            if self.threads.iter().all(Thread::has_ended) {
                return Ok(None);
            }
            let Some(at) = self.next_time() else {
                return Err(format!(
                    "nothing will ever happen again, but these threads wait: {}",
                    self.living()
                ));
            };
            if at > time_max {
                return Err(format!(
                    "the time of the simulation is over, and these threads have not ended: {}",
                    self.living()
                ));
            }
            self.network.now = self.network.now.max(at);
        }
    }

    fn living(&self) -> String {
        let living = self.threads.iter().filter(|thread| !thread.has_ended());
        let living: Vec<String> = living
            .map(|thread| format!("{} ({:?})", thread.name, thread.condition))
            .collect();
        living.join(", ")
    }

    fn is_runnable(&self, number: ThreadNumber) -> bool {
        let thread = &self.threads[number as usize];
        let now = self.network.now;
        let is_due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now);
        let is_runnable = match thread.condition {
            Condition::Ready { at } => at <= now,
            Condition::Waiting {
                epoll,
                deadline,
                seen,
            } => self.epoll_has_reports(epoll) || is_due(deadline) || seen < self.progress,
            Condition::Blocked { deadline, seen } => is_due(deadline) || seen < self.progress,
            Condition::Ended => false,
        };
        is_runnable && self.processes[thread.process].stopped_until <= now
    }

    /// Returns the next time at which anything happens by itself.
    fn next_time(&self) -> Option<u64> {
        let thread_times = self.threads.iter().filter_map(|thread| {
            let stopped_until = self.processes[thread.process].stopped_until;
            let at = match thread.condition {
                Condition::Ready { at } => Some(at),
                Condition::Waiting { deadline, .. } | Condition::Blocked { deadline, .. } => {
                    // A stopped process looks again when it goes on.
                    let goes_on = Some(stopped_until).filter(|until| *until > self.network.now);
                    [deadline, goes_on].into_iter().flatten().min()
                }
                Condition::Ended => None,
            };
            at.map(|at| at.max(stopped_until))
        });
        thread_times.chain(self.network.next_event_at()).min()
    }

    /// Takes the threads of killed processes that have not ended.
    fn take_killed(&mut self) -> Vec<ThreadNumber> {
        if !std::mem::take(&mut self.has_killed) {
            return Vec::new();
        }
        (0..self.threads.len() as ThreadNumber)
            .filter(|number| {
                let thread = &self.threads[*number as usize];
                self.processes[thread.process].is_killed && !thread.has_ended()
            })
            .collect()
    }

    fn end_thread(&mut self, number: ThreadNumber) {
        self.threads[number as usize].condition = Condition::Ended;
        self.progress += 1;
        self.record("ends", number, 0);
    }
}

impl Thread {
    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.condition, Condition::Ended)
    }
}
