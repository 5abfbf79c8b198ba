//! The store: a key lives as long as it was told to, and has one timer at most.

use std::time::Duration;

use reactor::{ManualClock, Reactor};

use crate::store::Store;

impl AsMut<Self> for Store {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn reactor() -> (Reactor<Store>, Store) {
    (Reactor::builder().clock(ManualClock::new()).build().unwrap(), Store::default())
}

#[test]
fn a_key_expires_at_its_time_and_not_before() {
    let (mut reactor, mut store) = reactor();
    store.set(b"k", b"v", Some(10 * SECOND), &mut reactor);
    reactor.advance(&mut store, 10 * SECOND - Duration::from_millis(1)).unwrap();
    assert_eq!(store.get(b"k", &reactor), Some(&b"v"[..]));
    assert_eq!(store.ttl(b"k", &reactor), Some(Some(Duration::from_millis(1))));
    reactor.advance(&mut store, Duration::from_millis(1)).unwrap();
    assert_eq!((store.get(b"k", &reactor), store.len(), reactor.timers().count()), (None, 0, 0));
}

#[test]
fn a_key_has_one_timer_however_often_its_time_is_set() {
    let (mut reactor, mut store) = reactor();
    for seconds in 1..10 {
        store.set(b"k", b"v", Some(seconds * SECOND), &mut reactor);
        assert!(store.expire(b"k", 2 * seconds * SECOND, &mut reactor));
        assert_eq!(reactor.timers().count(), 1);
    }
    reactor.advance(&mut store, 17 * SECOND).unwrap();
    assert_eq!(store.ttl(b"k", &reactor), Some(Some(SECOND)));
}

#[test]
fn whatever_ends_a_time_to_live_ends_its_timer() {
    let ends: [fn(&mut Store, &mut Reactor<Store>); 4] = [
        |store, reactor| store.set(b"k", b"w", None, reactor),
        |store, reactor| assert!(store.persist(b"k", reactor)),
        |store, reactor| assert!(store.remove(b"k", reactor)),
        |store, reactor| store.clear(reactor),
    ];
    for end in ends {
        let (mut reactor, mut store) = reactor();
        store.set(b"k", b"v", Some(SECOND), &mut reactor);
        end(&mut store, &mut reactor);
        assert_eq!(reactor.timers().count(), 0);
        assert_ne!(store.ttl(b"k", &reactor), Some(Some(SECOND)));
    }
}

#[test]
fn a_key_that_is_due_and_still_there_is_seen_by_nobody() {
    let clock = ManualClock::new();
    let mut reactor = Reactor::<Store>::builder().clock(clock.clone()).build().unwrap();
    let mut store = Store::default();
    for key in [b"get", b"del", b"set", b"add"] {
        store.set(key, b"5", Some(SECOND), &mut reactor);
    }
    clock.advance(SECOND); // no turn is taken
    assert_eq!((store.get(b"get", &reactor), store.ttl(b"get", &reactor)), (None, None));
    assert!(!store.persist(b"get", &mut reactor) && !store.expire(b"get", SECOND, &mut reactor));
    assert!(!store.remove(b"del", &mut reactor));
    store.set(b"set", b"new", Some(SECOND), &mut reactor);
    assert_eq!(store.add(b"add", 1, &mut reactor), Ok(1));
    reactor.turn(&mut store, Some(Duration::ZERO)).unwrap();
    assert_eq!((store.len(), reactor.timers().count()), (2, 1), "the two new ones are left, one with a timer");
    assert_eq!(store.get(b"set", &reactor), Some(&b"new"[..]));
    assert_eq!(store.ttl(b"add", &reactor), Some(None));
}

#[test]
fn adding_keeps_the_time_to_live() {
    let (mut reactor, mut store) = reactor();
    store.set(b"k", b"9", Some(SECOND), &mut reactor);
    assert_eq!(store.add(b"k", 1, &mut reactor), Ok(10));
    assert_eq!(store.ttl(b"k", &reactor), Some(Some(SECOND)));
    assert_eq!(store.get(b"k", &reactor), Some(&b"10"[..]));
}

#[test]
fn a_sum_that_is_too_great_changes_nothing() {
    let (mut reactor, mut store) = reactor();
    store.set(b"k", i64::MAX.to_string().as_bytes(), None, &mut reactor);
    assert!(store.add(b"k", 1, &mut reactor).unwrap_err().contains("overflow"));
    assert!(store.add(b"k", 0, &mut reactor).is_ok());
}
