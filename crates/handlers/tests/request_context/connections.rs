//! The callbacks of a connection run in its request, whichever request has caused them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionKey, ConnectionOptions, Relay, Taken};
use reactor::{Context, ManualClock, Reactor};
use support::{Result, run_out, turn_until_quiet};

use crate::{App, Noting, check, current, note, noting, open_in, request, within};

/// Runs `act` in request 9, in a deferred callback, and lets the loop run until it is quiet.
fn in_9(
    reactor: &mut Reactor<App>,
    app: &mut App,
    act: impl FnOnce(&mut Context<'_, App>) + 'static,
) -> Result {
    within(9, || {
        reactor.defer(|cx| {
            act(cx);
            assert_eq!(current(), Some(9), "after the action");
        });
    });
    turn_until_quiet(reactor, app)
}

#[test]
fn a_connection_runs_from_open_to_close_in_its_request() {
    check(&["open", "data", "end", "metrics", "close"], |reactor| {
        let (near, mut far) = UnixStream::pair()?;
        far.write_all(b"input")?;
        far.shutdown(Shutdown::Write)?;
        Connection::open(reactor, near, &ConnectionOptions::new(), noting())?;
        drop(far);
        Ok(())
    });
}

#[test]
fn callbacks_that_another_request_causes_run_in_the_connection_s() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (key, mut far, kept) = open_in(7, &mut reactor, noting())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    in_9(&mut reactor, &mut app, move |cx| {
        let _ = key.with(cx, |connection, cx| {
            note("access", cx);
            let _ = connection.write(b"bytes").unwrap();
            connection.notify_sent();
        });
    })?;
    assert_eq!(far.read(&mut [0; 9])?, 5);
    in_9(&mut reactor, &mut app, move |cx| {
        let closes = |connection: &mut Connection<'_, App>, _: &mut Context<'_, App>| {
            connection.close_gracefully(Duration::from_secs(60));
        };
        let _ = key.with(cx, closes);
    })?;
    in_9(&mut reactor, &mut app, move |cx| key.close(cx).unwrap())?;
    let expected = [
        ("open", Some(7)),
        ("access", Some(9)),
        ("sent", Some(7)),
        ("graceful", Some(7)),
        ("metrics", Some(7)),
        ("close", Some(7)),
    ];
    assert_eq!(app.seen, expected);
    kept.expect_dropped("after the connection");
    Ok(())
}

#[test]
fn a_queue_that_another_request_has_filled_drains_in_the_connection_s() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (key, mut far, _) = open_in(7, &mut reactor, noting())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    in_9(&mut reactor, &mut app, move |cx| {
        let _ = key.write(cx, &vec![0; 1 << 20]).unwrap();
    })?;
    far.set_nonblocking(true)?;
    let mut read = vec![0; 1 << 20];
    while app.seen.len() < 2 {
        let _ = far.read(&mut read);
        reactor.turn(&mut app, Some(Duration::from_millis(10)))?;
    }
    assert_eq!(app.seen, [("open", Some(7)), ("drain", Some(7))]);
    Ok(())
}

#[test]
fn a_connection_that_opens_for_an_access_opens_in_its_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    within(9, || {
        reactor.defer(|cx| {
            let (near, far) = UnixStream::pair().unwrap();
            let (context, kept) = request(7);
            let options = ConnectionOptions::new();
            let open = || Connection::open(cx.registry, near, &options, noting());
            let key = context.scope(open).unwrap();
            let _ = key.with(cx, |_, cx| note("access", cx));
            note("after", cx);
            cx.state.keys.push(key);
            std::mem::forget(far); // closed with the process
            kept.expect_kept();
        });
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    let expected = [("open", Some(7)), ("access", Some(9)), ("after", Some(9))];
    assert_eq!(app.seen, expected);
    let key = app.keys.last().copied().unwrap();
    assert_eq!(number_of(&reactor, key), Some(7));
    Ok(())
}

/// Returns the request of a connection.
fn number_of(reactor: &Reactor<App>, key: ConnectionKey<App>) -> Option<u32> {
    let context = reactor.context(key.key()).unwrap();
    context
        .get::<crate::Request>()
        .map(|request| request.number)
}

#[test]
fn a_subscriber_gets_its_own_message_in_its_own_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let publish = |what: &'static str, _: &mut Connection<'_, App>, cx: &mut Context<'_, App>| {
        if what == "data" {
            for key in cx.state.keys.clone() {
                let _ = key.write(cx, b"message").unwrap();
            }
            note("after", cx);
        }
    };
    let (_, mut first, _) = open_in(1, &mut reactor, Noting(publish))?;
    let (_, mut second, _) = open_in(2, &mut reactor, Noting(publish))?;
    turn_until_quiet(&mut reactor, &mut app)?;
    app.seen.clear();
    first.write_all(b"x")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    second.write_all(b"x")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    let both = |number| [("data", Some(number)), ("after", Some(number))];
    assert_eq!(app.seen, [both(1), both(2)].concat());
    Ok(())
}

#[test]
fn a_deadline_that_another_request_has_set_ends_in_the_connection_s() -> Result {
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(clock.clone()).build()?;
    let mut app = App::default();
    let (key, far, kept) = open_in(7, &mut reactor, noting())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    in_9(&mut reactor, &mut app, move |cx| {
        let second = Duration::from_secs(1);
        let _ = key.with(cx, |connection, _| connection.set_deadline(second));
    })?;
    clock.advance(Duration::from_secs(1));
    turn_until_quiet(&mut reactor, &mut app)?;
    drop(far);
    turn_until_quiet(&mut reactor, &mut app)?;
    let names = ["open", "timeout", "end", "metrics", "close"];
    assert_eq!(app.seen, names.map(|what| (what, Some(7))));
    kept.expect_dropped("after the connection");
    Ok(())
}

#[test]
fn a_stream_that_is_taken_leaves_its_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (key, _far, kept) = open_in(7, &mut reactor, noting())?;
    turn_until_quiet(&mut reactor, &mut app)?;
    in_9(&mut reactor, &mut app, move |cx| {
        let taken: Taken<UnixStream> = key.take(cx).unwrap();
        taken
            .open(cx.registry, &ConnectionOptions::new(), noting())
            .unwrap();
    })?;
    kept.expect_dropped("after the stream was taken");
    let opened = app.keys.last().copied().unwrap();
    reactor.defer(move |cx| opened.close(cx).unwrap());
    turn_until_quiet(&mut reactor, &mut app)?;
    let one = |number| ["open", "metrics", "close"].map(|what| (what, Some(number)));
    assert_eq!(app.seen, [one(7), one(9)].concat());
    Ok(())
}

#[test]
fn a_stream_that_is_taken_later_is_handed_on_in_its_request() {
    check(&["open", "data", "taken", "metrics", "close"], |reactor| {
        let (near, mut far) = UnixStream::pair()?;
        far.write_all(b"x")?;
        let take = move |what: &'static str,
                         connection: &mut Connection<'_, App>,
                         cx: &mut Context<'_, App>| {
            if what == "data" {
                let second = Duration::from_secs(1);
                let then = |taken: std::io::Result<Taken<UnixStream>>, cx: &mut Context<'_, _>| {
                    assert!(taken.is_ok());
                    note("taken", cx);
                };
                connection.take_after_flush(cx, second, then).unwrap();
            }
        };
        Connection::open(reactor, near, &ConnectionOptions::new(), Noting(take))?;
        std::mem::forget(far); // closed with the process
        Ok(())
    });
}

#[test]
fn the_sides_of_a_relay_keep_their_own_requests() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let (one, other) = Relay::pair();
    let (one, mut first, kept_by_one) = open_in(1, &mut reactor, one)?;
    let (other, mut second, kept_by_other) = open_in(2, &mut reactor, other)?;
    let mut app = App::default();
    first.write_all(b"to and fro")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    assert_eq!(second.read(&mut [0; 20])?, 10);
    assert_eq!(number_of(&reactor, one), Some(1));
    assert_eq!(number_of(&reactor, other), Some(2));
    drop((first, second));
    run_out(&mut reactor, &mut app)?;
    kept_by_one.expect_dropped("after the relay");
    kept_by_other.expect_dropped("after the relay");
    Ok(())
}

#[test]
fn a_connection_that_another_loop_gets_runs_in_the_request_of_the_post() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let remote = reactor.remote()?;
    let (near, far) = UnixStream::pair()?;
    drop(far);
    let (context, kept) = request(7);
    let posted = std::thread::spawn(move || {
        context.scope(|| {
            remote.post(|cx| {
                let options = ConnectionOptions::new();
                Connection::open(cx.registry, near, &options, noting()).unwrap();
            })
        })
    });
    assert!(posted.join().unwrap().is_ok());
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    let names = ["open", "end", "metrics", "close"];
    assert_eq!(app.seen, names.map(|what| (what, Some(7))));
    kept.expect_dropped("after the connection");
    Ok(())
}
