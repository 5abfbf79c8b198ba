//! `Registry::take_source` ends a registration, and returns its source as it is. The handler is
//! notified.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use reactor::{CloseReason, Context, Error, Handler, Interest, Io, Next, Reactor};

use crate::{Result, turn_now};

/// Notes its end.
struct Notes;

impl Handler<Vec<String>, UnixStream> for Notes {
    fn ready(
        &mut self,
        _: &mut Io<UnixStream>,
        _: &mut Context<'_, Vec<String>>,
    ) -> io::Result<Next> {
        Ok(Next::Keep)
    }

    fn closing(&mut self, _: &mut Io<UnixStream>) {
        panic!("the source is not closed by the loop");
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, Vec<String>>) {
        cx.state.push(format!("{} {reason}", cx.key()));
    }
}

#[test]
fn a_source_is_taken_from_a_handler_of_any_type_which_is_notified() -> Result {
    let mut reactor = Reactor::<Vec<String>>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = reactor.add_handler(near, Interest::READABLE, Notes)?;
    let mut near: UnixStream = reactor.take_source(key)?;
    assert!(!reactor.contains(key));
    far.write_all(b"hello")?;
    let mut log = Vec::new();
    turn_now(&mut reactor, &mut log);
    assert_eq!(log, [format!("{key} taken")]);
    assert_eq!(near.read(&mut [0; 8])?, 5, "the source is open");
    let closure = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    let _near: UnixStream = reactor.take_source(closure)?;
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_source_of_another_type_or_of_a_queue_is_not_taken() -> Result {
    let mut reactor = Reactor::<Vec<String>>::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let (_sender, receiver) = reactor::notification_queue::<u8>(reactor::Capacity::Unbounded);
    let queue = reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
    let key = reactor.add(near, Interest::READABLE, move |io, cx| {
        io.read_exact(&mut [0])?;
        let tried = cx.registry.take_source::<UnixStream>(cx.key());
        assert!(matches!(tried, Err(Error::Running(running)) if running == cx.key()));
        Ok(Next::Keep)
    })?;
    for other in [key, queue] {
        let tried = reactor.take_source::<std::net::TcpStream>(other);
        assert!(matches!(tried, Err(Error::OtherType(at)) if at == other));
    }
    far.write_all(b"x")?;
    turn_now(&mut reactor, &mut Vec::new());
    assert_eq!((reactor.len(), reactor.metrics().calls), (2, 1));
    Ok(())
}
