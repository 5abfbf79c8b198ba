//! The end of `run` and of a turn without a timeout: no loop sleeps when nothing can end its sleep.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use reactor::{Capacity, Event, Interest, Next, Reactor, Spin, Then, notification_queue};
use support::in_time;

use crate::{PATIENCE, Result};

/// A thing to wait for, and the way to remove it.
type Takes = Box<dyn FnMut(&mut reactor::Registry<()>)>;
type Case = (&'static str, fn(&mut Reactor<()>) -> Result<Takes>);

const CASES: [Case; 10] = [
    ("a source", |reactor| {
        let (near, far) = UnixStream::pair()?;
        let key = reactor.add(near, Interest::READABLE, move |_, _| {
            let _open = &far;
            Ok(Next::Keep)
        })?;
        Ok(Box::new(move |registry| drop(registry.remove(key))))
    }),
    ("a source that goes into the background", |reactor| {
        let (near, far) = UnixStream::pair()?;
        let key = reactor.add(near, Interest::READABLE, move |_, _| {
            let _open = &far;
            Ok(Next::Keep)
        })?;
        Ok(Box::new(move |registry| drop(registry.set_background(key))))
    }),
    ("a timer", |reactor| {
        let timer = reactor.after(Duration::from_secs(3600), |_| Ok(Then::Done));
        Ok(Box::new(move |registry| drop(registry.cancel(timer))))
    }),
    ("a timer that goes into the background", |reactor| {
        let timer = reactor.after(Duration::from_secs(3600), |_| Ok(Then::Done));
        Ok(Box::new(move |registry| {
            drop(registry.set_timer_background(timer))
        }))
    }),
    ("a token that keeps alive", |reactor| {
        let mut alive = Some(reactor.remote()?.keep_alive());
        Ok(Box::new(move |_| drop(alive.take())))
    }),
    ("a queue", |reactor| {
        let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
        let key = reactor.consume(receiver, move |_, _| {
            let _open = &sender;
            Ok(Next::Keep)
        })?;
        Ok(Box::new(move |registry| drop(registry.remove(key))))
    }),
    ("the last sender of a queue", |reactor| {
        let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
        reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
        let mut sender = Some(sender);
        Ok(Box::new(move |_| drop(sender.take())))
    }),
    ("an event", |reactor| {
        let key = reactor.on_event(&Event::auto_reset(), |_| Ok(Next::Keep))?;
        Ok(Box::new(move |registry| drop(registry.remove(key))))
    }),
    ("an idle callback", |reactor| {
        let idle = reactor.idle(|_| Ok(Next::Keep));
        Ok(Box::new(move |registry| drop(registry.remove_hook(idle))))
    }),
    ("a stop", |reactor| {
        reactor.after(Duration::from_secs(3600), |_| Ok(Then::Done));
        Ok(Box::new(|registry| registry.stop()))
    }),
];

#[test]
fn run_ends_when_a_hook_removes_the_last_work_before_or_after_the_wait() {
    for (case, set_up) in CASES {
        for (before, spin) in [
            (true, Spin::Off),
            (false, Spin::Off),
            (true, Spin::Fixed(PATIENCE)),
        ] {
            in_time(case, move || {
                let run = || -> Result {
                    let mut reactor = Reactor::builder().spin(spin).build()?;
                    let mut take_away = set_up(&mut reactor)?;
                    if before {
                        reactor.before_wait(move |cx| {
                            take_away(cx.registry);
                            Ok(Next::Keep)
                        });
                    } else {
                        reactor.defer(|_| {}); // so that the first wait does not block
                        reactor.after_wait(move |cx| {
                            take_away(cx.registry);
                            Ok(Next::Keep)
                        });
                    }
                    reactor.run(&mut ())?;
                    assert_eq!(
                        (reactor.metrics().sleeps, reactor.metrics().idle_spins),
                        (0, 0)
                    );
                    Ok(())
                };
                run().unwrap_or_else(|error| panic!("{case}: {error}"));
            });
        }
    }
}

#[test]
fn a_turn_without_a_timeout_does_not_wait_where_nothing_can_end_it() {
    type Case = (&'static str, fn(&mut Reactor<()>) -> Result);
    let cases: [Case; 5] = [
        ("nothing", |_| Ok(())),
        ("a hook", |reactor| {
            reactor.before_wait(|_| Ok(Next::Keep));
            Ok(())
        }),
        ("a hook that takes the last source away", |reactor| {
            let (near, far) = UnixStream::pair()?;
            let key = reactor.add(near, Interest::READABLE, move |_, _| {
                let _open = &far;
                Ok(Next::Keep)
            })?;
            reactor.before_wait(move |cx| {
                let _ = cx.registry.remove(key);
                Ok(Next::Keep)
            });
            Ok(())
        }),
        ("a remote that was dropped", |reactor| {
            Ok(reactor.remote().map(drop)?)
        }),
        ("a queue that has ended", |reactor| {
            let (sender, receiver) = notification_queue::<()>(Capacity::Unbounded);
            let key = reactor.consume(receiver, |_, _| Ok(Next::Keep))?;
            reactor.remove(key)?;
            drop(sender);
            Ok(())
        }),
    ];
    for (case, set_up) in cases {
        in_time(case, move || {
            let turn = || -> Result {
                let mut reactor = Reactor::new()?;
                set_up(&mut reactor)?;
                assert_eq!(
                    (reactor.turn(&mut (), None)?, reactor.metrics().sleeps),
                    (0, 0)
                );
                Ok(())
            };
            turn().unwrap_or_else(|error| panic!("{case}: {error}"));
        });
    }
}

#[test]
fn a_turn_without_a_timeout_waits_for_background_sources_and_wakes() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (near, far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Remove))?;
    reactor.set_background(key)?;
    let thread = thread::spawn(move || drop(far));
    assert_eq!(reactor.turn(&mut (), None)?, 1);
    thread.join().map_err(|_| "it panicked")?;

    let waker = reactor.remote()?.waker();
    let remote = reactor
        .registrations()
        .next()
        .ok_or("the queue of the remotes")?
        .key;
    reactor.remove(remote)?;
    let (begins, begun) = channel();
    reactor.before_wait(move |_| {
        begins
            .send(())
            .map(|()| Next::Keep)
            .map_err(std::io::Error::other)
    });
    let woken = Arc::new(AtomicBool::new(false));
    let wakes = Arc::clone(&woken);
    let thread = thread::spawn(move || {
        begun.recv().unwrap();
        wakes.store(true, Ordering::Release);
        waker.wake();
        waker // until the turn is over: the waker may end the wait
    });
    reactor.turn(&mut (), None)?;
    assert!(
        woken.load(Ordering::Acquire),
        "it did not wait for the wake"
    );
    drop(thread.join().map_err(|_| "it panicked")?);
    Ok(())
}
