//! Spawning, and the callback at the end.

use std::future::pending;
use std::time::Duration;

use handlers::futures::{self, BlockOnError, JoinError};

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
    reactor.defer(|cx| cx.registry.stop());
    let stopped = futures::block_on(&mut reactor, &mut (), pending::<()>());
    assert!(
        matches!(
            stopped,
            Err(BlockOnError::Stopped {
                origin: Some(_),
                ..
            })
        ),
        "{stopped:?}"
    );
    assert_eq!(futures::tasks(&mut reactor).len(), 0);
}
