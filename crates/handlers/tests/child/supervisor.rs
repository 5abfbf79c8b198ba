//! Children that are restarted: when, after which delay, and until when.

use std::io::{self, ErrorKind};
use std::process::Command;
use std::time::Duration;

use handlers::child::{self, RestartPolicy, SupervisorEvent};
use handlers::{Backoff, Jitter};
use reactor::{Error, ManualClock, PanicPolicy, Reactor};

use crate::{Result, Seen, run, sh, turn_until, waiting};

/// Supervises `command`, and notes its news.
fn supervise(
    reactor: &mut Reactor<Seen>,
    policy: RestartPolicy,
    mut command: impl FnMut() -> Command + 'static,
) -> child::SupervisorKey {
    child::supervise(
        reactor,
        policy,
        move || Ok(command()),
        |news, cx| {
            let news = match news {
                SupervisorEvent::Started(child) => {
                    cx.state.children.push(child);
                    "started".to_owned()
                }
                SupervisorEvent::Exited { exit, restart_in } => {
                    format!("{}, {restart_in:?}", exit?.status)
                }
                SupervisorEvent::NotStarted { error, restart_in } => {
                    format!("{:?}, {restart_in:?}", error.kind())
                }
                other => format!("{other:?}"),
            };
            cx.state.news.push(news);
            Ok(())
        },
    )
}

const SECOND: Duration = Duration::from_secs(1);

/// Returns delays of 1 s, 2 s, 4 s and so on.
const fn from_a_second() -> Backoff {
    Backoff::new(SECOND, Duration::MAX).jitter(Jitter::None)
}

#[test]
fn a_failing_child_is_restarted_after_doubling_delays_and_then_given_up() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let policy = RestartPolicy::on_failure()
        .backoff(Backoff::new(SECOND, 3 * SECOND).jitter(Jitter::None))
        .max_restarts(3);
    let key = supervise(&mut reactor, policy, || sh("exit 3"));
    let mut seen = Seen::default();
    for (start, delay) in [1, 2, 3].into_iter().enumerate() {
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.news.len() == 2 * start + 2
        })?;
        reactor.advance(&mut seen, delay * SECOND - Duration::from_nanos(1))?;
        assert_eq!(seen.news.len(), 2 * start + 2, "not before its time");
        reactor.advance(&mut seen, Duration::from_nanos(1))?;
        assert_eq!(seen.children.len(), start + 2);
    }
    run(&mut reactor, &mut seen)?; // ends with the supervision
    let exits: Vec<_> = seen.news.iter().skip(1).step_by(2).collect();
    let expected = ["Some(1s)", "Some(2s)", "Some(3s)", "None"]
        .map(|delay| format!("exit status: 3, {delay}"));
    assert_eq!(exits, expected.iter().collect::<Vec<_>>());
    for refused in [
        key.stop(&mut reactor, SECOND),
        key.start_now(&mut reactor),
        key.child(&mut reactor).map(drop),
    ] {
        assert!(
            matches!(refused, Err(Error::StaleKey(stale)) if stale == key.into()),
            "{refused:?}"
        );
    }
    assert_eq!(
        reactor.remove(key.into()).map_err(|error| error.kind()),
        Err(ErrorKind::NotFound),
        "it is none"
    );
    Ok(())
}

/// Its earlier ends do not count any more.
#[test]
fn a_child_that_ran_long_enough_is_restarted_after_the_initial_delay() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let policy = RestartPolicy::always()
        .backoff(from_a_second())
        .steady_after(10 * SECOND);
    supervise(&mut reactor, policy, || waiting("exec cat"));
    let mut seen = Seen::default();
    for (start, (ran, delay)) in [(0, 1), (9, 2), (10, 1), (0, 2)].into_iter().enumerate() {
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.children.len() == start + 1
        })?;
        reactor.advance(&mut seen, ran * SECOND)?;
        drop(seen.children[start].stdin.take());
        turn_until(&mut reactor, &mut seen, |seen| {
            seen.news.len() == 2 * start + 2
        })?;
        assert_eq!(
            seen.news[2 * start + 1],
            format!("exit status: 0, Some({delay}s)")
        );
        reactor.advance(&mut seen, delay * SECOND)?;
    }
    Ok(())
}

#[test]
fn a_child_that_succeeds_is_restarted_only_if_the_policy_says_so() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let mut seen = Seen::default();
    supervise(&mut reactor, RestartPolicy::on_failure(), || sh("exit 0"));
    run(&mut reactor, &mut seen)?;
    supervise(&mut reactor, RestartPolicy::never(), || sh("exit 1"));
    run(&mut reactor, &mut seen)?;
    supervise(
        &mut reactor,
        RestartPolicy::always().max_restarts(1),
        || sh("exit 0"),
    );
    run(&mut reactor, &mut seen)?;
    seen.news.retain(|news| news != "started");
    let expected = [
        "exit status: 0, None",
        "exit status: 1, None",
        "exit status: 0, Some(100ms)",
        "exit status: 0, None",
    ];
    assert_eq!(seen.news, expected);
    Ok(())
}

#[test]
fn a_missing_program_is_a_failure_like_others() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let policy = RestartPolicy::on_failure()
        .backoff(from_a_second())
        .steady_after(SECOND)
        .max_restarts(2);
    supervise(&mut reactor, policy, || Command::new("no-such-program"));
    let mut seen = Seen::default();
    run(&mut reactor, &mut seen)?;
    assert_eq!(
        seen.news,
        ["NotFound, Some(1s)", "NotFound, Some(2s)", "NotFound, None"]
    );
    Ok(())
}

#[test]
fn a_restart_delay_can_be_cut_short() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let policy = RestartPolicy::on_failure()
        .backoff(from_a_second())
        .max_restarts(2);
    let key = supervise(&mut reactor, policy, || sh("exit 3"));
    let mut seen = Seen::default();
    key.start_now(&mut reactor)?; // the start is due in any case
    for start in 1..=2 {
        turn_until(&mut reactor, &mut seen, |seen| seen.news.len() == 2 * start)?;
        key.start_now(&mut reactor)?;
    }
    run(&mut reactor, &mut seen)?; // although the clock does not advance
    let failed = |delay: &str| format!("exit status: 3, {delay}");
    assert_eq!(
        seen.news,
        [
            "started",
            &failed("Some(1s)"),
            "started",
            &failed("Some(2s)"),
            "started",
            &failed("None")
        ]
    );
    assert_eq!(
        key.start_now(&mut reactor).map_err(|error| error.kind()),
        Err(ErrorKind::NotFound)
    );
    Ok(())
}

#[test]
fn a_supervised_child_is_listed_by_the_line_that_supervises() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let line = line!() + 1;
    let key = child::supervise(
        &mut reactor,
        RestartPolicy::never(),
        || Ok(waiting("exec cat")),
        |news, cx| {
            if let SupervisorEvent::Started(child) = news {
                cx.state.children.push(child);
            }
            Ok(())
        },
    );
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| seen.children.len() == 1)?;
    let watch = seen.children[0].key.key();
    let origin = reactor
        .registrations()
        .find(|listed| listed.key == watch)
        .map(|listed| listed.origin);
    assert_eq!(
        origin.map(|origin| (origin.file(), origin.line())),
        Some((file!(), line))
    );
    key.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)
}

#[test]
fn a_stopped_supervisor_ends_its_child_or_starts_no_other() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let running = supervise(&mut reactor, RestartPolicy::always(), || {
        waiting("exec cat")
    });
    turn_until(&mut reactor, &mut seen, |seen| seen.children.len() == 1)?;
    assert_eq!(running.child(&mut reactor)?, Some(seen.children[0].key));
    running.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.news, ["started", "signal: 15 (SIGTERM), None"]);

    let mut seen = Seen::default();
    let resting = supervise(
        &mut reactor,
        RestartPolicy::always().backoff(from_a_second()),
        || sh("exit 0"),
    );
    turn_until(&mut reactor, &mut seen, |seen| seen.news.len() == 2)?;
    resting.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)?; // although the clock does not advance
    assert_eq!(
        seen.news,
        ["started", "exit status: 0, Some(1s)", "Stopped"]
    );

    let mut seen = Seen::default();
    let beginning = supervise(&mut reactor, RestartPolicy::always(), || sh("exit 0"));
    beginning.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)?;
    assert_eq!(seen.news, ["Stopped"]);
    assert!(beginning.child(&mut reactor).is_err());
    Ok(())
}

#[test]
fn a_key_stops_its_own_supervisor_and_no_other() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let mut seen = Seen::default();
    let mut start = || {
        supervise(&mut reactor, RestartPolicy::always(), || {
            waiting("exec cat")
        })
    };
    let (one, other) = (start(), start());
    turn_until(&mut reactor, &mut seen, |seen| seen.children.len() == 2)?;
    one.stop(&mut reactor, SECOND)?;
    turn_until(&mut reactor, &mut seen, |seen| seen.news.len() == 3)?;
    assert!(one.child(&mut reactor).is_err());
    assert!(other.child(&mut reactor)?.is_some());
    other.stop(&mut reactor, SECOND)?;
    run(&mut reactor, &mut seen)
}

#[test]
fn a_supervisor_can_be_stopped_from_within_its_callback() -> Result {
    let mut reactor = Reactor::<Vec<String>>::builder()
        .clock(ManualClock::new())
        .build()?;
    let key = std::rc::Rc::new(std::cell::Cell::new(None));
    let own = std::rc::Rc::clone(&key);
    let policy = RestartPolicy::always().backoff(from_a_second());
    let supervisor = child::supervise(
        &mut reactor,
        policy,
        || Ok(sh("exit 0")),
        move |news, cx| {
            let own: child::SupervisorKey = own.get().expect("it is set before the loop runs");
            if let SupervisorEvent::Exited { .. } = news {
                own.stop(cx.registry, SECOND)?;
            }
            cx.state.push(
                format!("{news:?}")
                    .split([' ', '('])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
            Ok(())
        },
    );
    key.set(Some(supervisor));
    let mut news = Vec::new();
    run(&mut reactor, &mut news)?;
    assert_eq!(news, ["Started", "Exited", "Stopped"]);
    Ok(())
}

#[test]
fn an_error_of_the_callback_ends_the_supervision_and_the_child() -> Result {
    let mut reactor = Reactor::<u32>::new()?;
    let supervisor = child::supervise(
        &mut reactor,
        RestartPolicy::always(),
        || Ok(waiting("exec cat")),
        |news, cx| {
            *cx.state += 1;
            // The pipes are kept open, so that only the signal ends the child.
            std::mem::forget(news);
            Err(io::Error::other("it is not wanted any more"))
        },
    );
    let mut calls = 0;
    run(&mut reactor, &mut calls)?;
    assert_eq!(calls, 1);
    assert!(supervisor.stop(&mut reactor, SECOND).is_err());
    Ok(())
}

/// A panic drops the supervisor wherever it is at that moment. Its key is stale from then on.
#[test]
fn a_panic_of_a_callback_ends_the_supervision_and_its_key_is_stale() -> Result {
    type Events = Vec<&'static str>;
    // `None` panics in `command`, a name in the callback at that event.
    for panics_at in [None, Some("Exited"), Some("NotStarted")] {
        let mut reactor = Reactor::<Events>::builder()
            .clock(ManualClock::jumping())
            .on_panic(PanicPolicy::RemoveHandler)
            .build()?;
        let supervisor = child::supervise(
            &mut reactor,
            RestartPolicy::always(),
            move || match panics_at {
                None => panic!("no command"),
                Some("NotStarted") => Err(io::Error::other("no command")),
                Some(_) => Ok(sh("exit 0")),
            },
            move |event, cx| {
                let event = match event {
                    SupervisorEvent::Started(_) => "Started",
                    SupervisorEvent::Exited { .. } => "Exited",
                    _ => "NotStarted",
                };
                cx.state.push(event);
                assert_ne!(Some(event), panics_at);
                Ok(())
            },
        );
        run(&mut reactor, &mut Events::new())?;
        for refused in [
            supervisor.stop(&mut reactor, SECOND),
            supervisor.start_now(&mut reactor),
            supervisor.child(&mut reactor).map(drop),
        ] {
            assert!(
                matches!(refused, Err(Error::StaleKey(_))),
                "{panics_at:?}: {refused:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_supervision_ends_at_once_with_the_registration_of_its_child() -> Result {
    let mut reactor = Reactor::<Seen>::new()?;
    let supervisor = supervise(&mut reactor, RestartPolicy::always(), || {
        waiting("exec cat")
    });
    let mut seen = Seen::default();
    turn_until(&mut reactor, &mut seen, |seen| !seen.children.is_empty())?;
    let child = supervisor.child(&mut reactor)?.ok_or("a running child")?;
    reactor.remove(child.key())?;
    for refused in [
        supervisor.stop(&mut reactor, SECOND),
        supervisor.start_now(&mut reactor),
        supervisor.child(&mut reactor).map(drop),
    ] {
        assert!(
            matches!(refused, Err(Error::StaleKey(stale)) if stale == supervisor.into()),
            "{refused:?}"
        );
    }
    seen.children.clear(); // closes the pipe that keeps the program running
    Ok(())
}
