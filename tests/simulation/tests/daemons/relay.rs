//! The example `proxy` between two parties, each of which does what it likes.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use simulation::{Peer, PeerListener};

use crate::laws::Book;
use crate::proxy;
use crate::streams::Stream;
use crate::trial::{SLACK, World, in_every_world, patiently};

/// The behaviour of one party.
#[derive(Debug)]
struct Party {
    sends: usize,
    reads: bool,
    half_closes: bool,
    resets: bool,
    /// The time that the party stays, and the time that it lets pass between two reads.
    stays: Duration,
    pause: Duration,
}

impl Party {
    fn draw() -> Self {
        let one_in = |times| simulation::random(times) == 0;
        let stays = match simulation::random(3) {
            0 => simulation::random(100),
            1 => simulation::random(10_000),
            _ => simulation::random(2_000_000),
        };
        Self {
            sends: simulation::random(1 << simulation::random(20)) as usize,
            reads: !one_in(4),
            half_closes: !one_in(3),
            resets: one_in(5),
            stays: Duration::from_millis(stays),
            pause: Duration::from_millis(simulation::random(1 << simulation::random(9))),
        }
    }

    /// Draws a party that stays until both streams have ended.
    fn draw_polite() -> Self {
        Self {
            reads: true,
            half_closes: true,
            resets: false,
            stays: Duration::from_secs(20 * 24 * 3600),
            ..Self::draw()
        }
    }
}

/// The bytes that a party has sent and received.
#[derive(Debug, Default)]
struct Log {
    sent: Vec<u8>,
    received: Vec<u8>,
    /// It has ended its stream itself, not by a reset.
    is_whole: bool,
    /// The other stream has come to its end.
    has_end: bool,
    error: Option<ErrorKind>,
}

/// Plays a party on its connection.
fn play(mut peer: Peer, party: &Party, log: &RefCell<Log>) {
    let until = simulation::now() + party.stays;
    let mut backoff = Duration::from_micros(1);
    let mut has_shut_down = false;
    let mut buf = vec![0; 1 + simulation::random(65_536) as usize];
    peer.set_timeout(Some(Duration::ZERO));
    while simulation::now() < until {
        let mut log = log.borrow_mut();
        let mut has_moved = false;
        let left = party.sends - log.sent.len();
        if left > 0 {
            let piece: Vec<u8> = (0..left.min(50_000))
                .map(|_| simulation::random(256) as u8)
                .collect();
            match peer.write(&piece) {
                Ok(count) => {
                    log.sent.extend(&piece[..count]);
                    has_moved = true;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => log.error = Some(error.kind()),
            }
        } else if party.half_closes && !has_shut_down {
            has_shut_down = true;
            log.is_whole = peer.shutdown_write().is_ok();
        }
        if party.reads && !log.has_end && log.error.is_none() {
            match peer.read(&mut buf) {
                Ok(0) => log.has_end = true,
                Ok(count) => {
                    log.received.extend(&buf[..count]);
                    has_moved = true;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => log.error = Some(error.kind()),
            }
        }
        if log.error.is_some() || log.has_end && log.sent.len() == party.sends {
            break;
        }
        drop(log);
        if has_moved {
            backoff = Duration::from_micros(1);
            simulation::sleep(party.pause);
        } else {
            simulation::sleep(backoff);
            backoff = (backoff * 2).min(Duration::from_secs(10));
        }
    }
    if party.resets {
        peer.reset();
    } else {
        let mut log = log.borrow_mut();
        log.is_whole |= peer.unread() == 0 && log.error.is_none();
    }
}

/// Checks what one party got of what the other one has sent.
fn compare(who: &str, got: &Log, of: &Log, must_be_all: bool, was_killed: bool, book: &Book) {
    let (received, sent) = (got.received.len(), of.sent.len());
    book.expect(of.sent.starts_with(&got.received), || {
        format!("{who}: {received} bytes that are not those of the other")
    });
    let is_true = of.is_whole && received == sent;
    book.expect(!got.has_end || is_true || was_killed, || {
        format!(
            "{who}: a clean end after {received} bytes of {sent}, whole: {}",
            of.is_whole
        )
    });
    book.expect(!must_be_all || got.has_end && is_true, || {
        format!("{who}: {received} bytes of {sent}, {:?}", got.error)
    });
}

/// A client, an upstream and a proxy between them, which may be stopped or killed.
fn trial(world: World) {
    let book = Book::default();
    let upstream: SocketAddr = ([127, 0, 0, 1], 8000).into();
    let address: SocketAddr = ([127, 0, 0, 1], 7778).into();
    let is_polite = simulation::random(3) == 0;
    let draw = if is_polite {
        Party::draw_polite
    } else {
        Party::draw
    };
    let (near, far) = (draw(), draw());
    simulation::note(&format!("client {near:?}, upstream {far:?}"));
    let listener = patiently(|| PeerListener::bind(upstream));
    let daemon = proxy::start(&book, address, &[upstream], Stream::Bare);
    let logs = [Rc::new(RefCell::new(Log::default())), Rc::default()];
    let log = Rc::clone(&logs[1]);
    // It may never be connected to.
    let is_over = Rc::new(RefCell::new(false));
    let over = Rc::clone(&is_over);
    let server = simulation::process("upstream", move || {
        while !*over.borrow() {
            match listener.accept_within(Duration::from_secs(1)) {
                Ok((peer, _)) => return play(peer, &far, &log),
                Err(error) => simulation::note(&format!("{:?}", error.kind())),
            }
        }
    });
    let log = Rc::clone(&logs[0]);
    let client = simulation::process("client", move || match Peer::connect(address) {
        Ok(peer) => play(peer, &near, &log),
        Err(error) => log.borrow_mut().error = Some(error.kind()),
    });
    let fate = simulation::random(4);
    let grace = Duration::from_millis(simulation::random(1 << simulation::random(14)));
    simulation::sleep(Duration::from_micros(simulation::random(
        1 << simulation::random(32),
    )));
    let was_killed = fate == 0 && !is_polite;
    let was_stopped = fate == 1 && !is_polite;
    let mut daemon = Some(daemon);
    if was_killed {
        daemon.take().into_iter().for_each(|daemon| daemon.kill());
    } else if was_stopped {
        let daemon = daemon.take().unwrap();
        let before = simulation::now();
        daemon.stop(grace);
        daemon.join();
        let took = simulation::now() - before;
        book.expect(took <= grace + SLACK || world != World::Calm, || {
            format!("the stop took {took:?} with a grace of {grace:?}")
        });
    }
    client.join();
    *is_over.borrow_mut() = true;
    server.join();
    if let Some(daemon) = daemon {
        // Nothing but the queue for a peer that takes nothing keeps a connection.
        daemon.stop(Duration::from_secs(1000));
        daemon.join();
    }
    let must_be_all = is_polite && world != World::Faulty;
    let [client, server] = &logs;
    compare(
        "client",
        &client.borrow(),
        &server.borrow(),
        must_be_all,
        was_killed,
        &book,
    );
    compare(
        "upstream",
        &server.borrow(),
        &client.borrow(),
        must_be_all,
        was_killed,
        &book,
    );
    book.check(was_killed);
}

in_every_world!(
    two_parties_of_a_proxy_learn_the_truth_of_each_other,
    100,
    trial
);

/// Seeds that have failed once: a stop without grace, and one whose client was gone before.
#[test]
fn a_stopped_proxy_ends_with_its_grace() {
    for seed in [152, 3228] {
        World::Calm
            .seeds_from(seed..seed + 1)
            .check(|| trial(World::Calm));
    }
}
