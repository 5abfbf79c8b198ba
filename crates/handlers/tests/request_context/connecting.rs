//! Connecting: whichever attempt comes to an end, the handler learns it in the request that
//! connects.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use handlers::{Connecting, Connection, ConnectionOptions};
use reactor::{ManualClock, Reactor};
use support::{Result, listen, run_out, silent_listener};

use crate::{App, check, closing, current, noting, request, within};

#[test]
fn a_connection_opens_in_the_request_that_connects() -> Result {
    let (_listener, address) = listen("127.0.0.1:0")?;
    check(&["open", "metrics", "close"], |reactor| {
        Connection::connect(reactor, [address], &ConnectionOptions::new(), closing());
        Ok(())
    });
    Ok(())
}

#[test]
fn a_failure_to_connect_is_reported_in_its_request() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    drop(listener);
    check(&["close"], |reactor| {
        Connection::connect(reactor, [address], &ConnectionOptions::new(), noting());
        Ok(())
    });
    check(&["close"], |reactor| {
        Connection::connect(reactor, [], &ConnectionOptions::new(), noting());
        Ok(())
    });
    Ok(())
}

#[test]
fn a_late_attempt_belongs_to_the_request_that_connects() -> Result {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    let (_listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let (context, kept) = request(7);
    let prepare = |_: std::os::fd::BorrowedFd<'_>| -> io::Result<()> {
        assert_eq!(current(), Some(7), "the attempt is made in the request");
        Ok(())
    };
    let options = ConnectionOptions::new().prepare(prepare);
    let connecting =
        context.scope(|| Connection::connect(&mut reactor, [silent, address], &options, closing()));
    drop(context);
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    let open_to_close = [("open", Some(7)), ("metrics", Some(7)), ("close", Some(7))];
    assert_eq!(app.seen, open_to_close);
    kept.expect_dropped("although the handle of the attempts exists");
    drop(connecting);
    Ok(())
}

/// Cancels, in another request, what was begun in request 7. Returns what the handler has seen.
fn cancelled(
    connect: impl FnOnce(&mut Reactor<App>, std::net::SocketAddr) -> Connecting<App>,
) -> Result<Vec<(&'static str, Option<u32>)>> {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    let mut reactor = Reactor::<App>::new()?;
    let (context, kept) = request(7);
    let connecting = context.scope(|| connect(&mut reactor, silent));
    drop(context);
    kept.expect_kept();
    within(9, || connecting.cancel(&mut reactor));
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    kept.expect_dropped("although the handle of the attempts exists");
    drop(connecting);
    Ok(app.seen)
}

#[test]
fn a_cancelled_connect_ends_in_its_request_and_not_in_the_canceller_s() -> Result {
    let options = ConnectionOptions::new();
    let seen = cancelled(|reactor, to| Connection::connect(reactor, [to], &options, noting()))?;
    assert_eq!(seen, [("close", Some(7))]);
    let seen = cancelled(|reactor, to| {
        Connection::connect_as(reactor, [to], &options, Ok::<TcpStream, _>, noting())
    })?;
    assert_eq!(seen, [("close", Some(7))]);
    Ok(())
}

#[test]
fn the_time_limit_of_a_connect_ends_it_in_its_request() -> Result {
    let (_silent, silent) = silent_listener("127.0.0.1:0")?;
    let mut reactor = Reactor::builder().clock(ManualClock::jumping()).build()?;
    let (context, kept) = request(7);
    let options = ConnectionOptions::new().connect_timeout(Duration::from_secs(1));
    context.scope(|| Connection::connect(&mut reactor, [silent, silent], &options, noting()));
    drop(context);
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    assert_eq!(app.seen, [("close", Some(7))]);
    kept.expect_dropped("after the time limit");
    Ok(())
}

#[test]
fn another_stream_is_made_and_opened_in_the_request_that_connects() -> Result {
    let (_listener, address) = listen("127.0.0.1:0")?;
    for fails in [false, true] {
        let mut reactor = Reactor::<App>::new()?;
        let (context, kept) = request(7);
        let make = move |stream: TcpStream| {
            assert_eq!(current(), Some(7));
            let failure = io::Error::other("on purpose");
            if fails { Err(failure) } else { Ok(stream) }
        };
        let options = ConnectionOptions::new();
        context
            .scope(|| Connection::connect_as(&mut reactor, [address], &options, make, closing()));
        drop(context);
        let mut app = App::default();
        run_out(&mut reactor, &mut app)?;
        let names: Vec<_> = app.seen.iter().map(|(what, _)| *what).collect();
        let expected: &[_] = if fails {
            &["close"]
        } else {
            &["open", "metrics", "close"]
        };
        assert_eq!(names, expected);
        assert!(app.seen.iter().all(|(_, number)| *number == Some(7)));
        kept.expect_dropped("after the connection");
    }
    Ok(())
}
