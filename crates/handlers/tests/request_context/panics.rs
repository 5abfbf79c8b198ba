//! Callbacks that panic: what was current before is restored, and nothing keeps the request.

use std::panic::{AssertUnwindSafe, catch_unwind};

use handlers::{Connection, WorkerPool};
use reactor::{Context, PanicPolicy, Reactor};
use support::{Result, turn_until_quiet};

use crate::{Act, App, Noting, current, note, open_in, request, within};

const POLICIES: [PanicPolicy; 2] = [PanicPolicy::Propagate, PanicPolicy::RemoveHandler];

fn reactor(policy: PanicPolicy) -> Result<Reactor<App>> {
    Ok(Reactor::builder().on_panic(policy).build()?)
}

/// Takes turns until nothing is left to do. A panic that comes out ends the turn, in request 5,
/// which must be current after it.
fn turn(reactor: &mut Reactor<App>, app: &mut App) -> bool {
    let turned = catch_unwind(AssertUnwindSafe(|| {
        within(5, || {
            let turned = catch_unwind(AssertUnwindSafe(|| turn_until_quiet(reactor, app)));
            assert_eq!(current(), Some(5), "after the turns");
            turned
        })
    }));
    matches!(turned, Ok(Ok(Ok(()))))
}

/// Returns a handler that panics in the callback `of`, with another context if it `replaces` it.
fn panicking(of: &'static str, replaces: bool) -> Noting<impl Act> {
    Noting(
        move |what: &'static str, _: &mut Connection<'_, App>, cx: &mut Context<'_, App>| {
            if what == of {
                if replaces {
                    cx.set_context(request(8).0);
                }
                panic!("on purpose");
            }
        },
    )
}

#[test]
fn a_connection_that_panics_ends_in_its_request() -> Result {
    for policy in POLICIES {
        for replaces in [false, true] {
            let mut reactor = reactor(policy)?;
            let mut app = App::default();
            let (_, _far, kept) = open_in(7, &mut reactor, panicking("open", replaces))?;
            reactor.defer(|cx| note("other", cx));
            let returned = turn(&mut reactor, &mut app);
            assert_eq!(returned, policy == PanicPolicy::RemoveHandler);
            turn(&mut reactor, &mut app);
            let last = Some(if replaces { 8 } else { 7 });
            app.seen.sort_by_key(|(what, _)| *what == "other");
            let expected = [
                ("open", Some(7)),
                ("metrics", last),
                ("close", last),
                ("other", None),
            ];
            assert_eq!(app.seen, expected);
            kept.expect_dropped("after the panic");
        }
    }
    Ok(())
}

#[test]
fn a_connection_that_panics_in_an_access_leaves_the_caller_in_its_request() -> Result {
    for policy in POLICIES {
        for replaces in [false, true] {
            let mut reactor = reactor(policy)?;
            let mut app = App::default();
            within(9, || {
                reactor.defer(move |cx| {
                    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
                    std::mem::forget(far); // closed with the process
                    let handler = panicking("open", replaces);
                    let options = handlers::ConnectionOptions::new();
                    let open = || Connection::open(cx.registry, near, &options, handler);
                    let key = within(7, open).unwrap();
                    let accessed = catch_unwind(AssertUnwindSafe(|| key.with(cx, |_, _| ())));
                    assert_eq!(accessed.is_err(), policy == PanicPolicy::Propagate);
                    note("after", cx);
                });
            });
            assert!(turn(&mut reactor, &mut app));
            let last = Some(if replaces { 8 } else { 7 });
            let expected = [
                ("open", Some(7)),
                ("after", Some(9)),
                ("metrics", last),
                ("close", last),
            ];
            assert_eq!(app.seen, expected);
        }
    }
    Ok(())
}

#[test]
fn a_completion_that_panics_keeps_no_request() -> Result {
    for policy in POLICIES {
        let mut reactor = reactor(policy)?;
        let mut app = App::default();
        let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
        let (context, kept) = request(7);
        let panics = |_: std::result::Result<(), _>, cx: &mut Context<'_, App>| {
            note("done", cx);
            panic!("on purpose");
        };
        assert!(context.scope(|| pool.submit(|| (), panics)).is_ok());
        assert!(pool.submit(|| (), |_, cx| note("next", cx)).is_ok());
        drop(context);
        pool.drain();
        let returned = turn(&mut reactor, &mut app);
        assert_eq!(returned, policy == PanicPolicy::RemoveHandler);
        turn(&mut reactor, &mut app);
        assert_eq!(app.seen, [("done", Some(7)), ("next", None)]);
        kept.expect_dropped("after the panic");
    }
    Ok(())
}
