//! The daemon: every kind of handler on one loop. It reports its books on request, and the first
//! deviation that it finds itself.

mod children;
mod files;
mod servers;
mod threads;
mod timers;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use handlers::signal::{self, Signal};
use handlers::udp::{self, UdpKey, UdpSocket};
use handlers::{Console, ConsoleInput, PoolHandle, ServerKey, WorkerPool, errno};
use reactor::{Context, Exit, Key, Next, PanicPolicy, Reactor, Registry, Then};
use rustix::io::Errno;
use serde_json::{Value, json};

use self::children::Children;
use self::files::Files;
use self::threads::Threads;
use self::timers::Timers;

/// The time that connections have for their rest when the daemon ends.
const GRACE: Duration = Duration::from_secs(10);

pub(super) type Cx<'a> = Context<'a, Daemon>;

/// The state that all callbacks share.
pub(super) struct Daemon {
    servers: Vec<ServerKey<Self>>,
    udp: UdpKey<Self>,
    pool: PoolHandle<Self>,
    timers: Timers,
    children: Children,
    files: Files,
    threads: Threads,
    console: Key,
    counts: Counts,
    deviation: Option<String>,
}

#[derive(Default)]
struct Counts {
    /// Connections whose `on_close` has not been called.
    open: u64,
    connections: u64,
    bytes: u64,
    frames: u64,
    jobs: u64,
    datagrams: u64,
    signals: u64,
    /// Calls that failed because no file descriptor was left.
    shortages: u64,
}

impl Daemon {
    /// Records a deviation; the first one is reported.
    fn deviate(&mut self, deviation: impl Into<String>) {
        self.deviation.get_or_insert(deviation.into());
    }

    /// Records an error: a deviation, unless no file descriptor was left.
    fn failed(&mut self, what: &str, error: &io::Error) {
        let shortages = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
        if shortages.contains(&errno(error)) {
            self.counts.shortages += 1;
        } else {
            self.deviate(format!("{what}: {error}"));
        }
    }
}

pub(super) fn run(folder: &Path, seed: u64) -> Result<(), String> {
    serve(folder, seed).map_err(|error| error.to_string())
}

fn serve(folder: &Path, seed: u64) -> io::Result<()> {
    let mut reactor = Reactor::<Daemon>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let pool = WorkerPool::builder().workers(2).build(&mut reactor)?;
    let (servers, addresses) = servers::register(&mut reactor)?;
    let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    let udp_addr = socket.local_addr()?;
    let udp = udp::add(&mut reactor, socket, servers::on_datagram)?;
    let mut daemon = Daemon {
        servers,
        udp,
        pool: pool.handle(),
        timers: Timers::new(seed),
        children: Children::default(),
        files: Files::new(folder),
        threads: Threads::start(&mut reactor)?,
        console: Key::NULL,
        counts: Counts::default(),
        deviation: None,
    };
    reactor.enter(&mut daemon, register)?;

    let mut addresses: serde_json::Map<_, _> = addresses.into_iter().collect();
    addresses.insert("udp".into(), udp_addr.to_string().into());
    say(&Value::from(addresses))?;
    // Returns after SIGTERM, once nothing is left: whatever a handler leaks keeps it running.
    let exit = reactor.run(&mut daemon)?;
    if exit != Exit::NothingLeft {
        daemon.deviate(format!("the loop ended as {exit:?}"));
    }
    daemon.threads.join()?;
    let report = report(&reactor, &daemon);
    pool.drain();
    say(&report)
}

fn register(cx: &mut Cx<'_>) -> io::Result<()> {
    timers::register(cx)?;
    children::register(cx);
    files::register(cx)?;
    signal::watch(cx.registry, [Signal::USR1], |_arrival, cx: &mut Cx<'_>| {
        cx.state.counts.signals += 1;
        Ok(Next::Keep)
    })?;
    signal::shutdown_on(cx.registry, [Signal::TERM], |_arrival, cx| end(cx))?;
    cx.state.console = Console::new().open(cx.registry, on_input)?;
    Ok(())
}

/// Answers each line with the books.
fn on_input(input: ConsoleInput<'_>, cx: &mut Cx<'_>) -> io::Result<Next> {
    match input {
        ConsoleInput::Line("status") => {
            let report = report(cx.registry, cx.state);
            say(&report)?;
        }
        // The process that has started this one is gone.
        ConsoleInput::End => cx.registry.stop(),
        other => cx.state.deviate(format!("console: {other:?}")),
    }
    Ok(Next::Keep)
}

fn say(value: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{value}")?;
    stdout.flush()
}

/// Returns the books: what is registered, what should be, and what has happened.
fn report(registry: &Registry<Daemon>, daemon: &Daemon) -> Value {
    let Daemon {
        counts, children, ..
    } = daemon;
    let metrics = registry.metrics();
    json!({
        "deviation": daemon.deviation,
        "registrations": registry.len(),
        // The registrations that come and go, each of which has a file descriptor.
        "varying": counts.open + children.registrations(),
        "open": counts.open,
        "timers": daemon.timers.listed(registry),
        "timers_armed": daemon.timers.armed(),
        "version": daemon.files.version(),
        "signals": counts.signals,
        "panics": metrics.panics,
        "turns": metrics.turns,
        "sleeps": metrics.sleeps,
        "work": metrics.events + metrics.calls + metrics.timers + metrics.deferred + metrics.wakeups,
        "counts": {
            "connections": counts.connections,
            "bytes": counts.bytes,
            "frames": counts.frames,
            "jobs": counts.jobs,
            "datagrams": counts.datagrams,
            "shortages": counts.shortages,
            "timers": metrics.timers,
            "children": children.exits(),
            "files": daemon.files.written(),
            "values": daemon.threads.values(),
            "events": daemon.threads.events(),
        },
    })
}

/// Ends what brings work; the loop ends once the work is done.
fn end(cx: &mut Cx<'_>) {
    for server in std::mem::take(&mut cx.state.servers) {
        server.stop(cx.registry, GRACE);
    }
    let ended = [
        cx.registry.remove(cx.state.udp.key()),
        cx.registry.remove(cx.state.console),
    ];
    if let Some(error) = ended.into_iter().find_map(Result::err) {
        cx.state.deviate(format!("at the end: {error}"));
    }
    timers::end(cx);
    children::end(cx);
    files::end(cx);
    threads::end(cx);
    let deadline = cx.registry.after(2 * GRACE, |cx| {
        let reasons: Vec<_> = cx
            .registry
            .reasons_to_run()
            .map(|why| why.to_string())
            .collect();
        cx.state
            .deviate(format!("the loop does not end: {}", reasons.join("; ")));
        cx.registry.stop();
        Ok(Then::Done)
    });
    if let Err(error) = cx.registry.set_timer_background(deadline) {
        cx.state.deviate(format!("at the end: {error}"));
    }
}
