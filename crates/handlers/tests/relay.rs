//! Relays, between sockets on the loopback device.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::cell::Cell;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use handlers::{Address, ConnectionKey, ConnectionOptions, ListenOptions, Relay, connect, open};
use reactor::{ManualClock, Reactor, Then};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than all the buffers of the kernel on the way hold.
const LENGTH: usize = 24 << 20;
const LOW: usize = 16 * 1024;
const HIGH: usize = 64 * 1024;

/// Two ends of a connection, each of which gives up when the test has lost patience.
fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let far = listener.accept()?.0;
    patient(&far)?;
    Ok((near, far))
}

fn patient(stream: &TcpStream) -> Result {
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream.set_write_timeout(Some(PATIENCE))?)
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new().watermarks(LOW, HIGH)
}

/// A loop with a relay: the keys of its sides, and their far ends.
struct Piped {
    reactor: Reactor<()>,
    sides: [ConnectionKey<()>; 2],
    client: TcpStream,
    server: TcpStream,
}

fn pipe(options: &ConnectionOptions) -> Result<Piped> {
    let mut reactor = Reactor::new()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let sides = [open(&mut reactor, client_near, options, one)?, open(&mut reactor, server_near, options, other)?];
    Ok(Piped { reactor, sides, client, server })
}

/// Runs until nothing is left to wait for.
fn run_out(reactor: &mut Reactor<()>) -> Result {
    let patience = reactor.after(PATIENCE, |cx| {
        cx.registry.stop();
        Ok(Then::Done)
    });
    reactor.set_timer_background(patience)?;
    reactor.run(&mut ())?;
    reactor.cancel(patience).map_err(|_| format!("it still waits after {PATIENCE:?}: {reactor:?}").into())
}

fn turn_until_quiet(reactor: &mut Reactor<()>) -> Result {
    let began = Instant::now();
    while reactor.turn(&mut (), Some(Duration::from_millis(50)))? > 0 {
        assert!(began.elapsed() < PATIENCE, "not quiet within {PATIENCE:?}");
    }
    Ok(())
}

/// Bytes that are not the same when any of them is missing, doubled or misplaced.
fn send_many(mut to: &TcpStream, seed: u64) -> io::Result<u64> {
    let (mut random, mut sum) = (seed, DefaultHasher::new());
    let mut chunk = vec![0; 1 << 16];
    for _ in 0..LENGTH / chunk.len() {
        for byte in &mut chunk {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (random >> 56) as u8;
        }
        to.write_all(&chunk)?;
        chunk.iter().for_each(|byte| sum.write_u8(*byte));
    }
    to.shutdown(Shutdown::Write)?;
    Ok(sum.finish())
}

/// The sum of all that comes.
fn receive_many(mut from: &TcpStream) -> io::Result<u64> {
    let mut sum = DefaultHasher::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(sum.finish()),
            length => chunk[..length].iter().for_each(|byte| sum.write_u8(*byte)),
        }
    }
}

#[test]
fn what_comes_from_one_side_goes_to_the_other_until_both_have_ended() -> Result {
    let Piped { mut reactor, client, server, .. } = pipe(&options())?;
    let sums = thread::spawn(move || {
        thread::scope(|scope| {
            let (sent, sent_back) = (scope.spawn(|| send_many(&client, 1)), scope.spawn(|| send_many(&server, 2)));
            let (received, received_back) =
                (scope.spawn(|| receive_many(&server)), scope.spawn(|| receive_many(&client)));
            [sent, received, sent_back, received_back].map(|thread| thread.join().expect("it does not panic"))
        })
    });
    run_out(&mut reactor)?;
    let [sent, received, sent_back, received_back] = sums.join().expect("it does not panic");
    assert_eq!((sent?, sent_back?), (received?, received_back?));
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_client_that_reads_only_when_it_has_sent_all_holds_up_only_what_it_is_sent() -> Result {
    let Piped { mut reactor, client, server, .. } = pipe(&options())?;
    let sums = thread::spawn(move || {
        thread::scope(|scope| {
            let (received, sent_back) = (scope.spawn(|| receive_many(&server)), scope.spawn(|| send_many(&server, 2)));
            let sent = send_many(&client, 1);
            let received_back = receive_many(&client);
            let [received, sent_back] = [received, sent_back].map(|thread| thread.join().expect("it does not panic"));
            [sent, received, sent_back, received_back]
        })
    });
    run_out(&mut reactor)?;
    let [sent, received, sent_back, received_back] = sums.join().expect("it does not panic");
    assert_eq!((sent?, sent_back?), (received?, received_back?));
    Ok(())
}

#[test]
fn a_side_that_reads_nothing_costs_no_more_than_its_watermark_and_loses_nothing() -> Result {
    let Piped { mut reactor, sides, client, server } = pipe(&options())?;
    let producer = thread::spawn(move || {
        let sum = send_many(&client, 3);
        (sum, client)
    });
    let began = Instant::now();
    let mut before = 0;
    loop {
        turn_until_quiet(&mut reactor)?;
        let to_server = sides[1];
        let (taken, queued) = taken_and_queued(&mut reactor, sides[0], to_server)?;
        assert!(queued <= HIGH + 64 * 1024, "{queued} bytes are queued");
        if taken > 0 && taken == before {
            break;
        }
        before = taken;
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(!producer.is_finished() && before < LENGTH as u64, "it is held up");
    let consumer = thread::spawn(move || {
        let sum = receive_many(&server);
        (sum, server)
    });
    while !consumer.is_finished() {
        assert!(began.elapsed() < PATIENCE);
        reactor.turn(&mut (), Some(Duration::from_millis(10)))?;
    }
    let (sent, _client) = producer.join().expect("it does not panic");
    let (received, _server) = consumer.join().expect("it does not panic");
    assert_eq!(sent?, received?);
    Ok(())
}

/// What has been read from one side, and what is queued for the other.
fn taken_and_queued(reactor: &mut Reactor<()>, from: ConnectionKey<()>, to: ConnectionKey<()>) -> Result<(u64, usize)> {
    let told = Rc::new(Cell::new((0, 0)));
    let tells = Rc::clone(&told);
    reactor.defer(move |cx| {
        let taken = from.with(cx, |connection, _cx| connection.counters().read).expect("it is open");
        let queued = to.with(cx, |connection, _cx| connection.queued()).expect("it is open");
        tells.set((taken, queued));
    });
    reactor.turn(&mut (), Some(Duration::ZERO))?;
    Ok(told.get())
}

#[test]
fn each_side_may_end_first_and_still_hear_the_other() -> Result {
    for client_first in [true, false] {
        let Piped { mut reactor, client, server, .. } = pipe(&options())?;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"question")?;
        first.shutdown(Shutdown::Write)?;
        turn_until_quiet(&mut reactor)?;
        let mut heard = String::new();
        second.read_to_string(&mut heard)?;
        assert_eq!(heard, "question");
        assert_eq!(reactor.len(), 2);
        second.write_all(b"answer")?;
        drop(second);
        run_out(&mut reactor)?;
        let mut heard = String::new();
        first.read_to_string(&mut heard)?;
        assert_eq!(heard, "answer");
    }
    Ok(())
}

#[test]
fn a_reset_is_passed_on() -> Result {
    for client_resets in [true, false] {
        let Piped { mut reactor, client, server, .. } = pipe(&options())?;
        turn_until_quiet(&mut reactor)?;
        let (resets, mut other) = if client_resets { (client, server) } else { (server, client) };
        rustix::net::sockopt::set_socket_linger(&resets, Some(Duration::ZERO))?;
        drop(resets);
        run_out(&mut reactor)?;
        assert_eq!(other.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    }
    Ok(())
}

/// What comes until the end, or until an error.
fn read_out(mut from: &TcpStream) -> (usize, Option<ErrorKind>) {
    let (mut bytes, mut chunk) = (0, vec![0; 1 << 16]);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return (bytes, None),
            Ok(more) => bytes += more,
            Err(error) => return (bytes, Some(error.kind())),
        }
    }
}

/// Sends until `side` is held up, since the other reads nothing; gives how much that was.
fn fill(reactor: &mut Reactor<()>, side: ConnectionKey<()>, mut from: &TcpStream) -> Result<usize> {
    let (chunk, held_up) = ([7; 1 << 14], Rc::new(Cell::new(false)));
    let mut sent = 0;
    while !held_up.get() {
        from.write_all(&chunk)?;
        sent += chunk.len();
        let told = Rc::clone(&held_up);
        reactor.defer(move |cx| told.set(side.with(cx, |connection, _cx| connection.is_paused()).expect("it is open")));
        while reactor.turn(&mut (), Some(Duration::ZERO))? > 0 {}
    }
    Ok(sent)
}

#[test]
fn a_reset_of_a_side_that_is_held_up_comes_behind_all_that_had_come() -> Result {
    for client_resets in [true, false] {
        let Piped { mut reactor, sides, client, server } = pipe(&options())?;
        let (resets, other) = if client_resets { (client, server) } else { (server, client) };
        let side = sides[usize::from(!client_resets)];
        let sent = fill(&mut reactor, side, &resets)?;
        rustix::net::sockopt::set_socket_linger(&resets, Some(Duration::ZERO))?;
        drop(resets);
        turn_until_quiet(&mut reactor)?;
        let reader = thread::spawn(move || read_out(&other));
        run_out(&mut reactor)?;
        let heard = reader.join().expect("it does not panic");
        assert_eq!(heard, (sent, Some(ErrorKind::ConnectionReset)));
    }
    Ok(())
}

#[test]
fn a_reset_in_the_middle_of_an_answer_is_passed_on_to_who_has_ended_its_direction() -> Result {
    for client_asks in [true, false] {
        let Piped { mut reactor, client, server, .. } = pipe(&options())?;
        let (mut asks, mut answers) = if client_asks { (client, server) } else { (server, client) };
        asks.write_all(b"question")?;
        asks.shutdown(Shutdown::Write)?;
        turn_until_quiet(&mut reactor)?;
        let mut heard = String::new();
        answers.read_to_string(&mut heard)?;
        answers.write_all(b"half an ans")?;
        turn_until_quiet(&mut reactor)?;
        rustix::net::sockopt::set_socket_linger(&answers, Some(Duration::ZERO))?;
        drop(answers);
        run_out(&mut reactor)?;
        assert_eq!((heard.as_str(), read_out(&asks).1), ("question", Some(ErrorKind::ConnectionReset)));
    }
    Ok(())
}

#[test]
fn a_client_that_closes_and_is_written_to_loses_nothing_of_what_it_has_sent() -> Result {
    let Piped { mut reactor, sides, mut client, mut server } = pipe(&options())?;
    let mut sent = fill(&mut reactor, sides[0], &client)?;
    client.write_all(&[7; 1 << 15])?; // what the kernel keeps for the side that reads no more
    sent += 1 << 15;
    drop(client); // with an end after what is still to be read
    for _ in 0..3 {
        turn_until_quiet(&mut reactor)?;
        server.write_all(b"progress")?; // which the client's kernel answers by a reset
    }
    turn_until_quiet(&mut reactor)?;
    let reader = thread::spawn(move || read_out(&server));
    run_out(&mut reactor)?;
    assert_eq!(reader.join().expect("it does not panic"), (sent, None));
    Ok(())
}

#[test]
fn an_answer_that_has_come_to_its_end_is_delivered_by_a_side_that_fails_later() -> Result {
    let Piped { mut reactor, sides, mut client, mut server } = pipe(&options())?;
    server.write_all(b"I know already")?;
    drop(server);
    turn_until_quiet(&mut reactor)?;
    while reactor.contains(sides[1].key()) {
        client.write_all(b"a question that nobody reads")?;
        turn_until_quiet(&mut reactor)?;
    }
    client.shutdown(Shutdown::Write)?;
    run_out(&mut reactor)?;
    let mut heard = String::new();
    client.read_to_string(&mut heard)?;
    assert_eq!(heard, "I know already");
    Ok(())
}

#[test]
fn bytes_that_cannot_be_queued_end_both_sides_by_a_reset_instead_of_being_left_out() -> Result {
    let Piped { mut reactor, mut client, mut server, .. } = pipe(&options().queue_max(HIGH / 2))?;
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
    assert!(sent.is_err() || ended.is_err(), "the producer believes that all was taken");
    let ended = io::copy(&mut server, &mut io::sink());
    assert_eq!(
        ended.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset),
        "the consumer believes it has all"
    );
    Ok(())
}

/// A client whose server is still to be connected to.
fn begin(server: SocketAddr) -> Result<(Reactor<()>, TcpStream)> {
    let mut reactor = Reactor::new()?;
    let (near, client) = pair()?;
    let (client_side, server_side) = Relay::pair();
    open(&mut reactor, near, &options(), client_side)?;
    connect(&mut reactor, [server], &options(), server_side);
    Ok((reactor, client))
}

#[test]
fn what_a_client_sends_before_its_server_is_connected_is_not_lost() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (near, mut client) = pair()?;
    let mut reactor = Reactor::new()?;
    let (client_side, server_side) = Relay::pair();
    open(&mut reactor, near, &options(), client_side)?;
    client.write_all(b"early ")?;
    turn_until_quiet(&mut reactor)?;
    client.write_all(b"bytes")?;
    client.shutdown(Shutdown::Write)?;
    turn_until_quiet(&mut reactor)?;
    connect(&mut reactor, [listener.local_addr()?], &options(), server_side);
    turn_until_quiet(&mut reactor)?;
    let mut server = listener.accept()?.0;
    patient(&server)?;
    let mut heard = String::new();
    server.read_to_string(&mut heard)?;
    assert_eq!(heard, "early bytes");
    drop(server);
    run_out(&mut reactor)
}

#[test]
fn a_client_whose_server_refuses_is_reset() -> Result {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // it is gone by now
    let (mut reactor, mut client) = begin(nobody)?;
    client.write_all(b"anybody?")?;
    run_out(&mut reactor)?;
    assert_eq!(read_out(&client), (0, Some(ErrorKind::ConnectionReset)), "an empty answer would look like one");
    Ok(())
}

#[test]
fn a_client_that_is_closed_before_its_server_is_connected_resets_that_too() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reactor = Reactor::new()?;
    let (near, _client) = pair()?;
    let (client_side, server_side) = Relay::pair();
    let key = open(&mut reactor, near, &options(), client_side)?;
    turn_until_quiet(&mut reactor)?;
    reactor.remove(key.key())?;
    turn_until_quiet(&mut reactor)?;
    connect(&mut reactor, [listener.local_addr()?], &options(), server_side);
    run_out(&mut reactor)?;
    assert_eq!(read_out(&listener.accept()?.0), (0, Some(ErrorKind::ConnectionReset)));
    Ok(())
}

#[test]
fn a_side_that_is_closed_sends_the_other_what_was_queued_and_a_reset() -> Result {
    let Piped { mut reactor, sides, mut client, server } = pipe(&options())?;
    client.write_all(b"last words")?;
    turn_until_quiet(&mut reactor)?;
    reactor.remove(sides[0].key())?;
    run_out(&mut reactor)?;
    assert_eq!(read_out(&server), (10, Some(ErrorKind::ConnectionReset)));
    assert_eq!(read_out(&client), (0, Some(ErrorKind::ConnectionReset)));
    Ok(())
}

#[test]
fn an_answer_before_the_question_has_ended_is_heard() -> Result {
    let Piped { mut reactor, mut client, mut server, .. } = pipe(&options())?;
    let asks = thread::spawn(move || {
        let asked = (0..400).try_for_each(|_| client.write_all(&[7; 1 << 16]));
        (asked.is_err(), read_out(&client).0) // the write has been told of the reset
    });
    let answers = thread::spawn(move || {
        server.read_exact(&mut [0; 1000])?;
        server.write_all(b"413 too large") // and closes, with much unread: a reset right behind it
    });
    run_out(&mut reactor)?;
    answers.join().expect("it does not panic")?;
    assert_eq!(asks.join().expect("it does not panic"), (true, 13));
    Ok(())
}

#[test]
fn a_server_that_has_said_all_is_heard_at_any_pace_whatever_the_client_says() -> Result {
    // All of it is queued, or a part is still in the kernel, since the side is held up.
    for (options, length) in [(ConnectionOptions::new(), 200_000), (options(), 100_000)] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let ((client_near, mut client), (server_near, mut server)) = (pair()?, pair()?);
        let (one, other) = Relay::pair();
        socket2::SockRef::from(&client_near).set_send_buffer_size(4096)?;
        socket2::SockRef::from(&client).set_recv_buffer_size(4096)?;
        open(&mut reactor, client_near, &options, one)?;
        open(&mut reactor, server_near, &options, other)?;
        let writer = thread::spawn(move || server.write_all(&vec![7; length]).map(|()| drop(server)));
        let began = Instant::now();
        while !writer.is_finished() {
            assert!(began.elapsed() < PATIENCE);
            reactor.turn(&mut (), Some(Duration::from_millis(10)))?;
        }
        turn_until_quiet(&mut reactor)?;
        for word in [b"one more", b"and more"] {
            client.write_all(word)?; // which the server's kernel answers by a reset
            turn_until_quiet(&mut reactor)?;
        }
        let (mut heard, mut chunk) = (0, [0; 1000]);
        loop {
            reactor.advance(&mut (), Duration::from_secs(2))?; // minutes for all of it
            match client.read(&mut chunk)? {
                0 => break,
                more => heard += more,
            }
        }
        assert_eq!(heard, length);
    }
    Ok(())
}

#[test]
fn a_peer_that_takes_nothing_any_more_is_reset_and_keeps_no_loop_alive() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let side = open(&mut reactor, server_near, &options(), one)?;
    open(&mut reactor, client_near, &options(), other)?;
    fill(&mut reactor, side, &server)?;
    reactor.remove(side.key())?;
    turn_until_quiet(&mut reactor)?;
    reactor.advance(&mut (), Duration::from_secs(299))?;
    assert_eq!(reactor.len(), 1);
    reactor.advance(&mut (), Duration::from_secs(1))?;
    assert!(reactor.is_empty());
    assert_eq!(read_out(&client).1, Some(ErrorKind::ConnectionReset));
    Ok(())
}

#[test]
fn a_side_that_is_timed_out_does_not_end_the_other_cleanly() -> Result {
    for server_speaks in [false, true] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let ((client_near, client), (server_near, mut server)) = (pair()?, pair()?);
        let (one, other) = Relay::pair();
        open(&mut reactor, client_near, &options().idle_timeout(Duration::from_secs(60)), one)?;
        open(&mut reactor, server_near, &options(), other)?;
        if server_speaks {
            server.write_all(b"half an answer")?;
        }
        turn_until_quiet(&mut reactor)?;
        reactor.advance(&mut (), Duration::from_secs(60))?;
        assert!(reactor.is_empty(), "{reactor:?}");
        let heard = if server_speaks { 14 } else { 0 };
        assert_eq!(read_out(&client), (heard, Some(ErrorKind::ConnectionReset)));
        assert_eq!(read_out(&server), (0, Some(ErrorKind::ConnectionReset)));
    }
    Ok(())
}

#[test]
fn a_relay_whose_server_stops_goes_on_for_its_grace_and_is_reset_then() -> Result {
    const GRACE: Duration = Duration::from_secs(5);
    for ends_in_time in [true, false] {
        let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
        let upstream = TcpListener::bind("127.0.0.1:0")?;
        let to = upstream.local_addr()?;
        let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
        let Address::Tcp(address) = listener.local_address()? else { return Err("an address of TCP".into()) };
        let server = listener.serve(&mut reactor, &options(), move |_peer, cx| {
            let (client_side, server_side) = Relay::pair();
            client_side.gives_up(connect(cx.registry, [to], &options(), server_side));
            Ok(client_side)
        })?;
        let client = TcpStream::connect(address)?;
        patient(&client)?;
        turn_until_quiet(&mut reactor)?;
        let mut answers = upstream.accept()?.0;
        answers.write_all(b"half an answer")?;
        turn_until_quiet(&mut reactor)?;
        reactor.defer(move |cx| server.stop(cx.registry, GRACE));
        turn_until_quiet(&mut reactor)?;
        reactor.advance(&mut (), GRACE - Duration::from_millis(1))?;
        answers.write_all(b", and the other")?;
        turn_until_quiet(&mut reactor)?;
        if ends_in_time {
            drop(answers);
            turn_until_quiet(&mut reactor)?;
            assert_eq!(read_out(&client), (29, None));
            drop(client);
            run_out(&mut reactor)?;
        } else {
            reactor.advance(&mut (), Duration::from_millis(1))?;
            turn_until_quiet(&mut reactor)?;
            assert!(reactor.is_empty(), "{reactor:?}");
            assert_eq!(read_out(&client), (29, Some(ErrorKind::ConnectionReset)));
            assert_eq!(read_out(&answers).1, Some(ErrorKind::ConnectionReset));
        }
    }
    Ok(())
}

#[test]
fn a_server_that_stops_while_its_relay_connects_gives_that_up_at_the_end_of_its_grace() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let (near, client) = pair()?;
    let silent = silent_listener()?;
    let (client_side, server_side) = Relay::pair();
    let attempt = connect(&mut reactor, [silent.0], &options(), server_side);
    client_side.gives_up(attempt);
    let side = open(&mut reactor, near, &options(), client_side)?;
    turn_until_quiet(&mut reactor)?;
    reactor.defer(move |cx| drop(side.with(cx, |connection, _cx| connection.finish(Duration::from_secs(5)))));
    turn_until_quiet(&mut reactor)?;
    reactor.advance(&mut (), Duration::from_secs(5))?;
    turn_until_quiet(&mut reactor)?;
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(read_out(&client), (0, Some(ErrorKind::ConnectionReset)));
    Ok(())
}

/// An address that does not answer: the queue of its listener is full.
fn silent_listener() -> Result<(SocketAddr, TcpListener, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&listener).listen(0)?;
    let address = listener.local_addr()?;
    let first = TcpStream::connect(address)?;
    Ok((address, listener, vec![first]))
}

#[test]
fn a_side_that_was_reset_does_not_wait_for_ever_for_a_peer_that_reads_nothing() -> Result {
    let mut reactor = Reactor::builder().clock(ManualClock::new()).build()?;
    let ((client_near, client), (server_near, server)) = (pair()?, pair()?);
    let (one, other) = Relay::pair();
    let side = open(&mut reactor, client_near, &options(), one)?;
    open(&mut reactor, server_near, &options(), other)?;
    fill(&mut reactor, side, &client)?;
    (&client).write_all(&[7; 1 << 15])?; // what the kernel keeps for the side that reads no more
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    drop(client);
    turn_until_quiet(&mut reactor)?;
    assert_eq!(reactor.len(), 2);
    reactor.advance(&mut (), Duration::from_secs(301))?;
    turn_until_quiet(&mut reactor)?;
    assert!(reactor.is_empty(), "{reactor:?}");
    assert_eq!(read_out(&server).1, Some(ErrorKind::ConnectionReset));
    Ok(())
}
