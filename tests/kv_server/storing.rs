//! The store: a key lives for its time to live, and has one timer at most.

use std::time::Duration;

use reactor::{ManualClock, Reactor};

use crate::server::Server;
use crate::sessions::server;

const SECOND: Duration = Duration::from_secs(1);

fn reactor() -> (Reactor<Server>, Server) {
    (
        Reactor::builder()
            .clock(ManualClock::new())
            .build()
            .unwrap(),
        server(),
    )
}

#[test]
fn a_key_expires_at_its_time_and_not_before() {
    let (mut reactor, mut server) = reactor();
    server
        .store
        .set(b"k", b"v", Some(10 * SECOND), &mut reactor);
    reactor
        .advance(&mut server, 10 * SECOND - Duration::from_millis(1))
        .unwrap();
    assert_eq!(server.store.get(b"k", &reactor), Some(&b"v"[..]));
    assert_eq!(
        server.store.ttl(b"k", &reactor),
        Some(Some(Duration::from_millis(1)))
    );
    reactor
        .advance(&mut server, Duration::from_millis(1))
        .unwrap();
    assert_eq!(
        (
            server.store.get(b"k", &reactor),
            server.store.len(),
            reactor.timers().count()
        ),
        (None, 0, 0)
    );
}

#[test]
fn a_key_has_one_timer_however_often_its_time_is_set() {
    let (mut reactor, mut server) = reactor();
    for seconds in 1..10 {
        server
            .store
            .set(b"k", b"v", Some(seconds * SECOND), &mut reactor);
        assert!(
            server
                .store
                .expire(b"k", 2 * seconds * SECOND, &mut reactor)
        );
        assert_eq!(reactor.timers().count(), 1);
    }
    reactor.advance(&mut server, 17 * SECOND).unwrap();
    assert_eq!(server.store.ttl(b"k", &reactor), Some(Some(SECOND)));
}

#[test]
fn every_end_of_a_time_to_live_ends_its_timer() {
    let ends: [fn(&mut Server, &mut Reactor<Server>); 4] = [
        |server, reactor| server.store.set(b"k", b"w", None, reactor),
        |server, reactor| assert!(server.store.persist(b"k", reactor)),
        |server, reactor| assert!(server.store.remove(b"k", reactor)),
        |server, reactor| server.store.clear(reactor),
    ];
    for end in ends {
        let (mut reactor, mut server) = reactor();
        server.store.set(b"k", b"v", Some(SECOND), &mut reactor);
        end(&mut server, &mut reactor);
        assert_eq!(reactor.timers().count(), 0);
        assert_ne!(server.store.ttl(b"k", &reactor), Some(Some(SECOND)));
    }
}

#[test]
fn an_expired_key_that_is_still_stored_is_invisible() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Server>::builder()
        .clock(clock.clone())
        .build()
        .unwrap();
    let mut server = server();
    for key in [b"get", b"del", b"set", b"add"] {
        server.store.set(key, b"5", Some(SECOND), &mut reactor);
    }
    clock.advance(SECOND); // no turn is taken
    assert_eq!(
        (
            server.store.get(b"get", &reactor),
            server.store.ttl(b"get", &reactor)
        ),
        (None, None)
    );
    assert!(
        !server.store.persist(b"get", &mut reactor)
            && !server.store.expire(b"get", SECOND, &mut reactor)
    );
    assert!(!server.store.remove(b"del", &mut reactor));
    server.store.set(b"set", b"new", Some(SECOND), &mut reactor);
    assert_eq!(server.store.add(b"add", 1, &mut reactor), Ok(1));
    reactor.turn(&mut server, Some(Duration::ZERO)).unwrap();
    assert_eq!(
        (server.store.len(), reactor.timers().count()),
        (2, 1),
        "the two new ones are left, one with a timer"
    );
    assert_eq!(server.store.get(b"set", &reactor), Some(&b"new"[..]));
    assert_eq!(server.store.ttl(b"add", &reactor), Some(None));
}

#[test]
fn adding_keeps_the_time_to_live() {
    let (mut reactor, mut server) = reactor();
    server.store.set(b"k", b"9", Some(SECOND), &mut reactor);
    assert_eq!(server.store.add(b"k", 1, &mut reactor), Ok(10));
    assert_eq!(server.store.ttl(b"k", &reactor), Some(Some(SECOND)));
    assert_eq!(server.store.get(b"k", &reactor), Some(&b"10"[..]));
}

#[test]
fn an_overflowing_sum_changes_nothing() {
    let (mut reactor, mut server) = reactor();
    server
        .store
        .set(b"k", i64::MAX.to_string().as_bytes(), None, &mut reactor);
    assert!(
        server
            .store
            .add(b"k", 1, &mut reactor)
            .unwrap_err()
            .contains("overflow")
    );
    assert!(server.store.add(b"k", 0, &mut reactor).is_ok());
}
