//! Console loop: one wait for typed lines, timers, events set by other threads, child processes,
//! and stop signals.
//! Shows: the console, event objects, timers, the worker pool, the output of a child. Leaves out:
//! editing of lines.
//!
//! Run: cargo run --example console_loop
//! Try: help; or: printf 'after 1 hello\nrun uname\n' | target/debug/examples/console_loop

mod children;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use handlers::signal::{self, Arrival, Signal};
use handlers::{Console, ConsoleInput, Job, PoolHandle, WorkerPool};
use reactor::{Context, Event, Key, Missed, Next, Reactor, Remote, Then, TimerKey};
use tracing_subscriber::EnvFilter;

const HELP: &str = "\
help                  shows this text
status                shows counters, registrations and timers
after SECONDS TEXT    says TEXT once
every SECONDS TEXT    says TEXT repeatedly
work MILLISECONDS     keeps a worker busy for this long
cancel ID             cancels a timer, or abandons a work
post TEXT             says TEXT from another thread
run COMMAND...        runs a program and shows its output
quit                  ends at once";

/// Executes commands from standard input; `help` lists them.
#[derive(Parser)]
struct Options {}

/// The state that all callbacks share.
struct Shell {
    console: Key,
    timers: BTreeMap<u64, (TimerKey, String)>,
    works: BTreeMap<u64, Job>,
    /// The last number given to a timer, a work or a child.
    numbers: u64,
    lines: u64,
    children: usize,
    pool: PoolHandle<Self>,
    remote: Remote<Self>,
    posts: mpsc::Sender<String>,
    /// Set by other threads when a post is waiting.
    posted: Event,
    exit: Event,
    failure: Option<io::Error>,
}

impl Shell {
    /// Writes a line. If that fails, the program ends.
    fn say(&mut self, line: impl std::fmt::Display) {
        if let Err(error) = writeln!(io::stdout(), "{line}") {
            let error = io::Error::new(error.kind(), format!("standard output: {error}"));
            self.failure.get_or_insert(error);
            self.exit.set();
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

type Cx<'a> = Context<'a, Shell>;

/// Executes a line. The error is the message for the user.
fn obey(line: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let (name, rest) = split(line);
    match name {
        "" => {}
        "help" => cx.state.say(HELP),
        "status" => status(cx),
        "after" => after(rest, cx)?,
        "every" => every(rest, cx)?,
        "cancel" => cancel(rest, cx)?,
        "work" => work(rest, cx)?,
        "post" => post(rest, cx)?,
        "run" => children::run(rest, cx)?,
        "quit" => _ = cx.state.exit.set(), // it may be set already
        _ => {
            return Err(format!(
                "no such command: {}; help lists them",
                name.chars().take(20).collect::<String>()
            ));
        }
    }
    Ok(())
}

/// Returns the first word, and the rest.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

fn status(cx: &mut Cx<'_>) {
    let Shell {
        lines,
        children,
        timers,
        works,
        ..
    } = &*cx.state;
    let metrics = cx.registry.metrics();
    let mut text = format!(
        "{lines} lines, {} timers, {} works, {children} children; {} turns, {} sleeps, {} calls",
        timers.len(),
        works.len(),
        metrics.turns,
        metrics.sleeps,
        metrics.calls,
    );
    for registration in cx.registry.registrations() {
        text += &format!("\n{registration}");
    }
    for (number, (timer, said)) in timers {
        text += &match cx.registry.remaining(*timer) {
            Ok(Some(left)) => format!("\ntimer {number} in {:.3} s: {said}", left.as_secs_f64()),
            _ => format!("\ntimer {number} never: {said}"),
        };
    }
    cx.state.say(text);
}

/// Parses seconds and a text.
fn time_and_text(arguments: &str) -> Option<(Duration, String)> {
    let (seconds, text) = split(arguments);
    let delay = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    (!text.is_empty()).then(|| (delay, text.to_owned()))
}

fn after(arguments: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let (delay, text) = time_and_text(arguments).ok_or("usage: after SECONDS TEXT")?;
    let (number, said) = (cx.state.number(), text.clone());
    let timer = cx.registry.after(delay, move |cx| {
        cx.state.timers.remove(&number);
        cx.state.say(&said);
        Ok(Then::Done)
    });
    cx.state.timers.insert(number, (timer, text));
    cx.state.say(format_args!("timer {number}"));
    Ok(())
}

fn every(arguments: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let (period, text) = time_and_text(arguments).ok_or("usage: every SECONDS TEXT")?;
    let period = period.max(Duration::from_millis(1)); // the loop has other things to do
    let (number, said) = (cx.state.number(), text.clone());
    let timer = cx.registry.every(period, Missed::Skip, move |cx| {
        cx.state.say(&said);
        Ok(Next::Keep)
    });
    cx.registry
        .set_timer_background(timer)
        // In the foreground, the timer would keep the loop running for ever.
        .map_err(|error| error.to_string())?;
    cx.state.timers.insert(number, (timer, text));
    cx.state.say(format_args!("timer {number}"));
    Ok(())
}

fn cancel(number: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let number = number.parse().map_err(|_| "usage: cancel ID")?;
    if let Some(work) = cx.state.works.remove(&number) {
        // A finished work is not in the map. If it is running, its worker stays busy until it ends.
        work.abandon();
        cx.state.say(format_args!("abandoned work {number}"));
        return Ok(());
    }
    let (timer, text) = cx
        .state
        .timers
        .remove(&number)
        .ok_or_else(|| format!("no timer and no work {number}"))?;
    cx.registry
        .cancel(timer)
        .map_err(|error| error.to_string())?;
    cx.state
        .say(format_args!("cancelled timer {number}: {text}"));
    Ok(())
}

fn work(milliseconds: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let milliseconds = milliseconds
        .parse()
        .map(u32::into)
        .map_err(|_| "usage: work MILLISECONDS")?;
    let number = cx.state.number();
    // Stands for a job that takes long.
    let job = move || thread::sleep(Duration::from_millis(milliseconds));
    let done = move |result: Result<(), _>, cx: &mut Cx<'_>| {
        cx.state.works.remove(&number);
        match result {
            Ok(()) => cx
                .state
                .say(format_args!("work {number} done after {milliseconds} ms")),
            Err(panic) => cx.state.say(format_args!("work {number}: {panic}")),
        }
    };
    let work = cx
        .state
        .pool
        .submit(job, done)
        .map_err(|refused| refused.reason.to_string())?;
    cx.state.works.insert(number, work);
    cx.state.say(format_args!("work {number}"));
    Ok(())
}

fn post(text: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let (text, posts, posted) = (
        text.to_owned(),
        cx.state.posts.clone(),
        cx.state.posted.clone(),
    );
    let alive = cx.state.remote.keep_alive(); // keeps the loop running until the event is set
    let poster = cx.registry.spawn_worker("poster", move || {
        if posts.send(text).is_ok() {
            posted.set();
        }
        drop(alive);
    });
    poster
        .map(drop)
        .map_err(|error| format!("no thread: {error}"))
}

fn on_input(input: ConsoleInput<'_>, cx: &mut Cx<'_>) -> io::Result<Next> {
    cx.state.lines += 1;
    let outcome = match input {
        ConsoleInput::Line(line) => obey(line, cx),
        ConsoleInput::NotText(_) => Err("a line that is no text".to_owned()),
        ConsoleInput::TooLong => Err("a line that is too long".to_owned()),
        ConsoleInput::End => return Ok(Next::Remove), // the loop ends when nothing is pending
        ConsoleInput::Failed(error) => {
            let error = io::Error::new(error.kind(), format!("standard input: {error}"));
            cx.state.failure.get_or_insert(error);
            return Ok(Next::Remove);
        }
    };
    outcome.unwrap_or_else(|reason| cx.state.say(reason));
    Ok(Next::Keep)
}

/// Ends gracefully: work in progress is finished, and timers are cancelled.
fn end_gently(arrival: &Arrival, cx: &mut Cx<'_>) {
    let _ = cx.registry.remove(cx.state.console); // it may have ended
    for (timer, _) in std::mem::take(&mut cx.state.timers).into_values() {
        let _ = cx.registry.cancel(timer); // the timers of the map exist
    }
    cx.state.say(format_args!(
        "{}: ending; once more to end at once",
        arrival.signal
    ));
}

/// Registers everything that the loop waits for.
fn register(cx: &mut Cx<'_>, posts: mpsc::Receiver<String>) -> io::Result<()> {
    let Context {
        state: shell,
        registry,
        ..
    } = cx;
    let posted = registry.on_event(&shell.posted, move |cx| {
        posts
            .try_iter()
            .for_each(|text| cx.state.say(format_args!("posted: {text}")));
        Ok(Next::Keep)
    })?;
    let exit = registry.on_event(&shell.exit, |cx| {
        cx.registry.stop();
        Ok(Next::Remove)
    })?;
    registry.set_background(posted)?; // these two alone must not keep the loop running
    registry.set_background(exit)?;
    let signals = signal::shutdown_on(registry, [Signal::INT, Signal::TERM], end_gently)?;
    shell.console = Console::new().prompt("> ").open(registry, on_input)?;
    for (key, name) in [
        (posted, "posted"),
        (exit, "exit"),
        (signals, "signals"),
        (shell.console, "console"),
    ] {
        registry.set_name(key, name)?;
    }
    Ok(())
}

fn run() -> io::Result<()> {
    let mut reactor = Reactor::<Shell>::new()?;
    let pool = WorkerPool::builder().workers(4).build(&mut reactor)?;
    let (posts, receiver) = mpsc::channel();
    let mut shell = Shell {
        console: Key::NULL,
        timers: BTreeMap::new(),
        works: BTreeMap::new(),
        numbers: 0,
        lines: 0,
        children: 0,
        pool: pool.handle(),
        remote: reactor.remote()?,
        posts,
        posted: Event::auto_reset(),
        exit: Event::manual_reset(),
        failure: None,
    };
    reactor.enter(&mut shell, |cx| register(cx, receiver))?;
    reactor.run(&mut shell)?;
    shell.failure.map_or(Ok(()), Err)
}

fn main() -> ExitCode {
    let Options {} = Options::parse(); // exits with 2 on any argument, and names it
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("console_loop: {error}");
            ExitCode::FAILURE
        }
    }
}
