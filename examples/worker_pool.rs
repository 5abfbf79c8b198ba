//! Worker pool: producer threads send tasks to the loops of worker threads. Shows: loops on threads
//! of their own, notification queues, and their cost compared to one eventfd for each task. Leaves
//! out: results, cancelling.
//!
//! Run: cargo run --release --example worker_pool
//! Try: -- --spike 1000000, then with --method eventfd

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use reactor::{
    Capacity, Context, EventFd, Interest, LoopPool, Next, Receiver, Registry, Sender, errno,
    notification_queue,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

/// The pause after which a producer tries again when no file descriptor is left.
const FILES_PAUSE: Duration = Duration::from_micros(100);

/// Sends tasks from producer threads to worker threads.
#[derive(Parser)]
struct Options {
    /// Worker threads, each with its own loop
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Producer threads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    producers: u16,
    /// Tasks a second, from each producer
    #[arg(long, value_name = "TASKS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How long to issue tasks
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u32,
    /// Issue this many tasks in total, as fast as possible, instead of --rate and --seconds
    #[arg(long, value_name = "TASKS", conflicts_with_all = ["rate", "seconds"])]
    spike: Option<u64>,
    /// How a task reaches its worker
    #[arg(long, value_enum, default_value_t = Method::Queue)]
    method: Method,
    /// Print only the last line, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Through a notification queue: the worker is woken only if it sleeps
    Queue,
    /// An eventfd for each task, registered, written, read and closed
    Eventfd,
}

/// A task from a producer.
struct Task {
    number: u64,
    /// The event that the worker waits for before it does the task.
    start: Option<EventFd>,
}

/// The state of a worker's loop.
#[derive(Default)]
struct Worker {
    done: u64,
    /// The sum of the task numbers. The sum over all workers shows that each task was done once.
    sum: u64,
    last: Option<Instant>,
    sleeps: u64,
    signals: u64,
}

impl Worker {
    fn do_task(&mut self, number: u64) {
        self.done += 1;
        self.sum = self.sum.wrapping_add(number);
    }

    /// Records the metrics at the end of the work.
    fn note(&mut self, registry: &Registry<Self>) {
        let metrics = registry.metrics();
        (self.last, self.sleeps, self.signals) =
            (Some(Instant::now()), metrics.sleeps, metrics.wakeups);
    }
}

fn main() -> ExitCode {
    // A task that fails is logged as a warning by the loop of its worker.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker_pool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    if options.method == Method::Eventfd {
        raise_open_files_limit(options.json)?;
    }
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..options.workers)
        .map(|_| notification_queue(Capacity::Unbounded))
        .unzip();
    let pool = LoopPool::spawn(options.workers.into(), "worker-", |_, _| {
        Ok(Worker::default())
    })?;
    // In reverse order, since `pop` takes the last receiver first.
    for number in (0..pool.len()).rev() {
        let receiver = receivers.pop().ok_or(ErrorKind::NotFound)?;
        let worker = pool.get(number).ok_or(ErrorKind::NotFound)?;
        worker.call(|cx| serve(receiver, cx))??;
    }

    let issued = AtomicU64::new(0);
    // Locked until all producers are there. They do nothing if one of them cannot be started.
    let complete = Mutex::new(false);
    let mut began = Instant::now();
    let produced = thread::scope(|scope| {
        let mut all_started = complete.lock().map_err(|_| ErrorKind::Other)?;
        let mut producers = Vec::new();
        for producer in 0..u64::from(options.producers) {
            let (senders, issued, complete) = (senders.clone(), &issued, &complete);
            let work = move || match complete.lock().map(|complete| *complete) {
                Ok(true) => produce(options, producer, &senders, issued),
                _ => Ok(()),
            };
            let started = thread::Builder::new().spawn_scoped(scope, work);
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("the thread of a producer: {error}"))
            };
            producers.push(started.map_err(named)?);
        }
        began = Instant::now();
        *all_started = true;
        drop(all_started);
        drop(senders); // so that the queues end with their producers
        producers.into_iter().try_for_each(|producer| {
            producer
                .join()
                .map_err(|_| io::Error::other("a producer panicked"))?
        })
    });
    // The error of a worker says why a producer could not reach it.
    let workers = pool.join()?;
    produced?;
    report(options, issued.into_inner(), began, &workers)
}

/// Handles the tasks of a worker's queue, until every producer has ended.
fn serve(tasks: Receiver<Task>, cx: &mut Context<'_, Worker>) -> io::Result<()> {
    cx.registry.consume(tasks, |task, cx| {
        match task {
            None => cx.state.note(cx.registry),
            Some(Task {
                number,
                start: None,
            }) => cx.state.do_task(number),
            Some(Task {
                number,
                start: Some(start),
            }) => {
                cx.registry
                    .add(start, Interest::READABLE, move |start, cx| {
                        start.try_io(Interest::READABLE, |start| start.read())?;
                        cx.state.do_task(number);
                        // The last task may come after the end of the queue.
                        cx.state.note(cx.registry);
                        Ok(Next::Remove)
                    })?;
            }
        }
        Ok(Next::Keep)
    })?;
    Ok(())
}

/// Issues the tasks of one producer, to the workers in turn.
fn produce(
    options: &Options,
    producer: u64,
    senders: &[Sender<Task>],
    issued: &AtomicU64,
) -> io::Result<()> {
    let producers = u64::from(options.producers);
    let (count, pause) = match options.spike {
        Some(tasks) => (
            tasks / producers + u64::from(producer < tasks % producers),
            None,
        ),
        None => (
            u64::from(options.rate) * u64::from(options.seconds),
            Some(Duration::from_secs(1) / options.rate),
        ),
    };
    // Each pause ends at a planned time, so delays of single sleeps do not add up.
    let mut next = Instant::now();
    for (turn, number) in (0..count).map(|turn| (turn, turn * producers + producer)) {
        let sender = &senders[(producer + turn) as usize % senders.len()];
        let start = if options.method == Method::Eventfd {
            Some(signalled()?)
        } else {
            None
        };
        sender
            .try_send(Task { number, start })
            .map_err(|_| io::Error::other("a worker is gone"))?;
        if let Some(pause) = pause {
            next += pause;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    issued.fetch_add(count, Ordering::Relaxed);
    Ok(())
}

/// Returns an eventfd that was written. If no file descriptor is left, waits until the workers have
/// closed some.
fn signalled() -> io::Result<EventFd> {
    loop {
        match EventFd::counter(0) {
            Ok(event) => {
                event.add(1)?;
                return Ok(event);
            }
            Err(error) if errno(&error) == Some(Errno::MFILE.raw_os_error()) => {
                thread::sleep(FILES_PAUSE)
            }
            Err(error) => return Err(error),
        }
    }
}

/// Raises the limit of open files to its maximum, which limits the number of tasks in flight.
fn raise_open_files_limit(quiet: bool) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    if let (false, Some(current), Some(maximum)) = (quiet, current, maximum) {
        say(format_args!(
            "up to {maximum} tasks at a time, an open file each (ulimit -n; it was {current})"
        ))?;
    }
    Ok(())
}

/// Writes a line to standard output.
fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))
}

fn report(options: &Options, tasks: u64, began: Instant, workers: &[Worker]) -> io::Result<()> {
    let done: u64 = workers.iter().map(|worker| worker.done).sum();
    let sum = workers
        .iter()
        .fold(0_u64, |sum, worker| sum.wrapping_add(worker.sum));
    // The numbers start at 0 and each occurs once, in any order. At a steady rate every producer
    // issues the same number of tasks.
    let expected = (0..tasks).fold(0_u64, u64::wrapping_add);
    if (done, sum) != (tasks, expected) {
        return Err(io::Error::other(format!(
            "{done} of {tasks} tasks were done, or not each of them once"
        )));
    }
    let last = workers
        .iter()
        .filter_map(|worker| worker.last)
        .max()
        .unwrap_or(began);
    let seconds = last.saturating_duration_since(began).as_secs_f64();
    let ns_per_task = if tasks == 0 {
        0.0
    } else {
        seconds * 1e9 / tasks as f64
    };
    let wakeups: u64 = workers.iter().map(|worker| worker.sleeps).sum();
    let signals: u64 = workers.iter().map(|worker| worker.signals).sum();
    let (method, own) = match options.method {
        Method::Queue => ("queue", 0),
        Method::Eventfd => ("eventfd", tasks),
    };
    let writes = signals + own;
    if options.json {
        let per_worker: Vec<_> = workers
            .iter()
            .map(|worker| worker.done.to_string())
            .collect();
        return say(format_args!(
            "{{\"method\": \"{method}\", \"tasks\": {tasks}, \"workers\": {}, \"producers\": {}, \"seconds\": {seconds:.6}, \
             \"ns_per_task\": {ns_per_task:.1}, \"wakeups\": {wakeups}, \"eventfd_writes\": {writes}, \"per_worker\": [{}]}}",
            workers.len(),
            options.producers,
            per_worker.join(", "),
        ));
    }
    for (number, worker) in workers.iter().enumerate() {
        say(format_args!("worker-{number}: {} tasks", worker.done))?;
    }
    let each = if options.spike.is_some() {
        format!(": {ns_per_task:.0} ns each")
    } else {
        String::new()
    };
    say(format_args!(
        "{tasks} tasks by {method} in {seconds:.3} s{each}, {wakeups} wakeups, {writes} eventfd writes"
    ))
}
