//! The bytes that a relay passes on: every byte, and each end of a direction, at any pace of the
//! two sides.

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
fn bytes_of_one_side_go_to_the_other_until_both_have_ended() -> Result {
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
fn a_client_that_reads_after_it_has_sent_all_delays_only_its_own_input() -> Result {
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

/// The other side loses no byte.
#[test]
fn a_side_that_does_not_read_costs_at_most_its_watermark() -> Result {
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

/// Returns the number of bytes that were read from one side, and that are queued for the other.
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
fn each_side_may_end_first_and_still_receives_from_the_other() -> Result {
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
fn bytes_of_a_client_that_closes_are_relayed_also_if_it_is_written_to() -> Result {
    let Piped {
        mut reactor,
        sides,
        mut client,
        mut server,
    } = pipe(&options())?;
    let mut sent = fill(&mut reactor, sides[0], &client)?;
    client.write_all(&[7; 1 << 15])?; // the kernel keeps these for the side that reads no more
    sent += 1 << 15;
    drop(client); // with an end after the unread bytes
    for _ in 0..3 {
        turn_until_quiet(&mut reactor, &mut ())?;
        server.write_all(b"progress")?; // the client's kernel answers it by a reset
    }
    turn_until_quiet(&mut reactor, &mut ())?;
    let reader = thread::spawn(move || read_out(&server));
    run_out(&mut reactor, &mut ())?;
    assert_eq!(reader.join().expect("it does not panic"), (sent, None));
    Ok(())
}

#[test]
fn a_complete_answer_is_delivered_although_its_side_fails_later() -> Result {
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
fn bytes_of_a_client_before_its_server_is_connected_are_not_lost() -> Result {
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
fn an_answer_before_the_end_of_the_question_is_delivered() -> Result {
    let Piped {
        mut reactor,
        mut client,
        mut server,
        ..
    } = pipe(&options())?;
    let asks = thread::spawn(move || {
        let asked = (0..400).try_for_each(|_| client.write_all(&[7; 1 << 16]));
        (asked.is_err(), read_out(&client).0) // the write has met the reset
    });
    let answers = thread::spawn(move || {
        server.read_exact(&mut [0; 1000])?;
        // And closes, with many unread bytes: a reset right after it.
        server.write_all(b"413 too large")
    });
    run_out(&mut reactor, &mut ())?;
    answers.join().expect("it does not panic")?;
    assert_eq!(asks.join().expect("it does not panic"), (true, 13));
    Ok(())
}

/// The client may send meanwhile.
#[test]
fn the_complete_answer_of_a_server_is_delivered_at_any_pace() -> Result {
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
            client.write_all(word)?; // the server's kernel answers it by a reset
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
