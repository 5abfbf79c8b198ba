//! W1, the spike: a thread hands over tasks as fast as it can, to a loop that sleeps until they
//! come.

use std::thread;
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Result, at_least_one, report};

/// Which tasks, and how many.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What a task is
    #[arg(long, value_enum, default_value_t = Form::Value)]
    pub form: Form,
    /// Tasks in all
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one::<u64>())]
    pub tasks: u64,
}

/// What a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A number
    Value,
    /// A closure that captures a number
    Closure,
}

/// What the tasks have done, which the loop shares with them.
#[derive(Debug)]
pub struct Tally {
    ran: u64,
    sum: u64,
    goal: u64,
}

impl Tally {
    /// What each task does.
    #[inline]
    pub const fn add(&mut self, value: u64) {
        self.ran += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// Whether every task has run.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.ran >= self.goal
    }
}

/// A closure as it is handed over where nothing else takes the place of the box.
pub type Job = Box<dyn FnOnce(&mut Tally) + Send>;

/// A task of either form, for loops that know only values.
pub trait Task: Send + 'static {
    /// The task of this number.
    fn new(value: u64) -> Self;

    /// Does it.
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

/// Calls `send` with every number on a thread of its own, and `run` here, which runs the loop until
/// the tally is done and gives the writes of an eventfd that it took, if it knows them; prints the
/// figures.
///
/// # Errors
/// Those of `run`, and that a task was lost or came twice.
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
        // What it holds, it holds until all is sent.
        drop(send);
        began
    });
    let writes = run(&mut tally)?;
    let ended = Instant::now();
    let began = producer.join().map_err(|_| "the producer panicked")?;
    if tally.ran != goal || tally.sum != goal * goal.saturating_sub(1) / 2 {
        return Err(format!("{} tasks of {goal}, sum {}", tally.ran, tally.sum).into());
    }
    let each = 1.0 / goal as f64;
    let mut figures = vec![("ns_per_op", (ended - began).as_nanos() as f64 * each)];
    figures.extend(writes.map(|writes| ("writes_per_op", writes as f64 * each)));
    report(&figures);
    Ok(())
}
