//! Sources that cannot be registered are returned with the reason. Registered ones are listed.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reactor::{
    Capacity, Error, Interest, Kind, Next, Priority, Reactor, errno, notification_queue,
};
use rustix::fs::OFlags;

use crate::{Result, add_counting_reader, readable, turn_now};

/// The first registration goes on.
#[test]
fn an_fd_that_is_registered_already_is_refused() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let near = Arc::new(near);
    let mut reactor = Reactor::<u32>::new()?;
    reactor.add(Arc::clone(&near), Interest::READABLE, |_, cx| {
        *cx.state += 1;
        Ok(Next::Remove)
    })?;
    let refused = reactor
        .add(Arc::clone(&near), Interest::READABLE, |_, _| Ok(Next::Keep))
        .unwrap_err();
    assert!(matches!(refused.error, Error::AlreadyRegistered { fd } if fd == near.as_raw_fd()));
    assert!(Arc::ptr_eq(&refused.inner, &near), "the source comes back");
    assert!(
        refused
            .to_string()
            .contains(&format!("fd {} is already registered", near.as_raw_fd()))
    );
    far.write_all(b"x")?;
    let mut calls = 0;
    reactor.run(&mut calls)?;
    assert_eq!(calls, 1);
    Ok(())
}

#[test]
fn an_invalid_fd_is_refused_with_the_call_and_the_number() -> Result {
    // An O_PATH descriptor is invalid for ioctl(2) and epoll_ctl(2): both return EBADF.
    let path = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::PATH.bits() as i32)
        .open("/")?;
    let fd = path.as_raw_fd();
    let mut reactor = Reactor::<()>::new()?;
    let refused = reactor
        .add(path, Interest::READABLE, |_, _| Ok(Next::Keep))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("ioctl(FIONBIO) on fd {fd}: Bad file descriptor (os error 9)")
    );
    assert_eq!(refused.inner.as_raw_fd(), fd);
    let cause = std::error::Error::source(&refused).ok_or("a cause")?;
    assert_eq!(cause.to_string(), "Bad file descriptor (os error 9)");
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_full_registry_refuses_and_has_room_again_after_a_removal() -> Result {
    let mut reactor = Reactor::<Vec<u32>>::builder()
        .max_registrations(2)
        .build()?;
    let (first, _far) = add_counting_reader(&mut reactor, 0)?;
    let _second = add_counting_reader(&mut reactor, 0)?;
    let (near, _far) = UnixStream::pair()?;
    let fd = near.as_raw_fd();
    let refused = reactor
        .add(near, Interest::READABLE, |_, _| Ok(Next::Keep))
        .unwrap_err();
    assert!(
        matches!(refused.error, Error::Full { fd: named, max_registrations: 2 } if named == fd)
    );
    reactor.remove(first)?;
    reactor.add(refused.inner, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    Ok(())
}

#[test]
fn everything_registered_is_listed_with_fd_kind_interest_name_and_line() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (near, _far) = readable()?;
    let fd = near.as_raw_fd();
    let line = line!() + 1;
    let key = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    let file = reactor.add(File::open("/dev/null")?, Interest::NONE, |_, _| {
        Ok(Next::Keep)
    })?;
    reactor.set_name(file, "the void")?;
    reactor.set_priority(file, Priority::Low)?;
    reactor.set_background(file)?;
    turn_now(&mut reactor, &mut ());
    turn_now(&mut reactor, &mut ());

    let list: Vec<_> = reactor.registrations().collect();
    assert_eq!(list.len(), 2);
    assert_eq!(
        (list[0].key, list[0].fd, list[0].kind, list[0].calls),
        (key, fd, Kind::Stream, 2)
    );
    assert_eq!(
        (list[0].origin.file(), list[0].origin.line()),
        (file!(), line)
    );
    assert!(
        list[0].name.contains("everything_registered_is_listed"),
        "{}",
        list[0].name
    );
    assert!(list[0].keeps_alive && !list[0].always_ready && list[0].readiness.is_readable());
    assert_eq!(
        (list[1].name, list[1].kind, list[1].interest),
        ("the void", Kind::CharDevice, Interest::NONE)
    );
    assert!(!list[1].keeps_alive && list[1].always_ready);
    let text = list[1].to_string();
    assert!(
        text.contains("the void") && text.contains("low priority, always ready, background"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_registration_can_be_listed_with_the_line_of_another_caller() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (near, _far) = readable()?;
    let asked_for = std::panic::Location::caller();
    let key = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    reactor.set_origin(key, asked_for)?;
    assert_eq!(
        reactor.registrations().next().map(|listed| listed.origin),
        Some(asked_for)
    );
    reactor.remove(key)?;
    assert!(matches!(
        reactor.set_origin(key, asked_for),
        Err(Error::StaleKey(_))
    ));
    Ok(())
}

#[test]
fn a_source_is_put_into_non_blocking_mode() -> Result {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn()?;
    let blocking = mio::unix::pipe::Receiver::from(child.stdout.take().ok_or("a piped stdout")?);
    child.wait()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(blocking, Interest::READABLE, |output, _| {
        assert!(rustix::fs::fcntl_getfl(output.get_ref())?.contains(OFlags::NONBLOCK));
        Ok(Next::Remove)
    })?;
    reactor.run(&mut ())?;
    assert_eq!(reactor.metrics().failures, 0);
    let (near, far) = UnixStream::pair()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near.try_clone()?, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    assert!(rustix::fs::fcntl_getfl(&near)?.contains(OFlags::NONBLOCK));
    assert!(!rustix::fs::fcntl_getfl(&far)?.contains(OFlags::NONBLOCK));
    Ok(())
}

#[test]
fn the_errno_of_an_error_is_found_however_deep_it_is_wrapped() {
    let bare = || io::Error::from_raw_os_error(24);
    let refused = Error::Os {
        call: "epoll_ctl(ADD)",
        fd: 12,
        source: io::Error::other(bare()),
    };
    assert_eq!(
        (refused.raw_os_error(), errno(&refused)),
        (Some(24), Some(24))
    );
    let wrapped = io::Error::other(io::Error::from(refused));
    for error in [
        bare(),
        io::Error::other(bare()),
        wrapped,
        io::Error::other(rustix::io::Errno::MFILE),
    ] {
        assert_eq!(errno(&error), Some(24), "{error}");
    }
    let taken = io::Error::from(Error::AlreadyRegistered { fd: 7 });
    assert_eq!(errno(&taken), Some(17), "EEXIST");
    for error in [
        io::Error::other("a text"),
        ErrorKind::NotFound.into(),
        Error::NoManualClock.into(),
    ] {
        assert_eq!(errno(&error), None, "{error}");
    }
}

#[test]
fn refusals_of_queues_and_posts_return_their_argument() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let mut reactor = Reactor::<()>::builder().max_pending_posts(0).build()?;
    reactor.consume(receiver, |_: Option<String>, _| Ok(Next::Keep))?;
    let remote = reactor.remote()?;
    let refused = sender
        .send_within("text".to_owned(), Duration::ZERO)
        .err()
        .ok_or("it is the loop's thread")?;
    assert_eq!(
        (refused.kind(), format!("{refused:?}").as_str()),
        (ErrorKind::Deadlock, "OnLoopThread(..)")
    );
    assert!(
        refused.to_string().contains("on_room"),
        "what to do: {refused}"
    );
    assert_eq!(refused.into_inner(), "text");
    let refused = remote.try_post(|_| ()).err().ok_or("none is allowed")?;
    assert!(
        refused.to_string().contains("0 pending closures"),
        "the limit is named: {refused}"
    );
    assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
    drop(reactor);
    let refused = sender
        .send_within(String::new(), Duration::ZERO)
        .err()
        .ok_or("the loop is gone")?;
    assert_eq!(io::Error::from(refused).kind(), ErrorKind::BrokenPipe);
    let refused = remote.try_post(|_| ()).err().ok_or("the loop is gone")?;
    assert_eq!(io::Error::from(refused).kind(), ErrorKind::BrokenPipe);
    Ok(())
}
