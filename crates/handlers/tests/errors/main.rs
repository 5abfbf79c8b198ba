//! Every call of the interface that the kernel can refuse: the errno is found, and the text names
//! the call.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod descriptors;

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use handlers::child::{self, WatchError};
use handlers::signal::Signal;
use handlers::udp::UdpSocket;
use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionOptions, FrameError,
    ListenOptions, Refusal, Shutdown, Stream, SystemError, WorkerPool, errno, files,
};
use reactor::{CallError, Context, Error, Interest, IoState, LoopGone, Next, Reactor};
use rustix::io::Errno;
use support::Result;

/// Checks that `errno` finds the errno of an error, and that its text names `what`.
#[track_caller]
fn check(error: impl Into<io::Error>, expected: Errno, what: &str) {
    let error = error.into();
    assert_eq!(
        errno(&error),
        Some(expected.raw_os_error()),
        "{error} ({error:?})"
    );
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
    let text = error.to_string();
    assert!(text.contains(what), "{text:?} does not name {what:?}");
    assert!(text.contains("(os error "), "{text:?}");
    let deeper = io::Error::other(io::Error::new(ErrorKind::InvalidData, error));
    assert_eq!(
        errno(&deeper),
        Some(expected.raw_os_error()),
        "wrapped twice more"
    );
}

/// Notes the reason of its close.
struct NoteEnd;

impl ConnectionHandler<Vec<io::Error>> for NoteEnd {
    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Vec<io::Error>>,
        _: &mut Context<'_, Vec<io::Error>>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, Vec<io::Error>>,
        _: &mut Context<'_, Vec<io::Error>>,
    ) -> io::Result<()> {
        let refused = connection.write(b"x").expect_err("it has failed");
        assert_eq!(refused.to_string(), error.to_string());
        assert_eq!(errno(&refused), errno(error));
        connection.resume_reading();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Vec<io::Error>>) {
        if let CloseReason::Failed(error) = reason {
            cx.state.push(error);
        }
    }
}

#[test]
fn listeners_and_sockets_that_cannot_be_bound_say_their_errno_and_address() -> Result {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let name = address.to_string();
    check(
        ListenOptions::new()
            .bind(&Address::Tcp(address))
            .expect_err("it is taken"),
        Errno::ADDRINUSE,
        &name,
    );
    let foreign: SocketAddr = "192.0.2.1:0".parse()?;
    let refused = ListenOptions::new()
        .bind(&Address::Tcp(foreign))
        .expect_err("it is none of ours");
    check(refused, Errno::ADDRNOTAVAIL, "192.0.2.1");
    let nowhere = Address::Unix("/nonexistent/socket".into());
    check(
        ListenOptions::new()
            .bind(&nowhere)
            .expect_err("no such folder"),
        Errno::NOENT,
        "/nonexistent/socket",
    );
    let file = File::open("/dev/null")?;
    let fd = format!("fd {}", file.as_raw_fd());
    check(
        ListenOptions::new()
            .adopt(file)
            .expect_err("it is no socket"),
        Errno::NOTSOCK,
        &fd,
    );

    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let address = udp.local_addr()?;
    check(
        UdpSocket::bind(address).expect_err("it is taken"),
        Errno::ADDRINUSE,
        &address.to_string(),
    );
    let broadcast: SocketAddr = "255.255.255.255:9".parse()?;
    check(
        UdpSocket::connect(broadcast).expect_err("not without SO_BROADCAST"),
        Errno::ACCESS,
        "255.255.255.255:9",
    );
    let text = "nonsense"
        .parse::<Address>()
        .map_err(io::Error::from)
        .expect_err("it is no address");
    assert_eq!((text.kind(), errno(&text)), (ErrorKind::InvalidInput, None));
    Ok(())
}

#[test]
fn the_error_of_a_refused_connection_has_its_errno_and_address() -> Result {
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // nothing listens there any more
    Connection::connect(&mut reactor, [closed], &ConnectionOptions::new(), NoteEnd);
    let mut told = Vec::new();
    reactor.run(&mut told)?;
    check(told.remove(0), Errno::CONNREFUSED, &closed.to_string());
    let options = ConnectionOptions::new().local_addr("192.0.2.1:0".parse::<SocketAddr>()?);
    Connection::connect(&mut reactor, [closed], &options, NoteEnd);
    reactor.run(&mut told)?;
    check(told.remove(0), Errno::ADDRNOTAVAIL, "bind to 192.0.2.1");
    Ok(())
}

/// Opens a connection whose peer sends `sent` and is then reset. Runs until it has ended. Returns
/// its error, and how its fd is named.
fn error_of(
    sent: &[u8],
    prepare: impl FnOnce(&mut Connection<'_, Vec<io::Error>>) -> io::Result<()> + 'static,
) -> Result<(io::Error, String)> {
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let fd = format!("on fd {}", near.as_raw_fd());
    let (mut far, _) = listener.accept()?;
    let key = Connection::open(&mut reactor, near, &ConnectionOptions::new(), NoteEnd)?;
    reactor.defer(move |cx| {
        let prepared = key.with(cx, |connection, _cx| prepare(connection));
        prepared.expect("it is open").expect("it can be prepared");
    });
    let mut told = Vec::new();
    reactor.turn(&mut told, Some(Duration::ZERO))?;
    far.write_all(sent)?;
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
    drop(far);
    reactor.run(&mut told)?;
    Ok((told.remove(0), fd))
}

#[test]
fn an_error_that_ends_a_connection_names_its_call_and_fd() -> Result {
    let (error, fd) = error_of(b"", |_connection| Ok(()))?;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(
        inner.and_then(SystemError::raw_os_error),
        Some(Errno::CONNRESET.raw_os_error())
    );
    check(error, Errno::CONNRESET, &format!("read {fd}"));
    for sent in [&b""[..], b"unread"] {
        let (error, fd) = error_of(sent, |connection| {
            connection.pause_reading();
            Ok(())
        })?;
        check(error, Errno::CONNRESET, &format!("SO_ERROR {fd}"));
    }
    Ok(())
}

/// A stream whose writes, or whose shutdown, fail.
struct Broken {
    inner: TcpStream,
    error: fn() -> io::Error,
}

impl AsFd for Broken {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Stream for Broken {
    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.try_read(io, buf)
    }

    fn try_write(&mut self, _io: &mut IoState, _bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Err((self.error)())
    }

    fn try_shutdown(&mut self, _io: &mut IoState) -> io::Result<Shutdown> {
        Err((self.error)())
    }
}

/// Runs a connection on a [`Broken`] stream. Returns its error, and how its fd is named.
fn broken(
    error: fn() -> io::Error,
    act: fn(&mut Connection<'_, Vec<io::Error>>) -> io::Result<()>,
) -> Result<(io::Error, String)> {
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let inner = TcpStream::connect(listener.local_addr()?)?;
    let fd = format!("on fd {}", inner.as_raw_fd());
    let stream = Broken { inner, error };
    let key = Connection::open(&mut reactor, stream, &ConnectionOptions::new(), NoteEnd)?;
    reactor.defer(move |cx| {
        let acted = key.with(cx, |connection, _cx| act(connection));
        acted.expect("it is open").expect("the failure comes later");
    });
    let mut told = Vec::new();
    reactor.run(&mut told)?;
    Ok((told.remove(0), fd))
}

#[test]
fn an_error_of_a_write_or_a_shutdown_names_its_call_and_fd() -> Result {
    let no_buffers = || Errno::NOBUFS.into();
    let (error, fd) = broken(no_buffers, |connection| connection.write(b"x").map(drop))?;
    check(error, Errno::NOBUFS, &format!("write {fd}"));
    let (error, fd) = broken(no_buffers, |connection| {
        connection.shutdown();
        Ok(())
    })?;
    check(error, Errno::NOBUFS, &format!("shutdown {fd}"));
    // The value in an error of a user's stream stays where the user looks for it.
    let own = || io::Error::other("the key has expired");
    let (error, _) = broken(own, |connection| connection.write(b"x").map(drop))?;
    assert_eq!(error.to_string(), "the key has expired");
    Ok(())
}

#[test]
fn children_that_cannot_be_started_or_watched_say_errno_and_name() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    for (program, expected, advice) in [
        ("/nonexistent/program", Errno::NOENT, "no such program"),
        ("/dev/null", Errno::ACCESS, "may not execute it"),
    ] {
        let refused = child::spawn(&mut reactor, &mut Command::new(program), |_, _| Ok(()))
            .expect_err("no program");
        assert!(refused.to_string().contains(advice), "{refused}");
        check(refused, expected, program);
    }
    let mut reaped = Command::new("true").spawn()?;
    let pid = reaped.id();
    reaped.wait()?;
    let refused =
        child::watch(&mut reactor, reaped, |_, _| Ok(())).expect_err("it has been reaped");
    assert_eq!(
        (refused.raw_os_error(), errno(&refused)),
        (Some(Errno::SRCH.raw_os_error()), refused.raw_os_error())
    );
    check(refused, Errno::SRCH, &format!("pidfd_open of child {pid}"));

    let mut command = Command::new("cat");
    let cat = child::spawn(&mut reactor, command.stdin(Stdio::piped()), |_, _| Ok(()))?;
    let refused = cat
        .key
        .signal_group(&mut reactor, Signal::TERM)
        .expect_err("it leads no group");
    check(
        refused,
        Errno::SRCH,
        &format!("kill: SIGTERM to child {}", cat.pid),
    );
    drop(cat.stdin);
    reactor.run(&mut ())?;
    Ok(())
}

#[test]
fn the_exit_of_a_child_reaped_by_other_code_has_its_errno() -> Result {
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    let child = child::spawn(
        &mut reactor,
        &mut Command::new("true"),
        |exit, cx: &mut Context<'_, Vec<io::Error>>| {
            cx.state.extend(exit.err());
            Ok(())
        },
    )?;
    let pid = rustix::process::Pid::from_raw(child.pid.cast_signed());
    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
    let mut told = Vec::new();
    reactor.run(&mut told)?;
    check(
        told.remove(0),
        Errno::CHILD,
        &format!("waitid of child {}", child.pid),
    );
    Ok(())
}

#[test]
fn files_that_cannot_be_read_written_or_watched_say_errno_and_path() -> Result {
    let mut reactor = Reactor::<Vec<io::Error>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    type Told<'a, 'b> = &'a mut Context<'b, Vec<io::Error>>;
    files::read(&pool, "/nonexistent/read", 9, |result, cx: Told<'_, '_>| {
        cx.state.extend(result.err())
    })?;
    files::append(
        &pool,
        "/nonexistent/append",
        b"x",
        |result, cx: Told<'_, '_>| cx.state.extend(result.err()),
    )?;
    files::write_atomically(
        &pool,
        "/nonexistent/write",
        b"x",
        |result, cx: Told<'_, '_>| cx.state.extend(result.err()),
    )?;
    let mut told = Vec::new();
    while told.len() < 3 {
        reactor.turn(&mut told, Some(Duration::from_millis(100)))?;
    }
    for (error, path) in told.into_iter().zip(["read", "append", "write"]) {
        let what = if path == "write" {
            "/nonexistent".to_owned()
        } else {
            format!("(/nonexistent/{path})")
        };
        check(error, Errno::NOENT, &what);
    }
    let too_long = "x".repeat(300);
    let refused = files::watch(&mut reactor, [format!("/tmp/{too_long}")], |_, _, _| {
        Ok(Next::Keep)
    })
    .err();
    check(
        refused.ok_or("the name is too long")?,
        Errno::NAMETOOLONG,
        &too_long,
    );
    Ok(())
}

#[test]
fn the_error_of_a_refused_source_has_errno_and_fd() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (one, _other) = std::os::unix::net::UnixStream::pair()?;
    let again: OwnedFd = one.try_clone()?.into();
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?;
    rustix::event::epoll::add(
        &epoll,
        &reactor,
        rustix::event::epoll::EventData::new_u64(0),
        rustix::event::epoll::EventFlags::IN,
    )?;
    let fd = format!("fd {}", epoll.as_raw_fd());
    let refused = reactor
        .add(epoll, Interest::READABLE, |_, _| Ok(Next::Keep))
        .expect_err("it watches the reactor");
    assert_eq!(refused.raw_os_error(), errno(&refused));
    check(refused, Errno::LOOP, &fd);
    drop((one, again));
    let taken = Error::AlreadyRegistered { fd: 7 };
    assert_eq!((taken.raw_os_error(), errno(&taken)), (Some(17), Some(17)));
    Ok(())
}

#[test]
fn errors_of_threads_and_queues_pass_by_the_question_mark() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let remote = reactor.remote()?;
    let on_loop = remote.clone();
    let call = move || -> io::Result<()> { Ok(on_loop.call(|_| ())?) };
    assert_eq!(
        call()
            .expect_err("the loop does not run, and this is its thread")
            .kind(),
        ErrorKind::Deadlock
    );
    drop(reactor);
    let post = move || -> io::Result<()> { Ok(remote.post(|_| {})?) };
    assert_eq!(
        post().expect_err("it is gone").kind(),
        ErrorKind::BrokenPipe
    );
    for (error, kind) in [
        (io::Error::from(LoopGone), ErrorKind::BrokenPipe),
        (CallError::Lost.into(), ErrorKind::BrokenPipe),
        (CallError::Panicked.into(), ErrorKind::Other),
        (Refusal::Full.into(), ErrorKind::QuotaExceeded),
        (Refusal::Closed.into(), ErrorKind::BrokenPipe),
        (FrameError::Malformed("it").into(), ErrorKind::InvalidData),
    ] {
        assert_eq!((error.kind(), errno(&error)), (kind, None), "{error}");
        assert!(
            error.get_ref().is_some(),
            "what it was is still to be found"
        );
    }
    let _: fn(WatchError) -> io::Error = io::Error::from;
    Ok(())
}
