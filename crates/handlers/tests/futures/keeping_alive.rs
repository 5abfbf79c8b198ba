//! Tasks that keep `run` alive, and those that do not.

use std::future::pending;
use std::panic::Location;

use handlers::futures::{self, StaleTask};
use reactor::{Exit, Reactor, ReasonToRun};

use crate::{Signal, reactor, turn};

/// Returns the lines for which `run` does not end.
fn reasons<S>(reactor: &Reactor<S>) -> Vec<&'static Location<'static>> {
    reactor
        .reasons_to_run()
        .filter_map(|reason| reason.origin())
        .collect()
}

#[test]
fn run_ends_when_the_last_task_in_the_foreground_has_ended() {
    let mut reactor = reactor::<u32>();
    let signal = Signal::default();
    let background = futures::spawn(&mut reactor, signal.wait(), |(), cx| *cx.state += 10).unwrap();
    background.set_background(&mut reactor, true).unwrap();
    let sleeps = async { futures::sleep(std::time::Duration::from_secs(1)).await };
    futures::spawn(&mut reactor, sleeps, |(), cx| *cx.state += 1).unwrap();
    let mut state = 0;
    assert_eq!(reactor.run(&mut state).unwrap(), Exit::NothingLeft);
    assert_eq!(state, 1);
    background.set_background(&mut reactor, false).unwrap();
    signal.set();
    assert_eq!(reactor.run(&mut state).unwrap(), Exit::NothingLeft);
    assert_eq!(state, 11);
    assert_eq!(
        background.set_background(&mut reactor, true),
        Err(StaleTask(background))
    );
}

#[test]
fn the_timer_of_a_background_task_does_not_keep_run_alive() {
    let mut reactor = reactor::<u32>();
    let sleeps = async { futures::sleep(std::time::Duration::from_secs(1)).await };
    let key = futures::spawn(&mut reactor, sleeps, |(), cx| *cx.state += 1).unwrap();
    key.set_background(&mut reactor, true).unwrap();
    let mut state = 0;
    assert_eq!(reactor.run(&mut state).unwrap(), Exit::NothingLeft);
    assert_eq!(state, 0);
}

#[test]
fn a_task_can_put_another_into_the_background_and_back() {
    let mut reactor = reactor::<()>();
    let (to_background, back) = (Signal::default(), Signal::default());
    let (moves, returns) = (to_background.wait(), back.wait());
    let task = async move {
        let waits = futures::spawn_local(pending::<()>());
        moves.await;
        waits.set_background(true);
        futures::spawn_local(async move {
            returns.await;
            waits.set_background(false);
        })
        .set_background(true);
    };
    futures::spawn(&mut reactor, task, |(), _cx| ()).unwrap();
    let keep_alive = |reactor: &mut Reactor<()>| {
        turn(reactor, &mut ());
        futures::tasks(reactor)
            .iter()
            .filter(|task| task.keeps_alive)
            .count()
    };
    assert_eq!(keep_alive(&mut reactor), 2);
    to_background.set();
    assert_eq!(keep_alive(&mut reactor), 0);
    assert_eq!(reactor.run(&mut ()).unwrap(), Exit::NothingLeft);
    back.set();
    assert_eq!(keep_alive(&mut reactor), 1);
    assert_eq!(reasons(&reactor).len(), 1);
}

#[test]
fn a_task_of_a_background_task_is_in_the_background() {
    let mut reactor = reactor::<()>();
    let spawns = async { futures::spawn_local(pending::<()>()).await };
    let key = futures::spawn(&mut reactor, spawns, |_result, _cx| ()).unwrap();
    key.set_background(&mut reactor, true).unwrap();
    assert_eq!(reactor.run(&mut ()).unwrap(), Exit::NothingLeft);
    let listed: Vec<_> = futures::tasks(&mut reactor)
        .iter()
        .map(|task| task.keeps_alive)
        .collect();
    assert_eq!(listed, [false, false]);
}

#[test]
fn the_reason_to_run_is_the_line_of_a_task() {
    let mut reactor = reactor::<()>();
    let (first, second) = (Signal::default(), Signal::default());
    let keys = [
        futures::spawn(&mut reactor, first.wait(), |(), _cx| ()).unwrap(),
        futures::spawn(&mut reactor, second.wait(), |(), _cx| ()).unwrap(),
    ];
    turn(&mut reactor, &mut ());
    let lines: Vec<_> = futures::tasks(&mut reactor)
        .iter()
        .map(|task| task.origin)
        .collect();
    assert_eq!(reasons(&reactor), lines[..1]);
    keys[0].cancel(&mut reactor).unwrap();
    assert_eq!(reasons(&reactor), lines[1..]);
    let reason = reactor.reasons_to_run().next();
    assert!(matches!(reason, Some(ReasonToRun::Source(source)) if source.name == "futures"));
    second.set();
    reactor.run(&mut ()).unwrap();
    assert!(reasons(&reactor).is_empty());
}

#[test]
fn the_reason_to_run_is_never_the_line_of_a_background_task() {
    let mut reactor = reactor::<()>();
    let keys = [
        futures::spawn(&mut reactor, pending::<()>(), |(), _cx| ()).unwrap(),
        futures::spawn(&mut reactor, pending::<()>(), |(), _cx| ()).unwrap(),
        futures::spawn(&mut reactor, pending::<()>(), |(), _cx| ()).unwrap(),
    ];
    keys[1].set_background(&mut reactor, true).unwrap();
    turn(&mut reactor, &mut ());
    let last = futures::tasks(&mut reactor)[2].origin;
    keys[0].cancel(&mut reactor).unwrap();
    assert_eq!(reasons(&reactor), [last]);
    keys[2].set_background(&mut reactor, true).unwrap();
    assert!(reasons(&reactor).is_empty());
}
