//! Calls of a connection in any order, over a socket pair and on the manual clock: every connection
//! ends, its end is reported once, and no byte is lost, doubled or out of order.

mod draw;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Timeout,
};
use reactor::{Context, ManualClock, Reactor};

use super::run_until_idle;

const STEPS_MAX: usize = 60;
const PLANS_MAX: usize = 60;
/// Longer than any deadline, timeout or rate that is drawn.
const LONG: Duration = Duration::from_secs(1_000_000);

/// A call of a connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(usize),
    WriteShared(usize),
    Flush,
    Pause,
    Resume,
    ReadWhileFull,
    BeginResponse,
    EndResponse,
    Shutdown,
    ShutdownAfterResponses,
    CloseGracefully(Duration),
    CloseAfterFlush(Duration),
    AbortAfterFlush(Duration),
    Close,
    Abort,
    SetOptions(usize),
}

/// The actions of a callback.
#[derive(Clone, Debug)]
struct Plan {
    acts: Vec<Act>,
    /// The number of bytes that it consumes at most.
    consumes: usize,
    error: Option<ErrorKind>,
}

/// A step from outside of the callbacks.
#[derive(Clone, Debug)]
enum Step {
    PeerSends(usize),
    PeerReads(usize),
    PeerEnds,
    PeerCloses,
    Turn,
    Advance(Duration),
    Access(Vec<Act>),
    /// By a method of the key, which also works while a callback runs.
    Command(Act),
    Remove,
}

#[derive(Default)]
struct World {
    plans: VecDeque<Plan>,
    options: Vec<ConnectionOptions>,
    /// The bytes that the peer has sent.
    sent: Vec<u8>,
    /// The number of these bytes that the handler has consumed.
    consumed: usize,
    /// The bytes that writes have accepted.
    written: Vec<u8>,
    /// Set if the handler has been told of the peer's end.
    is_read_ended: bool,
    reason: Option<CloseReason>,
}

impl World {
    /// Returns bytes that continue `stream`, so that each is known by its place.
    fn more(stream: &[u8], length: usize) -> Vec<u8> {
        let byte = |place: usize| (place ^ place >> 8 ^ place >> 13) as u8;
        (stream.len()..stream.len() + length).map(byte).collect()
    }
}

struct Scripted;

fn act(act: Act, connection: &mut Connection<'_, World>, world: &mut World) {
    match act {
        Act::Write(length) | Act::WriteShared(length) => {
            let bytes = World::more(&world.written, length);
            let taken = match act {
                Act::Write(_) => connection.write(&bytes),
                _ => connection.write_bytes(bytes.clone().into()),
            };
            note_written(taken, bytes, world);
        }
        Act::Flush => drop(connection.flush()),
        Act::Pause => connection.pause_reading(),
        Act::Resume => connection.resume_reading(),
        Act::ReadWhileFull => connection.read_while_full(),
        Act::BeginResponse => connection.begin_response(),
        Act::EndResponse => connection.end_response(),
        Act::Shutdown => connection.shutdown(),
        Act::ShutdownAfterResponses => connection.shutdown_after_responses(),
        Act::CloseGracefully(deadline) => connection.close_gracefully(deadline),
        Act::CloseAfterFlush(deadline) => connection.close_after_flush(deadline),
        Act::AbortAfterFlush(deadline) => connection.abort_after_flush(deadline),
        Act::Close => connection.close(),
        Act::Abort => connection.abort(),
        Act::SetOptions(which) => {
            let options = &world.options[which % world.options.len()];
            connection.set_options(options);
        }
    }
}

fn note_written<T>(taken: io::Result<T>, bytes: Vec<u8>, world: &mut World) {
    match taken {
        Ok(_) => world.written.extend(bytes),
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::QuotaExceeded | ErrorKind::ConnectionReset
            ),
            "{error}"
        ),
    }
}

/// Applies a command through the key of the connection.
fn command(act: Act, key: ConnectionKey<World>, cx: &mut Context<'_, World>) {
    let done = match act {
        Act::Write(length) | Act::WriteShared(length) => {
            let bytes = World::more(&cx.state.written, length);
            let taken = match act {
                Act::Write(_) => key.write(cx, &bytes),
                _ => key.write_bytes(cx, bytes.clone().into()),
            };
            if cx.registry.contains(key.key()) {
                note_written(taken, bytes, cx.state);
            }
            return;
        }
        Act::Shutdown => key.shutdown(cx),
        Act::CloseAfterFlush(deadline) => key.close_after_flush(cx, deadline),
        Act::Close => key.close(cx),
        Act::Abort => key.abort(cx),
        _ => return,
    };
    assert!(done.is_ok() || !cx.registry.contains(key.key()));
}

impl Scripted {
    /// Runs the plan of a callback. Returns how many of `available` bytes it consumes.
    fn run(
        available: usize,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        assert!(cx.state.reason.is_none(), "called after its end");
        let Some(plan) = cx.state.plans.pop_front() else {
            return Ok(available);
        };
        // A write by the own key is accepted, and dropped if the write side had been closed before.
        let is_closed = connection.write(&[]).is_err();
        for (place, step) in plan.acts.into_iter().enumerate() {
            let is_write = matches!(step, Act::Write(_) | Act::WriteShared(_));
            if place % 3 == 2 && !(is_write && is_closed) {
                command(step, connection.key(), cx);
            } else {
                act(step, connection, cx.state);
            }
        }
        match plan.error {
            Some(kind) => Err(kind.into()),
            None => Ok(available.min(plan.consumes)),
        }
    }
}

impl ConnectionHandler<World> for Scripted {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        Self::run(0, connection, cx).map(drop)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<usize> {
        assert!(!cx.state.is_read_ended && !data.is_empty());
        assert!(
            cx.state.sent[cx.state.consumed..].starts_with(data),
            "other bytes than were sent"
        );
        let consumed = Self::run(data.len(), connection, cx)?;
        cx.state.consumed += consumed;
        Ok(consumed)
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        Self::run(0, connection, cx).map(drop)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        assert!(!cx.state.is_read_ended, "two ends");
        assert_eq!(
            cx.state.sent[cx.state.consumed..],
            *rest,
            "the end comes before all bytes"
        );
        cx.state.is_read_ended = true;
        connection.shutdown_after_responses();
        Self::run(0, connection, cx).map(drop)
    }

    fn on_timeout(
        &mut self,
        _timeout: Timeout,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        if cx.state.plans.is_empty() {
            connection.close();
        }
        Self::run(0, connection, cx).map(drop)
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        Self::run(0, connection, cx).map(drop)
    }

    fn on_failure(
        &mut self,
        _error: &io::Error,
        connection: &mut Connection<'_, World>,
        cx: &mut Context<'_, World>,
    ) -> io::Result<()> {
        assert!(connection.is_paused());
        Self::run(0, connection, cx).map(drop)
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, World>) {
        assert!(cx.state.reason.is_none(), "two ends: {reason}");
        cx.state.reason = Some(reason);
    }
}

/// The other end of the pair.
struct Peer {
    stream: Option<UnixStream>,
    received: Vec<u8>,
}

impl Peer {
    fn send(&mut self, length: usize, world: &mut World) {
        let bytes = World::more(&world.sent, length);
        if let Some(Ok(taken)) = self.stream.as_mut().map(|stream| stream.write(&bytes)) {
            world.sent.extend_from_slice(&bytes[..taken]);
        }
    }

    fn read(&mut self, length: usize) {
        let Some(stream) = &self.stream else { return };
        let _ = stream.take(length as u64).read_to_end(&mut self.received); // or nothing for now
    }

    fn end(&mut self) {
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Write); // the connection may have ended
        }
    }
}

fn step(
    step: Step,
    key: ConnectionKey<World>,
    peer: &mut Peer,
    reactor: &mut Reactor<World>,
    world: &mut World,
) {
    match step {
        Step::PeerSends(length) => peer.send(length, world),
        Step::PeerReads(length) => peer.read(length),
        Step::PeerEnds => peer.end(),
        Step::PeerCloses => peer.stream = None,
        Step::Turn => drop(reactor.turn(world, Some(Duration::ZERO)).unwrap()),
        Step::Advance(time) => drop(reactor.advance(world, time).unwrap()),
        Step::Access(acts) => {
            reactor.defer(move |cx| {
                let is_open = cx.registry.contains(key.key());
                let entered = key.with(cx, |connection, cx| {
                    acts.into_iter()
                        .for_each(|step| act(step, connection, cx.state));
                });
                assert!(is_open || entered.is_err());
                assert!(entered.is_ok() || !cx.registry.contains(key.key()));
            });
        }
        Step::Command(act) => {
            reactor.defer(move |cx| command(act, key, cx));
        }
        Step::Remove => {
            let is_open = reactor.contains(key.key());
            assert_eq!(reactor.remove(key.key()).is_ok(), is_open);
        }
    }
}

/// Lets the connection end: the handler takes all input, the peer reads and closes, time passes.
fn end(
    key: ConnectionKey<World>,
    peer: &mut Peer,
    reactor: &mut Reactor<World>,
    world: &mut World,
) {
    world.plans.clear();
    reactor.defer(move |cx| {
        // An error means that it has ended already.
        let _ = key.with(cx, |connection, _cx| {
            connection.set_options(&ConnectionOptions::new());
            connection.resume_reading();
            (0..200).for_each(|_| connection.end_response());
            connection.shutdown();
        });
    });
    run_until_idle(reactor, world);
    peer.end();
    for _ in 0..200 {
        run_until_idle(reactor, world);
        peer.read(usize::MAX);
        if world.reason.is_some() {
            break;
        }
    }
    peer.stream = None;
    reactor.advance(world, LONG).unwrap();
    run_until_idle(reactor, world);
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let mut world = World {
        options: (0..3).map(|_| draw::options(u)).collect::<Result<_>>()?,
        ..World::default()
    };
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let options = world.options[0].clone();
    let key = Connection::open(&mut reactor, near, &options, Scripted).unwrap();
    let mut peer = Peer {
        stream: Some(far),
        received: Vec::new(),
    };
    for _ in 0..STEPS_MAX {
        if u.is_empty() {
            break;
        }
        if u.ratio(1, 3)? {
            if world.plans.len() < PLANS_MAX {
                world.plans.push_back(draw::plan(u)?);
            }
        } else {
            step(draw::step(u)?, key, &mut peer, &mut reactor, &mut world);
        }
    }
    let was_closed = peer.stream.is_none();
    end(key, &mut peer, &mut reactor, &mut world);
    let Some(reason) = world.reason else {
        panic!("it never ends: {reactor:?}");
    };
    assert!(!reactor.contains(key.key()) && reactor.is_empty());
    assert_eq!(
        reactor.timers().count(),
        0,
        "a timer outlives its connection"
    );
    assert!(
        world.written.starts_with(&peer.received),
        "other bytes than were written"
    );
    if matches!(reason, CloseReason::Finished) && !was_closed {
        assert!(peer.received == world.written, "a whole stream lacks bytes");
    }
    Ok(())
}
