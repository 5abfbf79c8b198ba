//! The end of a loop: calls, posts and sends are refused before any value of the user is dropped.

use std::cell::RefCell;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::TrySendError;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::{
    CallError, Capacity, Interest, LoopPool, LoopThread, Next, Reactor, Registry, Remote, Sender,
    Then, notification_queue,
};
use support::in_time;

use crate::{Result, turn_now};

/// Joins its thread when it is dropped, as an owner does.
#[derive(Default)]
struct Joins(Option<JoinHandle<()>>);

impl Drop for Joins {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.join().unwrap();
        }
    }
}

/// Returns a thread that waits for an answer of the loop, which does not come.
fn waits_in_call<S: 'static>(remote: &Remote<S>) -> Joins {
    waits_in_call_of::<S, 0>(remote)
}

/// Like `waits_in_call`, with a closure of a type of its own.
fn waits_in_call_of<S: 'static, const N: usize>(remote: &Remote<S>) -> Joins {
    let before = remote.pending();
    let called = remote.clone();
    let thread = thread::spawn(move || assert_eq!(called.call(|_| N), Err(CallError::Lost)));
    while remote.pending() == before {
        thread::yield_now();
    }
    Joins(Some(thread))
}

/// Returns a thread that sends until it gets the error that the loop is gone.
fn sends_until_refused(sender: Sender<u8>) -> Joins {
    let sends = move || {
        while !matches!(sender.try_send(0), Err(TrySendError::Disconnected(_))) {
            thread::yield_now();
        }
    };
    Joins(Some(thread::spawn(sends)))
}

type Own = fn(&mut Reactor<Joins>, Joins) -> Result;

/// Every place in a loop that may hold a value of the user.
const OWNERS: [(&str, Own); 11] = [
    ("source", |reactor, joins| {
        struct Source(
            UnixStream,
            #[allow(dead_code, reason = "for its destructor")] Joins,
        );
        impl std::os::fd::AsFd for Source {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        let source = Source(UnixStream::pair()?.0, joins);
        reactor.add(source, Interest::READABLE, |_, _| Ok(Next::Keep))?;
        Ok(())
    }),
    ("handler", |reactor, joins| {
        reactor.add(UnixStream::pair()?.0, Interest::READABLE, move |_, _| {
            let _ = &joins;
            Ok(Next::Keep)
        })?;
        Ok(())
    }),
    ("queue", |reactor, joins| {
        reactor.consume(
            notification_queue::<()>(Capacity::Unbounded).1,
            move |_, _| {
                let _ = &joins;
                Ok(Next::Keep)
            },
        )?;
        Ok(())
    }),
    ("value", |reactor, joins| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        assert!(sender.try_send(joins).is_ok());
        reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
        Ok(())
    }),
    ("timer", |reactor, joins| {
        reactor.after(Duration::from_secs(3600), move |_| {
            let _ = &joins;
            Ok(Then::Done)
        });
        Ok(())
    }),
    ("hook", |reactor, joins| {
        reactor.after_wait(move |_| {
            let _ = &joins;
            Ok(Next::Keep)
        });
        Ok(())
    }),
    ("idle", |reactor, joins| {
        reactor.idle(move |_| {
            let _ = &joins;
            Ok(Next::Keep)
        });
        Ok(())
    }),
    ("deferred", |reactor, joins| {
        reactor.defer(move |_| drop(joins));
        Ok(())
    }),
    ("posted", |reactor, joins| {
        reactor.remote()?.post(move |_| drop(joins))?;
        Ok(())
    }),
    ("local", |reactor, joins| {
        *reactor.local::<Joins>() = joins;
        Ok(())
    }),
    ("receiver that is not registered", |reactor, joins| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        assert!(sender.try_send(joins).is_ok());
        reactor.defer(move |_| drop(receiver));
        Ok(())
    }),
];

#[test]
fn a_dropped_loop_releases_callers_and_senders_first() {
    for (name, own) in OWNERS {
        for calls in [true, false] {
            in_time(
                &format!(
                    "{name}, which joins a {}",
                    if calls { "caller" } else { "sender" }
                ),
                move || {
                    let mut reactor = Reactor::new().unwrap();
                    let joins = if calls {
                        waits_in_call(&reactor.remote().unwrap())
                    } else {
                        let (sender, receiver) = notification_queue(Capacity::Unbounded);
                        reactor.consume(receiver, |_, _| Ok(Next::Keep)).unwrap();
                        sends_until_refused(sender)
                    };
                    own(&mut reactor, joins).unwrap();
                    drop(reactor);
                },
            );
        }
    }
}

#[test]
fn a_sender_is_refused_first_also_where_its_queue_came_last() {
    in_time("it", || {
        let mut reactor = Reactor::<()>::new().unwrap();
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        let joins = sends_until_refused(sender);
        reactor
            .add(
                UnixStream::pair().unwrap().0,
                Interest::READABLE,
                move |_, _| {
                    let _ = &joins;
                    Ok(Next::Keep)
                },
            )
            .unwrap();
        reactor.consume(receiver, |_, _| Ok(Next::Keep)).unwrap();
        drop(reactor);
    });
}

#[test]
fn a_call_that_was_handed_over_and_has_not_run_is_answered_first_too() {
    in_time("it", || {
        let mut reactor = Reactor::<()>::new().unwrap();
        let remote = reactor.remote().unwrap();
        remote.post(|_| panic!("as the test wants")).unwrap();
        let joins = waits_in_call(&remote);
        reactor.after(Duration::from_secs(3600), move |_| {
            let _ = &joins;
            Ok(Then::Done)
        });
        catch_unwind(AssertUnwindSafe(|| turn_now(&mut reactor, &mut ()))).unwrap_err();
        drop(reactor);
    });
}

/// Posts a closure of a type of its own. The closure owns a thread that calls.
fn owns<const N: usize>(remote: &Remote<()>) {
    let joins = waits_in_call_of::<(), N>(remote);
    remote.post(move |_| drop((joins, N))).unwrap();
}

#[test]
fn a_caller_is_answered_when_the_remote_s_registration_is_removed() {
    in_time("it", || {
        let mut reactor = Reactor::<()>::new().unwrap();
        let remote = reactor.remote().unwrap();
        // Closures of many types, dropped in any order: each owns a thread that calls.
        let owners = [
            owns::<0>, owns::<1>, owns::<2>, owns::<3>, owns::<4>, owns::<5>, owns::<6>, owns::<7>,
        ];
        owners.iter().for_each(|own| own(&remote));
        let key = reactor.registrations().next().unwrap().key;
        reactor.remove(key).unwrap();
        assert_eq!((remote.is_gone(), reactor.len()), (true, 0));
    });
}

#[test]
fn a_loop_thread_that_panics_drops_its_reactor_before_its_state() {
    in_time("it", || {
        let thread = LoopThread::<Joins>::spawn("panics", |registry| {
            let remote = registry.remote()?;
            let waits = waits_in_call(&remote);
            registry.before_wait(|_| panic!("as the test wants"));
            Ok(waits)
        })
        .unwrap();
        assert!(
            thread
                .join()
                .is_err_and(|error| error.to_string().ends_with("panicked: as the test wants"))
        );
    });
}

#[test]
fn a_loop_thread_that_does_not_start_answers_before_it_drops_its_state() {
    in_time("it", || {
        // There is no room for the registration that a thread needs besides that of the user.
        let builder = || Reactor::builder().max_registrations(1);
        let failed = LoopThread::<Joins>::spawn_with("full", builder, |registry| {
            let (sender, receiver) = notification_queue(Capacity::Unbounded);
            registry.consume(receiver, |_, _| Ok(Next::Keep))?;
            Ok(sends_until_refused(sender))
        });
        assert_eq!(
            failed.map(drop).unwrap_err().kind(),
            io::ErrorKind::QuotaExceeded
        );
    });
}

#[test]
fn a_pool_that_does_not_start_releases_callers_that_wait_for_its_loops() {
    in_time("it", || {
        let failed =
            LoopPool::<Joins>::spawn(3, "loop-", |number, registry: &mut Registry<Joins>| {
                if number == 2 {
                    Err(io::Error::other("as the test wants"))
                } else {
                    Ok(waits_in_call_later(registry)?)
                }
            });
        assert_eq!(
            failed.map(drop).unwrap_err().to_string(),
            "as the test wants"
        );
    });
}

/// Returns a thread that calls the loop until it gets no answer.
fn waits_in_call_later(registry: &mut Registry<Joins>) -> io::Result<Joins> {
    let remote = registry.remote()?;
    Ok(Joins(Some(thread::spawn(move || {
        while remote.call(|_| ()).is_ok() {}
    }))))
}

#[test]
fn a_nested_reactor_that_is_removed_releases_its_callers_too() {
    in_time("it", || {
        let mut inner = Reactor::<()>::new().unwrap();
        let joins = Rc::new(RefCell::new(Joins::default()));
        let owner = Rc::clone(&joins);
        inner
            .add(
                UnixStream::pair().unwrap().0,
                Interest::READABLE,
                move |_, _| {
                    let _ = &owner;
                    Ok(Next::Keep)
                },
            )
            .unwrap();
        joins.replace(waits_in_call(&inner.remote().unwrap()));
        drop(joins);
        let mut outer = Reactor::<()>::new().unwrap();
        let inner = outer
            .add(inner, Interest::READABLE, |_, _| Ok(Next::Keep))
            .unwrap();
        outer.defer(move |cx| cx.registry.remove(inner).unwrap());
        outer.run(&mut ()).unwrap();
        assert!(outer.is_empty());
    });
}

#[test]
fn a_call_that_is_answered_while_its_loop_is_dropped_has_not_run() {
    in_time("it", || {
        let thread = LoopThread::<u32>::spawn("counts", |_| Ok(0)).unwrap();
        let remote = thread.remote().clone();
        let caller = thread::spawn(move || {
            let mut answered = 0;
            while let Ok(count) = remote.call(|cx| {
                *cx.state += 1;
                *cx.state
            }) {
                answered = count;
            }
            answered
        });
        while thread.remote().call(|cx| *cx.state).unwrap() == 0 {
            thread::yield_now();
        }
        assert_eq!(thread.stop().unwrap(), caller.join().unwrap());
    });
}
