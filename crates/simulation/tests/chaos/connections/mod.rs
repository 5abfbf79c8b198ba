//! A server whose handlers do at random what a connection offers, clients that do at random what a
//! socket offers, and now and then a proxy between them.
//!
//! Each stream is a known sequence of bytes, so both ends know at each byte what they must see. The
//! kernel's buffers hold all that a client sends: what was sent has arrived a second later.

mod causes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionLimit, ConnectionOptions,
    ListenOptions, Listener, Relay, ServerKey, Timeout,
};
use reactor::{Context, Exit, Interest, Next, Priority, Reactor, Registry, Remote, Then};
use simulation::{Faults, Peer, Seeds, now, random};

use crate::draw::{duration, once_in, size};

const SERVER: &str = "127.0.0.1:7000";
const PROXY: &str = "127.0.0.1:7001";
/// Longer than anything that these daemons do.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// Bytes that were sent have arrived after this time.
const ARRIVAL: Duration = Duration::from_secs(1);
/// The most bytes that a client sends. The smallest buffer of the kernel holds them.
const SENT_MAX: u64 = 60_000;
const HEADER: usize = 4;

type Cx<'a> = Context<'a, Rc<Daemon>>;

/// Returns the bytes of a stream from `position` on.
fn bytes(stream: u32, position: u64, count: usize) -> Vec<u8> {
    let byte = |position: u64| match position {
        0..4 => stream.to_le_bytes()[position as usize],
        _ => (u64::from(stream) * 31 + position * 7 + (position >> 8)) as u8,
    };
    (position..position + count as u64).map(byte).collect()
}

/// A client, and what both ends of its connection know of it.
#[derive(Default)]
struct Client {
    number: u32,
    is_proxied: bool,
    /// The number of bytes that had been sent, by time.
    sent: RefCell<Vec<(Option<Instant>, u64)>>,
    /// The client has ended its direction.
    is_whole: Cell<bool>,
    /// It reads to the end, and resets nothing.
    is_patient: Cell<bool>,
    given: Cell<u64>,
    written: Cell<u64>,
    pending: Cell<u32>,
    /// The handler has closed the connection, or has failed.
    is_closed: Cell<bool>,
    /// The handler has closed it after its last byte, with all the time that it takes.
    is_closed_in_order: Cell<bool>,
    was_paused: Cell<bool>,
    had_timeout: Cell<bool>,
    is_finished: Cell<bool>,
    received: Cell<u64>,
    is_over: Cell<bool>,
}

impl Client {
    fn sent(&self) -> u64 {
        self.sent.borrow().last().map_or(0, |(_, sent)| *sent)
    }

    /// Returns how many bytes have arrived at the server by `time`, at least.
    fn arrived(&self, time: Instant) -> u64 {
        let sent = self.sent.borrow();
        let arrived = sent
            .iter()
            .filter(|(at, _)| at.is_some_and(|at| at + ARRIVAL <= time));
        arrived.map(|(_, sent)| *sent).max().unwrap_or(0)
    }
}

/// The state of the server.
#[derive(Default)]
struct Daemon {
    clients: RefCell<BTreeMap<u32, Rc<Client>>>,
    keys: RefCell<Vec<ConnectionKey<Rc<Self>>>>,
    server: Cell<Option<ServerKey<Rc<Self>>>>,
    stopped: Cell<Option<Stop>>,
    idle_timeout: Cell<Option<Duration>>,
    read_timeout: Cell<Option<Duration>>,
    /// The time of each turn.
    turns: RefCell<Vec<Instant>>,
}

impl Daemon {
    /// Checks that a timeout comes after the bytes that lay in the kernel when it fell due. A wait
    /// may have room for few events, so the timeout is told after a sweep of several turns. Bytes
    /// that arrive during the sweep may come after it. The timeout expired at `expired` or later.
    #[track_caller]
    fn expect_given(&self, client: &Client, expired: Instant) {
        let turns = self.turns.borrow();
        let due = turns.get(turns.partition_point(|turn| *turn < expired));
        let (given, arrived) = (client.given.get(), due.map(|due| client.arrived(*due)));
        let arrived = arrived.expect("a timeout is early");
        assert!(
            given >= arrived,
            "a timeout while {given} of {arrived} bytes were read"
        );
    }
}

/// Records the time of each turn. By it a timeout is judged, not by the time of the callback: bytes
/// that arrived later in the turn came after the deadline.
fn record_turns(registry: &mut Registry<Rc<Daemon>>) {
    registry.after_wait(|cx| {
        cx.state.turns.borrow_mut().push(cx.registry.now());
        Ok(Next::Keep)
    });
}

#[derive(Clone, Copy)]
struct Stop {
    at: Instant,
    is_patient: bool,
    reads: bool,
}

/// A handler that does what the seed says.
#[derive(Default)]
struct Machine {
    client: Option<Rc<Client>>,
    consumed: u64,
    /// The last new bytes, or the last idle timeout.
    idle_since: Option<Instant>,
    /// The last new bytes, or the last read timeout.
    read_since: Option<Instant>,
    /// Answers that wait in a queue of the handler's own.
    kept: usize,
    /// It was told of the end of its peer, or of a graceful close: it keeps no more answers.
    keeps_none: bool,
    graceful: bool,
}

impl Machine {
    /// Compares what has arrived with what was sent.
    fn look_at(&mut self, data: &[u8], cx: &Cx<'_>) {
        if self.client.is_none()
            && let Some(header) = data.first_chunk::<HEADER>()
        {
            let number = u32::from_le_bytes(*header);
            self.client = cx.state.clients.borrow().get(&number).cloned();
            assert!(self.client.is_some(), "the client {number} exists");
        }
        if let Some(client) = &self.client {
            let expected = bytes(client.number, self.consumed, data.len());
            assert!(data == expected, "other bytes than were sent");
            let given = self.consumed + data.len() as u64;
            if given > client.given.get() {
                client.given.set(given);
                (self.idle_since, self.read_since) = (Some(cx.now()), Some(cx.now()));
            }
            assert!(given <= client.sent());
        }
    }

    fn answer(&self, count: usize, connection: &mut Connection<'_, Rc<Daemon>>) {
        let Some(client) = &self.client else { return };
        let written = client.written.get();
        let answer = bytes(!client.number, written, count);
        if connection.write(&answer).is_ok() {
            client.written.set(written + count as u64);
        }
    }

    fn act(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        let Some(client) = self.client.clone() else {
            return Ok(());
        };
        if once_in(100) {
            simulation::compute(Duration::from_millis(random(10_000)));
        }
        match random(24) {
            0..=6 => self.answer(size(3000), connection),
            7 => self.answer(size(150_000), connection),
            8 | 9 if !self.keeps_none => self.kept += size(2000),
            10 => {
                let kept = std::mem::take(&mut self.kept);
                self.answer(kept, connection);
            }
            11 | 12 => {
                client.was_paused.set(true);
                connection.pause_reading();
                later(connection.key(), cx, |_machine, connection, _cx| {
                    connection.resume_reading();
                });
            }
            13 | 14 => {
                client.pending.set(client.pending.get() + 1);
                connection.begin_response();
                later(connection.key(), cx, |machine, connection, _cx| {
                    machine.answer(size(2000), connection);
                    connection.end_response();
                    if let Some(client) = &machine.client {
                        client.pending.set(client.pending.get() - 1);
                    }
                });
            }
            15 | 16 => visit_another(cx),
            17 if once_in(6) => {
                client.is_closed.set(true);
                return Err(io::Error::other("as the seed wants"));
            }
            18 if once_in(3) => self.close(connection),
            19 if once_in(6) => {
                if let Some(server) = cx.state.server.take() {
                    stop(server, cx);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Answers as another connection would, by the key. It comes after the writes of this callback.
    fn answer_by_key(&self, key: ConnectionKey<Rc<Daemon>>, cx: &mut Cx<'_>) {
        let Some(client) = self
            .client
            .as_ref()
            .filter(|client| !client.is_closed.get())
        else {
            return;
        };
        let (written, count) = (client.written.get(), size(20_000));
        if key
            .write(cx, &bytes(!client.number, written, count))
            .is_ok()
        {
            client.written.set(written + count as u64);
        }
    }

    fn close(&self, connection: &mut Connection<'_, Rc<Daemon>>) {
        let Some(client) = &self.client else { return };
        let deadline = if once_in(2) {
            LONG
        } else {
            duration(Duration::from_secs(2))
        };
        let is_first = !client.is_closed.replace(true);
        client.is_closed_in_order.set(false); // a second close may cut the first one short
        match random(6) {
            0 => connection.abort(),
            1 => connection.close(),
            2 => connection.close_gracefully(deadline),
            3 => connection.abort_after_flush(deadline),
            _ => {
                client.is_closed_in_order.set(is_first && deadline == LONG);
                connection.close_after_flush(deadline);
            }
        }
    }
}

/// Does something with a connection after some time, if it is still open.
fn later(
    key: ConnectionKey<Rc<Daemon>>,
    cx: &mut Cx<'_>,
    access: impl Fn(&mut Machine, &mut Connection<'_, Rc<Daemon>>, &mut Cx<'_>) + 'static,
) {
    cx.registry
        .after(duration(Duration::from_secs(20)), move |cx| {
            let _ = key.with_handler(cx, &access); // it may have ended
            Ok(Then::Done)
        });
}

/// Writes to another connection, or closes it.
fn visit_another(cx: &mut Cx<'_>) {
    let key = {
        let keys = cx.state.keys.borrow();
        keys.get(random(keys.len() as u64) as usize).copied()
    };
    let visit = |machine: &mut Machine, connection: &mut Connection<'_, _>, _: &mut Cx<'_>| {
        if once_in(30) {
            machine.close(connection);
        } else {
            machine.answer(size(20_000), connection);
        }
        if once_in(4) {
            let _ = connection.flush();
        }
    };
    if let Some(key) = key {
        let _ = key.with_handler(cx, visit); // it may run or have ended
    }
}

fn stop(server: ServerKey<Rc<Daemon>>, cx: &mut Cx<'_>) {
    let is_patient = !once_in(3);
    let grace = if is_patient {
        LONG
    } else {
        duration(Duration::from_secs(10))
    };
    let reads = !once_in(4);
    cx.state.stopped.set(Some(Stop {
        at: now(),
        is_patient,
        reads,
    }));
    if reads {
        server.stop(cx.registry, grace);
    } else {
        server.stop_without_reading(cx, grace);
    }
}

impl ConnectionHandler<Rc<Daemon>> for Machine {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        cx.state.keys.borrow_mut().push(connection.key());
        let priority = match random(8) {
            0 => Priority::High,
            1 => Priority::Low,
            _ => return Ok(()),
        };
        cx.registry.set_priority(connection.key().key(), priority)?;
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        self.look_at(data, cx);
        if self.client.is_none() {
            return Ok(0);
        }
        self.act(connection, cx)?;
        if once_in(8) {
            self.answer_by_key(connection.key(), cx);
        }
        let consumed = if once_in(5) {
            random(data.len() as u64 + 1) as usize
        } else {
            data.len()
        };
        self.consumed += consumed as u64;
        Ok(consumed)
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.act(connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.look_at(rest, cx);
        if let Some(client) = &self.client {
            assert!(client.is_whole.get(), "a stream that was cut looks whole");
            assert_eq!(client.given.get(), client.sent(), "the end came too early");
        }
        self.keeps_none = true;
        self.act(connection, cx)?;
        let kept = std::mem::take(&mut self.kept);
        self.answer(kept, connection);
        connection.shutdown_after_responses();
        Ok(())
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, Rc<Daemon>>,
        _cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        assert!(!self.graceful, "told twice");
        (self.graceful, self.keeps_none) = (true, true);
        let kept = std::mem::take(&mut self.kept);
        self.answer(kept, connection);
        Ok(())
    }

    fn on_failure(
        &mut self,
        _error: &io::Error,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        assert!(connection.is_paused());
        if once_in(4) {
            connection.resume_reading();
        }
        self.act(connection, cx)
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, Rc<Daemon>>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        let (since, length) = match timeout {
            Timeout::Idle => (self.idle_since.replace(cx.now()), &cx.state.idle_timeout),
            _ => (self.read_since.replace(cx.now()), &cx.state.read_timeout),
        };
        client.had_timeout.set(true);
        // A connection whose queue was full reads again only when its socket has room.
        let interest = cx.registry.interest(connection.key().key());
        let is_read = interest.is_ok_and(|interest| interest.contains(Interest::READABLE))
            && !connection.is_paused()
            && !client.is_proxied
            && !self.graceful
            && !client.is_closed.get();
        if is_read && let Some((since, length)) = since.zip(length.get()) {
            cx.state.expect_given(client, since + length);
        }
        if once_in(3) {
            client.is_closed.set(true);
            connection.close();
        }
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Cx<'_>) {
        let Some(client) = &self.client else { return };
        assert!(!client.is_over.replace(true), "the end is told once");
        client
            .is_finished
            .set(matches!(reason, CloseReason::Finished));
        let is_own = client.is_closed.get() || self.graceful;
        if let (CloseReason::Failed(error), false, false) = (&reason, is_own, client.is_proxied) {
            let (given, sent) = (client.given.get(), client.sent());
            assert_eq!(
                given, sent,
                "bytes had come and were not given before {error}"
            );
        }
        if client.is_closed_in_order.get() && client.is_patient.get() && !client.had_timeout.get() {
            let is_right =
                matches!(reason, CloseReason::Finished) || cx.state.stopped.get().is_some();
            assert!(
                is_right || client.is_proxied,
                "closed in order, and {reason}"
            );
        }
        let is_finished = client.is_finished.get() && !client.is_closed.get();
        assert!(
            !is_finished || self.kept == 0,
            "a handler is not asked for the answers that it keeps"
        );
    }
}

/// Listens, although descriptors may be missing now.
fn listen(address: &str) -> Listener {
    let limit = once_in(3).then(|| ConnectionLimit::new(1 + size(4)));
    loop {
        let options = ListenOptions::new()
            .limit(limit.clone())
            .max_accepts_per_turn(1 + size(16));
        if let Ok(listener) = options.bind(&address.parse().unwrap()) {
            return listener;
        }
    }
}

fn options(daemon: &Daemon) -> ConnectionOptions {
    let timeout = |drawn: &Cell<Option<Duration>>| {
        let length = Duration::from_millis(100);
        drawn.set(once_in(2).then(|| length + duration(Duration::from_secs(60))));
        drawn.get()
    };
    ConnectionOptions::new()
        .max_write_queue(1 << 30)
        .max_buffered_input(1 << 20)
        .max_bytes_per_turn(50 + size(100_000))
        .watermarks(size(1000), 1000 + size(100_000))
        .idle_timeout(timeout(&daemon.idle_timeout))
        .read_timeout(timeout(&daemon.read_timeout))
}

fn serve(daemon: &Rc<Daemon>, ready: &RefCell<Option<Remote<Rc<Daemon>>>>) {
    let mut reactor = Reactor::builder()
        .max_events_per_turn(1 + size(16))
        .max_calls_per_turn(1 + size(16))
        .build()
        .unwrap();
    record_turns(&mut reactor);
    let server = listen(SERVER)
        .serve(&mut reactor, &options(daemon), |_peer, _cx| {
            Ok(Machine::default())
        })
        .unwrap();
    daemon.server.set(Some(server));
    ready.replace(Some(reactor.remote().unwrap()));
    let exit = reactor.run(&mut Rc::clone(daemon));
    assert!(matches!(exit, Ok(Exit::NothingLeft)), "{exit:?}");
}

fn forward(ready: &RefCell<Option<(Remote<()>, ServerKey<()>)>>) {
    let mut reactor = Reactor::<()>::new().unwrap();
    let connections = ConnectionOptions::new().max_write_queue(1 << 30);
    let to: SocketAddr = SERVER.parse().unwrap();
    let options = connections.clone();
    let relay = move |registry: &mut Registry<()>| {
        let (client_side, server_side) = Relay::pair();
        client_side.gives_up(Connection::connect(registry, [to], &options, server_side));
        client_side
    };
    let server = listen(PROXY)
        .serve(&mut reactor, &connections, move |_peer, cx| {
            Ok(relay(cx.registry))
        })
        .unwrap();
    ready.replace(Some((reactor.remote().unwrap(), server)));
    reactor.run(&mut ()).unwrap();
}

/// The behaviour of a client. Its errors are those of a daemon that has closed.
fn talk(client: &Client) -> io::Result<()> {
    simulation::sleep(duration(Duration::from_secs(30)));
    let address = if client.is_proxied { PROXY } else { SERVER };
    let mut peer = Peer::connect(address.parse().unwrap())?;
    send(client, &mut peer, HEADER)?;
    for _ in 0..random(40) {
        match random(8) {
            0..=3 => send(client, &mut peer, size(8_000))?,
            4 => simulation::sleep(duration(Duration::from_secs(20))),
            5 => {
                let arrived = peer.unread();
                if arrived > 0 {
                    receive(client, &mut peer, arrived as usize)?;
                }
            }
            6 if once_in(10) => {
                peer.reset();
                return Ok(());
            }
            7 if once_in(10) => {
                // Dropped: a clean end, unless something is unread.
                client.is_whole.set(true);
                return Ok(());
            }
            _ => {}
        }
    }
    client.is_patient.set(true);
    client.is_whole.set(true);
    peer.shutdown_write()?;
    while receive(client, &mut peer, 10_000)? > 0 {
        if once_in(8) {
            simulation::sleep(duration(Duration::from_secs(1)));
        }
    }
    Ok(())
}

fn send(client: &Client, peer: &mut Peer, count: usize) -> io::Result<()> {
    let sent = client.sent();
    let count = count.min((SENT_MAX - sent) as usize);
    // Before the call, since the server may see it first.
    client.sent.borrow_mut().push((None, sent + count as u64));
    let written = peer.write_all(&bytes(client.number, sent, count));
    if let Some((at, _)) = client.sent.borrow_mut().last_mut() {
        *at = Some(now());
    }
    written
}

/// Reads what has come, and compares it with what was written.
fn receive(client: &Client, peer: &mut Peer, most: usize) -> io::Result<usize> {
    let mut buf = vec![0; most];
    let count = peer.read(&mut buf)?;
    assert!(buf[..count] == bytes(!client.number, client.received.get(), count));
    client.received.set(client.received.get() + count as u64);
    if count == 0 {
        let written = client.written.get();
        assert_eq!(
            client.received.get(),
            written,
            "an answer that was cut looks whole"
        );
        let owes = client.pending.get() > 0 && !client.is_closed.get();
        assert!(!owes, "an answer that is owed looks whole");
    }
    Ok(count)
}

fn world() {
    let daemon = Rc::new(Daemon::default());
    let (ready, proxy_ready) = (Rc::default(), Rc::default());
    let has_proxy = once_in(3);
    let (state, announced) = (Rc::clone(&daemon), Rc::clone(&ready));
    let server = simulation::process("server", move || serve(&state, &announced));
    simulation::wait_until(|| ready.borrow().is_some());
    let proxy = has_proxy.then(|| {
        let announced = Rc::clone(&proxy_ready);
        let proxy = simulation::process("proxy", move || forward(&announced));
        simulation::wait_until(|| proxy_ready.borrow().is_some());
        proxy
    });
    let clients = (0..2 + random(8) as u32).map(|number| {
        let client = Rc::new(Client {
            number,
            is_proxied: has_proxy && once_in(2),
            ..Client::default()
        });
        daemon
            .clients
            .borrow_mut()
            .insert(number, Rc::clone(&client));
        simulation::process(&format!("client {number}"), move || {
            let outcome = talk(&client).map_err(|error| error.kind());
            simulation::note(&format!("{outcome:?}"));
            client
        })
    });
    let clients: Vec<_> = clients.collect();
    simulation::sleep(duration(Duration::from_secs(120)));
    let remote = ready.take().unwrap();
    let posted = remote.post(|cx: &mut Cx<'_>| {
        if let Some(server) = cx.state.server.take() {
            stop(server, cx);
        }
    });
    assert!(posted.is_ok() || daemon.stopped.get().is_some());
    let clients: Vec<_> = clients.into_iter().map(simulation::Handle::join).collect();
    server.join();
    for client in clients {
        let is_done = client.is_finished.get() && client.is_patient.get();
        let is_heard = client.received.get() == client.written.get();
        assert!(
            !is_done || is_heard || client.is_closed.get(),
            "{} of {} bytes were heard by client {}",
            client.received.get(),
            client.written.get(),
            client.number
        );
    }
    expect_stopped_in_order(&daemon);
    if let Some((proxy, (remote, server))) = proxy.zip(proxy_ready.take()) {
        let _ = remote.post(move |cx| server.stop(cx.registry, Duration::from_secs(1)));
        proxy.join();
    }
}

/// Checks that bytes which had arrived before the stop were given to a handler.
fn expect_stopped_in_order(daemon: &Daemon) {
    let Some(stop) = daemon
        .stopped
        .get()
        .filter(|stop| stop.is_patient && stop.reads)
    else {
        return;
    };
    for client in daemon.clients.borrow().values() {
        let is_served = client.is_closed.get()
            || client.is_proxied
            || client.was_paused.get()
            || client.had_timeout.get()
            || !client.is_patient.get();
        let (given, arrived) = (client.given.get(), client.arrived(stop.at));
        assert!(
            is_served || given >= arrived,
            "{arrived} bytes of client {} had arrived before the stop, {given} were given",
            client.number
        );
    }
}

#[test]
fn every_byte_is_given_and_no_stream_that_was_cut_looks_whole() {
    let mut faults = Faults::slow();
    faults.buffer_bytes = 2 * SENT_MAX..8 * SENT_MAX;
    faults.bandwidth = 1_000_000..1_000_000_000;
    // The server often stands still for longer than its timeouts.
    faults.stops = 150;
    faults.stop_time = Duration::from_secs(2)..Duration::from_secs(60);
    Seeds::new(0..100).faults(faults).check(world);
}
