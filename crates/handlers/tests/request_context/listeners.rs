//! Listeners: the callbacks of a listener run in its request, and connections inherit it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{
    Address, ConnectionLimit, ConnectionOptions, ListenOptions, Listener, ServerKey,
    on_listener_end,
};
use reactor::{Context, Reactor};
use support::{Result, run_out, turn_until, turn_until_quiet};
use tempfile::TempDir;

use crate::{App, closing, note, noting, request, within};

/// A listener on a Unix socket of its own.
fn listen(options: ListenOptions) -> Result<(TempDir, Listener, std::path::PathBuf)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let listener = options.bind(&Address::Unix(path.clone()))?;
    Ok((folder, listener, path))
}

/// Serves clients in request 7, with handlers that note themselves.
fn serve(reactor: &mut Reactor<App>, listener: Listener) -> Result<ServerKey<App>> {
    let options = ConnectionOptions::new();
    let handler = |_: &_, cx: &mut Context<'_, App>| {
        note("accept", cx);
        Ok(noting())
    };
    Ok(within(7, || listener.serve(reactor, &options, handler))?)
}

#[test]
fn a_listener_accepts_in_its_request_and_its_connections_inherit_it() -> Result {
    let (_folder, listener, path) = listen(ListenOptions::new())?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let server = serve(&mut reactor, listener)?;
    let ended = |_, cx: &mut Context<'_, App>| note("ended", cx);
    within(8, || on_listener_end(&mut reactor, server.key(), ended))?;
    let mut client = UnixStream::connect(path)?;
    client.write_all(b"x")?;
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 3)?;
    within(9, || server.stop(&mut reactor, Duration::from_secs(60)));
    turn_until_quiet(&mut reactor, &mut app)?;
    drop(client);
    run_out(&mut reactor, &mut app)?;
    app.seen.sort_by_key(|(what, _)| *what == "ended");
    let mut expected: Vec<_> = ["accept", "open", "data", "graceful", "metrics", "close"]
        .map(|what| (what, Some(7)))
        .into();
    expected.push(("ended", Some(8)));
    assert_eq!(app.seen, expected);
    Ok(())
}

#[test]
fn the_end_of_a_listener_is_reported_on_behalf_of_none_if_watched_so() -> Result {
    let (_folder, listener, _) = listen(ListenOptions::new())?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let server = serve(&mut reactor, listener)?;
    let ended = |_, cx: &mut Context<'_, App>| note("ended", cx);
    on_listener_end(&mut reactor, server.key(), ended)?;
    within(9, || server.stop(&mut reactor, Duration::ZERO));
    run_out(&mut reactor, &mut app)?;
    assert_eq!(app.seen, [("ended", None)]);
    Ok(())
}

#[test]
fn room_that_another_request_makes_lets_a_listener_accept_in_its_own() -> Result {
    let limit = ConnectionLimit::new(1);
    let options = ListenOptions::new().limit(limit.clone());
    let (_folder, listener, path) = listen(options)?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    serve(&mut reactor, listener)?;
    let permit = limit.try_acquire().unwrap();
    let _client = UnixStream::connect(path)?;
    turn_until_quiet(&mut reactor, &mut app)?;
    assert_eq!(app.seen, [], "the limit is reached");
    let (context, kept) = request(9);
    context.scope(|| drop(permit));
    drop(context);
    kept.expect_dropped("the news of the room has no request");
    turn_until(&mut reactor, &mut app, |app| app.seen.len() == 2)?;
    assert_eq!(app.seen, [("accept", Some(7)), ("open", Some(7))]);
    Ok(())
}

#[test]
fn an_accept_callback_can_give_each_connection_its_own_request() -> Result {
    let (_folder, listener, path) = listen(ListenOptions::new())?;
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let mut clients = 0;
    let key = listener.accept(&mut reactor, move |accepted, cx| {
        note("accept", cx);
        clients += 1;
        let options = ConnectionOptions::new();
        within(clients, || accepted.open(cx.registry, &options, closing()))?;
        Ok(())
    })?;
    for number in 1..3 {
        let _client = UnixStream::connect(&path)?;
        app.seen.clear();
        turn_until(&mut reactor, &mut app, |app| app.seen.len() == 4)?;
        let own = ["open", "metrics", "close"].map(|what| (what, Some(number)));
        assert_eq!(app.seen, [&[("accept", None)][..], &own].concat());
    }
    let _ = key;
    Ok(())
}
