//! After its removal a registration is neither called nor open, whatever events were collected or
//! fds duplicated before.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use reactor::{CloseReason, Context, Error, Handler, Interest, Io, Key, Next, Priority, Reactor};

use crate::{Log, Result, add_counting_reader, read_all, readable, turn_now};

#[test]
fn a_handler_removes_itself_by_its_result_or_by_its_key() -> Result {
    for by_key in [false, true] {
        let (near, _far) = readable()?;
        let mut reactor = Reactor::<u32>::new()?;
        reactor.add(near, Interest::READABLE, move |_, cx| {
            *cx.state += 1;
            if by_key {
                cx.registry.remove(cx.key())?;
                return Ok(Next::Keep);
            }
            Ok(Next::Remove)
        })?;
        let mut calls = 0;
        reactor.run(&mut calls)?; // returns since nothing is left
        assert_eq!((calls, reactor.len()), (1, 0));
    }
    Ok(())
}

/// The state of the tests in which the first handler that is called removes the other.
#[derive(Default)]
struct Duel {
    keys: [Option<Key>; 2],
    calls: [u32; 2],
}

#[test]
fn a_removed_handler_is_not_called_again_in_the_same_batch() -> Result {
    let mut reactor = Reactor::<Duel>::new()?;
    let mut duel = Duel::default();
    let mut peers = Vec::new();
    for place in 0..2 {
        let (near, far) = readable()?;
        peers.push(far);
        duel.keys[place] = Some(reactor.add(
            near,
            Interest::READABLE,
            move |_, cx: &mut Context<'_, Duel>| {
                cx.state.calls[place] += 1;
                if let Some(other) = cx.state.keys[1 - place].take() {
                    cx.registry.remove(other)?;
                }
                Ok(Next::Keep)
            },
        )?);
    }
    turn_now(&mut reactor, &mut duel);
    assert_eq!(duel.calls.iter().sum::<u32>(), 1, "{:?}", duel.calls);
    assert_eq!(reactor.len(), 1);
    assert_eq!(reactor.metrics().stale_events, 1);
    Ok(())
}

#[test]
fn a_handler_may_remove_one_that_was_called_before_it_in_the_same_batch() -> Result {
    let mut reactor = Reactor::<Vec<Key>>::new()?;
    let mut peers = Vec::new();
    for _ in 0..2 {
        let (near, far) = readable()?;
        peers.push(far);
        reactor.add(
            near,
            Interest::READABLE,
            |_, cx: &mut Context<'_, Vec<Key>>| {
                if let Some(earlier) = cx.state.first() {
                    cx.registry.remove(*earlier)?;
                }
                cx.state.push(cx.key());
                Ok(Next::Keep)
            },
        )?;
    }
    let mut called = Vec::new();
    assert_eq!(turn_now(&mut reactor, &mut called), 2);
    assert!(!reactor.contains(called[0]) && reactor.contains(called[1]));
    Ok(())
}

#[test]
fn a_removed_source_is_closed_before_remove_returns() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut reactor = Reactor::<()>::new()?;
    let key = reactor.add(listener, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    assert_eq!(
        TcpListener::bind(address).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    reactor.remove(key)?;
    TcpListener::bind(address)?;
    Ok(())
}

#[test]
fn a_stale_key_is_an_error_in_every_method() -> Result {
    let mut reactor = Reactor::new()?;
    let (key, _far) = add_counting_reader(&mut reactor, 0)?;
    reactor.remove(key)?;
    let (newcomer, _far) = add_counting_reader(&mut reactor, 0)?; // in the same slot
    for stale in [
        key,
        Key::NULL,
        Key::unregistered(0),
        Key::unregistered(u32::MAX),
    ] {
        let answers = [
            reactor.remove(stale),
            reactor.set_interest(stale, Interest::WRITABLE),
            reactor.interest(stale).map(drop),
            reactor.set_priority(stale, Priority::High),
            reactor.set_background(stale),
            reactor.set_foreground(stale),
            reactor.set_name(stale, "nobody"),
        ];
        for answer in answers {
            assert!(
                matches!(answer, Err(Error::StaleKey(named)) if named == stale),
                "{answer:?}"
            );
        }
        assert!(!reactor.contains(stale));
    }
    assert!(reactor.contains(newcomer));
    assert_eq!(reactor.interest(newcomer)?, Interest::READABLE);
    Ok(())
}

/// Notes its calls and its end.
struct Witness {
    log: Log,
    next: fn() -> io::Result<Next>,
}

impl Handler<(), UnixStream> for Witness {
    fn ready(&mut self, _io: &mut Io<UnixStream>, _cx: &mut Context<'_, ()>) -> io::Result<Next> {
        (self.next)()
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, ()>) {
        assert!(
            cx.key() != Key::NULL && !cx.registry.contains(cx.key()),
            "the key that has ended"
        );
        self.log.borrow_mut().push(format!("{reason:?}"));
    }
}

#[test]
fn a_handler_is_notified_why_its_registration_has_ended() -> Result {
    let log = Log::default();
    let mut reactor = Reactor::<()>::new()?;
    let outcomes: [fn() -> io::Result<Next>; 2] =
        [|| Ok(Next::Remove), || Err(io::Error::other("broken"))];
    for next in outcomes {
        let (near, _far) = readable()?;
        reactor.add_handler(
            near,
            Interest::READABLE,
            Witness {
                log: Rc::clone(&log),
                next,
            },
        )?;
        reactor.run(&mut ())?;
    }
    let (near, _far) = UnixStream::pair()?;
    let unused = Witness {
        log: Rc::clone(&log),
        next: || Ok(Next::Keep),
    };
    let key = reactor.add_handler(near, Interest::READABLE, unused)?;
    reactor.remove(key)?;
    assert_eq!(log.borrow().len(), 2, "told with the deferred callbacks");
    reactor.run(&mut ())?;
    assert_eq!(
        *log.borrow(),
        [
            "ByHandler",
            "Failed(Custom { kind: Other, error: \"broken\" })",
            "ByKey"
        ]
    );
    Ok(())
}

#[test]
fn a_handler_that_removes_itself_by_its_key_is_notified_once() -> Result {
    struct Quitter(Log);
    impl Handler<(), UnixStream> for Quitter {
        fn ready(&mut self, _: &mut Io<UnixStream>, cx: &mut Context<'_, ()>) -> io::Result<Next> {
            cx.registry.remove(cx.key())?;
            Ok(Next::Remove)
        }

        fn closed(&mut self, reason: CloseReason, _: &mut Context<'_, ()>) {
            self.0.borrow_mut().push(format!("{reason:?}"));
        }
    }
    let log = Log::default();
    let (near, _far) = readable()?;
    let mut reactor = Reactor::<()>::new()?;
    reactor.add_handler(near, Interest::READABLE, Quitter(Rc::clone(&log)))?;
    reactor.run(&mut ())?;
    assert_eq!(log.borrow().len(), 1);
    Ok(())
}

#[test]
fn captures_of_a_handler_may_do_real_work_when_they_are_dropped() -> Result {
    /// Sends a last message when it is dropped, on a stream that another handler reads.
    struct LastWords(UnixStream, Rc<Cell<bool>>);
    impl Drop for LastWords {
        fn drop(&mut self) {
            self.0.write_all(b"bye").unwrap();
            self.1.set(true);
        }
    }
    let (listener, speaker) = UnixStream::pair()?;
    let (near, _far) = readable()?;
    let dropped = Rc::new(Cell::new(false));
    let last_words = LastWords(speaker, Rc::clone(&dropped));
    let mut reactor = Reactor::<Vec<u8>>::new()?;
    reactor.add(listener, Interest::READABLE, |listener, cx| {
        cx.state.extend(read_all(listener)?);
        Ok(Next::Remove)
    })?;
    let asked = Rc::clone(&dropped);
    reactor.add(near, Interest::READABLE, move |_, cx| {
        let _held = &last_words;
        cx.registry.remove(cx.key())?;
        assert!(
            !asked.get(),
            "a running handler is not dropped under its own feet"
        );
        Ok(Next::Keep)
    })?;
    let mut heard = Vec::new();
    reactor.run(&mut heard)?;
    assert!(dropped.get());
    assert_eq!(heard, b"bye");
    Ok(())
}

#[test]
fn dropping_the_reactor_closes_every_source_and_drops_every_handler() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let held = Rc::new(());
    let captured = Rc::clone(&held);
    let mut reactor = Reactor::<()>::new()?;
    reactor.add(near, Interest::READABLE, move |_, _| {
        let _ = &captured;
        Ok(Next::Keep)
    })?;
    drop(reactor);
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(far.read(&mut [0; 1])?, 0);
    Ok(())
}

#[test]
fn one_place_is_used_seventy_thousand_times_and_no_key_of_it_returns() -> Result {
    let (near, _far) = UnixStream::pair()?;
    let mut source = Some(near);
    let mut reactor = Reactor::<()>::new()?;
    let mut first = None;
    for _ in 0..70_000 {
        let near = source
            .take()
            .map(|near| near.try_clone())
            .transpose()?
            .ok_or("a source")?;
        source = Some(near.try_clone()?);
        let key = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
        assert_ne!(Some(key), first);
        first.get_or_insert(key);
        reactor.remove(key)?;
    }
    assert!(reactor.is_empty());
    Ok(())
}
