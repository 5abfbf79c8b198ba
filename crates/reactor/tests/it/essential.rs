//! Essential registrations: their failure ends the run with its reason.

use std::io::{self, ErrorKind};
use std::time::Duration;

use reactor::{
    Capacity, CloseReason, Context, Error, Failure, Handler, Interest, Io, LoopThread, Missed,
    Next, PanicPolicy, Reactor, Then, notification_queue,
};

use crate::{Result, readable, turn_now};

fn fails() -> io::Error {
    io::Error::from_raw_os_error(24)
}

/// The end of an essential registration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Error,
    Panic,
    Removed,
    ByKey,
}

impl End {
    fn outcome(self) -> io::Result<Next> {
        match self {
            Self::Error => Err(fails()),
            Self::Panic => panic!("as the test wants"),
            Self::Removed => Ok(Next::Remove),
            Self::ByKey => Ok(Next::Keep),
        }
    }
}

type Register = fn(&mut Reactor<()>, End);

struct Object(End);

impl<T: 'static> Handler<(), T> for Object {
    fn ready(&mut self, _: &mut Io<T>, cx: &mut Context<'_, ()>) -> io::Result<Next> {
        if self.0 == End::ByKey {
            cx.registry.remove(cx.key())?;
        }
        self.0.outcome()
    }

    fn closed(&mut self, reason: CloseReason, _: &mut Context<'_, ()>) {
        let errno = if let CloseReason::Failed(error) = &reason {
            error.raw_os_error()
        } else {
            None
        };
        assert_eq!(
            errno,
            (self.0 == End::Error).then_some(24),
            "the handler is told too"
        );
    }
}

const KINDS: [(&str, Register); 5] = [
    ("source", |reactor, end| {
        let key = reactor.add(readable().unwrap().0, Interest::READABLE, move |_, cx| {
            if end == End::ByKey {
                cx.registry.remove(cx.key())?;
            }
            end.outcome()
        });
        let key = key.unwrap();
        reactor.set_name(key, "source").unwrap();
        reactor.set_essential(key).unwrap();
    }),
    ("object", |reactor, end| {
        let key = reactor
            .add_handler(readable().unwrap().0, Interest::READABLE, Object(end))
            .unwrap();
        reactor.set_name(key, "object").unwrap();
        reactor.set_essential(key).unwrap();
    }),
    ("queue", |reactor, end| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        sender.try_send(()).unwrap();
        let key = reactor.consume(receiver, move |_, cx| {
            if end == End::ByKey {
                cx.registry.remove(cx.key())?;
            }
            end.outcome()
        });
        let key = key.unwrap();
        reactor.set_name(key, "queue").unwrap();
        reactor.set_essential(key).unwrap();
    }),
    ("timer", |reactor, end| {
        let timer = reactor.every(Duration::ZERO, Missed::Skip, move |cx| {
            if end == End::ByKey {
                cx.registry.cancel(cx.timer().unwrap())?;
            }
            end.outcome()
        });
        reactor.set_timer_essential(timer).unwrap();
    }),
    ("essential", |reactor, end| {
        reactor.defer(|_| ()); // so that a turn is taken
        let hook = reactor.before_wait(move |_| end.outcome());
        reactor.set_hook_essential(hook).unwrap();
    }),
];

#[test]
fn an_essential_registration_ends_the_run_only_if_it_fails() -> Result {
    for (name, register) in KINDS {
        for end in [End::Error, End::Panic, End::Removed, End::ByKey] {
            let what = format!("{name} {end:?}");
            let mut reactor = Reactor::<()>::builder()
                .on_panic(PanicPolicy::RemoveHandler)
                .build()?;
            let (near, _far) = std::os::unix::net::UnixStream::pair()?;
            // Would keep the loop running.
            let other = reactor.add(near, Interest::READABLE, |_, _| Ok(Next::Keep))?;
            register(&mut reactor, end);
            if matches!(end, End::Removed | End::ByKey) {
                reactor.set_background(other)?;
                reactor
                    .run(&mut ())
                    .map_err(|error| format!("{what}: {error}"))?;
                continue;
            }
            let error = reactor.run(&mut ()).expect_err(&what);
            let Error::Failed(failure) = &error else {
                panic!("{what}: {error:?}")
            };
            let Failure {
                name: Some(named),
                origin,
                source,
                ..
            } = &**failure
            else {
                panic!("{what}: {error:?}")
            };
            assert!(
                named.contains(name) && origin.file().ends_with("essential.rs"),
                "{what}: {error}"
            );
            match end {
                End::Error => assert_eq!(source.raw_os_error(), Some(24)),
                _ => assert_eq!(source.to_string(), "panicked: as the test wants"),
            }
            assert_eq!(
                error.to_string(),
                format!("{named} ({origin}) failed: {source}")
            );
            reactor.set_background(other)?;
            reactor.run(&mut ())?; // the failure has been returned
        }
    }
    Ok(())
}

#[test]
fn run_returns_the_error_it_was_stopped_with_and_the_line_once() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    reactor.idle(|_| Ok(Next::Keep));
    let missing = io::Error::new(ErrorKind::NotFound, "no configuration");
    let line = line!() + 1;
    reactor.defer(|cx| cx.registry.stop_with(missing));
    reactor.defer(|cx| cx.registry.stop_with(io::Error::other("it came too late")));
    let error = reactor.run(&mut ()).unwrap_err();
    let Error::Failed(failure) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (failure.name.as_deref(), failure.origin.line()),
        (None, line)
    );
    assert!(error.to_string().ends_with(": no configuration"), "{error}");
    assert_eq!(io::Error::from(error).kind(), ErrorKind::NotFound);
    reactor.defer(|cx| cx.registry.stop());
    reactor.run(&mut ())?;
    Ok(())
}

#[test]
fn a_program_that_turns_by_itself_finds_the_failure() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    assert!(reactor.take_failure().is_none() && !reactor.is_stopping());
    reactor.stop_with(fails());
    turn_now(&mut reactor, &mut ());
    assert!(reactor.is_stopping());
    let error = reactor.take_failure().ok_or("it is gone")?;
    assert!(matches!(error, Error::Failed(failure) if failure.source.raw_os_error() == Some(24)));
    reactor.run(&mut ())?;
    Ok(())
}

#[test]
fn a_stale_key_cannot_be_made_essential() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let timer = reactor.after(Duration::ZERO, |_| Ok(Then::Done));
    let hook = reactor.before_wait(|_| Ok(Next::Keep));
    reactor.cancel(timer)?;
    reactor.remove_hook(hook)?;
    assert!(matches!(
        reactor.set_timer_essential(timer),
        Err(Error::StaleKey(_))
    ));
    assert!(matches!(
        reactor.set_hook_essential(hook),
        Err(Error::StaleKey(_))
    ));
    assert!(matches!(
        reactor.set_essential(reactor::Key::NULL),
        Err(Error::StaleKey(_))
    ));
    Ok(())
}

#[test]
fn joining_a_loop_thread_returns_the_failure_of_its_loop() -> Result {
    let thread = LoopThread::spawn("fails", |registry| {
        let timer = registry.after(Duration::ZERO, |_| Err(fails()));
        registry.set_timer_essential(timer)?;
        Ok(())
    })?;
    let error = thread.join().expect_err("its timer has failed");
    assert!(
        error.to_string().starts_with("timer (") && error.to_string().ends_with("(os error 24)"),
        "{error}"
    );
    Ok(())
}

#[test]
fn the_errno_within_an_error_is_within_the_failure_too() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let hook = reactor.before_wait(|_| {
        let refused = Error::Os {
            call: "epoll_ctl(ADD)",
            fd: 7,
            source: fails(),
        };
        Err(refused.into())
    });
    reactor.set_hook_essential(hook)?;
    reactor.defer(|_| ());
    let failed = reactor.run(&mut ()).unwrap_err();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&failed);
    let mut errno = None;
    while let Some(error) = cause {
        errno = errno.or(error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error));
        cause = error.source();
    }
    assert_eq!(errno, Some(24));
    assert!(
        failed.to_string().contains("epoll_ctl(ADD) on fd 7"),
        "{failed}"
    );
    Ok(())
}
