//! Spawning, and the callback at the end.

use std::future::pending;
use std::io;
use std::time::Duration;

use handlers::futures::{self, BlockOnError, JoinError};
use reactor::{Error, Reactor};

use crate::reactor;

#[test]
fn the_callback_of_a_task_has_its_output_and_the_state() {
    let mut reactor = reactor::<Vec<u32>>();
    futures::spawn(&mut reactor, async { 7 }, |output, cx| {
        cx.state.push(output)
    })
    .unwrap();
    let mut outputs = Vec::new();
    reactor.run(&mut outputs).unwrap();
    assert_eq!(outputs, [7]);
}

#[test]
fn a_future_gets_the_answer_of_a_closure_with_the_state() {
    let mut reactor = reactor::<u32>();
    let answer = futures::block_on(&mut reactor, &mut 20, async {
        let twice = futures::with_context(|cx: &mut reactor::Context<'_, u32>| {
            *cx.state *= 2;
            *cx.state
        });
        twice.await + 2
    });
    assert_eq!(answer.unwrap(), 42);
}

#[test]
fn a_task_awaits_the_tasks_that_it_has_spawned() {
    let mut reactor = reactor::<()>();
    let sum = futures::block_on(&mut reactor, &mut (), async {
        let tasks: Vec<_> = (0..10)
            .map(|n| futures::spawn_local(async move { n }))
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum.unwrap(), 45);
}

#[test]
fn an_aborted_task_is_reported_as_cancelled() {
    let mut reactor = reactor::<()>();
    let ended = futures::block_on(&mut reactor, &mut (), async {
        let task = futures::spawn_local(pending::<()>());
        task.abort();
        task.await
    });
    assert_eq!(ended.unwrap(), Err(JoinError::Cancelled));
}

#[test]
fn a_sleep_takes_the_time_of_the_loop_s_clock() {
    let mut reactor = reactor::<()>();
    let began = reactor.now();
    futures::block_on(&mut reactor, &mut (), async {
        futures::sleep(Duration::from_secs(3)).await;
        futures::sleep(Duration::from_secs(4)).await;
    })
    .unwrap();
    assert_eq!(reactor.now() - began, Duration::from_secs(7));
}

#[test]
fn a_stopped_loop_ends_block_on_with_the_line_of_the_stop() {
    let mut reactor = reactor::<()>();
    let line = line!() + 1;
    reactor.defer(|cx| cx.registry.stop());
    let stopped = futures::block_on(&mut reactor, &mut (), pending::<()>());
    let stopped = stopped.expect_err("the loop was stopped");
    let text = stopped.to_string();
    let said = "the loop was stopped before the future was done, at ";
    assert!(text.starts_with(said), "{text}");
    assert!(text.contains(&format!("spawning.rs:{line}:")), "{text}");
    assert!(matches!(stopped, BlockOnError::Stopped { .. }));
    assert_eq!(io::Error::from(stopped).kind(), io::ErrorKind::Other);
    assert_eq!(futures::tasks(&mut reactor).len(), 0);
}

#[test]
fn a_loop_without_a_registration_left_ends_block_on_with_its_error() {
    let builder = Reactor::<()>::builder().max_registrations(0);
    let mut full = builder.build().expect("a loop");
    let refused = futures::block_on(&mut full, &mut (), async {}).expect_err("it is full");
    assert!(matches!(refused, BlockOnError::Loop(Error::Full { .. })));
    let (text, error) = (refused.to_string(), io::Error::from(refused));
    assert_eq!(error.to_string(), text);
    assert_ne!(error.kind(), io::ErrorKind::Other, "that of the loop");
}
