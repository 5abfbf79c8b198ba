//! Cases that concern a whole process: its descriptors and its environment. Each case runs in this
//! program started once more.

use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use handlers::{Address, ConnectionLimit, ConnectionOptions, ListenOptions};
use reactor::{Interest, ManualClock, Reactor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::tempdir;

use crate::{Echo, Result, Seen, client, expect_echo, serve, turn_until_quiet};

const CASE: &str = "HANDLERS_LISTENER_CASE";

/// Returns a shell that becomes the case `name` when `script` runs `exec "$0" "$@"`.
fn shell(name: &str, script: &str) -> Result<Command> {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(std::env::current_exe()?);
    shell
        .args(["--exact", "process::case", "--nocapture"])
        .env(CASE, name)
        .stdout(Stdio::null());
    Ok(shell)
}

#[track_caller]
fn expect_success(command: &mut Command) -> Result {
    assert!(command.status()?.success());
    Ok(())
}

#[test]
fn case() -> Result {
    match std::env::var(CASE).as_deref() {
        Ok("inherited") => inherits_two(),
        Ok("not inherited") => inherits_none(),
        Ok("no sockets") => inherits_what_is_no_socket(),
        Ok("no descriptors") => has_no_descriptors_left(None),
        Ok("no descriptors, paused") => is_paused_without_descriptors(),
        Ok("no descriptors, a limit") => has_no_descriptors_left(Some(ConnectionLimit::new(1))),
        _ => Ok(()), // started among the other tests, it does nothing
    }
}

#[test]
fn sockets_of_a_service_manager_are_taken_once_and_in_their_order() -> Result {
    let folder = tempdir()?;
    let (inet, local) = (
        TcpListener::bind("127.0.0.1:0")?,
        UnixListener::bind(folder.path().join("socket"))?,
    );
    let script =
        r#"LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=inet:local exec "$0" "$@" 3<&0 4<&1 >&2"#;
    expect_success(
        shell("inherited", script)?
            .stdin(OwnedFd::from(inet))
            .stdout(OwnedFd::from(local)),
    )
}

fn inherits_two() -> Result {
    let mut listeners = ListenOptions::new().inherited()?.into_iter();
    let (Some(inet), Some(local), None) = (listeners.next(), listeners.next(), listeners.next())
    else {
        return Err("not two".into());
    };
    expect_no_variables();
    assert!(
        ListenOptions::new().inherited()?.is_empty(),
        "they are taken"
    );
    let (Address::Tcp(address), Address::Unix(path)) = (inet.local_addr()?, local.local_addr()?)
    else {
        return Err("another order".into());
    };
    let (mut reactor, mut seen) = (Reactor::new()?, Seen::default());
    for listener in [inet, local] {
        listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
            Ok(Echo)
        })?;
    }
    let fds: Vec<_> = reactor
        .registrations()
        .map(|registration| registration.fd)
        .collect();
    assert_eq!(fds, [3, 4]);
    expect_success(Command::new("sh").args(["-c", "! test -e /proc/self/fd/3"]))?;
    expect_echo(&mut reactor, &mut seen, &mut client(address)?)?;
    expect_echo(&mut reactor, &mut seen, &mut UnixStream::connect(&path)?)?;
    drop(reactor);
    assert!(path.exists(), "it belongs to the service manager");
    Ok(())
}

#[test]
fn sockets_for_another_process_are_not_taken() -> Result {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    for variables in [
        "LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=a",
        "LISTEN_FDS=1 LISTEN_FDNAMES=a",
        "LISTEN_PID=$$",
        "",
    ] {
        let script = format!(r#"{variables} exec "$0" "$@" 3<&0"#);
        expect_success(shell("not inherited", &script)?.stdin(OwnedFd::from(socket.try_clone()?)))?;
    }
    Ok(())
}

#[test]
fn variables_of_a_service_manager_that_make_no_sense_are_an_error() -> Result {
    for fds in [
        "0",
        "-1",
        "x",
        "''",
        "1048577",
        "4294967295",
        "4294967296",
        "1 LISTEN_FDS_FIRST_FD=0",
    ] {
        let script = format!(r#"LISTEN_PID=$$ LISTEN_FDNAMES=a LISTEN_FDS={fds} exec "$0" "$@""#);
        expect_success(&mut shell("no sockets", &script)?)
            .map_err(|error| format!("{fds}: {error}"))?;
    }
    for pid in ["''", "x", "-1"] {
        let script = format!(r#"LISTEN_PID={pid} LISTEN_FDNAMES=a LISTEN_FDS=1 exec "$0" "$@""#);
        expect_success(&mut shell("no sockets", &script)?)?;
    }
    Ok(())
}

#[track_caller]
fn expect_no_variables() {
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        assert!(
            std::env::var_os(variable).is_none(),
            "a child would believe {variable}"
        );
    }
}

fn inherits_none() -> Result {
    assert!(ListenOptions::new().inherited()?.is_empty());
    expect_no_variables();
    Ok(())
}

/// Service managers pass such descriptors.
#[test]
fn an_inherited_fd_that_is_no_listening_socket_is_an_error() -> Result {
    let script = r#"LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3</dev/null"#;
    expect_success(&mut shell("no sockets", script)?)?;
    let (connected, _peer) = UnixStream::pair()?;
    let script = r#"LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3<&0"#;
    expect_success(shell("no sockets", script)?.stdin(OwnedFd::from(connected)))
}

fn inherits_what_is_no_socket() -> Result {
    let error = ListenOptions::new()
        .inherited()
        .map(drop)
        .map_err(|error| error.kind());
    assert_eq!(error, Err(ErrorKind::InvalidInput));
    expect_no_variables();
    Ok(())
}

/// The listener does not spin.
#[test]
fn a_listener_out_of_descriptors_retries_with_growing_delays() -> Result {
    expect_success(&mut shell("no descriptors", r#"exec "$0" "$@""#)?)?;
    expect_success(&mut shell("no descriptors, a limit", r#"exec "$0" "$@""#)?)
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
    expect_success(&mut shell("no descriptors, paused", r#"exec "$0" "$@""#)?)
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
