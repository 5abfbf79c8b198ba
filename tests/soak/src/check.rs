//! The checker: it asks for the books every second, and lets the load rest now and then, so that
//! they must be exact.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::load::{self, LastClients, Shared, Targets};
use crate::process::{self, Daemon, PATIENCE};

const SECOND: Duration = Duration::from_secs(1);
/// The time between two rests.
const LOAD: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);
/// How much more memory may be resident at a rest than at the first one under load. Neither the
/// length of the soak nor its load changes that.
const MEMORY_GROWTH_MAX: u64 = 16 << 20;
/// How many turns a second may have no reason that is counted: a child that is waited for, a sleep
/// that a signal interrupts.
const IDLE_TURNS_MAX: u64 = 100;

/// Counts that must be as before at each rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Books {
    registrations: u64,
    descriptors: u64,
}

/// Runs the soak. Returns its summary, or the first deviation.
pub(crate) fn run(seed: u64, duration: Duration) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
    process::write_version(folder.path(), 0)?;
    let mut daemon = Daemon::start(folder.path(), seed)?;
    let shared = Arc::new(Shared::default());
    let targets = Targets::of(&daemon)?;
    let threads = load::start(&shared, seed, targets, daemon.pid(), folder.path());

    let checked = check(&mut daemon, &shared, duration);
    shared.end();
    let memory = checked?;
    for thread in threads {
        thread.join().map_err(|_| "a thread of the load panicked")?;
    }
    shared.check()?;
    let books = end(daemon, seed)?;
    Ok(summary(&books, &shared, memory))
}

/// Checks until the time is over, at last at a rest. Returns the memory at the first rest and at
/// the last one.
fn check(daemon: &mut Daemon, shared: &Shared, duration: Duration) -> Result<(u64, u64), String> {
    let end = Instant::now() + duration;
    let at_start = settled(daemon, None)?;
    let mut memory = None;
    loop {
        shared.open_gate();
        let rest = (Instant::now() + LOAD).min(end);
        while Instant::now() < rest {
            thread::sleep(SECOND.min(rest.saturating_duration_since(Instant::now())));
            shared.check()?;
            status(daemon)?;
        }
        shared.close_gate()?;
        settled(daemon, Some(at_start))?;
        notices(daemon, shared)?;
        sleeps(daemon)?;
        let now = daemon.memory()?;
        let first = *memory.get_or_insert(now);
        if now > first + MEMORY_GROWTH_MAX {
            return Err(format!(
                "{now} bytes are resident, {first} at the first rest"
            ));
        }
        if Instant::now() >= end {
            return Ok((first, now));
        }
    }
}

/// Asks for the books, and checks what holds at any time.
fn status(daemon: &mut Daemon) -> Result<Value, String> {
    let status = daemon.status()?;
    sound(&status).map(|()| status)
}

fn sound(status: &Value) -> Result<(), String> {
    if let Some(deviation) = status["deviation"].as_str() {
        return Err(format!("the daemon: {deviation}"));
    }
    if number(status, "panics")? > 0 {
        return Err(format!("a callback panicked: {status}"));
    }
    if number(status, "timers")? != number(status, "timers_armed")? {
        return Err(format!(
            "the loop lists other timers than are armed: {status}"
        ));
    }
    Ok(())
}

fn number(status: &Value, name: &str) -> Result<u64, String> {
    status[name]
        .as_u64()
        .ok_or_else(|| format!("no {name} in {status}"))
}

/// Waits until nothing of the load is left in the daemon, and its books are those of the start.
/// Children that come and go are counted by the daemon, so a look may be at the wrong moment.
fn settled(daemon: &mut Daemon, at_start: Option<Books>) -> Result<Books, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = status(daemon)?;
        let descriptors = daemon.descriptors()?;
        let after = status(daemon)?;
        let varying = number(&after, "varying")?;
        let is_still = varying == number(&before, "varying")?
            && number(&before, "registrations")? == number(&after, "registrations")?;
        let books = Books {
            registrations: number(&after, "registrations")? - varying,
            descriptors: descriptors.saturating_sub(varying),
        };
        let is_settled = at_start.is_none_or(|at_start| at_start == books);
        if is_still && is_settled && number(&after, "open")? == 0 {
            return Ok(books);
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{books:?} at a rest, {at_start:?} at the start: {after}"
            ));
        }
        thread::sleep(STEP);
    }
}

/// Waits until the daemon has noticed a signal and the last version of its file.
fn notices(daemon: &mut Daemon, shared: &Shared) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let signals = number(&status(daemon)?, "signals")?;
    process::signal(daemon.pid(), Signal::USR1)?;
    let version = shared.version.load(Ordering::Relaxed);
    loop {
        let status = status(daemon)?;
        if number(&status, "signals")? > signals && number(&status, "version")? == version {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("a signal or version {version} was lost: {status}"));
        }
        thread::sleep(STEP);
    }
}

/// Checks over a second that each turn has a reason.
fn sleeps(daemon: &mut Daemon) -> Result<(), String> {
    let (before, began) = (status(daemon)?, Instant::now());
    thread::sleep(SECOND);
    let after = status(daemon)?;
    let more = |name| Ok::<_, String>(number(&after, name)? - number(&before, name)?);
    let allowed = more("work")? + IDLE_TURNS_MAX * (1 + began.elapsed().as_secs());
    let turns = more("turns")?;
    if turns > allowed {
        return Err(format!(
            "{turns} turns at a rest, for at most {allowed} reasons: {after}"
        ));
    }
    Ok(())
}

/// Asks the daemon to end while clients and requests wait in the kernel, which it must answer.
/// Returns its last books.
fn end(daemon: Daemon, seed: u64) -> Result<Value, String> {
    process::signal(daemon.pid(), Signal::STOP)?;
    let clients = LastClients::open(&Targets::of(&daemon)?, seed)?;
    daemon.end()?;
    process::signal(daemon.pid(), Signal::CONT)?;
    clients.finish(seed)?;
    let books = daemon.join()?;
    sound(&books)?;
    if number(&books, "open")? > 0 || number(&books, "varying")? > 0 {
        return Err(format!("not everything has ended: {books}"));
    }
    Ok(books)
}

fn summary(books: &Value, shared: &Shared, (first, last): (u64, u64)) -> String {
    let totals = &shared.totals;
    let of = |total: &std::sync::atomic::AtomicU64| total.load(Ordering::Relaxed);
    format!(
        "no deviation\n\
         clients: {} sessions, {} bytes, {} lines, {} cut, {} datagrams, {} lost\n\
         faults: {} stops, {} shortages of files, {} versions of a file\n\
         memory: {first} bytes at the first rest, {last} at the last\n\
         daemon: {}",
        of(&totals.sessions),
        of(&totals.bytes),
        of(&totals.lines),
        of(&totals.cuts),
        of(&totals.datagrams),
        of(&totals.datagrams_lost),
        of(&totals.stops),
        of(&shared.shortages) / 2,
        of(&shared.version),
        books["counts"],
    )
}
