//! Destructors that panic: the accounting is complete before a value of the user is dropped, and
//! the loop goes on.

use std::any::Any;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use reactor::{
    Capacity, Context, Event, Handler, HookKey, Interest, Io, Key, LoopThread, Missed, Next,
    PanicPolicy, Reactor, Then, TimerKey, notification_queue,
};
use support::in_time;

use crate::{Result, set_event, turn_now};

/// Panics when it is dropped, and counts that.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a bomb");
    }
}

/// The end of a registration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    ByKey,
    ByOutcome,
    ByError,
    ByPanic,
    WithTheReactor,
}

const ENDS: [End; 5] = [
    End::ByKey,
    End::ByOutcome,
    End::ByError,
    End::ByPanic,
    End::WithTheReactor,
];
const POLICIES: [PanicPolicy; 2] = [PanicPolicy::Propagate, PanicPolicy::RemoveHandler];

impl End {
    /// Returns the result of a callback that ends in this way.
    fn outcome(self) -> io::Result<Next> {
        match self {
            Self::ByKey | Self::WithTheReactor => Ok(Next::Keep),
            Self::ByOutcome => Ok(Next::Remove),
            Self::ByError => Err(io::Error::other("as the test wants")),
            Self::ByPanic => panic!("as the test wants"),
        }
    }

    fn then(self) -> io::Result<Then> {
        self.outcome().map(|next| {
            if next == Next::Remove {
                Then::Done
            } else {
                Then::After(Duration::from_secs(9))
            }
        })
    }
}

/// A registration that can be ended by its key.
#[derive(Clone, Copy)]
enum Name {
    Source(Key),
    Timer(TimerKey),
    Hook(HookKey),
    Nothing,
}

impl Name {
    fn remove(self, registry: &mut reactor::Registry<()>) {
        match self {
            Self::Source(key) => registry.remove(key).unwrap(),
            Self::Timer(timer) => registry.cancel(timer).unwrap(),
            Self::Hook(hook) => registry.remove_hook(hook).unwrap(),
            Self::Nothing => {}
        }
    }
}

/// Returns a source with bytes to read.
fn source() -> UnixStream {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"x").unwrap();
    near
}

struct Armed(
    UnixStream,
    #[allow(dead_code, reason = "for its destructor")] Bomb,
);

impl AsFd for Armed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

struct Object(#[allow(dead_code, reason = "for its destructor")] Bomb, End);

impl<T: 'static> Handler<(), T> for Object {
    fn ready(&mut self, _: &mut Io<T>, _: &mut Context<'_, ()>) -> io::Result<Next> {
        self.1.outcome()
    }
}

type Register = fn(&mut Reactor<()>, Bomb, End) -> Name;

/// Every kind of registration. Its callback runs in the next turn.
const KINDS: [(&str, Register); 13] = [
    ("closure", |reactor, bomb, end| {
        let callback = move |_: &mut Io<UnixStream>, _: &mut Context<'_, ()>| {
            let _ = &bomb;
            end.outcome()
        };
        Name::Source(reactor.add(source(), Interest::READABLE, callback).unwrap())
    }),
    ("object", |reactor, bomb, end| {
        Name::Source(
            reactor
                .add_handler(source(), Interest::READABLE, Object(bomb, end))
                .unwrap(),
        )
    }),
    ("source", |reactor, bomb, end| {
        let callback = move |_: &mut Io<Armed>, _: &mut Context<'_, ()>| end.outcome();
        Name::Source(
            reactor
                .add(Armed(source(), bomb), Interest::READABLE, callback)
                .unwrap(),
        )
    }),
    ("queue", |reactor, bomb, end| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        sender.try_send(()).unwrap();
        let key = reactor.consume(receiver, move |_, _| {
            let _ = (&bomb, &sender);
            end.outcome()
        });
        Name::Source(key.unwrap())
    }),
    ("value", |reactor, bomb, end| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        assert!(sender.try_send(None).is_ok() && sender.try_send(Some(bomb)).is_ok());
        let key = reactor.consume(receiver, move |value: Option<Option<Bomb>>, _| {
            let _ = &sender;
            // The bomb stays where it is.
            if matches!(value, Some(None)) && !matches!(end, End::ByKey | End::WithTheReactor) {
                return end.outcome();
            }
            Ok(Next::Keep)
        });
        let key = key.unwrap();
        reactor.set_max_messages_per_turn(key, 1).unwrap();
        Name::Source(key)
    }),
    ("event", |reactor, bomb, end| {
        let key = reactor.on_event(&set_event(), move |_| {
            let _ = &bomb;
            end.outcome()
        });
        Name::Source(key.unwrap())
    }),
    ("timer", |reactor, bomb, end| {
        Name::Timer(reactor.after(Duration::ZERO, move |_| {
            let _ = &bomb;
            end.then()
        }))
    }),
    ("periodic", |reactor, bomb, end| {
        Name::Timer(reactor.every(Duration::ZERO, Missed::Skip, move |_| {
            let _ = &bomb;
            end.outcome()
        }))
    }),
    ("wall", |reactor, bomb, end| {
        let timer = reactor.at_wall(SystemTime::UNIX_EPOCH, move |_| {
            let _ = &bomb;
            end.then()
        });
        let timer = timer.unwrap();
        reactor
            .set_timer_slack(timer, Duration::from_millis(1))
            .unwrap();
        Name::Timer(timer)
    }),
    ("before", |reactor, bomb, end| {
        Name::Hook(reactor.before_wait(move |_| {
            let _ = &bomb;
            end.outcome()
        }))
    }),
    ("after", |reactor, bomb, end| {
        Name::Hook(reactor.after_wait(move |_| {
            let _ = &bomb;
            end.outcome()
        }))
    }),
    ("idle", |reactor, bomb, end| {
        Name::Hook(reactor.idle(move |_| {
            let _ = &bomb;
            end.outcome()
        }))
    }),
    ("timeout", |reactor, bomb, end| {
        let callback = move |_: &mut Io<UnixStream>, _: &mut Context<'_, ()>| {
            let _ = &bomb;
            end.outcome()
        };
        let key = reactor.add(source(), Interest::NONE, callback).unwrap();
        reactor.set_timeout(key, Some(Duration::ZERO)).unwrap();
        Name::Source(key)
    }),
];

/// Returns the message of a panic.
fn message(result: &std::thread::Result<()>) -> Option<&'static str> {
    result
        .as_ref()
        .err()
        .map(|panic: &Box<dyn Any + Send>| *panic.downcast_ref::<&str>().unwrap())
}

/// Checks that nothing is left in the loop, and that the loop knows that.
#[track_caller]
fn expect_empty(mut reactor: Reactor<()>, what: &str) {
    let (len, timers) = (reactor.len(), reactor.timers().count());
    assert_eq!((len, timers), (0, 0), "{what}: {reactor:?}");
    let turns = reactor.metrics().turns;
    for _ in 0..3 {
        assert_eq!(
            turn_now(&mut reactor, &mut ()),
            0,
            "{what}: something still runs"
        );
    }
    reactor.run(&mut ()).unwrap();
    assert_eq!(
        reactor.metrics().turns,
        turns + 3,
        "{what}: there was something to wait for"
    );
    reactor.defer(|cx| cx.registry.stop());
    reactor.run(&mut ()).unwrap();
}

fn end_with_a_bomb((name, register): (&str, Register), end: End, policy: PanicPolicy) {
    let what = format!("{name} {end:?} under {policy:?}");
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut reactor = Reactor::<()>::builder().on_panic(policy).build().unwrap();
    let named = register(&mut reactor, Bomb(Arc::clone(&dropped)), end);
    let catch = |act: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(act));
    let mut told = None;
    if end != End::WithTheReactor {
        if end == End::ByKey {
            told = message(&catch(&mut || named.remove(&mut reactor)));
        }
        // A handler is dropped after its notification.
        for _ in 0..2 {
            told = told.or(message(&catch(&mut || _ = turn_now(&mut reactor, &mut ()))));
        }
    } else {
        told = message(&catch_unwind(AssertUnwindSafe(|| drop(reactor))));
        assert_eq!(
            told,
            (policy == PanicPolicy::Propagate).then_some("a bomb"),
            "{what}"
        );
        return assert_eq!(dropped.load(Ordering::SeqCst), 1, "{what}");
    }
    let first = if end == End::ByPanic {
        "as the test wants"
    } else {
        "a bomb"
    };
    assert_eq!(
        told,
        (policy == PanicPolicy::Propagate).then_some(first),
        "{what}"
    );
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "{what}");
    if policy == PanicPolicy::RemoveHandler {
        assert_eq!(
            reactor.metrics().panics,
            1 + u64::from(end == End::ByPanic),
            "{what}"
        );
    }
    expect_empty(reactor, &what);
}

#[test]
fn every_kind_of_registration_may_panic_when_dropped_at_any_kind_of_end() {
    in_time("one of them", || {
        for kind in KINDS {
            for end in ENDS {
                for policy in POLICIES {
                    end_with_a_bomb(kind, end, policy);
                }
            }
        }
    });
}

#[test]
fn a_hook_that_another_removes_in_its_turn_may_panic_when_it_is_dropped() -> Result {
    for policy in POLICIES {
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut reactor = Reactor::<()>::builder().on_panic(policy).build()?;
        let bomb = Bomb(Arc::clone(&dropped));
        let hook = reactor.idle(move |_| {
            let _ = &bomb;
            Ok(Next::Keep)
        });
        reactor.before_wait(move |cx| {
            let _ = cx.registry.remove_hook(hook);
            Ok(Next::Keep)
        });
        let turned = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut ())));
        assert_eq!(
            (turned.is_err(), dropped.load(Ordering::SeqCst)),
            (policy == PanicPolicy::Propagate, 1)
        );
        expect_empty(reactor, "a hook");
    }
    Ok(())
}

#[test]
fn a_dropped_loop_drops_everything_although_many_destructors_panic() {
    for policy in POLICIES {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bomb = || Bomb(Arc::clone(&dropped));
        let mut reactor = Reactor::<()>::builder().on_panic(policy).build().unwrap();
        for (_, register) in KINDS.iter().chain(&KINDS) {
            register(&mut reactor, bomb(), End::WithTheReactor);
        }
        let remote = reactor.remote().unwrap();
        for _ in 0..3 {
            let (deferred, posted) = (bomb(), bomb());
            reactor.defer(move |_| drop(deferred));
            remote.post(move |_| drop(posted)).unwrap();
        }
        #[derive(Default)]
        struct Local(Option<Bomb>);
        reactor.local::<Local>().0 = Some(bomb());
        let gone = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
        assert_eq!(
            message(&gone),
            (policy == PanicPolicy::Propagate).then_some("a bomb")
        );
        assert_eq!(dropped.load(Ordering::SeqCst), 2 * KINDS.len() + 7);
    }
}

/// Values that nobody has handled, in the queue and in the hands of the loop.
#[test]
fn each_value_left_in_a_queue_is_dropped_although_many_panic() -> Result {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let mut reactor = Reactor::<()>::new()?;
    let queue = reactor.consume(receiver, |bomb: Option<Bomb>, _| {
        std::mem::forget(bomb);
        Ok(Next::Keep)
    })?;
    reactor.set_max_messages_per_turn(queue, 1)?;
    let send = || (0..4).try_for_each(|_| sender.try_send(Bomb(Arc::clone(&dropped))));
    send()?;
    assert_eq!(turn_now(&mut reactor, &mut ()), 1);
    send()?;
    let gone = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
    assert_eq!(message(&gone), Some("a bomb"));
    assert_eq!(dropped.load(Ordering::SeqCst), 3 + 4);
    Ok(())
}

#[test]
fn deferred_callbacks_that_ran_before_one_that_panicked_are_counted() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    reactor.defer(|_| {});
    reactor.defer(|_| panic!("as the test wants"));
    reactor.defer(|_| {});
    catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut ()))).unwrap_err();
    assert_eq!(reactor.metrics().deferred, 2);
    turn_now(&mut reactor, &mut ());
    assert_eq!(reactor.metrics().deferred, 3);
    Ok(())
}

#[test]
fn a_handler_is_notified_of_its_end_though_closing_its_source_panics() -> Result {
    struct Told(Rc<std::cell::Cell<bool>>);
    impl Handler<(), Armed> for Told {
        fn ready(&mut self, _: &mut Io<Armed>, _: &mut Context<'_, ()>) -> io::Result<Next> {
            Ok(Next::Remove)
        }

        fn closed(&mut self, _: reactor::CloseReason, _: &mut Context<'_, ()>) {
            self.0.set(true);
        }
    }
    for policy in POLICIES {
        let told = Rc::new(std::cell::Cell::new(false));
        let mut reactor = Reactor::<()>::builder().on_panic(policy).build()?;
        let armed = Armed(source(), Bomb(Arc::default()));
        reactor.add_handler(armed, Interest::READABLE, Told(Rc::clone(&told)))?;
        let _ = catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut ())));
        turn_now(&mut reactor, &mut ());
        assert!(told.get(), "{policy:?}");
    }
    Ok(())
}

#[test]
fn destructors_may_use_every_handle_that_other_threads_have() {
    struct Busy {
        remote: reactor::Remote<()>,
        alive: Option<reactor::KeepAlive>,
        sender: reactor::Sender<u8>,
        event: Event,
        other: LoopThread<u32>,
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.remote.post(|_| ());
            assert!(self.remote.call(|_| ()).is_err());
            let _ = self.remote.stop();
            self.remote.wake();
            self.alive = None;
            let _ = self.sender.try_send(1);
            self.event.set();
            self.event.reset();
            assert_eq!(self.other.remote().call(|cx| *cx.state), Ok(7));
        }
    }
    in_time("one of them", || {
        let kinds: [fn(&mut Reactor<()>, Busy) -> Name; 4] = [
            |reactor, busy| {
                let callback = move |_: &mut Io<UnixStream>, _: &mut Context<'_, ()>| {
                    let _ = &busy;
                    Ok(Next::Keep)
                };
                Name::Source(reactor.add(source(), Interest::READABLE, callback).unwrap())
            },
            |reactor, busy| {
                let event = busy.event.clone();
                let on_event = reactor.on_event(&event, move |_| {
                    let _ = &busy;
                    Ok(Next::Keep)
                });
                Name::Source(on_event.unwrap())
            },
            |reactor, busy| {
                Name::Timer(reactor.after(Duration::ZERO, move |_| {
                    let _ = &busy;
                    Ok(Then::After(Duration::ZERO))
                }))
            },
            |reactor, busy| {
                reactor.remote().unwrap().post(move |_| drop(busy)).unwrap();
                Name::Nothing
            },
        ];
        for register in kinds {
            for drops in [true, false] {
                let mut reactor = Reactor::<()>::new().unwrap();
                let remote = reactor.remote().unwrap();
                let (sender, receiver) = notification_queue(Capacity::Unbounded);
                reactor.consume(receiver, |_, _| Ok(Next::Keep)).unwrap();
                let busy = Busy {
                    alive: Some(remote.keep_alive()),
                    remote,
                    sender,
                    event: Event::auto_reset(),
                    other: LoopThread::spawn("other", |_| Ok(7)).unwrap(),
                };
                let name = register(&mut reactor, busy);
                if !drops {
                    name.remove(&mut reactor);
                    turn_now(&mut reactor, &mut ());
                }
            }
        }
    });
}

/// The payload of a panic that panics when it is dropped.
struct Nested;

impl Drop for Nested {
    fn drop(&mut self) {
        panic_any(Twice);
    }
}

struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        panic!("thrice");
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_is_survived() -> Result {
    let mut reactor = Reactor::<()>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    reactor.add(source(), Interest::READABLE, |_, _| panic_any(Nested))?;
    reactor.after(Duration::ZERO, |_| panic_any(Nested));
    reactor.before_wait(|_| panic_any(Nested));
    reactor.defer(|_| panic_any(Nested));
    let remote = reactor.remote()?;
    remote.post(|_| panic_any(Nested))?;
    turn_now(&mut reactor, &mut ());
    assert_eq!(reactor.metrics().panics, 5);

    let thread = LoopThread::spawn("panics", |_| Ok(()))?;
    thread.remote().post(|_| panic_any(Nested))?;
    let told = thread.join().map_err(|error| error.to_string()).err();
    assert_eq!(
        told.as_deref(),
        Some("the loop of thread \"panics\" panicked: a panic whose payload is no text")
    );
    let thread = LoopThread::spawn("dropped", |_| Ok(()))?;
    thread.remote().post(|_| panic_any(Nested))?;
    drop(thread);
    Ok(())
}
