//! Early ends of a relay: the other side is reset, after all earlier bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use handlers::{Connection, ConnectionOptions, Relay};
use reactor::{ManualClock, Reactor};
use support::reset;

use crate::{
    HIGH, PATIENCE, Piped, Result, begin, fill, options, pair, patient, pipe, read_out, run_out,
    send_many, turn_until_quiet,
};

#[test]
fn a_reset_is_passed_on() -> Result {
    for client_resets in [true, false] {
        let Piped {
            mut reactor,
            client,
            server,
            ..
        } = pipe(&options())?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let (resets, mut other) = if client_resets {
            (client, server)
        } else {
            (server, client)
        };
        reset(resets)?;
        run_out(&mut reactor, &mut ())?;
        assert_eq!(
            other.read(&mut [0]).map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionReset)
        );
    }
    Ok(())
}

#[test]
fn a_reset_of_a_held_up_side_comes_after_all_its_earlier_bytes() -> Result {
    for client_resets in [true, false] {
        let Piped {
            mut reactor,
            sides,
            client,
            server,
        } = pipe(&options())?;
        let (resets, other) = if client_resets {
            (client, server)
        } else {
            (server, client)
        };
        let side = sides[usize::from(!client_resets)];
        let sent = fill(&mut reactor, side, &resets)?;
        reset(resets)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let reader = thread::spawn(move || read_out(&other));
        run_out(&mut reactor, &mut ())?;
        let heard = reader.join().expect("it does not panic");
        assert_eq!(heard, (sent, Some(ErrorKind::ConnectionReset)));
    }
    Ok(())
}

#[test]
fn a_reset_within_an_answer_is_passed_on_to_a_half_closed_side() -> Result {
    for client_asks in [true, false] {
        let Piped {
            mut reactor,
            client,
            server,
            ..
        } = pipe(&options())?;
        let (mut asks, mut answers) = if client_asks {
            (client, server)
        } else {
            (server, client)
        };
        asks.write_all(b"question")?;
        asks.shutdown(Shutdown::Write)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let mut heard = String::new();
        answers.read_to_string(&mut heard)?;
        answers.write_all(b"half an ans")?;
        turn_until_quiet(&mut reactor, &mut ())?;
        reset(answers)?;
        run_out(&mut reactor, &mut ())?;
        assert_eq!(
            (heard.as_str(), read_out(&asks).1),
            ("question", Some(ErrorKind::ConnectionReset))
        );
    }
    Ok(())
}

/// They are never left out silently.
#[test]
fn bytes_that_cannot_be_queued_end_both_sides_by_a_reset() -> Result {
    let Piped {
        mut reactor,
        mut client,
        mut server,
        ..
    } = pipe(&options().max_write_queue(HIGH / 2))?;
    let producer = thread::spawn(move || {
        let sent = send_many(&client, 4);
        let ended = client.read(&mut [0]);
        (sent, ended)
    });
    let began = Instant::now();
    while !reactor.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{reactor:?}");
        reactor.turn(&mut (), Some(Duration::from_millis(10)))?;
    }
    let (sent, ended) = producer.join().expect("it does not panic");
    assert!(
        sent.is_err() || ended.is_err(),
        "the producer believes that all was taken"
    );
    let ended = io::copy(&mut server, &mut io::sink());
    assert_eq!(
        ended.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset),
        "the consumer believes it has all"
    );
    Ok(())
}

#[test]
fn a_client_whose_server_refuses_is_reset() -> Result {
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // the listener is closed by now
    let (mut reactor, mut client) = begin(refusing)?;
    client.write_all(b"anybody?")?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(
        read_out(&client),
        (0, Some(ErrorKind::ConnectionReset)),
        "an empty answer would look like one"
    );
    Ok(())
}

/// A listener drops the handler of a connection that epoll refuses, for example.
#[test]
fn a_server_is_closed_if_the_connection_of_its_client_is_never_opened() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let (client_side, server_side) = Relay::pair();
    let address = listener.local_addr()?;
    client_side.gives_up(Connection::connect(
        &mut reactor,
        [address],
        &options(),
        server_side,
    ));
    drop(client_side);
    let (server, _) = listener.accept()?;
    patient(&server)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_out(&server), (0, Some(ErrorKind::ConnectionReset)));
    Ok(())
}

#[test]
fn a_client_that_is_closed_before_its_server_is_connected_resets_that_too() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let (near, _client) = pair()?;
    let (client_side, server_side) = Relay::pair();
    let key = Connection::open(&mut reactor, near, &options(), client_side)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.remove(key.key())?;
    turn_until_quiet(&mut reactor, &mut ())?;
    Connection::connect(
        &mut reactor,
        [listener.local_addr()?],
        &options(),
        server_side,
    );
    run_out(&mut reactor, &mut ())?;
    assert_eq!(
        read_out(&listener.accept()?.0),
        (0, Some(ErrorKind::ConnectionReset))
    );
    Ok(())
}

#[test]
fn closing_a_side_sends_the_other_its_queue_and_a_reset() -> Result {
    let Piped {
        mut reactor,
        sides,
        mut client,
        server,
    } = pipe(&options())?;
    client.write_all(b"last words")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.remove(sides[0].key())?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_out(&server), (10, Some(ErrorKind::ConnectionReset)));
    assert_eq!(read_out(&client), (0, Some(ErrorKind::ConnectionReset)));
    Ok(())
}

#[test]
fn a_peer_that_reads_no_more_is_reset_and_keeps_no_loop_alive() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let side = Connection::open(&mut reactor, server_near, &options(), one)?;
    Connection::open(&mut reactor, client_near, &options(), other)?;
    fill(&mut reactor, side, &server)?;
    reactor.remove(side.key())?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.advance(&mut (), Duration::from_secs(299))?;
    assert_eq!(reactor.len(), 1);
    reactor.advance(&mut (), Duration::from_secs(1))?;
    assert!(reactor.is_empty());
    assert_eq!(read_out(&client).1, Some(ErrorKind::ConnectionReset));
    Ok(())
}

/// Both streams have ended, and only the queue of one side is left.
#[test]
fn a_peer_that_reads_no_more_after_both_ends_is_reset_too() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let side = Connection::open(&mut reactor, server_near, &ConnectionOptions::new(), one)?;
    let options = ConnectionOptions::new().watermarks(1 << 20, 2 << 20);
    socket2::SockRef::from(&client_near).set_send_buffer_size(4096)?;
    socket2::SockRef::from(&client).set_recv_buffer_size(4096)?;
    Connection::open(&mut reactor, client_near, &options, other)?;
    client.shutdown(Shutdown::Write)?;
    (&server).write_all(&vec![7; 200_000])?;
    drop(server);
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(!reactor.contains(side.key()), "it has passed on everything");
    reactor.advance(&mut (), Duration::from_secs(299))?;
    assert_eq!(reactor.len(), 1);
    reactor.advance(&mut (), Duration::from_secs(1))?;
    assert!(reactor.is_empty());
    assert_eq!(read_out(&client).1, Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn a_side_that_was_reset_ends_in_time_also_if_the_other_reads_nothing() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let side = Connection::open(&mut reactor, client_near, &options(), one)?;
    Connection::open(&mut reactor, server_near, &options(), other)?;
    fill(&mut reactor, side, &client)?;
    (&client).write_all(&[7; 1 << 15])?; // the kernel keeps these for the side that reads no more
    reset(client)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(reactor.len(), 2);
    reactor.advance(&mut (), Duration::from_secs(301))?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(read_out(&server).1, Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn a_side_that_is_timed_out_does_not_end_the_other_cleanly() -> Result {
    for server_speaks in [false, true] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let ((client_near, client), (server_near, mut server)) = (pair()?, pair()?);
        let (one, other) = Relay::pair();
        Connection::open(
            &mut reactor,
            client_near,
            &options().idle_timeout(Duration::from_secs(60)),
            one,
        )?;
        Connection::open(&mut reactor, server_near, &options(), other)?;
        if server_speaks {
            server.write_all(b"half an answer")?;
        }
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.advance(&mut (), Duration::from_secs(60))?;
        assert!(reactor.is_empty(), "{reactor:?}");
        let heard = if server_speaks { 14 } else { 0 };
        assert_eq!(read_out(&client), (heard, Some(ErrorKind::ConnectionReset)));
        assert_eq!(read_out(&server), (0, Some(ErrorKind::ConnectionReset)));
    }
    Ok(())
}
