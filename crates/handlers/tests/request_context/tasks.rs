//! Tasks: each poll, what they ask of the loop, and the callback at their end.

use std::time::Duration;

use handlers::futures::{
    Spawner, in_context, sleep, spawn, spawn_joinable, spawn_local, with_context, yield_now,
};
use reactor::{PanicPolicy, Reactor};
use support::run_out;

use crate::{App, Seen, check, current, note, request, within};

/// Notes a poll of a task.
async fn note_poll(what: &'static str) {
    with_context(move |cx: &mut reactor::Context<'_, App>| note(what, cx)).await;
}

#[test]
fn a_task_has_its_request_in_each_poll_and_at_its_end() {
    check(&["asked", "slept", "end"], |reactor| {
        let expected = current();
        let task = async move {
            assert_eq!(current(), expected);
            yield_now().await;
            assert_eq!(current(), expected);
            note_poll("asked").await;
            sleep(Duration::from_millis(1)).await;
            assert_eq!(current(), expected);
            note_poll("slept").await;
        };
        spawn(reactor, task, |(), cx| note("end", cx))?;
        Ok(())
    });
}

#[test]
fn a_task_that_a_task_spawns_has_the_request_of_that_task() {
    check(&["child"], |reactor| {
        let parent = async {
            let child = spawn_local(note_poll("child"));
            child.await.unwrap();
        };
        let parent = spawn_joinable(reactor, parent)?;
        drop(parent);
        Ok(())
    });
}

#[test]
fn a_task_of_a_spawner_has_the_request_of_its_caller() {
    check(&["polled", "end"], |reactor| {
        let spawner = Spawner::new(reactor)?;
        spawner.spawn(|_| note_poll("polled"), |(), cx| note("end", cx))?;
        Ok(())
    });
}

#[test]
fn tasks_of_different_requests_in_one_pass_do_not_share_theirs() {
    let mut reactor = Reactor::<App>::new().unwrap();
    for number in [1, 2, 3] {
        within(number, || {
            let task = async {
                yield_now().await;
                note_poll("polled").await;
            };
            spawn(&mut reactor, task, |(), cx| note("end", cx)).unwrap();
        });
        spawn(&mut reactor, note_poll("no request"), |(), _| ()).unwrap();
    }
    let mut app = App::default();
    run_out(&mut reactor, &mut app).unwrap();
    for number in [1, 2, 3] {
        for what in ["polled", "end"] {
            assert!(app.seen.contains(&(what, Some(number))), "{what} {number}");
        }
    }
    let of_none = app.seen.iter().filter(|(what, _)| *what == "no request");
    assert!(of_none.clone().count() == 3 && of_none.clone().all(|(_, number)| number.is_none()));
}

#[test]
fn a_context_set_at_the_end_of_a_task_is_not_that_of_the_next() {
    let mut reactor = Reactor::<App>::new().unwrap();
    let set = |(), cx: &mut reactor::Context<'_, App>| {
        cx.set_context(request(5).0);
        note("set", cx);
    };
    spawn(&mut reactor, async {}, set).unwrap();
    spawn(&mut reactor, async {}, |(), cx| note("next", cx)).unwrap();
    let mut app = App::default();
    run_out(&mut reactor, &mut app).unwrap();
    assert_eq!(app.seen, [("set", Some(5)), ("next", None)]);
}

#[test]
fn requests_within_a_task_have_contexts_of_their_own() {
    let mut reactor = Reactor::<App>::new().unwrap();
    let (context, kept) = request(2);
    let task = async move {
        let both = async {
            yield_now().await;
            note_poll("inner").await;
        };
        in_context(context, both).await;
        kept.expect_dropped("a request within a task");
        note_poll("outer").await;
    };
    within(1, || spawn(&mut reactor, task, |(), _| ())).unwrap();
    let mut app = App::default();
    run_out(&mut reactor, &mut app).unwrap();
    let expected: Seen = vec![("inner", Some(2)), ("outer", Some(1))];
    assert_eq!(app.seen, expected);
}

#[test]
fn a_task_that_panics_or_is_cancelled_leaves_no_context_behind() {
    for cancels in [true, false] {
        let mut reactor = Reactor::<App>::builder()
            .on_panic(PanicPolicy::RemoveHandler)
            .build()
            .unwrap();
        let (context, kept) = request(4);
        let task = async {
            sleep(Duration::from_millis(1)).await;
            panic!("on purpose");
        };
        let key = context
            .scope(|| spawn(&mut reactor, task, |(), _| ()))
            .unwrap();
        drop(context);
        reactor
            .turn(&mut App::default(), Some(Duration::ZERO))
            .unwrap();
        kept.expect_kept();
        if cancels {
            key.cancel(&mut reactor).unwrap();
            kept.expect_dropped("a cancelled task");
        }
        let mut app = App::default();
        run_out(&mut reactor, &mut app).unwrap();
        kept.expect_dropped("an ended task");
        assert_eq!(current(), None);
    }
}
