//! The limits on the handshakes of a loop.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use handlers::{Connection, ConnectionKey, ConnectionOptions};
use support::{Result, ms};

use super::toy::{Calls, HELLO, Peer, Toy, record};
use crate::{Bench, World, secs, sink};

/// Connections on one loop, whose peers have said nothing yet.
struct Crowd {
    bench: Bench,
    keys: Vec<ConnectionKey<World>>,
    peers: Vec<Peer<UnixStream>>,
    calls: Vec<Rc<Calls>>,
}

impl Crowd {
    fn new(count: usize, options: &ConnectionOptions) -> Result<Self> {
        let mut crowd = Self {
            bench: Bench::new()?,
            keys: Vec::new(),
            peers: Vec::new(),
            calls: Vec::new(),
        };
        for _ in 0..count {
            let (near, far) = UnixStream::pair()?;
            far.set_nonblocking(true)?;
            let toy = Toy::new(near);
            crowd.calls.push(Rc::clone(&toy.calls));
            let reactor = &mut crowd.bench.reactor;
            crowd
                .keys
                .push(Connection::open(reactor, toy, options, sink())?);
            crowd.peers.push(Peer::new(far));
        }
        Ok(crowd)
    }

    /// Returns how many steps were taken so far.
    fn steps(&self) -> usize {
        self.calls.iter().map(|calls| calls.handshakes.get()).sum()
    }

    /// Returns which handshakes have begun.
    fn begun(&self) -> Vec<usize> {
        let begun = |place: &usize| self.calls[*place].handshakes.get() > 0;
        (0..self.calls.len()).filter(begun).collect()
    }

    fn greet(&mut self, place: usize) {
        let hello = record(HELLO, b"");
        self.bench.send(&mut self.peers[place].socket, &hello);
    }

    fn opened(&self) -> usize {
        self.bench.world.count("open")
    }

    #[track_caller]
    fn expect_rest(&mut self) {
        self.bench.run_until_idle();
        let before = self.bench.reactor.metrics();
        for _ in 0..100 {
            self.bench.turn();
        }
        let after = self.bench.reactor.metrics();
        assert_eq!(
            (after.calls, after.deferred),
            (before.calls, before.deferred)
        );
    }
}

#[test]
fn a_turn_takes_no_more_steps_than_the_limit_and_the_next_ones_go_on() -> Result {
    for most in [1, 3, 16] {
        let options = ConnectionOptions::new().max_handshakes_per_turn(most);
        let mut crowd = Crowd::new(20, &options)?;
        (0..20).for_each(|place| crowd.greet(place));
        while crowd.opened() < 20 {
            let before = crowd.steps();
            crowd.bench.turn();
            let steps = crowd.steps() - before;
            assert!((1..=most).contains(&steps), "{steps} steps, {most} allowed");
        }
        crowd.expect_rest();
    }
    Ok(())
}

#[test]
fn handshakes_that_wait_for_their_turn_begin_in_order() -> Result {
    let options = ConnectionOptions::new().max_handshakes_per_turn(2);
    let mut crowd = Crowd::new(7, &options)?;
    for count in [2, 4, 6, 7] {
        crowd.bench.turn();
        assert_eq!(crowd.begun(), (0..count).collect::<Vec<_>>());
    }
    crowd.expect_rest();
    Ok(())
}

#[test]
fn a_handshake_begins_when_another_one_is_complete() -> Result {
    let options = ConnectionOptions::new().max_handshakes(2);
    let mut crowd = Crowd::new(4, &options)?;
    crowd.expect_rest();
    crowd.greet(3); // its handshake has to wait all the same
    crowd.expect_rest();
    assert_eq!(crowd.begun(), [0, 1]);
    crowd.greet(1);
    crowd.expect_rest();
    assert_eq!((crowd.begun(), crowd.opened()), (vec![0, 1, 2], 1));
    crowd.greet(0);
    crowd.expect_rest();
    assert_eq!((crowd.begun(), crowd.opened()), (vec![0, 1, 2, 3], 3));
    Ok(())
}

#[test]
fn a_handshake_begins_when_another_one_has_ended_in_any_way() -> Result {
    let ways: [fn(&mut Crowd); 4] = [
        |crowd| crowd.peers[0].socket.shutdown(Shutdown::Both).unwrap(),
        |crowd| {
            let key = crowd.keys[0];
            crowd.bench.with(key, |connection| connection.abort());
        },
        |crowd| {
            crowd.bench.reactor.remove(crowd.keys[0].key()).unwrap();
        },
        |crowd| {
            let key = crowd.keys[0];
            crowd.bench.reactor.defer(move |cx| {
                drop(key.take::<Toy<UnixStream>>(cx));
            });
        },
    ];
    for way in ways {
        let options = ConnectionOptions::new().max_handshakes(1);
        let mut crowd = Crowd::new(3, &options)?;
        crowd.expect_rest();
        assert_eq!(crowd.begun(), [0]);
        way(&mut crowd);
        crowd.expect_rest();
        assert_eq!(crowd.begun(), [0, 1]);
    }
    Ok(())
}

#[test]
fn a_connection_that_ends_while_it_waits_holds_up_no_other() -> Result {
    let options = ConnectionOptions::new().max_handshakes(1);
    let mut crowd = Crowd::new(3, &options)?;
    crowd.expect_rest();
    crowd.bench.reactor.remove(crowd.keys[1].key())?;
    crowd.greet(0);
    crowd.expect_rest();
    assert_eq!(crowd.begun(), [0, 2]);
    Ok(())
}

#[test]
fn the_timeout_runs_while_a_handshake_waits() -> Result {
    let options = ConnectionOptions::new()
        .max_handshakes(1)
        .handshake_timeout(secs(1));
    let mut crowd = Crowd::new(3, &options)?;
    crowd.expect_rest();
    crowd.bench.advance(ms(999));
    assert!(!crowd.bench.world.is_closed());
    crowd.bench.advance(ms(1));
    crowd.bench.run_until_idle();
    assert_eq!(crowd.bench.world.count("close TimedOut(Handshake)"), 3);
    Ok(())
}

#[test]
fn limits_of_0_are_raised_to_1() -> Result {
    let options = ConnectionOptions::new()
        .max_handshakes(0)
        .max_handshakes_per_turn(0);
    let mut crowd = Crowd::new(2, &options)?;
    (0..2).for_each(|place| crowd.greet(place));
    crowd.bench.run_until_idle();
    assert_eq!(crowd.opened(), 2);
    Ok(())
}

/// The handshake that runs has no timeout, so the place of the other one never comes.
#[test]
fn a_handshake_that_may_not_begin_is_ended_by_its_timeout() -> Result {
    let options = ConnectionOptions::new().max_handshakes(1);
    let mut crowd = Crowd::new(1, &options.clone().handshake_timeout(None))?;
    crowd.expect_rest();
    let (near, _far) = UnixStream::pair()?;
    let reactor = &mut crowd.bench.reactor;
    Connection::open(reactor, Toy::new(near), &options, sink())?;
    crowd.expect_rest();
    crowd.bench.advance(secs(10));
    crowd.expect_rest();
    assert_eq!(crowd.bench.world.log, ["close TimedOut(Handshake)"]);
    Ok(())
}

/// Writes and a close through the key do not depend on the limits.
#[test]
fn a_connection_that_waits_can_be_reached_and_closed() -> Result {
    let options = ConnectionOptions::new().max_handshakes(1);
    let mut crowd = Crowd::new(2, &options)?;
    crowd.expect_rest();
    let key = crowd.keys[1];
    crowd.bench.with(key, |connection| {
        let _ = connection.write(b"later").unwrap();
    });
    crowd.expect_rest();
    crowd.greet(0);
    crowd.greet(1);
    crowd.bench.run_until_idle();
    assert_eq!(crowd.peers[1].read()?, ("HD".to_owned(), b"later".to_vec()));
    Ok(())
}
