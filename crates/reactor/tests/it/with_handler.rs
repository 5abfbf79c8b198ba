//! `with_handler` accesses the source and the handler of another registration, and takes no event
//! from it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use reactor::{
    CloseReason, Context, Error, Handler, Interest, Io, Key, ManualClock, Next, PanicPolicy,
    Reactor,
};

use crate::{Result, readable, turn_now};

/// Counts its calls, and reads one byte in each.
#[derive(Default)]
struct Host {
    accesses: u32,
}

impl Handler<Vec<String>, UnixStream> for Host {
    fn ready(
        &mut self,
        stream: &mut Io<UnixStream>,
        cx: &mut Context<'_, Vec<String>>,
    ) -> io::Result<Next> {
        if cx.readiness().is_timeout() {
            cx.state.push("timeout".to_owned());
            return Ok(Next::Keep);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        cx.state.push(format!(
            "{} after {} accesses",
            byte[0] as char, self.accesses
        ));
        Ok(Next::Keep)
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, Vec<String>>) {
        cx.state
            .push(format!("{reason:?} after {} accesses", self.accesses));
    }
}

fn access<R>(
    cx: &mut Context<'_, Vec<String>>,
    key: Key,
    access: impl FnOnce(&mut Io<UnixStream>, &mut Host, &mut Context<'_, Vec<String>>) -> R,
) -> std::result::Result<R, Error> {
    cx.with_handler(key, access)
}

/// Returns a reactor with a registration whose peer has sent `bytes`.
fn with_host(bytes: &[u8]) -> Result<(Reactor<Vec<String>>, Key, UnixStream)> {
    let mut reactor = Reactor::new()?;
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(bytes)?;
    far.set_nonblocking(true)?;
    let key = reactor.add_handler(near, Interest::READABLE, Host::default())?;
    Ok((reactor, key, far))
}

#[test]
fn an_access_changes_the_handler_and_writes_to_the_source() -> Result {
    let (mut reactor, key, mut far) = with_host(b"")?;
    reactor.defer(move |cx| {
        let written = access(cx, key, |stream, host, cx| {
            host.accesses += 1;
            assert_eq!((cx.key(), cx.readiness().is_empty()), (key, true));
            stream.write(b"hello")
        });
        assert_eq!(written.unwrap().unwrap(), 5);
    });
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    let mut received = [0; 5];
    far.read_exact(&mut received)?;
    far.write_all(b"x")?;
    turn_now(&mut reactor, &mut log);
    assert_eq!(
        (&received, log),
        (b"hello", vec!["x after 1 accesses".to_owned()])
    );
    Ok(())
}

/// Bytes that it reads are not reported.
#[test]
fn bytes_that_with_handler_leaves_unread_are_reported_to_the_handler() -> Result {
    for all in [false, true] {
        let (mut reactor, key, _far) = with_host(b"abc")?;
        reactor.set_interest(key, Interest::NONE)?;
        let mut log = Vec::new();
        turn_now(&mut reactor, &mut log); // the source is known to be readable now
        reactor.defer(move |cx| {
            let mut buf = [0; 8];
            let room = if all { 8 } else { 2 };
            assert_eq!(
                access(cx, key, |stream, _, _| stream.read(&mut buf[..room]))
                    .unwrap()
                    .unwrap(),
                room.min(3)
            );
            cx.registry.set_interest(key, Interest::READABLE).unwrap();
        });
        turn_now(&mut reactor, &mut log);
        turn_now(&mut reactor, &mut log);
        assert_eq!(
            log,
            if all {
                vec![]
            } else {
                vec!["c after 0 accesses".to_owned()]
            }
        );
    }
    Ok(())
}

#[test]
fn a_running_handler_and_one_being_accessed_are_out_of_reach() -> Result {
    let (mut reactor, key, _far) = with_host(b"")?;
    let (near, _other) = readable()?;
    reactor.add(near, Interest::READABLE, move |_, cx| {
        let own = cx.key();
        assert!(
            matches!(access(cx, own, |_, _, _| ()), Err(Error::Running(running)) if running == own)
        );
        let nested = access(cx, key, |_, _, cx| access(cx, key, |_, _, _| ()));
        assert!(matches!(nested, Ok(Err(Error::Running(running))) if running == key));
        Ok(Next::Remove)
    })?;
    turn_now(&mut reactor, &mut Vec::new());
    assert_eq!(reactor.metrics().calls, 1);
    Ok(())
}

#[test]
fn stale_keys_and_other_types_are_errors_that_name_the_key() -> Result {
    let (mut reactor, key, _far) = with_host(b"")?;
    let (near, _other) = UnixStream::pair()?;
    let closure = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    reactor.defer(move |cx| {
        assert!(matches!(access(cx, closure, |_, _, _| ()), Err(Error::OtherType(other)) if other == closure));
        cx.registry.remove(key).unwrap();
        assert!(matches!(access(cx, key, |_, _, _| ()), Err(Error::StaleKey(stale)) if stale == key));
        assert!(matches!(access(cx, Key::NULL, |_, _, _| ()), Err(Error::StaleKey(_))));
    });
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["ByKey after 0 accesses"]);
    Ok(())
}

#[test]
fn a_registration_removed_during_an_access_ends_with_it() -> Result {
    let (mut reactor, key, mut far) = with_host(b"")?;
    reactor.defer(move |cx| {
        access(cx, key, |stream, host, cx| {
            cx.registry.remove(key).unwrap();
            host.accesses += 1;
            stream.write_all(b"farewell").unwrap();
        })
        .unwrap();
        assert!(!cx.registry.contains(key));
    });
    let mut log = Vec::new();
    reactor.run(&mut log)?;
    let mut received = String::new();
    far.read_to_string(&mut received)?; // to the end: the stream is closed
    assert_eq!(
        (received.as_str(), log),
        ("farewell", vec!["ByKey after 1 accesses".to_owned()])
    );
    Ok(())
}

#[test]
fn a_panic_during_an_access_leaves_the_registration_in_place() -> Result {
    let mut reactor = Reactor::<Vec<String>>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = reactor.add_handler(near, Interest::READABLE, Host::default())?;
    reactor.defer(move |cx| {
        access(cx, key, |_, host, _| {
            host.accesses += 1;
            panic!("on purpose");
        })
        .unwrap()
    });
    far.write_all(b"y")?;
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log); // the event comes first
    far.write_all(b"z")?;
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, ["y after 0 accesses", "z after 1 accesses"]);
    Ok(())
}

#[test]
fn an_elapsed_timeout_is_still_reported_after_an_access() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Vec<String>>::builder().clock(clock).build()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = reactor.add_handler(near, Interest::READABLE, Host::default())?;
    reactor.set_timeout(key, Some(Duration::from_secs(1)))?;
    // A byte a turn: the source is queued for the next turn when its timeout elapses.
    far.write_all(b"abc")?;
    let mut log = Vec::new();
    reactor.after(Duration::from_secs(1), move |cx| {
        access(cx, key, |_, _, _| ()).unwrap();
        Ok(reactor::Then::Done)
    });
    reactor.advance(&mut log, Duration::from_secs(1))?;
    for _ in 0..4 {
        turn_now(&mut reactor, &mut log);
    }
    assert_eq!(
        log.iter().filter(|line| *line == "timeout").count(),
        1,
        "{log:?}"
    );
    assert_eq!(log.len(), 4, "{log:?}");
    Ok(())
}
