//! Lines of the source: everything that a ready-made handler registers, arms, defers or posts, now
//! or later, is listed with the line of the user that requested it, and never with a line of the
//! library.

#![cfg(all(feature = "child", feature = "files", feature = "udp"))]

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use handlers::child::{self, RestartPolicy};
use handlers::signal::{self, Signal};
use handlers::{
    Address, Backoff, CloseReason, Connection, ConnectionHandler, ConnectionLimit,
    ConnectionOptions, ListenOptions, WorkerPool, files, on_data,
};
use reactor::{Context, Reactor, Registry, Then};
use support::{PATIENCE, Result, silent_listener};

type Lines = Vec<(&'static str, u32)>;

const HOUR: Duration = Duration::from_secs(3600);

/// The lines that have been seen so far, each once.
#[derive(Debug, Default)]
struct Seen {
    lines: Lines,
    ends: usize,
}

/// Notes the lines of everything that is listed.
fn look(seen: &mut Seen, registry: &Registry<Seen>) {
    let sources = registry
        .registrations()
        .map(|registration| registration.origin);
    let timers = registry.timers().map(|timer| timer.origin);
    let reasons = registry
        .reasons_to_run()
        .filter_map(|reason| reason.origin());
    for origin in sources.chain(timers).chain(reasons) {
        if !seen.lines.contains(&(origin.file(), origin.line())) {
            seen.lines.push((origin.file(), origin.line()));
        }
    }
}

/// Returns a loop that looks in each turn before the wait, after the sources, and before deferred
/// and posted callbacks run.
fn watched() -> Result<Reactor<Seen>> {
    let mut reactor = Reactor::<Seen>::new()?;
    let probe = reactor.after(Duration::ZERO, |cx| {
        look(cx.state, cx.registry);
        cx.registry.defer(|cx| look(cx.state, cx.registry));
        Ok(Then::After(Duration::from_millis(1)))
    });
    reactor.set_timer_background(probe)?;
    Ok(reactor)
}

/// Takes turns until `done`, and checks that all lines are of this file.
#[track_caller]
fn turn_until(
    reactor: &mut Reactor<Seen>,
    seen: &mut Seen,
    done: impl Fn(&Seen, &Registry<Seen>) -> bool,
) -> Result {
    let began = Instant::now();
    loop {
        look(seen, reactor);
        if done(seen, reactor) {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {seen:?}"
        );
        reactor.turn(seen, Some(Duration::from_millis(10)))?;
    }
    let strange: Vec<_> = seen
        .lines
        .iter()
        .filter(|(file, _)| *file != file!())
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    Ok(())
}

/// Consumes its input, and counts the ends.
struct Counts;

impl ConnectionHandler<Seen> for Counts {
    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_close(&mut self, _: CloseReason, cx: &mut Context<'_, Seen>) {
        cx.state.ends += 1;
    }
}

#[test]
fn connections_and_their_server_are_shown_by_the_lines_of_their_user() -> Result {
    let (mut reactor, mut seen) = (watched()?, Seen::default());
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"hello")?;
    let opened = line!() + 1;
    Connection::open(&mut reactor, near, &ConnectionOptions::new(), Counts)?;
    let limit = ConnectionLimit::new(10);
    let listener = ListenOptions::new()
        .limit(limit)
        .bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("a TCP address".into());
    };
    let served = line!() + 1;
    let server = listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(Counts)
    })?;
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"hello")?;
    turn_until(&mut reactor, &mut seen, |_, registry| {
        registry.registrations().filter(|one| one.calls > 0).count() >= 3
    })?;
    drop(far);
    let stopped = line!() + 1;
    reactor.defer(move |cx| server.stop(cx.registry, Duration::from_secs(5)));
    drop(client);
    turn_until(&mut reactor, &mut seen, |seen, _| seen.ends == 2)?;
    let own = seen
        .lines
        .iter()
        .filter(|(_, line)| [opened, served, stopped].contains(line))
        .count();
    assert_eq!(own, 3, "{seen:?}");
    Ok(())
}

#[test]
fn attempts_and_their_timers_are_listed_with_the_line_of_connect() -> Result {
    let (mut reactor, mut seen) = (watched()?, Seen::default());
    let ((_one, first), (_other, second)) = (
        silent_listener("127.0.0.1:0")?,
        silent_listener("127.0.0.1:0")?,
    );
    let options = ConnectionOptions::new().connect_timeout(HOUR);
    let line = line!() + 1;
    let connecting = Connection::connect(&mut reactor, [first, second], &options, Counts);
    // With the second attempt.
    turn_until(&mut reactor, &mut seen, |_, registry| registry.len() == 2)?;
    connecting.cancel(&mut reactor);
    turn_until(&mut reactor, &mut seen, |seen, _| seen.ends == 1)?;
    assert!(seen.lines.contains(&(file!(), line)));
    Ok(())
}

#[test]
fn children_and_abandoned_ones_are_listed_with_the_line_of_the_user() -> Result {
    let (mut reactor, mut seen) = (watched()?, Seen::default());
    let policy = RestartPolicy::always()
        .backoff(Backoff::new(
            Duration::from_millis(20),
            Duration::from_secs(1),
        ))
        .max_restarts(2);
    let supervised = line!() + 1;
    child::supervise(
        &mut reactor,
        policy,
        || Ok(Command::new("true")),
        |_news, _cx| Ok(()),
    );
    turn_until(&mut reactor, &mut seen, |_, registry| {
        registry.reasons_to_run().count() == 0
    })?;
    let spawned = line!() + 1;
    let child = child::spawn(
        &mut reactor,
        Command::new("cat").stdin(Stdio::piped()),
        |_exit, _cx| Ok(()),
    )?;
    reactor.remove(child.key.key())?; // the child is reaped in the background
    turn_until(&mut reactor, &mut seen, |_, registry| registry.len() == 1)?;
    assert_eq!(
        reactor
            .registrations()
            .map(|child| child.origin.line())
            .collect::<Vec<_>>(),
        [spawned]
    );
    drop(child.stdin);
    turn_until(&mut reactor, &mut seen, |_, registry| registry.is_empty())?;
    assert!(seen.lines.contains(&(file!(), supervised)));
    Ok(())
}

#[test]
fn jobs_and_their_completions_are_listed_with_the_line_of_submit() -> Result {
    let (mut reactor, mut seen) = (watched()?, Seen::default());
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let done = |_: &Seen, registry: &Registry<Seen>| registry.reasons_to_run().count() == 0;
    let submitted = line!() + 2;
    let job = pool
        .submit(
            move || ended.recv().is_ok(),
            |_, cx| look(cx.state, cx.registry),
        )
        .map_err(|_| "it was refused")?;
    let read = line!() + 1;
    files::read(&pool, "Cargo.toml", 1 << 20, |_, _| ()).map_err(|_| "it was refused")?;
    let held = reactor
        .reasons_to_run()
        .filter_map(|reason| reason.origin())
        .map(Location::line)
        .collect::<Vec<_>>();
    assert_eq!(held, [submitted, read]);
    end.send(())?;
    turn_until(&mut reactor, &mut seen, done)?;
    assert_eq!(
        job.abandon(),
        handlers::Cancellation::TooLate,
        "what follows has run"
    );
    Ok(())
}

#[test]
fn watchers_sockets_and_outputs_are_shown_by_the_lines_of_their_user() -> Result {
    let (mut reactor, mut seen) = (watched()?, Seen::default());
    let folder = tempfile::tempdir()?;
    signal::watch(&mut reactor, [Signal::USR2], |_, _| Ok(reactor::Next::Keep))?;
    files::watch(&mut reactor, [folder.path().join("file")], |_, _, _| {
        Ok(reactor::Next::Keep)
    })?;
    files::watch_folder(&mut reactor, folder.path(), |_, _| Ok(reactor::Next::Keep))?;
    let (near, mut far) = UnixStream::pair()?;
    child::lines(&mut reactor, near, 100, |_, _| Ok(()))?;
    let (near, _other) = UnixStream::pair()?;
    Connection::open(
        &mut reactor,
        near,
        &ConnectionOptions::new(),
        on_data(|data, _, _| Ok(data.len())),
    )?;
    far.write_all(b"hello\n")?;
    drop(std::fs::write(folder.path().join("file"), "x"));
    turn_until(&mut reactor, &mut seen, |_, registry| {
        registry.registrations().filter(|one| one.calls > 0).count() >= 3
    })?;
    drop(far);
    turn_until(&mut reactor, &mut seen, |_, registry| registry.len() == 5)?;
    Ok(())
}
