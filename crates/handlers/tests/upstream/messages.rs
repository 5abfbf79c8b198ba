//! Messages: which wait, which are sent again, which are lost, and the bounds of their queue.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use handlers::{ConnectionOptions, Flow, Overflow, Upstream, UpstreamMetrics, UpstreamRefusal};
use support::{Result, listen, reset};

use super::{App, Setup, options, refuses};

/// A message that is longer than both buffers of a loopback connection.
const LONG: usize = 8_000_000;

/// Returns a long message of this byte.
fn long(byte: u8) -> Vec<u8> {
    vec![byte; LONG]
}

#[test]
fn messages_wait_for_the_connection_and_arrive_in_order() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let _ = setup.send("one ")?;
    let _ = setup.send("two ")?;
    let mut peer = setup.accept(&listener)?;
    let _ = setup.send("three ")?;
    setup.expect(&mut peer, "one two three ")?;
    setup.settle()?;
    assert!(setup.upstream().is_empty());
    assert_eq!(setup.upstream().metrics().sent, 3);
    drop(peer);
    setup.ends()?;
    let _ = setup.send("four ")?;
    let _ = setup.send("five")?;
    assert_eq!((setup.upstream().len(), setup.upstream().bytes()), (2, 9));
    setup.retry()?;
    let mut peer = setup.accept(&listener)?;
    setup.expect(&mut peer, "four five")
}

#[test]
fn a_message_of_the_handler_in_on_open_comes_before_all_messages() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let _ = setup.send("message")?;
    setup.app.on_open = Some(Rc::new(|upstream, cx| {
        let key = upstream.key().expect("it is up");
        key.write(cx, b"hello ").map(drop).expect("it is open");
    }));
    let mut peer = setup.accept(&listener)?;
    setup.expect(&mut peer, "hello message")
}

/// The socket takes the first of three messages whole, the second in part, and none of the third.
fn cut_in_the_second(acknowledged: bool) -> Result<(Setup, std::net::TcpListener)> {
    let (listener, address) = listen("127.0.0.1:0")?;
    let options = options().acknowledged(acknowledged).max_bytes(usize::MAX);
    let mut setup = Setup::new([address], &options)?;
    let peer = setup.accept(&listener)?;
    let _ = setup.send("first ")?;
    let _ = setup.upstream().send(&mut setup.reactor, long(2))?;
    let _ = setup.send("third ")?;
    setup.settle()?;
    let _ = setup.upstream().len();
    drop(peer); // a reset, since the peer has not read everything
    setup.ends()?;
    Ok((setup, listener))
}

#[test]
fn an_untouched_message_waits_again_and_a_cut_one_is_lost() -> Result {
    let (mut setup, listener) = cut_in_the_second(false)?;
    let UpstreamMetrics { sent, lost, .. } = setup.upstream().metrics();
    assert_eq!((sent, lost, setup.upstream().len()), (1, 1, 1));
    setup.retry()?;
    let mut peer = setup.accept(&listener)?;
    let _ = setup.send("fourth")?;
    setup.expect(&mut peer, "third fourth")
}

#[test]
fn sent_and_cut_messages_are_kept_if_the_user_acknowledges() -> Result {
    let (mut setup, listener) = cut_in_the_second(true)?;
    let upstream = setup.upstream();
    assert_eq!((upstream.metrics().lost, upstream.len()), (0, 3));
    assert_eq!(upstream.bytes(), 12 + LONG);
    let kept = upstream.take_unacknowledged(&mut setup.reactor);
    assert_eq!(kept, [Bytes::from("first "), long(2).into()]);
    assert_eq!((upstream.len(), upstream.bytes()), (1, 6));
    assert_eq!(upstream.take_waiting(&mut setup.reactor), ["third "]);
    setup.retry()?;
    let mut peer = setup.accept(&listener)?;
    let _ = setup.send("fourth")?;
    setup.expect(&mut peer, "fourth")
}

#[test]
fn messages_are_sent_again_only_when_asked_and_before_all_others() -> Result {
    for resends in [false, true] {
        let (mut setup, listener) = cut_in_the_second(true)?;
        if resends {
            setup.app.on_open = Some(Rc::new(|upstream, cx| {
                assert_eq!(upstream.resend(cx.registry), 2);
            }));
        }
        setup.retry()?;
        let mut peer = setup.accept(&listener)?;
        if resends {
            setup.expect(&mut peer, "first ")?;
            let again = setup.read(&mut peer, LONG)?;
            assert!(again == long(2), "the second message is whole");
        }
        setup.expect(&mut peer, "third ")?;
        let kept = if resends { 0 } else { 2 };
        assert_eq!(
            setup
                .upstream()
                .take_unacknowledged(&mut setup.reactor)
                .len(),
            kept
        );
    }
    Ok(())
}

#[test]
fn acknowledged_messages_are_dropped_and_the_others_are_kept() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options().acknowledged(true))?;
    // Each byte of the peer acknowledges a message.
    setup.app.on_data = Some(Rc::new(|upstream, cx| {
        let count = std::mem::take(&mut cx.state.received).len();
        assert_eq!(upstream.acknowledge(cx.registry, count), count);
    }));
    let mut peer = setup.accept(&listener)?;
    for message in ["one ", "two ", "three "] {
        let _ = setup.send(message)?;
    }
    setup.expect(&mut peer, "one two three ")?;
    assert_eq!(setup.upstream().len(), 3);
    peer.write_all(b"++")?;
    setup.turn_until(|app| app.upstream().len() == 1)?;
    assert_eq!(setup.upstream().metrics().acknowledged, 2);
    // More than was sent cannot be acknowledged.
    assert_eq!(
        setup.upstream().acknowledge(&mut setup.reactor, usize::MAX),
        1
    );
    assert_eq!(setup.upstream().acknowledge(&mut setup.reactor, 1), 0);
    let _ = setup.send("four")?;
    setup.expect(&mut peer, "four")?;
    drop(peer);
    setup.ends()?;
    let kept = setup.upstream().take_unacknowledged(&mut setup.reactor);
    assert_eq!(kept, ["four"]);
    Ok(())
}

#[test]
fn each_byte_that_was_sent_is_sent_once_over_many_cuts() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    let mut streams = Vec::new();
    let mut number = 0_u64;
    for _ in 0..5 {
        let mut peer = setup.accept(&listener)?;
        let before = setup.upstream().bytes();
        for _ in 0..200 {
            let message = number.to_be_bytes().repeat(1 + number as usize % 3000);
            let _ = setup.upstream().send(&mut setup.reactor, message)?;
            number += 1;
        }
        let half = (setup.upstream().bytes() - before) / 2;
        streams.push(setup.read(&mut peer, half)?);
        reset(peer)?;
        setup.ends()?;
        setup.retry()?;
    }
    let mut peer = setup.accept(&listener)?;
    let last = number.to_be_bytes().repeat(1 + number as usize % 3000);
    let _ = setup.upstream().send(&mut setup.reactor, last)?;
    let upstream = setup.upstream();
    upstream.stop(&mut setup.reactor, Duration::MAX);
    streams.push(setup.read(&mut peer, 10_000_000)?); // until the end
    let mut next = 0;
    for stream in &streams {
        let mut rest = stream.as_slice();
        while let Some(head) = rest.first_chunk() {
            let number = u64::from_be_bytes(*head);
            assert!(number >= next, "message {number} comes after {next}");
            next = number + 1;
            let whole = number.to_be_bytes().repeat(1 + number as usize % 3000);
            let length = whole.len().min(rest.len());
            assert_eq!(rest[..length], whole[..length], "message {number}");
            rest = &rest[length..];
        }
    }
    assert_eq!(next, number + 1, "the last message has arrived");
    Ok(())
}

#[test]
fn a_full_queue_refuses_or_drops_the_oldest() -> Result {
    let away = refuses()?;
    let mut refuses = Setup::new([away], &options().max_messages(2))?;
    assert_eq!(refuses.send("a"), Ok(Flow::Full));
    assert_eq!(refuses.send("b"), Ok(Flow::Full));
    let refused = refuses
        .upstream()
        .send(&mut refuses.reactor, "c")
        .unwrap_err();
    assert_eq!(
        (&refused.message[..], refused.reason),
        (&b"c"[..], UpstreamRefusal::Full)
    );
    let options = options().max_messages(2).overflow(Overflow::DropOldest);
    let mut drops = Setup::new([away], &options)?;
    for message in ["a", "b", "c"] {
        let _ = drops.send(message)?;
    }
    assert_eq!(drops.upstream().metrics().displaced, 1);
    assert_eq!(
        drops.upstream().take_waiting(&mut drops.reactor),
        ["b", "c"]
    );
    Ok(())
}

#[test]
fn a_message_that_can_never_be_sent_is_refused() -> Result {
    let connection = ConnectionOptions::new().max_write_queue(4);
    let mut short = Setup::new([refuses()?], &options().connection(&connection))?;
    assert_eq!(short.send("12345"), Err(UpstreamRefusal::TooLong));
    assert!(short.send("1234").is_ok());
    let mut none = Setup::new([refuses()?], &options().max_messages(0))?;
    assert_eq!(none.send(""), Err(UpstreamRefusal::Full));
    Ok(())
}

/// Returns to a producer that sends without a pause how many messages were accepted.
#[test]
fn a_producer_that_pauses_is_told_of_room_and_loses_nothing() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options().max_messages(8))?;
    let sent: Vec<_> = (0..4).map(|_| setup.send("x").unwrap()).collect();
    assert_eq!(sent, [Flow::Open, Flow::Open, Flow::Open, Flow::Full]);
    setup
        .upstream()
        .on_room(&mut setup.reactor, |cx| cx.state.rooms += 1);
    setup.reactor.turn(&mut setup.app, Some(Duration::ZERO))?;
    assert_eq!(setup.app.rooms, 0);
    let mut peer = setup.accept(&listener)?;
    setup.expect(&mut peer, "xxxx")?;
    setup.turn_until(|app| app.rooms == 1)?;
    // With room, it is told at once, and once.
    setup
        .upstream()
        .on_room(&mut setup.reactor, |cx| cx.state.rooms += 1);
    setup.turn_until(|app| app.rooms == 2)?;
    setup.settle()?;
    assert_eq!(setup.app.rooms, 2);
    Ok(())
}

/// The socket takes a part at once, and the rest when the peer reads. Nothing else reports that.
#[test]
fn room_is_told_when_the_socket_takes_the_last_message() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    // The queue of the connection is never full, so it has no drain to report.
    let connection = ConnectionOptions::new().watermarks(16 << 20, 16 << 20);
    let options = options().connection(&connection).max_messages(1);
    let mut setup = Setup::new([address], &options)?;
    let mut peer = setup.accept(&listener)?;
    let _ = setup.upstream().send(&mut setup.reactor, long(1))?;
    setup.settle()?;
    assert_eq!(setup.send("x"), Err(UpstreamRefusal::Full));
    setup
        .upstream()
        .on_room(&mut setup.reactor, |cx| cx.state.rooms += 1);
    setup.settle()?;
    assert_eq!(setup.app.rooms, 0);
    let received = setup.read(&mut peer, LONG)?;
    assert!(received == long(1));
    setup.turn_until(|app| app.rooms == 1)?;
    assert!(setup.send("x").is_ok());
    Ok(())
}

#[test]
fn messages_wait_for_the_confirmation_of_each_connection() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options().send_when_confirmed(true))?;
    for round in 0..2 {
        let _ = setup.send("message")?;
        let mut peer = setup.accept(&listener)?;
        setup.settle()?;
        assert_eq!(setup.upstream().len(), 1, "round {round}");
        setup.upstream().confirm(&mut setup.reactor);
        setup.expect(&mut peer, "message")?;
        drop(peer);
        setup.ends()?;
        setup.retry()?;
    }
    Ok(())
}

/// A turn with many messages must not hold up the others.
#[test]
fn many_messages_are_written_in_batches() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut setup = Setup::new([address], &options())?;
    for _ in 0..5000 {
        let _ = setup.send("x")?;
    }
    let mut peer = setup.accept(&listener)?;
    assert!(setup.upstream().len() >= 3000, "{}", setup.upstream().len());
    let expected = "x".repeat(5000);
    setup.expect(&mut peer, &expected)
}

/// A destructor of a message may use the upstream.
#[test]
fn a_message_may_use_the_upstream_when_it_is_dropped() -> Result {
    thread_local!(static USED: RefCell<Option<Upstream<App>>> = const { RefCell::new(None) });
    struct Owner;
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            b"message"
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            USED.with_borrow(|upstream| upstream.as_ref().map(Upstream::len));
        }
    }
    let (listener, address) = listen("127.0.0.1:0")?;
    let options = options().max_messages(1).overflow(Overflow::DropOldest);
    let mut setup = Setup::new([address], &options)?;
    USED.set(Some(setup.upstream()));
    for _ in 0..3 {
        let message = Bytes::from_owner(Owner);
        let _ = setup.upstream().send(&mut setup.reactor, message)?;
    }
    let mut peer = setup.accept(&listener)?;
    setup.expect(&mut peer, "message")?;
    setup.settle()?;
    assert!(setup.upstream().is_empty());
    Ok(())
}
