//! One run of a simulation, and its report.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::simulation as seam;

use crate::draw::{Draw, nanos};
use crate::faults::Faults;
use crate::network::Network;
use crate::threads::{Body, Condition, Threads, is_unwinding, suspend};
use crate::trace::Trace;
use crate::world::{Process, ProcessNumber, World};

thread_local! {
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Returns the world of the simulation that runs on this thread.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub(crate) fn world() -> Rc<World> {
    let current = CURRENT.with_borrow(Option::clone);
    #[expect(clippy::expect_used, reason = "documented: a mistake of the test")]
    current.expect("no simulation runs on this thread: call this from within `Simulation::run`")
}

/// A simulation of one seed, before its run.
///
/// ```
/// use simulation::Simulation;
///
/// let report = Simulation::new(42).run(|| {
///     let before = simulation::now();
///     simulation::sleep(std::time::Duration::from_secs(3600));
///     assert!(simulation::now() - before >= std::time::Duration::from_secs(3600));
/// });
/// assert!(report.outcome.is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    faults: Faults,
    time_max: Duration,
    keeps_timeline: bool,
}

/// The result of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// `Ok` if the run has passed all [checks](crate#checks-of-a-run). Otherwise the reason why the
    /// run has failed.
    pub outcome: Result<(), String>,
    /// A hash of everything that has happened. Two runs of the same seed have the same hash, unless
    /// the program depends on something outside of the simulation: the time of the system,
    /// addresses in memory, the order of a `HashMap`, the number of a file descriptor, another
    /// thread, a file. The hash covers the number of bytes that are sent, but not their contents.
    pub hash: u64,
    /// The number of events of the run, for example calls, packets and wakes.
    pub events: u64,
    /// The virtual time that has passed in the simulation.
    pub time: Duration,
    /// The timeline: a line for each event of the run. `None` without
    /// [`Simulation::keep_timeline`].
    pub timeline: Option<String>,
}

impl Simulation {
    /// Makes a simulation that draws everything from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::default(),
            time_max: Duration::from_secs(24 * 3600),
            keeps_timeline: false,
        }
    }

    /// Sets the faults. Default: [`Faults::slow`].
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets the longest virtual time that the run may take. A run that would take longer fails.
    /// Default: a day.
    #[must_use]
    pub const fn time_max(mut self, time: Duration) -> Self {
        self.time_max = time;
        self
    }

    /// Makes the [report](Report::timeline) contain a line for each event. Default: the report has
    /// only the hash of the events.
    #[must_use]
    pub const fn keep_timeline(mut self) -> Self {
        self.keeps_timeline = true;
        self
    }

    /// Runs `body` as the first simulated thread, until all simulated threads have ended. Loops,
    /// connections and pools that are made meanwhile on this thread belong to the simulation. If
    /// the run fails, the threads that have not ended are unwound.
    ///
    /// Each simulated thread has its own current `RequestContext` and its own spans, as a real
    /// thread has, if `reactor` has the feature `request-context`. Nothing is current when it
    /// starts.
    ///
    /// # Panics
    /// If called from within another simulation, or if the process has no descriptor left for an
    /// epoll instance.
    pub fn run(self, body: impl FnOnce() + 'static) -> Report {
        // No thread has the context or the tasks of the caller: they end in any order.
        let _context = seam::set_context_aside();
        let _tasks = handlers::simulation::set_tasks_aside();
        let trace = Trace::new(self.keeps_timeline);
        let network = Network::new(Draw::new(self.seed), self.faults, trace);
        #[expect(clippy::expect_used, reason = "documented")]
        let world = World::new(network).expect("an epoll instance for the simulation");
        let before = CURRENT.replace(Some(Rc::clone(&world)));
        assert!(before.is_none(), "a simulation runs on this thread already");
        let installed = (
            seam::install(Rc::clone(&world) as Rc<dyn seam::System>),
            handlers::simulation::install(
                Rc::clone(&world) as Rc<dyn handlers::simulation::Sockets>
            ),
        );
        world.with(|state| {
            state.processes.push(Process::default());
            state.add_thread("main", Some(0), Body(Box::new(body)));
        });

        let mut threads = Threads::default();
        let mut outcome = threads.run(&world, nanos(self.time_max));
        threads.end_all(&world);
        let left = world.with(|state| state.open_sockets());
        if outcome.is_ok() && left > 0 {
            outcome = Err(format!("{left} sockets are left open"));
        }
        drop(installed);
        CURRENT.set(None);
        world.with(|state| Report {
            outcome,
            hash: state.network.trace.hash(),
            events: state.network.trace.events(),
            time: Duration::from_nanos(state.network.now),
            timeline: state.network.trace.take_lines(),
        })
    }
}

/// The handle of a simulated thread, made by [`process`] or [`thread`]. `R` is the type that the
/// body of the thread returns. Dropping the handle leaves the thread running.
pub struct Handle<R> {
    process: ProcessNumber,
    result: Rc<RefCell<Option<R>>>,
}

impl<R: 'static> Handle<R> {
    /// Blocks until the body of the thread has returned, and returns its result. If the process of
    /// the thread is killed before that, this call blocks forever.
    ///
    /// # Panics
    /// Outside of a simulation, and if the simulation ends first.
    pub fn join(self) -> R {
        wait_until(|| self.is_over());
        #[expect(clippy::expect_used, reason = "documented")]
        self.result
            .take()
            .expect("the simulation ended before the thread")
    }

    /// Kills the process of the thread, as `SIGKILL` does. All threads of the process are unwound,
    /// and its sockets are closed. The bytes that destructors write to a socket meanwhile are not
    /// sent.
    ///
    /// # Panics
    /// Outside of a simulation, and if called by a thread of the same process.
    pub fn kill(self) {
        world().with(|state| {
            let current = state.threads[state.current as usize].process;
            assert_ne!(
                current, self.process,
                "a thread cannot kill its own process"
            );
            state.processes[self.process].is_killed = true;
            state.has_killed = true;
            state.progress += 1;
            state.record("kills", self.process as u64, 0);
        });
        // The scheduler ends its threads now.
        sleep(Duration::ZERO);
    }

    /// Stops the process of the thread for `time`, as `SIGSTOP` and `SIGCONT` do.
    ///
    /// # Panics
    /// Outside of a simulation.
    pub fn stop(&self, time: Duration) {
        world().with(|state| {
            state.stop_process(self.process, time);
        });
    }

    /// Returns `true` if the body of the thread has returned. If the process of the thread was
    /// killed before that, returns `false` forever.
    pub fn is_over(&self) -> bool {
        self.result.borrow().is_some()
    }
}

impl<R> fmt::Debug for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

fn start<R: 'static>(
    name: &str,
    is_process: bool,
    body: impl FnOnce() -> R + 'static,
) -> Handle<R> {
    let result = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&result);
    let body = Body(Box::new(move || {
        let returned = body();
        kept.replace(Some(returned));
    }));
    let process = world().with(|state| {
        let process = is_process.then(|| {
            state.processes.push(Process::default());
            state.processes.len() - 1
        });
        state.progress += 1;
        let number = state.add_thread(name, process, body);
        state.threads[number as usize].process
    });
    Handle { process, result }
}

/// Starts a process: a thread, named `name`, which runs `body`. The threads that it starts belong
/// to the same process. [`Handle::kill`] and [`Handle::stop`] act on a whole process, and the other
/// processes go on.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use simulation::Simulation;
///
/// let report = Simulation::new(1).run(|| {
///     let counted = Rc::new(Cell::new(0));
///     let counts = Rc::clone(&counted);
///     let counter = simulation::process("counter", move || {
///         counts.set(counts.get() + 1);
///         "done"
///     });
///     assert_eq!(counter.join(), "done");
///     assert_eq!(counted.get(), 1);
/// });
/// assert!(report.outcome.is_ok());
/// ```
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn process<R: 'static>(name: &str, body: impl FnOnce() -> R + 'static) -> Handle<R> {
    start(name, true, body)
}

/// Starts a thread, named `name`, which runs `body`. The thread belongs to the process of the
/// calling thread.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn thread<R: 'static>(name: &str, body: impl FnOnce() -> R + 'static) -> Handle<R> {
    start(name, false, body)
}

/// Returns the virtual time of the simulation.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn now() -> Instant {
    world().with(|state| state.now())
}

/// Suspends the calling thread for `time`. Meanwhile other threads run.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn sleep(time: Duration) {
    let world = world();
    if is_unwinding() {
        return;
    }
    world.with(|state| {
        let at = state.network.now.saturating_add(nanos(time));
        state.progress += 1;
        state.set_condition(Condition::Ready { at });
    });
    suspend();
}

/// Lets `time` pass while the calling thread is busy, as in a handler that computes or blocks.
/// Meanwhile no other thread of this process runs.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn compute(time: Duration) {
    let world = world();
    let end = world.with(|state| {
        let end = state.network.now.saturating_add(nanos(time));
        let process = state.threads[state.current as usize].process;
        state.processes[process].stopped_until = end;
        state.set_condition(Condition::Ready { at: end });
        end
    });
    if !is_unwinding() {
        suspend();
    }
    debug_assert!(is_unwinding() || world.with(|state| state.network.now >= end));
}

/// Suspends the calling thread until `is_over` returns `true`. Calls `is_over` again each time that
/// another thread or the network has done something.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn wait_until(is_over: impl FnMut() -> bool) {
    let _world = world();
    seam::block_until(None, is_over);
}

/// Draws a number below `end` from the seed. Returns 0 if `end` is 0.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn random(end: u64) -> u64 {
    world().with(|state| state.network.draw.below(end))
}

/// Adds the remark `text` to the timeline and to the hash of the run. The text must be the same in
/// each run of a seed. The text of an error is not: it may name a file descriptor, whose number is
/// that of the real process. Use the kind of the error. An [`Instant`] differs too, because [`now`]
/// counts from the real start of the run. Use the difference of two times.
///
/// A remark counts as something that has happened: no loop spins that waits between two remarks. If
/// your program takes many turns by a manual clock, add a remark when the clock moves, because the
/// simulation does not see these sleeps.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub fn note(text: &str) {
    world().with(|state| {
        state.forget_idle_waits();
        let name = state.threads.get(state.current as usize);
        let name = name.map_or_else(|| "".into(), |thread| Rc::clone(&thread.name));
        let network = &mut state.network;
        network.trace.note(network.now, &name, text);
    });
}
