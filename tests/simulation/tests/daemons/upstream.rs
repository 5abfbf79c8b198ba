//! An upstream that is killed, started again, and closes connections when it likes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handlers::{
    Backoff, CloseReason, Connection, ConnectionHandler, Jitter, Proof, TargetOrder, Upstream,
    UpstreamMetrics, UpstreamOptions, UpstreamState,
};
use reactor::{Context, Next, Remote, Then};
use simulation::{Peer, PeerListener};

use crate::laws::Book;
use crate::trial::{Daemon, SLACK, World, draw_time, in_every_world, patiently};

const INITIAL: Duration = Duration::from_millis(100);
const GREATEST: Duration = Duration::from_secs(25);
/// A connection that has lasted this long resets the delays.
const STEADY: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
/// The length of the head of a message: its number and the number of the bytes that follow.
const HEAD: usize = 16;

/// The state of the daemon.
struct App {
    upstream: Option<Upstream<Self>>,
    seen: Rc<RefCell<Seen>>,
}

/// The bytes that the upstream has received, for each connection.
type Streams = Rc<RefCell<Vec<Vec<u8>>>>;

/// Draws how long a process or a connection lasts: any time, or about as long as proves its use.
fn draw_life() -> Duration {
    match simulation::random(2) {
        0 => draw_time(),
        _ => STEADY.mul_f64(0.9) + Duration::from_millis(simulation::random(4000)),
    }
}

/// Returns a message of up to `1 << scale` bytes after its head.
fn message(number: usize, scale: u64) -> Bytes {
    let size = simulation::random(1 << simulation::random(scale)) as usize;
    let head = [(number as u64).to_be_bytes(), (size as u64).to_be_bytes()];
    let filler = std::iter::repeat_n(number as u8, size);
    head.concat().into_iter().chain(filler).collect()
}

/// Splits a stream into its whole messages and the bytes of the last one, which may be cut.
fn messages(stream: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut whole, mut rest) = (Vec::new(), stream);
    while let Some((_, size)) = rest.get(..HEAD).map(|head| head.split_at(8)) {
        let size = size.try_into().map(u64::from_be_bytes).unwrap_or(u64::MAX);
        let Some((message, after)) = rest.split_at_checked(HEAD + size as usize) else {
            break;
        };
        whole.push(message);
        rest = after;
    }
    (whole, rest)
}

/// Reads until the stream ends, or for `stays`, and acknowledges whole messages.
fn receive(mut peer: Peer, stays: Duration, acknowledges: bool, streams: &Streams) {
    let until = simulation::now() + stays;
    let number = streams.borrow().len();
    streams.borrow_mut().push(Vec::new());
    let mut buf = vec![0; 1 + simulation::random(10_000) as usize];
    let mut acknowledged = 0;
    loop {
        peer.set_timeout(Some(until.saturating_duration_since(simulation::now())));
        match peer.read(&mut buf) {
            Ok(0) => return,
            Ok(count) => streams.borrow_mut()[number].extend(&buf[..count]),
            Err(error) => return simulation::note(&format!("{:?}", error.kind())),
        }
        let whole = messages(&streams.borrow()[number]).0.len();
        if acknowledges && peer.write_all(&vec![b'+'; whole - acknowledged]).is_err() {
            return;
        }
        acknowledged = whole;
    }
}

/// Accepts one connection at a time until the process is killed, or `is_over` and none comes.
fn serve(
    address: SocketAddr,
    is_steady: bool,
    acknowledges: bool,
    is_over: &RefCell<bool>,
    streams: &Streams,
) {
    let listener = patiently(|| PeerListener::bind(address));
    while !*is_over.borrow() {
        match listener.accept_within(Duration::from_secs(1)) {
            Ok((peer, _)) => {
                let stays = match simulation::random(3) {
                    _ if is_steady => Duration::from_secs(20 * 24 * 3600),
                    0 => Duration::ZERO,
                    _ => draw_life(),
                };
                receive(peer, stays, acknowledges, streams);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
    }
}

/// Acknowledges, and sends the messages of an ended connection again.
struct Session;

impl ConnectionHandler<App> for Session {
    fn on_open(
        &mut self,
        _connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        if let Some(upstream) = &cx.state.upstream {
            upstream.resend(cx.registry);
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<usize> {
        if let Some(upstream) = &cx.state.upstream {
            let acknowledged = upstream.acknowledge(cx.registry, data.len());
            cx.state.seen.borrow_mut().is_acknowledged &= acknowledged == data.len();
        }
        Ok(data.len())
    }

    fn on_close(&mut self, _reason: CloseReason, cx: &mut Context<'_, App>) {
        cx.state.seen.borrow_mut().closes += 1;
    }
}

/// Observations of the link.
struct Seen {
    stage: Stage,
    /// Consecutive connections and attempts that did not work.
    failures: u32,
    closes: u32,
    /// `false` once the peer has acknowledged what was not sent.
    is_acknowledged: bool,
    /// The messages that were left at the end.
    left: Vec<Bytes>,
    metrics: UpstreamMetrics,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Connecting,
    Up { since: Instant },
    Waiting { number: u32, until: Instant },
    Ended,
}

impl Seen {
    fn new() -> Self {
        Self {
            stage: Stage::Connecting,
            failures: 0,
            closes: 0,
            is_acknowledged: true,
            left: Vec::new(),
            metrics: UpstreamMetrics::default(),
            has_ended: false,
        }
    }

    /// Checks how the link has changed in this turn. Times are exact in a calm world only.
    fn look(&mut self, world: World, book: &Book, cx: &Context<'_, App>) {
        let Some(upstream) = &cx.state.upstream else {
            return;
        };
        let now = simulation::now();
        let is_near = |at: Instant| now + SLACK >= at && now <= at + SLACK;
        let stage = match (upstream.state(), self.stage) {
            (UpstreamState::Up, Stage::Up { since }) => Stage::Up { since },
            (UpstreamState::Up, _) => Stage::Up { since: now },
            (UpstreamState::Waiting, _) => Stage::Waiting {
                number: self.closes,
                until: cx.now() + upstream.retry_in(cx.registry).unwrap_or_default(),
            },
            (UpstreamState::Ended, _) => Stage::Ended,
            _ => Stage::Connecting,
        };
        let before = std::mem::replace(&mut self.stage, stage);
        match (before, stage) {
            (Stage::Ended, other) => {
                book.expect(other == Stage::Ended, || format!("{other:?} after the end"));
            }
            (Stage::Waiting { number: old, .. }, Stage::Waiting { number, .. })
                if old == number => {}
            (_, Stage::Waiting { until, .. }) => {
                let up = match before {
                    Stage::Up { since } => now - since,
                    _ => Duration::ZERO,
                };
                self.failures = if up >= STEADY { 0 } else { self.failures };
                let promised = (INITIAL * 2_u32.pow(self.failures.min(10))).min(GREATEST);
                self.failures += 1;
                // Close to the limit, a connection may or may not have worked.
                let is_clear = up.abs_diff(STEADY) > SLACK && world == World::Calm;
                book.expect(!is_clear || is_near(until - promised), || {
                    format!("waits for {:?}, not {promised:?}", until - now)
                });
                self.failures = if is_near(until - INITIAL) {
                    1
                } else {
                    self.failures
                };
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

/// Starts the daemon, which sends `count` messages at drawn times.
fn start(
    world: World,
    book: &Book,
    targets: &[SocketAddr],
    count: usize,
    acknowledges: bool,
    seen: &Rc<RefCell<Seen>>,
    sent: &Rc<RefCell<Vec<Bytes>>>,
) -> Daemon {
    let (looks, sees, sends) = (book.clone(), Rc::clone(seen), Rc::clone(sent));
    let (targets, seen) = (targets.to_vec(), Rc::clone(seen));
    Daemon::start("forwarder", book, move |registry| {
        let options = UpstreamOptions::new()
            .backoff(Backoff::new(INITIAL, GREATEST).jitter(Jitter::None))
            .proof(Proof::Uptime(STEADY))
            .max_bytes(usize::MAX)
            .acknowledged(acknowledges)
            .order(TargetOrder::Random)
            .seed(simulation::random(u64::MAX));
        let upstream = Upstream::start(registry, targets, &options, Session);
        let ended = upstream.clone();
        upstream.on_end(registry, move |cx| {
            let mut seen = cx.state.seen.borrow_mut();
            seen.left = ended.take_unacknowledged(cx.registry);
            seen.left.extend(ended.take_waiting(cx.registry));
            (seen.metrics, seen.has_ended) = (ended.metrics(), true);
        });
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
            let number = sends.borrow().len();
            if number == count {
                return Ok(Then::Done);
            }
            let message = message(number, scale);
            if let Some(upstream) = &cx.state.upstream {
                let _flow = upstream.send(cx.registry, message.clone())?;
            }
            sends.borrow_mut().push(message);
            Ok(Then::After(draw_time().min(pause)))
        });
        let state = App {
            upstream: Some(upstream),
            seen,
        };
        let stop = move |remote: &Remote<App>, grace| {
            let _ = remote.post(move |cx: &mut Context<'_, App>| {
                if let Some(upstream) = &cx.state.upstream {
                    upstream.stop(cx.registry, grace);
                }
                let _ = cx.registry.cancel(sender); // it may have sent all
            });
        };
        (state, Box::new(stop))
    })
}

/// Stops the daemon, which takes no longer than its grace.
fn stop(daemon: Daemon, world: World, book: &Book) {
    let before = simulation::now();
    daemon.stop(GRACE);
    daemon.join();
    let took = simulation::now() - before;
    book.expect(took <= GRACE + SLACK || world != World::Calm, || {
        format!("the stop took {took:?}")
    });
}

/// Checks the streams without acknowledgements: each message is in at most one stream, in order,
/// and only the last of a stream is cut.
fn check_once(sent: &[Bytes], streams: &[Vec<u8>], book: &Book) {
    let mut least = 0;
    for stream in streams {
        let (whole, cut) = messages(stream);
        let mut is_first = true;
        for message in whole.into_iter().chain((!cut.is_empty()).then_some(cut)) {
            // The first message of a stream may follow some that are lost, and no other may.
            let most = if is_first { sent.len() } else { least + 1 };
            let mut candidates = least..most.min(sent.len());
            let number = candidates.find(|number| sent[*number].starts_with(message));
            is_first = false;
            let Some(number) = number else {
                let length = message.len();
                return book.fault(format!("{length} bytes that do not follow message {least}"));
            };
            least = number + 1;
        }
    }
}

/// Checks that each message is received whole, left at the end, or one that may be lost.
fn check_none_is_missing(
    sent: &[Bytes],
    streams: &[Vec<u8>],
    seen: &Seen,
    acknowledges: bool,
    book: &Book,
) {
    let whole = streams.iter().flat_map(|stream| messages(stream).0);
    let left = seen.left.iter().map(|message| &**message);
    let there: BTreeSet<&[u8]> = whole.chain(left).collect();
    let missing: Vec<_> = (0..sent.len())
        .filter(|number| !there.contains(&*sent[*number]))
        .collect();
    book.expect(missing.is_empty() || !acknowledges, || {
        format!("messages {missing:?} are gone, although none was acknowledged")
    });
}

fn trial(world: World) {
    let book = Book::default();
    let address: SocketAddr = ([127, 0, 0, 1], 9000).into();
    // Nothing listens at the other one.
    let targets = match simulation::random(3) {
        0 => vec![address, ([127, 0, 0, 1], 9001).into()],
        _ => vec![address],
    };
    let acknowledges = simulation::random(2) == 0;
    let (seen, streams) = (Rc::new(RefCell::new(Seen::new())), Streams::default());
    let sent = Rc::<RefCell<Vec<Bytes>>>::default();
    let is_over = Rc::new(RefCell::new(false));
    let start_upstream = |is_steady| {
        let (over, streams) = (Rc::clone(&is_over), Rc::clone(&streams));
        simulation::process("upstream", move || {
            serve(address, is_steady, acknowledges, &over, &streams);
        })
    };
    let count = simulation::random(100) as usize;
    let daemon = start(world, &book, &targets, count, acknowledges, &seen, &sent);
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
        simulation::wait_until(|| sent.borrow().len() == count);
        simulation::sleep(Duration::from_secs(3600));
        stop(daemon, world, &book);
    }
    stopper.into_iter().for_each(simulation::Handle::join);
    *is_over.borrow_mut() = true;
    upstream.join();
    let (sent, streams, seen) = (sent.borrow(), streams.borrow(), seen.borrow());
    book.expect(seen.has_ended, || "the end was not told".to_owned());
    book.expect(seen.is_acknowledged, || {
        "a message that was received counts as not sent".to_owned()
    });
    if !acknowledges {
        check_once(&sent, &streams, &book);
        let UpstreamMetrics {
            sent: taken, lost, ..
        } = seen.metrics;
        let counted = taken as usize + lost as usize + seen.left.len();
        book.expect(counted == sent.len(), || {
            format!("{counted} messages of {} are accounted for", sent.len())
        });
    }
    check_none_is_missing(&sent, &streams, &seen, acknowledges, &book);
    // With a steady upstream, nothing is left, and the last stream has all that came for it.
    let is_whole = seen.left.is_empty() || is_early || world != World::Calm;
    book.expect(is_whole, || {
        format!("{} messages are left", seen.left.len())
    });
    book.check(false);
}

in_every_world!(an_upstream_comes_back_and_loses_nothing, 60, trial);
