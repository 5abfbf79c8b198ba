//! The library in a process that has no file descriptors left.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::process::Command;

use handlers::signal::{self, ShutdownOptions, Signal};
use handlers::udp::UdpSocket;
use handlers::{
    Address, Connection, ConnectionOptions, Console, ListenOptions, child, errno, files,
};
use reactor::{EventFd, Next, Reactor};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{NoteEnd, Result};

const CASE: &str = "HANDLERS_ERRORS_CASE";

/// The limit holds for all threads, so the case runs in this program started once more.
#[test]
fn an_error_for_lack_of_descriptors_says_so_and_names_its_purpose() -> Result {
    let mut case = Command::new(std::env::current_exe()?);
    let output = case
        .args(["--exact", "descriptors::case"])
        .env(CASE, "")
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
    Ok(())
}

/// Started among the other tests, it does nothing.
#[test]
fn case() -> Result {
    if std::env::var_os(CASE).is_some() {
        call_without_descriptors()
    } else {
        Ok(())
    }
}

fn call_without_descriptors() -> Result {
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    let mut sleeping = Reactor::<()>::new()?; // has no eventfd yet
    let peer = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let child = Command::new("true").spawn()?;
    let event = EventFd::counter(0)?;
    let mut errors: Vec<(io::Error, &str)> = Vec::new();

    let before = getrlimit(Resource::Nofile);
    let next = File::open("/dev/null")?; // the lowest free number, and therefore the limit
    let limit = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next))?;
    drop(next);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(limit),
            maximum: before.maximum,
        },
    )?;

    let term = [Signal::TERM];
    let any = Address::Tcp("127.0.0.1:0".parse()?);
    errors.push((
        Reactor::<()>::new().expect_err("no fd").into(),
        "epoll_create1",
    ));
    errors.push((sleeping.remote().expect_err("no fd").into(), "eventfd"));
    errors.push((EventFd::counter(0).expect_err("no fd"), "eventfd"));
    errors.push((EventFd::semaphore(0).expect_err("no fd"), "eventfd"));
    errors.push((event.try_clone().expect_err("no fd"), "fcntl"));
    errors.push((
        ListenOptions::new().bind(&any).expect_err("no fd"),
        "127.0.0.1:0",
    ));
    errors.push((UdpSocket::bind(peer).expect_err("no fd"), "127.0.0.1"));
    errors.push((UdpSocket::connect(peer).expect_err("no fd"), "127.0.0.1"));
    errors.push((
        signal::watch(&mut reactor, term, |_, _| Ok(Next::Keep)).expect_err("no fd"),
        "socketpair",
    ));
    errors.push((
        signal::stop_on(&mut reactor, term).expect_err("no fd"),
        "socketpair",
    ));
    let never = ShutdownOptions::new().insist_after(std::time::Duration::MAX);
    errors.push((
        never.stop_on(&mut reactor, term).expect_err("no fd"),
        "socketpair",
    ));
    let spawned = child::spawn(&mut reactor, &mut Command::new("true"), |_, _| Ok(()));
    errors.push((spawned.expect_err("no fd"), "true"));
    errors.push((
        child::watch(&mut reactor, child, |_, _| Ok(()))
            .expect_err("no fd")
            .into(),
        "pidfd_open of child",
    ));
    errors.push((
        files::watch(&mut reactor, ["/etc"], |_, _, _| Ok(Next::Keep)).expect_err("no fd"),
        "inotify_init1",
    ));
    errors.push((
        Console::new()
            .open_on(&mut reactor, &event, |_, _| Ok(Next::Keep))
            .expect_err("no fd"),
        "fd ",
    ));
    Connection::connect(&mut reactor, [peer], &ConnectionOptions::new(), NoteEnd);
    let mut told = Vec::new();
    reactor.run(&mut told)?;
    errors.extend(told.into_iter().map(|error| (error, "127.0.0.1")));

    setrlimit(Resource::Nofile, before)?;
    assert_eq!(errors.len(), 16);
    for (error, what) in errors {
        assert_eq!(
            errno(&error),
            Some(Errno::MFILE.raw_os_error()),
            "{what}: {error} ({error:?})"
        );
        assert!(
            error.to_string().contains(what),
            "{error} does not name {what}"
        );
    }
    Ok(())
}
