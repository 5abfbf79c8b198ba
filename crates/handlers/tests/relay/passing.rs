//! What a relay passes on: every byte, each end of a direction, whatever the pace of the two sides.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use handlers::{Connection, ConnectionKey, ConnectionOptions, Relay};
use reactor::{ManualClock, Reactor};

use crate::{
    HIGH, LENGTH, PATIENCE, Piped, Result, fill, options, pair, patient, pipe, read_out,
    receive_many, run_out, send_many, turn_until_quiet,
};

#[test]
fn what_comes_from_one_side_goes_to_the_other_until_both_have_ended() -> Result {
    let Piped {
        mut reactor,
        client,
        server,
        ..
    } = pipe(&options())?;
    let sums = thread::spawn(move || {
        thread::scope(|scope| {
            let (sent, sent_back) = (
                scope.spawn(|| send_many(&client, 1)),
                scope.spawn(|| send_many(&server, 2)),
            );
            let (received, received_back) = (
                scope.spawn(|| receive_many(&server)),
                scope.spawn(|| receive_many(&client)),
            );
            [sent, received, sent_back, received_back]
                .map(|thread| thread.join().expect("it does not panic"))
        })
    });
    run_out(&mut reactor, &mut ())?;
    let [sent, received, sent_back, received_back] = sums.join().expect("it does not panic");
    assert_eq!((sent?, sent_back?), (received?, received_back?));
    assert!(reactor.is_empty());
    Ok(())
}

#[test]
fn a_client_that_reads_only_when_it_has_sent_all_holds_up_only_what_it_is_sent() -> Result {
    let Piped {
        mut reactor,
        client,
        server,
        ..
    } = pipe(&options())?;
    let sums = thread::spawn(move || {
        thread::scope(|scope| {
            let (received, sent_back) = (
                scope.spawn(|| receive_many(&server)),
                scope.spawn(|| send_many(&server, 2)),
            );
            let sent = send_many(&client, 1);
            let received_back = receive_many(&client);
            let [received, sent_back] =
                [received, sent_back].map(|thread| thread.join().expect("it does not panic"));
            [sent, received, sent_back, received_back]
        })
    });
    run_out(&mut reactor, &mut ())?;
    let [sent, received, sent_back, received_back] = sums.join().expect("it does not panic");
    assert_eq!((sent?, sent_back?), (received?, received_back?));
    Ok(())
}

#[test]
fn a_side_that_reads_nothing_costs_no_more_than_its_watermark_and_loses_nothing() -> Result {
    let Piped {
        mut reactor,
        sides,
        client,
        server,
    } = pipe(&options())?;
    let producer = thread::spawn(move || {
        let sum = send_many(&client, 3);
        (sum, client)
    });
    let began = Instant::now();
    let mut before = 0;
    loop {
        turn_until_quiet(&mut reactor, &mut ())?;
        let to_server = sides[1];
        let (taken, queued) = taken_and_queued(&mut reactor, sides[0], to_server)?;
        assert!(queued <= HIGH + 64 * 1024, "{queued} bytes are queued");
        if taken > 0 && taken == before {
            break;
        }
        before = taken;
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(
        !producer.is_finished() && before < LENGTH as u64,
        "it is held up"
    );
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
fn taken_and_queued(
    reactor: &mut Reactor<()>,
    from: ConnectionKey<()>,
    to: ConnectionKey<()>,
) -> Result<(u64, usize)> {
    let told = Rc::new(Cell::new((0, 0)));
    let tells = Rc::clone(&told);
    reactor.defer(move |cx| {
        let taken = from
            .with(cx, |connection, _cx| connection.metrics().read)
            .expect("it is open");
        let queued = to
            .with(cx, |connection, _cx| connection.queued())
            .expect("it is open");
        tells.set((taken, queued));
    });
    reactor.turn(&mut (), Some(Duration::ZERO))?;
    Ok(told.get())
}

#[test]
fn each_side_may_end_first_and_still_hear_the_other() -> Result {
    for client_first in [true, false] {
        let Piped {
            mut reactor,
            client,
            server,
            ..
        } = pipe(&options())?;
        let (mut first, mut second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        first.write_all(b"question")?;
        first.shutdown(Shutdown::Write)?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let mut heard = String::new();
        second.read_to_string(&mut heard)?;
        assert_eq!(heard, "question");
        assert_eq!(reactor.len(), 2);
        second.write_all(b"answer")?;
        drop(second);
        run_out(&mut reactor, &mut ())?;
        let mut heard = String::new();
        first.read_to_string(&mut heard)?;
        assert_eq!(heard, "answer");
    }
    Ok(())
}

#[test]
fn a_client_that_closes_and_is_written_to_loses_nothing_of_what_it_has_sent() -> Result {
    let Piped {
        mut reactor,
        sides,
        mut client,
        mut server,
    } = pipe(&options())?;
    let mut sent = fill(&mut reactor, sides[0], &client)?;
    client.write_all(&[7; 1 << 15])?; // what the kernel keeps for the side that reads no more
    sent += 1 << 15;
    drop(client); // with an end after what is still to be read
    for _ in 0..3 {
        turn_until_quiet(&mut reactor, &mut ())?;
        server.write_all(b"progress")?; // which the client's kernel answers by a reset
    }
    turn_until_quiet(&mut reactor, &mut ())?;
    let reader = thread::spawn(move || read_out(&server));
    run_out(&mut reactor, &mut ())?;
    assert_eq!(reader.join().expect("it does not panic"), (sent, None));
    Ok(())
}

#[test]
fn an_answer_that_has_come_to_its_end_is_delivered_by_a_side_that_fails_later() -> Result {
    let Piped {
        mut reactor,
        sides,
        mut client,
        mut server,
    } = pipe(&options())?;
    server.write_all(b"I know already")?;
    drop(server);
    turn_until_quiet(&mut reactor, &mut ())?;
    while reactor.contains(sides[1].key()) {
        client.write_all(b"a question that nobody reads")?;
        turn_until_quiet(&mut reactor, &mut ())?;
    }
    client.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    let mut heard = String::new();
    client.read_to_string(&mut heard)?;
    assert_eq!(heard, "I know already");
    Ok(())
}

#[test]
fn what_a_client_sends_before_its_server_is_connected_is_not_lost() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (near, mut client) = pair()?;
    let mut reactor = Reactor::new()?;
    let (client_side, server_side) = Relay::pair();
    Connection::open(&mut reactor, near, &options(), client_side)?;
    client.write_all(b"early ")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    client.write_all(b"bytes")?;
    client.shutdown(Shutdown::Write)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    Connection::connect(
        &mut reactor,
        [listener.local_addr()?],
        &options(),
        server_side,
    );
    turn_until_quiet(&mut reactor, &mut ())?;
    let mut server = listener.accept()?.0;
    patient(&server)?;
    let mut heard = String::new();
    server.read_to_string(&mut heard)?;
    assert_eq!(heard, "early bytes");
    drop(server);
    run_out(&mut reactor, &mut ())
}

#[test]
fn an_answer_before_the_question_has_ended_is_heard() -> Result {
    let Piped {
        mut reactor,
        mut client,
        mut server,
        ..
    } = pipe(&options())?;
    let asks = thread::spawn(move || {
        let asked = (0..400).try_for_each(|_| client.write_all(&[7; 1 << 16]));
        (asked.is_err(), read_out(&client).0) // the write has been told of the reset
    });
    let answers = thread::spawn(move || {
        server.read_exact(&mut [0; 1000])?;
        server.write_all(b"413 too large") // and closes, with much unread: a reset right behind it
    });
    run_out(&mut reactor, &mut ())?;
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
        Connection::open(&mut reactor, client_near, &options, one)?;
        Connection::open(&mut reactor, server_near, &options, other)?;
        let writer =
            thread::spawn(move || server.write_all(&vec![7; length]).map(|()| drop(server)));
        let began = Instant::now();
        while !writer.is_finished() {
            assert!(began.elapsed() < PATIENCE);
            reactor.turn(&mut (), Some(Duration::from_millis(10)))?;
        }
        turn_until_quiet(&mut reactor, &mut ())?;
        for word in [b"one more", b"and more"] {
            client.write_all(word)?; // which the server's kernel answers by a reset
            turn_until_quiet(&mut reactor, &mut ())?;
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
