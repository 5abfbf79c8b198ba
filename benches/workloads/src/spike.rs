//! W1, the spike: a thread sends tasks as fast as it can, to a loop that sleeps until they arrive.

use std::thread;
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Result, at_least_one, report};

/// The kind and the number of the tasks.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Kind of task
    #[arg(long, value_enum, default_value_t = Form::Value)]
    pub form: Form,
    /// Total number of tasks
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one::<u64>())]
    pub tasks: u64,
}

/// The kind of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A number
    Value,
    /// A closure that captures a number
    Closure,
}

/// The sum of the tasks, which the loop shares with them.
#[derive(Debug)]
pub struct Tally {
    ran: u64,
    sum: u64,
    goal: u64,
}

impl Tally {
    /// Records a task. Every task calls this.
    #[inline]
    pub const fn add(&mut self, value: u64) {
        self.ran += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// Returns `true` if every task has run.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.ran >= self.goal
    }
}

/// A boxed closure, for loops that do not store closures in another way.
pub type Job = Box<dyn FnOnce(&mut Tally) + Send>;

/// A task of either kind, for loops that pass only values.
pub trait Task: Send + 'static {
    /// Returns the task with this number.
    fn new(value: u64) -> Self;

    /// Runs the task.
    fn run(self, tally: &mut Tally);
}

impl Task for u64 {
    #[inline]
    fn new(value: u64) -> Self {
        value
    }

    #[inline]
    fn run(self, tally: &mut Tally) {
        tally.add(self);
    }
}

impl Task for Job {
    #[inline]
    fn new(value: u64) -> Self {
        Box::new(move |tally| tally.add(value))
    }

    #[inline]
    fn run(self, tally: &mut Tally) {
        self(tally);
    }
}

/// Measures tasks from another thread. Calls `send` with every number on a new thread, and `run` on
/// this one. `run` runs the loop until the tally is done, and returns the number of writes to an
/// eventfd, if it knows that. Prints the figures.
///
/// # Errors
/// The errors of `run`, and an error if a task was lost or ran twice.
pub fn measure(
    options: &Options,
    mut send: impl FnMut(u64) + Send + 'static,
    run: impl FnOnce(&mut Tally) -> Result<Option<u64>>,
) -> Result {
    let goal = options.tasks;
    let mut tally = Tally {
        ran: 0,
        sum: 0,
        goal,
    };
    let producer = thread::spawn(move || {
        let began = Instant::now();
        (0..goal).for_each(&mut send);
        // The values that `send` has captured live until all tasks are sent.
        drop(send);
        began
    });
    let writes = run(&mut tally)?;
    let ended = Instant::now();
    let began = producer.join().map_err(|_| "the producer panicked")?;
    if tally.ran != goal || tally.sum != goal * goal.saturating_sub(1) / 2 {
        return Err(format!(
            "{} tasks of {goal} ran, and their sum is {}",
            tally.ran, tally.sum
        )
        .into());
    }
    let each = 1.0 / goal as f64;
    let mut figures = vec![("ns_per_op", (ended - began).as_nanos() as f64 * each)];
    figures.extend(writes.map(|writes| ("writes_per_op", writes as f64 * each)));
    report(&figures);
    Ok(())
}
