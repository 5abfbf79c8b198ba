//! Cases that concern the descriptors of a whole process. Each case runs in this program started
//! once more.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use handlers::{ConnectionLimit, ListenOptions};
use reactor::{Interest, ManualClock, Reactor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Result, Seen, client, expect_echo, serve, turn_until_quiet};

const CASE: &str = "HANDLERS_LISTENER_CASE";

/// Runs the case `name`, which must succeed.
#[track_caller]
fn run(name: &str) -> Result {
    let mut case = Command::new(std::env::current_exe()?);
    case.args(["--exact", "process::case", "--nocapture"])
        .env(CASE, name)
        .stdout(Stdio::null());
    assert!(case.status()?.success(), "{name}");
    Ok(())
}

#[test]
fn case() -> Result {
    match std::env::var(CASE).as_deref() {
        Ok("no descriptors") => has_no_descriptors_left(None),
        Ok("no descriptors, paused") => is_paused_without_descriptors(),
        Ok("no descriptors, a limit") => has_no_descriptors_left(Some(ConnectionLimit::new(1))),
        _ => Ok(()), // started among the other tests, it does nothing
    }
}

/// The listener does not spin.
#[test]
fn a_listener_out_of_descriptors_retries_with_growing_delays() -> Result {
    run("no descriptors")?;
    run("no descriptors, a limit")
}

/// Lets this process open no more files. Returns the limit that it had.
fn close_down() -> Result<Rlimit> {
    let limit = getrlimit(Resource::Nofile);
    let free = File::open("/dev/null")?.as_raw_fd();
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(free.try_into()?),
            ..limit
        },
    )?;
    Ok(limit)
}

/// Checks that the listener retries after exactly this pause, without success.
fn expect_try(reactor: &mut Reactor<Seen>, seen: &mut Seen, pause: Duration) -> Result {
    let calls = reactor.metrics().calls;
    reactor.advance(seen, pause - Duration::from_millis(1))?;
    turn_until_quiet(reactor, seen)?;
    assert_eq!(reactor.metrics().calls, calls, "{pause:?} have not passed");
    reactor.advance(seen, Duration::from_millis(1))?;
    turn_until_quiet(reactor, seen)?;
    assert_eq!(reactor.metrics().calls, calls + 1, "after {pause:?}");
    Ok(())
}

fn has_no_descriptors_left(limit: Option<ConnectionLimit>) -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let (address, _key) = serve(&mut reactor, ListenOptions::new().limit(limit.clone()))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    for _ in 0..2 {
        let mut client = client(address)?;
        let enough = close_down()?;
        turn_until_quiet(&mut reactor, &mut seen)?;
        for pause in [50, 100, 200, 400, 800, 1000, 1000] {
            expect_try(&mut reactor, &mut seen, Duration::from_millis(pause))?;
            assert_eq!(
                limit.as_ref().map_or(0, ConnectionLimit::open),
                0,
                "a try that fails takes no place"
            );
        }
        assert!(seen.opened.is_empty());
        setrlimit(Resource::Nofile, enough)?;
        reactor.advance(&mut seen, Duration::from_secs(1))?;
        expect_echo(&mut reactor, &mut seen, &mut client)?;
        reactor.remove(seen.opened.remove(0).key())?;
        turn_until_quiet(&mut reactor, &mut seen)?;
    }
    Ok(())
}

#[test]
fn freed_descriptors_do_not_end_a_pause_set_through_the_key() -> Result {
    run("no descriptors, paused")
}

fn is_paused_without_descriptors() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let (address, server) = serve(&mut reactor, ListenOptions::new())?;
    let mut client = client(address)?;
    let enough = close_down()?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    reactor.set_interest(server.key(), Interest::NONE)?;
    setrlimit(Resource::Nofile, enough)?;
    reactor.advance(&mut seen, Duration::from_secs(1))?;
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert!(seen.opened.is_empty(), "it is still paused");
    reactor.set_interest(server.key(), Interest::READABLE)?;
    expect_echo(&mut reactor, &mut seen, &mut client)
}
