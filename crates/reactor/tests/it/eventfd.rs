//! `EventFd`: eventfd(2) to the letter, and writes from other code.

use std::io::{ErrorKind, PipeReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use reactor::{AddError, EventFd, Interest, Next, Reactor};

use crate::{Result, turn_now, turn_until};

fn nonblocking(event: EventFd) -> Result<EventFd> {
    event.set_nonblocking(true)?;
    Ok(event)
}

#[test]
fn a_counter_returns_its_whole_sum_and_starts_at_its_initial_value() -> Result {
    let event = nonblocking(EventFd::counter(7)?)?;
    event.add(0)?;
    event.add(5)?;
    assert_eq!(event.read()?, 12);
    assert_eq!(
        event.read().map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    event.add(0)?; // adding 0 makes nothing readable
    assert_eq!(
        event.read().map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    Ok(())
}

#[test]
fn a_semaphore_returns_one_at_a_time() -> Result {
    let event = nonblocking(EventFd::semaphore(1)?)?;
    event.add(2)?;
    assert_eq!([event.read()?, event.read()?, event.read()?], [1, 1, 1]);
    assert_eq!(
        event.read().map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    Ok(())
}

#[test]
fn a_counter_never_holds_more_than_it_can() -> Result {
    let event = nonblocking(EventFd::counter(1)?)?;
    assert_eq!(
        event.add(u64::MAX).map_err(|error| error.kind()),
        Err(ErrorKind::InvalidInput)
    );
    event.add(EventFd::MAX - 1)?;
    assert_eq!(
        event.add(1).map_err(|error| error.kind()),
        Err(ErrorKind::WouldBlock)
    );
    assert_eq!(event.read()?, EventFd::MAX);
    event.add(EventFd::MAX)?;
    Ok(())
}

#[test]
fn one_that_blocks_waits_for_the_other_side() -> Result {
    let event = EventFd::counter(0)?;
    let other = event.try_clone()?;
    let thread = thread::spawn(move || {
        other.add(EventFd::MAX)?;
        other.add(1) // blocks until the counter is read
    });
    assert_eq!(event.read()?, EventFd::MAX);
    assert_eq!(event.read()?, 1);
    thread.join().map_err(|_| "it panicked")??;
    Ok(())
}

/// Returns a reactor that sums up the counts added to `event`.
fn sum_up(event: EventFd) -> std::result::Result<Reactor<u64>, AddError<EventFd>> {
    let mut reactor = Reactor::<u64>::new().map_err(|error| panic!("{error}"))?;
    reactor.add(event, Interest::READABLE, |event, cx| {
        *cx.state += event.try_io(Interest::READABLE, |event| event.read())?;
        Ok(Next::Keep)
    })?;
    Ok(reactor)
}

#[test]
fn a_handler_is_called_while_the_count_is_not_zero() -> Result {
    let event = EventFd::semaphore(3)?;
    let other = event.try_clone()?;
    let mut reactor = sum_up(event)?;
    let mut sum = 0;
    for taken in 1..=3 {
        turn_now(&mut reactor, &mut sum);
        assert_eq!(sum, taken, "one a call");
    }
    turn_now(&mut reactor, &mut sum);
    other.add(2)?;
    turn_until(&mut reactor, &mut sum, |sum| *sum == 5);
    turn_now(&mut reactor, &mut sum);
    assert_eq!(turn_now(&mut reactor, &mut sum), 0, "it rests");
    assert_eq!(reactor.metrics().kernel_updates, 1);
    Ok(())
}

#[test]
fn another_process_adds_to_one_that_it_has_inherited() -> Result {
    let event = EventFd::counter(0)?;
    let inherited = OwnedFd::from(event.try_clone()?);
    let mut reactor = sum_up(event)?;
    let mut child = Command::new("sh")
        .args(["-c", r"printf '\005\0\0\0\0\0\0\0' >&0"])
        .stdin(inherited)
        .spawn()?;
    let mut sum = 0;
    turn_until(&mut reactor, &mut sum, |sum| *sum == 5);
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn the_kernel_adds_to_one_when_an_asynchronous_read_is_complete() -> Result {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aio");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/aio.c");
    assert!(
        Command::new("cc")
            .arg("-o")
            .args([&program, &source])
            .status()?
            .success()
    );
    let event = EventFd::counter(0)?;
    let inherited = OwnedFd::from(event.try_clone()?);
    let mut reactor = sum_up(event)?;
    let mut child = Command::new(program)
        .stdin(inherited)
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut sum = 0;
    turn_until(&mut reactor, &mut sum, |sum| *sum == 1);
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn it_comes_from_and_becomes_an_owned_fd() -> Result {
    let event = EventFd::from(OwnedFd::from(EventFd::counter(4)?));
    assert_eq!(
        event
            .as_fd()
            .try_clone_to_owned()
            .map(EventFd::from)?
            .read()?,
        4
    );
    let (reader, mut writer): (PipeReader, _) = std::io::pipe()?;
    let no_eventfd = EventFd::from(OwnedFd::from(reader));
    assert!(
        no_eventfd.add(1).is_err(),
        "what it is shows when it is used"
    );
    writer.write_all(b"abc")?;
    drop(writer);
    for _ in 0..2 {
        assert_eq!(
            no_eventfd.read().map_err(|error| error.kind()),
            Err(ErrorKind::InvalidData)
        );
    }
    Ok(())
}
