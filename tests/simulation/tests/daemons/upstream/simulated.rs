//! A forwarder whose upstream is killed, started again, and closes connections when it likes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor::{Context, Next, Remote, Then, TimerKey};
use simulation::{Peer, PeerListener};

use super::{Forwarder, GRACE, Link, STEADY, dial, end, send};
use crate::laws::Book;
use crate::trial::{Daemon, SLACK, World, draw_time, in_every_world, patiently};

/// The messages that the upstream has received, for each connection.
type Streams = Rc<RefCell<Vec<Vec<u8>>>>;

/// Draws how long a process or a connection lasts: any time, or about as long as proves its use.
fn draw_life() -> Duration {
    match simulation::random(2) {
        0 => draw_time(),
        _ => STEADY.mul_f64(0.9) + Duration::from_millis(simulation::random(4000)),
    }
}

/// Reads until the stream ends, or for `stays`.
fn receive(mut peer: Peer, stays: Duration, streams: &Streams) {
    let until = simulation::now() + stays;
    let number = streams.borrow().len();
    streams.borrow_mut().push(Vec::new());
    let mut buf = vec![0; 1 + simulation::random(10_000) as usize];
    loop {
        peer.set_timeout(Some(until.saturating_duration_since(simulation::now())));
        match peer.read(&mut buf) {
            Ok(0) => return,
            Ok(count) => streams.borrow_mut()[number].extend(&buf[..count]),
            Err(error) => return simulation::note(&format!("{:?}", error.kind())),
        }
    }
}

/// Accepts one connection at a time until the process is killed, or `is_over` and none comes.
fn serve(address: SocketAddr, is_steady: bool, is_over: &RefCell<bool>, streams: &Streams) {
    let listener = patiently(|| PeerListener::bind(address));
    while !*is_over.borrow() {
        match listener.accept_within(Duration::from_secs(1)) {
            Ok((peer, _)) => {
                let stays = match simulation::random(3) {
                    _ if is_steady => Duration::from_secs(20 * 24 * 3600),
                    0 => Duration::ZERO,
                    _ => draw_life(),
                };
                receive(peer, stays, streams);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
    }
}

/// Observations of the forwarder.
#[derive(Default)]
struct Seen {
    stage: Stage,
    messages: Vec<Bytes>,
    /// The random numbers that the forwarder has drawn.
    drawn: Vec<u64>,
    /// Consecutive connections that did not work.
    failures: u32,
    /// The number of messages that were taken from the queue before each connection.
    starts: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    New,
    Connecting,
    Open {
        since: Instant,
    },
    Waiting {
        timer: TimerKey,
        until: Instant,
    },
    Ended,
}

/// Returns the delay that the page promises: 100 ms to 25 s, half of it random.
fn promised(failures: u32, random: u64) -> Duration {
    let longest = Duration::from_millis(100) * 2_u32.pow(failures.min(8));
    let half = longest / 2;
    half + Duration::from_micros(random % (half.as_micros() as u64 + 1))
}

impl Seen {
    /// Checks how the link has changed in this turn. Times are exact in a calm world only.
    fn look(&mut self, world: World, book: &Book, cx: &Context<'_, Forwarder>) {
        let now = simulation::now();
        let is_near = |at: Instant| now + SLACK >= at && now <= at + SLACK;
        let stage = match (&cx.state.link, self.stage) {
            (Link::Ended, Stage::New) => Stage::New,
            (Link::Ended, _) => Stage::Ended,
            (Link::Connecting(_), _) => Stage::Connecting,
            (Link::Open(_), Stage::Open { since }) => Stage::Open { since },
            (Link::Open(_), _) => Stage::Open { since: now },
            (Link::Waiting(timer), _) => {
                let left = cx.registry.remaining(*timer).ok().flatten();
                let until = cx.now() + left.unwrap_or_default();
                Stage::Waiting {
                    timer: *timer,
                    until,
                }
            }
        };
        let before = std::mem::replace(&mut self.stage, stage);
        match (before, stage) {
            (Stage::Ended, other) => {
                book.expect(other == Stage::Ended, || format!("{other:?} after the end"))
            }
            (Stage::Waiting { timer: old, .. }, Stage::Waiting { timer, .. }) if old == timer => {}
            (_, Stage::Waiting { until, .. }) => {
                self.starts
                    .push(self.messages.len() - cx.state.waiting.len());
                let open_for = match before {
                    Stage::Open { since } => now - since,
                    _ => Duration::ZERO,
                };
                if open_for >= STEADY {
                    self.failures = 0;
                }
                let random = self.drawn.last().copied().unwrap_or_default();
                let promised = promised(self.failures, random);
                self.failures += 1;
                let failures = cx.state.failures;
                let is_kept = is_near(until - promised) && failures == self.failures;
                // Close to the limit, a connection may or may not have worked.
                let is_clear = open_for.abs_diff(STEADY) > SLACK && world == World::Calm;
                book.expect(!is_clear || is_kept, || {
                    format!(
                        "waits for {:?}, not {promised:?}, after {failures} failures, not {}",
                        until - now,
                        self.failures
                    )
                });
                self.failures = failures;
            }
            (Stage::Waiting { until, .. }, Stage::Connecting) => {
                book.expect(now >= until, || format!("dials {:?} early", until - now));
                book.expect(is_near(until) || world != World::Calm, || {
                    format!("dials {:?} late", now - until)
                });
            }
            _ => {}
        }
    }
}

/// Returns a message of up to `1 << scale` bytes, which differs from all others.
fn message(number: usize, scale: u64) -> Bytes {
    let size = simulation::random(1 << simulation::random(scale)) as usize;
    let filler = std::iter::repeat_n(number as u8, size);
    (number as u64)
        .to_be_bytes()
        .into_iter()
        .chain(filler)
        .collect()
}

/// Starts the daemon of the recipe, which sends `count` messages at drawn times.
fn start(
    world: World,
    book: &Book,
    upstream: SocketAddr,
    count: usize,
    seen: &Rc<RefCell<Seen>>,
) -> Daemon {
    let (looks, sees, sends, draws) = (book.clone(), seen.clone(), seen.clone(), seen.clone());
    Daemon::start("forwarder", book, move |registry| {
        let random = move || {
            let random = simulation::random(u64::MAX);
            draws.borrow_mut().drawn.push(random);
            random
        };
        let state = Forwarder {
            upstream,
            link: Link::Ended,
            failures: 0,
            waiting: VecDeque::new(),
            full: false,
            random: Box::new(random),
        };
        registry.defer(dial);
        registry.before_wait(move |cx| {
            sees.borrow_mut().look(world, &looks, cx);
            Ok(Next::Keep)
        });
        // Some runs fill the queue of the connection: many large messages in a short time.
        let (scale, pause) = match simulation::random(4) {
            0 => (20, Duration::from_micros(100)),
            _ => (16, Duration::MAX),
        };
        let sender = registry.after(draw_time(), move |cx| {
            let number = sends.borrow().messages.len();
            if number == count {
                return Ok(Then::Done);
            }
            let message = message(number, scale);
            sends.borrow_mut().messages.push(message.clone());
            send(message, cx);
            Ok(Then::After(draw_time().min(pause)))
        });
        let stop = move |remote: &Remote<Forwarder>, _grace| {
            let _ = remote.post(move |cx| {
                end(cx);
                let _ = cx.registry.cancel(sender); // it may have sent all
            });
        };
        (state, Box::new(stop))
    })
}

/// Stops the forwarder, which takes no longer than its grace.
fn stop(daemon: Daemon, world: World, book: &Book) {
    let before = simulation::now();
    daemon.stop(GRACE);
    daemon.join();
    let took = simulation::now() - before;
    book.expect(took <= GRACE + SLACK || world != World::Calm, || {
        format!("the stop took {took:?}")
    });
}

/// Checks that each stream has whole messages in order, and each message is in one stream.
fn check_streams(seen: &Seen, streams: &[Vec<u8>], world: World, must_be_all: bool, book: &Book) {
    let all = seen.messages.concat();
    let sizes = seen.messages.iter().map(Bytes::len);
    let begins: Vec<usize> = sizes
        .scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size)))
        .collect();
    let mut least = 0;
    for stream in streams.iter().filter(|stream| !stream.is_empty()) {
        let start = (least..begins.len()).find(|start| {
            // A connection begins with the first message that no other has taken.
            let is_next = *start == 0 || seen.starts.contains(start) || world != World::Calm;
            is_next && all[begins[*start]..].starts_with(stream)
        });
        let Some(start) = start else {
            let size = stream.len();
            return book.fault(format!("{size} bytes that do not follow message {least}"));
        };
        let end = begins[start] + stream.len();
        least = begins.partition_point(|begin| *begin < end);
    }
    if must_be_all {
        let start = seen.starts.last().copied().unwrap_or_default();
        let due = begins.get(start).map_or(&[][..], |begin| &all[*begin..]);
        let last = streams.last().map_or(&[][..], Vec::as_slice);
        book.expect(last == due, || {
            format!(
                "{} bytes of {} since message {start}",
                last.len(),
                due.len()
            )
        });
    }
}

fn trial(world: World) {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 9000).into();
    let (seen, streams) = (Rc::<RefCell<Seen>>::default(), Streams::default());
    let is_over = Rc::new(RefCell::new(false));
    let start_upstream = |is_steady| {
        let (over, streams) = (Rc::clone(&is_over), Rc::clone(&streams));
        simulation::process("upstream", move || {
            serve(address, is_steady, &over, &streams);
        })
    };
    let count = simulation::random(100) as usize;
    let daemon = start(world, &book, address, count, &seen);
    // It is stopped at any time, or when all messages have been sent.
    let is_early = simulation::random(2) == 0;
    let (daemon, stopper) = if is_early {
        let (book, after) = (book.clone(), draw_time());
        let stopper = simulation::thread("stopper", move || {
            simulation::sleep(after);
            stop(daemon, world, &book);
        });
        (None, Some(stopper))
    } else {
        (Some(daemon), None)
    };
    for _ in 0..simulation::random(8) {
        simulation::sleep(draw_time());
        let upstream = start_upstream(false);
        simulation::sleep(2 * draw_life());
        upstream.kill();
    }
    let upstream = start_upstream(true);
    if let Some(daemon) = daemon {
        simulation::wait_until(|| seen.borrow().messages.len() == count);
        simulation::sleep(Duration::from_secs(3600));
        stop(daemon, world, &book);
    }
    stopper.into_iter().for_each(simulation::Handle::join);
    *is_over.borrow_mut() = true;
    upstream.join();
    let must_be_all = !is_early && world == World::Calm;
    check_streams(&seen.borrow(), &streams.borrow(), world, must_be_all, &book);
    book.check(false);
}

in_every_world!(a_forwarder_comes_back_as_the_recipe_says, 60, trial);
