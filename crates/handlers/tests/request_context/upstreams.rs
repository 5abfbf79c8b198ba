//! Upstreams: the callbacks of the handler run in the request of the start, and each other callback
//! in its own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use handlers::{Backoff, Connection, Jitter, Upstream, UpstreamOptions};
use reactor::{Context, ManualClock, Reactor};
use support::{Result, listen, turn_until, turn_until_quiet};

use crate::{Act, App, Kept, Noting, note, noting, request, within};

/// Starts a link to `server` in request 7.
fn start(
    reactor: &mut Reactor<App>,
    server: &TcpListener,
    options: UpstreamOptions,
    handler: Noting<impl Act>,
) -> Result<(Upstream<App>, Kept)> {
    let target = server.local_addr()?;
    let delay = Duration::from_secs(1);
    let options = options.backoff(Backoff::new(delay, delay).jitter(Jitter::None));
    let (context, kept) = request(7);
    let upstream = context.scope(|| Upstream::start(reactor, [target], &options, handler));
    Ok((upstream, kept))
}

#[test]
fn messages_of_many_requests_are_sent_in_the_upstream_s() -> Result {
    let (server, _) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (upstream, kept) = start(&mut reactor, &server, UpstreamOptions::new(), noting())?;
    let (context, kept_by_sender) = request(9);
    let sent = context.scope(|| upstream.send(&mut reactor, &b"one"[..]));
    assert!(sent.is_ok());
    turn_until(&mut reactor, &mut app, |app| !app.seen.is_empty())?;
    let sent = context.scope(|| upstream.send(&mut reactor, &b"two"[..]));
    assert!(sent.is_ok());
    drop(context);
    kept_by_sender.expect_dropped("although the messages wait");
    let mut peer = server.accept()?.0;
    turn_until_quiet(&mut reactor, &mut app)?;
    assert!(peer.read(&mut [0; 9])? > 0);
    peer.write_all(b"answer")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    assert!(
        app.seen.iter().all(|(_, number)| *number == Some(7)),
        "{app:?}"
    );
    assert!(app.seen.contains(&("data", Some(7))));
    within(8, || upstream.on_end(&mut reactor, |cx| note("ended", cx)));
    upstream.on_end(&mut reactor, |cx| note("ended", cx));
    within(9, || upstream.stop(&mut reactor, Duration::ZERO));
    drop(peer);
    app.seen.clear();
    support::run_out(&mut reactor, &mut app)?;
    let ended = app.seen.split_off(app.seen.len() - 2);
    assert_eq!(ended, [("ended", Some(8)), ("ended", None)]);
    assert!(
        app.seen.iter().all(|(_, number)| *number == Some(7)),
        "{app:?}"
    );
    assert!(app.seen.contains(&("close", Some(7))));
    kept.expect_dropped("although the handle of the upstream exists");
    drop(upstream);
    Ok(())
}

#[test]
fn a_producer_that_waits_for_room_continues_in_its_own_request() -> Result {
    let (server, _) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let options = UpstreamOptions::new().max_messages(2);
    let (upstream, _) = start(&mut reactor, &server, options, noting())?;
    let (context, kept) = request(8);
    let wait = |reactor: &mut Reactor<App>| upstream.on_room(reactor, |cx| note("room", cx));
    for message in [&b"one"[..], &b"two"[..]] {
        assert!(upstream.send(&mut reactor, message).is_ok());
    }
    context.scope(|| wait(&mut reactor));
    wait(&mut reactor);
    within(9, || wait(&mut reactor));
    drop(context);
    kept.expect_kept();
    let _peer = server.accept()?;
    turn_until_quiet(&mut reactor, &mut app)?;
    app.seen.retain(|(what, _)| *what == "room");
    let rooms = [Some(8), None, Some(9)].map(|number| ("room", number));
    assert_eq!(app.seen, rooms);
    kept.expect_dropped("after the room");
    Ok(())
}

#[test]
fn the_next_connection_does_not_inherit_the_request_of_the_last_one() -> Result {
    let (server, _) = listen("127.0.0.1:0")?;
    let clock = ManualClock::new();
    let mut reactor = Reactor::builder().clock(clock.clone()).build()?;
    let mut app = App::default();
    let (context, kept_by_connection) = request(8);
    let mut context = Some(context);
    let replaces = Noting(
        move |what: &'static str, _: &mut Connection<'_, App>, cx: &mut Context<'_, App>| {
            if what == "data" {
                cx.set_context(context.take().unwrap());
            }
        },
    );
    let (upstream, kept) = start(&mut reactor, &server, UpstreamOptions::new(), replaces)?;
    turn_until(&mut reactor, &mut app, |app| !app.seen.is_empty())?;
    let mut peer = server.accept()?.0;
    peer.write_all(b"x")?;
    turn_until_quiet(&mut reactor, &mut app)?;
    kept_by_connection.expect_kept();
    drop(peer);
    turn_until_quiet(&mut reactor, &mut app)?;
    kept_by_connection.expect_dropped("while the link waits");
    clock.advance(Duration::from_secs(1));
    turn_until_quiet(&mut reactor, &mut app)?;
    let expected = [
        ("open", Some(7)),
        ("data", Some(7)),
        ("end", Some(8)),
        ("metrics", Some(8)),
        ("close", Some(8)),
        ("open", Some(7)),
    ];
    assert_eq!(app.seen, expected);
    kept.expect_kept();
    drop((reactor, upstream));
    kept.expect_dropped("after the loop");
    Ok(())
}

#[test]
fn a_stop_of_another_request_ends_an_attempt_in_the_upstream_s() -> Result {
    let (_silent, silent) = support::silent_listener("127.0.0.1:0")?;
    let mut reactor = Reactor::<App>::new()?;
    let (context, kept) = request(7);
    let options = UpstreamOptions::new();
    let upstream = context.scope(|| Upstream::start(&mut reactor, [silent], &options, noting()));
    drop(context);
    let mut app = App::default();
    turn_until_quiet(&mut reactor, &mut app)?;
    let (stopper, kept_by_stopper) = request(9);
    stopper.scope(|| upstream.stop(&mut reactor, Duration::from_secs(60)));
    drop(stopper);
    support::run_out(&mut reactor, &mut app)?;
    assert_eq!(app.seen, [("close", Some(7))]);
    kept.expect_dropped("after the upstream");
    kept_by_stopper.expect_dropped("after the upstream");
    Ok(())
}

#[test]
fn the_grace_of_a_stop_keeps_no_request() -> Result {
    let (server, _) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let options = UpstreamOptions::new().acknowledged(true);
    let (upstream, _) = start(&mut reactor, &server, options, noting())?;
    assert!(upstream.send(&mut reactor, &b"one"[..]).is_ok());
    turn_until_quiet(&mut reactor, &mut app)?;
    let (stopper, kept) = request(9);
    stopper.scope(|| upstream.stop(&mut reactor, Duration::from_secs(60)));
    drop(stopper);
    turn_until_quiet(&mut reactor, &mut app)?;
    kept.expect_dropped("although the link waits for an acknowledgement");
    assert_ne!(upstream.state(), handlers::UpstreamState::Ended);
    Ok(())
}
