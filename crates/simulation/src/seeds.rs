//! Many runs with different seeds, and the report of the one that failed.

use std::env;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::faults::Faults;
use crate::simulation::{Report, Simulation};

/// The variable that replaces all seeds by one.
const ONE: &str = "SIMULATION_SEED";
/// The variable that sets how many seeds are run.
const COUNT: &str = "SIMULATION_SEEDS";
/// A seed that is a multiple of this is run twice, and both runs must have the same trace.
const REPEATED: u64 = 64;
/// The lines of a timeline that a failure shows.
const LINES_SHOWN: usize = 80;

/// A check that runs a simulation with many seeds, on all processors, until one run fails.
///
/// ```
/// use simulation::{Faults, Seeds};
///
/// Seeds::new(0..20).faults(Faults::none()).check(|| {
///     let before = simulation::now();
///     simulation::sleep(std::time::Duration::from_millis(simulation::random(1000)));
///     assert!(simulation::now() >= before);
/// });
/// ```
///
/// Two environment variables change what is run:
/// - `SIMULATION_SEED=17` runs the seed 17 alone, and prints its whole timeline.
/// - `SIMULATION_SEEDS=1000000` runs a million seeds, from the first seed of [`new`](Self::new) on.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `check`"]
pub struct Seeds {
    seeds: Range<u64>,
    faults: Faults,
    time_max: Option<Duration>,
}

impl Seeds {
    /// Makes a check that runs each seed of `seeds` once.
    pub fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            faults: Faults::default(),
            time_max: None,
        }
    }

    /// Sets the faults of every run. Default: [`Faults::slow`].
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets the longest virtual time that a run may take. A run that would take longer fails.
    /// Default: a day.
    pub const fn time_max(mut self, time: Duration) -> Self {
        self.time_max = Some(time);
        self
    }

    /// Runs `body` once for each seed. To find a run that does not depend on its seed alone, runs
    /// each seed that is a multiple of 64 twice, and compares the [hashes](Report::hash).
    ///
    /// # Panics
    /// - If a run fails. The message has the seed, the reason, the last 80 lines of the timeline,
    ///   and the environment variable that runs the seed again.
    /// - If the two runs of a seed differ. The message has the first line of the timelines that
    ///   differs.
    /// - If an environment variable is not a number.
    #[track_caller]
    pub fn check(self, body: impl Fn() + Clone + Send + Sync + 'static) {
        if let Some(seed) = number(ONE) {
            let report = self.simulation(seed).keep_timeline().run(body);
            eprint!("{}", report.timeline.as_deref().unwrap_or_default());
            assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
            return;
        }
        let mut seeds = self.seeds.clone();
        if let Some(count) = number(COUNT) {
            seeds.end = seeds.start.saturating_add(count);
        }
        let (next, has_failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
        let failure = Mutex::new(None);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !has_failed.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        if let Err(failed) = self.run(seed, &body) {
                            has_failed.store(true, Ordering::Relaxed);
                            if let Ok(mut failure) = failure.lock() {
                                failure.get_or_insert(failed);
                            }
                        }
                    }
                });
            }
        });
        let failure = failure.into_inner().ok().flatten();
        assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    }

    fn simulation(&self, seed: u64) -> Simulation {
        let simulation = Simulation::new(seed).faults(self.faults.clone());
        match self.time_max {
            Some(time) => simulation.time_max(time),
            None => simulation,
        }
    }

    fn run(&self, seed: u64, body: &(impl Fn() + Clone + 'static)) -> Result<(), String> {
        let report = self.simulation(seed).run(body.clone());
        if let Err(reason) = &report.outcome {
            return Err(self.failure(seed, reason, body));
        }
        if seed.is_multiple_of(REPEATED) {
            let again = self.simulation(seed).run(body.clone());
            if again.hash != report.hash {
                return Err(self.difference(seed, body));
            }
        }
        Ok(())
    }

    fn with_timeline(&self, seed: u64, body: &(impl Fn() + Clone + 'static)) -> Report {
        self.simulation(seed).keep_timeline().run(body.clone())
    }

    fn failure(&self, seed: u64, reason: &str, body: &(impl Fn() + Clone + 'static)) -> String {
        let timeline = self.with_timeline(seed, body).timeline.unwrap_or_default();
        let lines: Vec<&str> = timeline.lines().collect();
        let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        format!(
            "seed {seed} failed: {reason}\n\nthe end of its timeline of {} lines:\n{shown}\n\n\
             {ONE}={seed} in the environment runs it alone and prints all of them",
            lines.len()
        )
    }

    fn difference(&self, seed: u64, body: &(impl Fn() + Clone + 'static)) -> String {
        let (one, two) = (
            self.with_timeline(seed, body).timeline.unwrap_or_default(),
            self.with_timeline(seed, body).timeline.unwrap_or_default(),
        );
        let differs = one
            .lines()
            .zip(two.lines())
            .enumerate()
            .find(|(_, (one, two))| one != two);
        let place = differs.map_or_else(String::new, |(line, (one, two))| {
            format!("\nline {line} of one run:\n{one}\nof another:\n{two}")
        });
        format!(
            "seed {seed} has two different traces: the program depends on something else than the \
             simulation, for example on the order of a HashMap{place}"
        )
    }
}

/// Returns the number in an environment variable, if it is set.
fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    let number = value.parse();
    assert!(number.is_ok(), "{variable}={value} is no number");
    number.ok()
}
