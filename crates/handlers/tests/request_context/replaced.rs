//! `Context::set_context` in the callbacks of a connection: each request on it has a context of its
//! own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionOptions, WorkerPool, on_data};
use reactor::{Context, ManualClock, Reactor, RequestContext};
use support::{Result, turn_until, turn_until_quiet};

use crate::{Act, App, Noting, Request, current, note, noting, open_in, request, within};

/// Returns a handler that replaces the context in each callback, with the numbers from 1.
fn replacing() -> Noting<impl Act> {
    let mut number = 0;
    Noting(
        move |what: &'static str, _: &mut Connection<'_, App>, cx: &mut Context<'_, App>| {
            number += 1;
            cx.set_context(request(number).0);
            assert_eq!(current(), Some(number), "in {what}");
        },
    )
}

#[test]
fn a_context_that_a_callback_sets_is_that_of_the_next_ones() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(clock.clone()).build()?;
    let mut app = App::default();
    let (key, mut far, kept) = open_in(100, &mut reactor, replacing())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    kept.expect_dropped("after another was set");
    far.write_all(b"x")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    within(9, || {
        reactor.defer(move |cx| {
            let _ = key.with(cx, |connection, _| {
                let _ = connection.write(b"bytes").unwrap();
                connection.notify_sent();
                connection.set_deadline(Duration::from_secs(1));
            });
            assert_eq!(current(), Some(9));
        });
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    clock.advance(Duration::from_secs(1));
    turn_until_quiet(&mut reactor, &mut app)?;
    assert_eq!(far.read(&mut [0; 9])?, 5);
    drop(far);
    turn_until_quiet(&mut reactor, &mut app)?;
    let expected = [
        ("open", Some(100)),
        ("data", Some(1)),
        ("sent", Some(2)),
        ("timeout", Some(3)),
        ("end", Some(4)),
        ("metrics", Some(5)),
        ("close", Some(5)),
    ];
    assert_eq!(app.seen, expected);
    assert_eq!(current(), None);
    Ok(())
}

#[test]
fn a_context_that_is_set_in_a_graceful_close_lasts_to_the_end() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (key, far, _) = open_in(100, &mut reactor, replacing())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    within(9, || {
        reactor.defer(move |cx| {
            let closes = |connection: &mut Connection<'_, App>, _: &mut Context<'_, App>| {
                connection.close_gracefully(Duration::from_secs(60));
            };
            key.with(cx, closes).unwrap();
        });
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    drop(far);
    turn_until_quiet(&mut reactor, &mut app)?;
    let expected = [
        ("open", Some(100)),
        ("graceful", Some(1)),
        ("metrics", Some(2)),
        ("close", Some(2)),
    ];
    assert_eq!(app.seen, expected);
    Ok(())
}

#[test]
fn a_context_that_is_set_while_opening_for_an_access_ends_with_it() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (context, kept) = request(100);
    within(9, || {
        reactor.defer(move |cx| {
            let (near, far) = UnixStream::pair().unwrap();
            std::mem::forget(far); // closed with the process
            let options = ConnectionOptions::new();
            let open = || Connection::open(cx.registry, near, &options, replacing());
            let key = context.scope(open).unwrap();
            drop(context);
            let _ = key.with(cx, |_, cx| note("access", cx));
            note("after", cx);
        });
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    let expected = [("open", Some(100)), ("access", Some(9)), ("after", Some(9))];
    assert_eq!(app.seen, expected);
    kept.expect_dropped("after another was set");
    let own = reactor.context(app.keys[0].key())?;
    let own = own.get().map(|request: &Request| request.number);
    assert_eq!(own, Some(1));
    Ok(())
}

#[test]
fn an_access_gives_the_connection_a_context_and_keeps_its_caller_s() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (key, mut far, kept) = open_in(7, &mut reactor, noting())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    within(9, || {
        reactor.defer(move |cx| {
            let _ = key.with(cx, |_, cx| {
                cx.set_context(request(8).0);
                note("access", cx);
            });
            note("after", cx);
        });
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    kept.expect_dropped("after another was set");
    far.write_all(b"x")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    let expected = [
        ("open", Some(7)),
        ("access", Some(9)),
        ("after", Some(9)),
        ("data", Some(8)),
    ];
    assert_eq!(app.seen, expected);
    Ok(())
}

#[test]
fn each_request_of_a_kept_connection_has_a_context_of_its_own() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let handle = pool.handle();
    let mut requests = 0;
    let serve = on_data(move |data, connection: &mut Connection<'_, App>, cx| {
        for _ in data {
            requests += 1;
            cx.set_context(request(requests).0);
            let key = connection.key();
            let submitted = handle.submit(current, move |job, cx| {
                cx.state.seen.push(("job", job.unwrap()));
                note("answer", cx);
                let _ = key.write(cx, b"answer").unwrap();
            });
            assert!(submitted.is_ok());
        }
        cx.set_context(RequestContext::NONE); // no request is being read
        Ok(data.len())
    });
    let (key, mut far, kept): (_, UnixStream, _) = open_in(100, &mut reactor, serve)?;
    far.write_all(b"aab")?;
    let mut app = App::default();
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 6)?;
    let both = |number| [("job", Some(number)), ("answer", Some(number))];
    assert_eq!(app.seen, [both(1), both(2), both(3)].concat());
    assert!(reactor.context(key.key())?.is_none());
    kept.expect_dropped("although the connection is open");
    pool.drain();
    Ok(())
}
