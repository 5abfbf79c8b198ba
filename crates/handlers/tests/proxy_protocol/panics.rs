//! A callback that panics after a header has arrived.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use handlers::proxy_protocol::ProxyProtocol;
use handlers::{ConnectionLimit, ListenOptions};
use reactor::{ManualClock, PanicPolicy, Reactor};
use support::Result;

use crate::{
    LINE, Seen, any_port, assert_reset, behind_proxy, client, expect_echo, note_and_open, settle,
    tcp,
};

const POLICIES: [(PanicPolicy, bool); 2] = [
    (PanicPolicy::RemoveHandler, false),
    (PanicPolicy::Propagate, true),
];

/// Turns until nothing happens. Returns the number of panics that have unwound through the loop.
fn settle_and_catch(reactor: &mut Reactor<Seen>, seen: &mut Seen) -> Result<usize> {
    let mut caught = 0;
    loop {
        match catch_unwind(AssertUnwindSafe(|| settle(reactor, seen))) {
            Ok(settled) => return settled.map(|()| caught),
            Err(_panic) => caught += 1,
        }
    }
}

#[test]
fn a_panic_after_a_header_ends_the_listener_and_returns_its_permits() -> Result {
    for (policy, unwinds) in POLICIES {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(clock).on_panic(policy).build()?;
        let limit = ConnectionLimit::new(4);
        let listener = behind_proxy().limit(limit.clone()).bind(&any_port())?;
        let address = tcp(&listener)?;
        let mut number = 0;
        listener.accept(&mut reactor, move |accepted, cx| {
            number += 1;
            assert_ne!(number, 2, "the second client");
            note_and_open(accepted, cx)
        })?;
        let mut seen = Seen::default();
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(client(address)?);
        }
        settle(&mut reactor, &mut seen)?;
        assert_eq!(limit.open(), 4, "each waits for its header");
        let [served, panics, ready, silent] = &mut clients[..] else {
            return Err("four clients".into());
        };
        served.write_all(LINE)?;
        expect_echo(&mut reactor, &mut seen, served)?;
        for client in [&mut *panics, &mut *ready] {
            client.write_all(LINE)?;
            client.write_all(b"a question")?;
        }
        let caught = settle_and_catch(&mut reactor, &mut seen)?;
        assert_eq!(caught, usize::from(unwinds), "{policy:?}");
        let counted = reactor.metrics().panics;
        assert_eq!(counted, u64::from(!unwinds), "{policy:?}");
        for client in [panics, ready, silent] {
            assert_reset(client);
        }
        assert_eq!((limit.open(), seen.open()), (1, 1), "{policy:?}");
        expect_echo(&mut reactor, &mut seen, served)?;
        assert_eq!(reactor.registrations().count(), 1, "{reactor:?}");
    }
    Ok(())
}

#[test]
fn a_panic_about_a_proxy_ends_the_listener_and_returns_its_permits() -> Result {
    for (policy, unwinds) in POLICIES {
        let clock = ManualClock::new();
        let mut reactor = Reactor::builder().clock(clock).on_panic(policy).build()?;
        let limit = ConnectionLimit::new(4);
        let number = AtomicUsize::new(1);
        let trusting = ProxyProtocol::trusting(move |_peer| {
            assert_ne!(number.fetch_add(1, Relaxed), 2, "the second client");
            true
        });
        let options = ListenOptions::new().limit(limit.clone());
        let listener = options.proxy_protocol(trusting).bind(&any_port())?;
        let address = tcp(&listener)?;
        listener.accept(&mut reactor, note_and_open)?;
        let mut seen = Seen::default();
        let mut silent = client(address)?;
        settle(&mut reactor, &mut seen)?;
        let _panics = client(address)?;
        let caught = settle_and_catch(&mut reactor, &mut seen)?;
        assert_eq!(caught, usize::from(unwinds), "{policy:?}");
        assert_reset(&mut silent);
        assert_eq!(limit.open(), 0, "{policy:?}");
        assert!(reactor.is_empty(), "{reactor:?}");
    }
    Ok(())
}
