//! A server whose handlers do at random what a connection offers, clients that do at random what a
//! socket offers, and now and then a proxy between them. The streams are bare or layered, on TCP
//! and on Unix sockets.
//!
//! Each stream is a known sequence of bytes, so both ends know at each byte what they must see. The
//! kernel's buffers hold all that a client sends: what was sent has arrived a second later.

mod causes;
mod clients;
mod line;
mod machine;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{
    Connection, ConnectionKey, ConnectionLimit, ConnectionOptions, ListenOptions, Listener, Relay,
    ServerKey, SocketStream, Stream,
};
use reactor::{Context, Exit, Next, Reactor, Registry, Remote};
use simulation::{Faults, Seeds, random};

use self::clients::{Client, SENT_MAX, Way, talk};
use self::machine::{Machine, stop};
use crate::draw::{duration, once_in, size};
use crate::toy::Toy;

const SERVER: &str = "127.0.0.1:7000";
const PROXY: &str = "127.0.0.1:7001";
const UNIX: &str = "unix:/run/chaos";
/// Longer than anything that these daemons do.
const LONG: Duration = Duration::from_secs(24 * 3600);

type Cx<'a> = Context<'a, Rc<Daemon>>;

/// The state of the server.
#[derive(Default)]
struct Daemon {
    clients: RefCell<BTreeMap<u32, Rc<Client>>>,
    keys: RefCell<Vec<ConnectionKey<Rc<Self>>>>,
    /// The server of TCP, and perhaps one of a Unix socket.
    servers: RefCell<Vec<ServerKey<Rc<Self>>>>,
    /// The options of all connections.
    options: RefCell<ConnectionOptions>,
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
        .handshake_timeout(None)
}

/// Serves a listener. `make` makes the stream of an accepted one.
fn serve_as<T: Stream>(
    address: &str,
    registry: &mut Registry<Rc<Daemon>>,
    daemon: &Daemon,
    make: impl FnMut(SocketStream) -> io::Result<T> + 'static,
) {
    let options = daemon.options.borrow();
    let server = listen(address).serve_as(registry, &options, make, |_peer, _cx| {
        Ok(Machine::new::<T>())
    });
    daemon.servers.borrow_mut().push(server.unwrap());
}

/// Makes a layered stream that returns a drawn number of bytes at most.
fn layer<T: Stream>(stream: T) -> Toy<T> {
    let mut toy = Toy::new(stream);
    toy.max_read = 1 + size(10_000);
    toy
}

fn serve(daemon: &Rc<Daemon>, plan: Plan, ready: &RefCell<Option<Remote<Rc<Daemon>>>>) {
    let mut reactor = Reactor::builder()
        .max_events_per_turn(1 + size(16))
        .max_calls_per_turn(1 + size(16))
        .build()
        .unwrap();
    record_turns(&mut reactor);
    daemon.options.replace(options(daemon));
    let registry = &mut *reactor;
    if plan.is_layered {
        serve_as(SERVER, registry, daemon, |stream| {
            stream.into_tcp().map(layer)
        });
    } else {
        serve_as(SERVER, registry, daemon, SocketStream::into_tcp);
    }
    match (plan.has_unix, plan.is_layered) {
        (true, true) => serve_as(UNIX, registry, daemon, |stream| {
            stream.into_unix().map(layer)
        }),
        (true, false) => serve_as(UNIX, registry, daemon, SocketStream::into_unix),
        (false, _) => {}
    }
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

/// The parts of a world.
#[derive(Clone, Copy, Debug)]
struct Plan {
    has_proxy: bool,
    has_unix: bool,
    is_layered: bool,
}

impl Plan {
    fn draw() -> Self {
        Self {
            has_proxy: once_in(3),
            has_unix: once_in(3),
            is_layered: once_in(2),
        }
    }

    fn draw_way(self) -> Way {
        match random(4) {
            0 | 1 if self.has_proxy => Way::Proxy,
            2 if self.has_unix => Way::Unix,
            _ => Way::Tcp,
        }
    }
}

fn world() {
    let daemon = Rc::new(Daemon::default());
    let (ready, proxy_ready) = (Rc::default(), Rc::default());
    let plan = Plan::draw();
    let (state, announced) = (Rc::clone(&daemon), Rc::clone(&ready));
    let server = simulation::process("server", move || serve(&state, plan, &announced));
    simulation::wait_until(|| ready.borrow().is_some());
    let proxy = plan.has_proxy.then(|| {
        let announced = Rc::clone(&proxy_ready);
        let proxy = simulation::process("proxy", move || forward(&announced));
        simulation::wait_until(|| proxy_ready.borrow().is_some());
        proxy
    });
    let clients = (0..2 + random(8) as u32).map(|number| {
        let client = Rc::new(Client {
            number,
            way: plan.draw_way(),
            is_layered: plan.is_layered,
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
        stop(cx);
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
            || client.is_proxied()
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
