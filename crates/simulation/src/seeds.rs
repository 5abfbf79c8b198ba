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
/// One in so many seeds is run twice, and must have the same trace.
const REPEATED: u64 = 64;
/// The lines of a timeline that a failure shows.
const LINES_SHOWN: usize = 80;

/// Runs a simulation with many seeds, on all processors, until one fails.
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
/// - `SIMULATION_SEED=17` runs this seed alone, and prints its whole timeline.
/// - `SIMULATION_SEEDS=1000000` runs so many seeds, from the first one on.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `check`"]
pub struct Seeds {
    seeds: Range<u64>,
    faults: Faults,
    time_max: Option<Duration>,
}

impl Seeds {
    /// Makes a check of these seeds.
    pub fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            faults: Faults::default(),
            time_max: None,
        }
    }

    /// Sets what goes wrong. Default: [`Faults::slow`].
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Sets the longest time that one run may take, in its own time. Default: a day.
    pub const fn time_max(mut self, time: Duration) -> Self {
        self.time_max = Some(time);
        self
    }

    /// Runs `body` once for each seed. One seed in 64 is run twice, to see that the run depends on
    /// its seed alone.
    ///
    /// # Panics
    /// If a run fails, with the seed, the reason, the end of its timeline, and the command that
    /// runs it again. If a run that is repeated has another trace. If an environment variable is
    /// no number.
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
