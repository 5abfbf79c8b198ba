//! Accepted connections that are opened as another stream, at once or later: all that holds for
//! the connections of a server holds for them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use handlers::{
    Accepted, CloseReason, ConnectionKey, ConnectionLimit, ConnectionOptions, ListenOptions,
    ServerKey, SocketStream,
};
use reactor::{Error, Interest, Key, Next, Reactor};
use support::{run_out, turn_until, turn_until_quiet};

use crate::{Echo, Inverted, Result, Seen, any_port, client, expect_echo, tcp};

const GRACE: Duration = Duration::from_secs(5);

/// Makes a stream of another type of an accepted socket.
fn as_file(stream: SocketStream) -> io::Result<File> {
    Ok(File::from(OwnedFd::from(stream.into_tcp()?)))
}

/// The state of a loop that opens its connections later.
#[derive(Debug, Default)]
struct Waiting {
    accepted: Vec<Accepted<File>>,
    received: usize,
    closed: Vec<CloseReason>,
}

/// Keeps its input, and notes its end.
struct Sink;

impl handlers::ConnectionHandler<Waiting> for Sink {
    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut handlers::Connection<'_, Waiting>,
        cx: &mut reactor::Context<'_, Waiting>,
    ) -> io::Result<usize> {
        cx.state.received += data.len();
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut reactor::Context<'_, Waiting>) {
        cx.state.closed.push(reason);
    }
}

/// Returns a loop with a server that keeps what it has accepted, one connection of it, and its
/// client.
fn with_waiting(
    limit: &ConnectionLimit,
) -> Result<(Reactor<Waiting>, ServerKey<Waiting>, Waiting, TcpStream)> {
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&any_port())?;
    let address = tcp(&listener)?;
    let server = listener.accept(
        &mut reactor,
        |accepted, cx: &mut reactor::Context<'_, Waiting>| {
            cx.state.accepted.push(accepted.map(as_file)?);
            Ok(())
        },
    )?;
    let (client, mut waiting) = (client(address)?, Waiting::default());
    turn_until(&mut reactor, &mut waiting, |waiting| {
        !waiting.accepted.is_empty()
    })?;
    Ok((reactor, server, waiting, client))
}

fn open(
    reactor: &mut reactor::Registry<Waiting>,
    waiting: &mut Waiting,
) -> Result<ConnectionKey<Waiting>> {
    let accepted = waiting.accepted.pop().ok_or("none is waiting")?;
    Ok(accepted.open(reactor, &ConnectionOptions::new(), Sink)?)
}

#[test]
fn a_server_opens_its_connections_as_streams_of_another_type() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&any_port())?;
    let address = tcp(&listener)?;
    let server = listener.serve_as(
        &mut reactor,
        &ConnectionOptions::new(),
        |stream| Ok(Inverted(stream.into_tcp()?)),
        |_peer, _cx| Ok(Echo),
    )?;
    let (mut client, mut seen) = (client(address)?, Seen::default());
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    let stream = seen.opened[0];
    reactor.defer(move |cx| {
        let type_of = stream.with(cx, |connection, _| {
            connection.stream::<Inverted>().is_some()
        });
        assert!(type_of.unwrap());
    });
    assert_eq!(limit.open(), 1);
    server.stop(&mut reactor, GRACE);
    turn_until_quiet(&mut reactor, &mut seen)?;
    assert_eq!((seen.finishing, client.read(&mut [0])?), (1, 0));
    client.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut seen)?;
    assert!(
        matches!(seen.closed[..], [CloseReason::Finished]),
        "{:?}",
        seen.closed
    );
    assert_eq!(limit.open(), 0);
    Ok(())
}

#[test]
fn a_connection_that_is_opened_later_counts_for_the_limit_all_the_time() -> Result {
    let limit = ConnectionLimit::new(1);
    let (mut reactor, server, mut waiting, client) = with_waiting(&limit)?;
    assert_eq!(limit.open(), 1, "accepted, and not open yet");
    let key = open(&mut reactor, &mut waiting)?.key();
    turn_until_quiet(&mut reactor, &mut waiting)?;
    assert_eq!((limit.open(), reactor.contains(key)), (1, true));
    drop(client);
    turn_until(&mut reactor, &mut waiting, |waiting| {
        !waiting.closed.is_empty()
    })?;
    assert_eq!(limit.open(), 0);
    server.stop(&mut reactor, Duration::ZERO);
    run_out(&mut reactor, &mut waiting)
}

#[test]
fn a_function_that_fails_gives_the_permit_back_and_closes_the_socket() -> Result {
    let limit = ConnectionLimit::new(1);
    let mut reactor = Reactor::<()>::new()?;
    let listener = ListenOptions::new()
        .limit(limit.clone())
        .bind(&any_port())?;
    let address = tcp(&listener)?;
    listener.accept(&mut reactor, |accepted, _cx| {
        accepted.map(SocketStream::into_unix).map(drop)
    })?;
    for _ in 0..2 {
        let mut client = client(address)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        assert_eq!((client.read(&mut [0])?, limit.open()), (0, 0));
    }
    Ok(())
}

#[test]
fn a_stop_closes_what_was_opened_later_as_another_stream() -> Result {
    let (mut reactor, server, mut waiting, mut client) = with_waiting(&ConnectionLimit::new(1))?;
    open(&mut reactor, &mut waiting)?;
    turn_until_quiet(&mut reactor, &mut waiting)?;
    server.stop(&mut reactor, GRACE);
    turn_until_quiet(&mut reactor, &mut waiting)?;
    assert_eq!(client.read(&mut [0])?, 0, "closed, and not reset");
    drop(client);
    run_out(&mut reactor, &mut waiting)?;
    assert!(
        matches!(waiting.closed[..], [CloseReason::Finished]),
        "{waiting:?}"
    );
    Ok(())
}

#[test]
fn what_is_opened_after_the_stop_is_closed_too() -> Result {
    for grace in [GRACE, Duration::ZERO] {
        let (mut reactor, server, mut waiting, mut client) =
            with_waiting(&ConnectionLimit::new(1))?;
        server.stop(&mut reactor, grace);
        turn_until_quiet(&mut reactor, &mut waiting)?;
        assert!(!reactor.contains(server.key()), "the listener has ended");
        open(&mut reactor, &mut waiting)?;
        turn_until_quiet(&mut reactor, &mut waiting)?;
        assert_eq!(client.read(&mut [0])?, 0);
        drop(client);
        run_out(&mut reactor, &mut waiting)?;
        assert_eq!(waiting.closed.len(), 1, "{waiting:?}");
    }
    Ok(())
}

#[test]
fn a_stop_without_reading_pauses_streams_of_another_type() -> Result {
    let (mut reactor, server, mut waiting, mut client) = with_waiting(&ConnectionLimit::new(1))?;
    let key = open(&mut reactor, &mut waiting)?;
    turn_until_quiet(&mut reactor, &mut waiting)?;
    reactor.defer(move |cx| {
        // The response keeps the connection open, so only the pause keeps it from reading.
        key.with(cx, |connection, _cx| connection.begin_response())
            .expect("it is open");
        server.stop_without_reading(cx, GRACE);
    });
    turn_until_quiet(&mut reactor, &mut waiting)?;
    client.write_all(b"too late")?;
    turn_until_quiet(&mut reactor, &mut waiting)?;
    assert_eq!((waiting.received, waiting.closed.len()), (0, 0));
    reactor.defer(move |cx| {
        key.with(cx, |connection, _cx| connection.end_response())
            .expect("it is open");
    });
    assert!(!reactor.contains(server.key()));
    drop(client);
    run_out(&mut reactor, &mut waiting)?;
    assert_eq!(waiting.closed.len(), 1, "{waiting:?}");
    Ok(())
}

/// Registrations of two loops can have equal keys.
#[test]
fn a_stop_on_another_loop_reaches_the_connections_there_and_no_listener() -> Result {
    let (mut reactor, server, mut waiting, mut client) = with_waiting(&ConnectionLimit::new(1))?;
    let mut other = Reactor::<Waiting>::new()?;
    // The listener is the second registration of its loop: the first notifies it of room.
    let (pipes, mut foreign) = ([io::pipe()?, io::pipe()?], Key::NULL);
    for (reader, _writer) in &pipes {
        let reader = reader.try_clone()?;
        foreign = other.add(reader, Interest::READABLE, |_, _| Ok(Next::Keep))?;
    }
    assert_eq!(foreign, server.key());
    let key = open(&mut other, &mut waiting)?.key();
    turn_until_quiet(&mut other, &mut waiting)?;
    server.stop(&mut other, GRACE);
    turn_until_quiet(&mut other, &mut waiting)?;
    assert_eq!(client.read(&mut [0])?, 0);
    server.stop(&mut other, Duration::ZERO);
    drop(client);
    turn_until(&mut other, &mut waiting, |waiting| {
        !waiting.closed.is_empty()
    })?;
    assert!(!other.contains(key) && other.contains(foreign));
    assert!(reactor.contains(server.key()), "its own loop was not asked");
    server.stop(&mut reactor, Duration::ZERO);
    run_out(&mut reactor, &mut waiting)
}

#[test]
fn options_are_set_for_a_server_that_opens_by_itself_alone() -> Result {
    let mut reactor = Reactor::new()?;
    let listener = ListenOptions::new().bind(&any_port())?;
    let address = tcp(&listener)?;
    let opens = listener.serve_as(
        &mut reactor,
        &ConnectionOptions::new(),
        as_file,
        |_peer, _cx| Ok(Echo),
    )?;
    let options = ConnectionOptions::new()
        .max_buffered_input(0)
        .watermarks(0, 1);
    opens.set_options(&mut reactor, &options)?;
    let (mut seen, mut client) = (Seen::default(), client(address)?);
    expect_echo(&mut reactor, &mut seen, &mut client)?;
    let keeps = ListenOptions::new()
        .bind(&any_port())?
        .accept(&mut reactor, |_accepted, _cx| Ok(()))?;
    let refused = keeps.set_options(&mut reactor, &options);
    assert!(matches!(refused, Err(Error::OtherType(key)) if key == keeps.key()));
    let elsewhere = opens.set_options(&mut *Reactor::new()?, &options);
    assert!(matches!(elsewhere, Err(Error::StaleKey(_))));
    Ok(())
}

#[test]
fn an_accepted_stream_can_be_sent_to_another_thread() {
    fn expect_send<T: Send>() {}
    expect_send::<Accepted>();
    expect_send::<Accepted<File>>();
    expect_send::<ServerKey<std::rc::Rc<()>>>();
}
