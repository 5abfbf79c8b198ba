//! TLS in the simulation: a server of ours, clients of ours, and clients of another implementation.

mod check;
mod ends;
mod reload;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionOptions, Flow, ListenOptions, ServerKey,
    SocketStream,
};
use reactor::{Context, Reactor, Registry};
use simulation::{Daemon, Faults, Seeds, Simulation};

use crate::streams::{CERTIFICATE, NAME, Stream, client_config, server_config};

const ADDRESS: &str = "127.0.0.1:7777";

/// Returns options that no slow network runs into.
fn options() -> ConnectionOptions {
    let high = 1 + simulation::random(100_000) as usize;
    ConnectionOptions::new()
        .handshake_timeout(None)
        .connect_timeout(None)
        .watermarks(simulation::random(high as u64) as usize, high)
        .max_bytes_per_turn(1 + simulation::random(50_000) as usize)
}

/// Returns a message, which begins with its length.
fn draw_message() -> Vec<u8> {
    let length = 4 + simulation::random(1 << (3 + simulation::random(14))) as usize;
    let mut message = (length as u32).to_be_bytes().to_vec();
    message.extend((4..length).map(|_| simulation::random(256) as u8));
    message
}

/// Returns `true` if a message has the length that it begins with.
fn is_whole(message: &[u8]) -> bool {
    let length = message.first_chunk::<4>().copied().map(u32::from_be_bytes);
    length.is_some_and(|length| length as usize == message.len())
}

/// The connections of a loop.
#[derive(Debug, Default)]
struct Count {
    opened: usize,
    finished: usize,
    failed: usize,
}

/// Sends its message, and counts what comes back; a server has none, and echoes.
struct Party {
    message: Option<Vec<u8>>,
    sent: usize,
    received: Vec<u8>,
    is_open: bool,
    has_ended: bool,
    /// The server is stopped before the messages are complete.
    is_stopped: Rc<Cell<bool>>,
}

impl Party {
    fn new(message: Option<Vec<u8>>, is_stopped: &Rc<Cell<bool>>) -> Self {
        Self {
            message,
            sent: 0,
            received: Vec::new(),
            is_open: false,
            has_ended: false,
            is_stopped: Rc::clone(is_stopped),
        }
    }

    fn send(&mut self, connection: &mut Connection<'_, Count>) -> io::Result<()> {
        let Some(message) = &self.message else {
            return Ok(());
        };
        while self.sent < message.len() {
            let end = self.sent + 1 + simulation::random(20_000) as usize;
            let end = end.min(message.len());
            let flow = connection.write(&message[self.sent..end])?;
            self.sent = end;
            if flow == Flow::Full {
                return Ok(());
            }
        }
        connection.shutdown();
        Ok(())
    }
}

impl ConnectionHandler<Count> for Party {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Count>,
        cx: &mut Context<'_, Count>,
    ) -> io::Result<()> {
        assert!(!self.is_open, "it is opened once");
        self.is_open = true;
        cx.state.opened += 1;
        if self.message.is_some() {
            connection.read_while_full();
        }
        self.send(connection)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Count>,
        _: &mut Context<'_, Count>,
    ) -> io::Result<usize> {
        assert!(self.is_open && !self.has_ended);
        self.received.extend_from_slice(data);
        match &self.message {
            Some(message) => assert!(message.starts_with(&self.received)),
            None => drop(connection.write(data)?),
        }
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Count>,
        _: &mut Context<'_, Count>,
    ) -> io::Result<()> {
        self.send(connection)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, Count>,
        _: &mut Context<'_, Count>,
    ) -> io::Result<()> {
        assert!(rest.is_empty() && !self.has_ended, "it ends once");
        self.has_ended = true;
        let length = self.received.len();
        // A stopped server ends before its client has sent all.
        let may_be_short = self.message.is_some() && self.is_stopped.get();
        assert!(may_be_short || is_whole(&self.received), "cut at {length}");
        connection.shutdown_after_responses();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Count>) {
        match reason {
            CloseReason::Finished => cx.state.finished += 1,
            reason => {
                cx.state.failed += 1;
                simulation::note(match reason {
                    CloseReason::Failed(_) => "failed",
                    _ => "closed",
                });
            }
        }
    }
}

fn expect_nothing_left(reactor: &Reactor<Count>) {
    assert_eq!(reactor.reasons_to_run().count(), 0);
    // A queue has no descriptor. It stays with its loop.
    let sources = reactor.registrations().filter(|source| source.fd >= 0);
    assert_eq!((sources.count(), reactor.timers().count()), (0, 0));
}

fn serve(
    registry: &mut Registry<Count>,
    is_stopped: &Rc<Cell<bool>>,
) -> io::Result<ServerKey<Count>> {
    let listener = loop {
        match ListenOptions::new().bind(&ADDRESS.parse().unwrap()) {
            Ok(listener) => break listener,
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
    };
    let (config, is_stopped) = (server_config(), Rc::clone(is_stopped));
    let protect = move |stream: SocketStream| config.accept(stream.into_tcp()?);
    listener.serve_as(registry, &options(), protect, move |_peer, _cx| {
        Ok(Party::new(None, &is_stopped))
    })
}

/// Runs a client of ours. Returns `true` if it has ended as intended.
fn run_ours(number: usize, message: Vec<u8>, is_stopped: &Rc<Cell<bool>>) -> bool {
    let party = Party::new(Some(message), is_stopped);
    let client = Daemon::start(&format!("client {number}"), move |reactor| {
        let config = client_config();
        let protect = move |stream| config.connect(stream, NAME);
        let address: SocketAddr = ADDRESS.parse().unwrap();
        Connection::connect_as(reactor, [address], &options(), protect, party);
        Ok((Count::default(), ()))
    });
    let (count, reactor) = client.join();
    expect_nothing_left(&reactor);
    assert_eq!(count.finished + count.failed, 1, "the end is reported once");
    count.finished == 1
}

/// Runs a client of rustls' buffered interface, which cuts its stream at `cut`. Returns what comes
/// back, if the stream has ended with close_notify.
fn run_other(message: &[u8], cut: Option<usize>) -> io::Result<Vec<u8>> {
    let mut stream = Stream::Tls.connect(ADDRESS.parse().unwrap())?;
    stream.handshake()?;
    let sent = &message[..cut.unwrap_or(message.len())];
    for piece in sent.chunks(1 + simulation::random(5000) as usize) {
        stream.write_all(piece)?;
        simulation::sleep(Duration::from_micros(simulation::random(10_000)));
    }
    if cut.is_some() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    stream.shutdown_write()?;
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    assert!(message.starts_with(&received), "{} bytes", received.len());
    end.map(|_| received)
}

/// A server and some clients. With `is_clean`, no client fails unless it cuts its stream.
fn trial(is_clean: bool) {
    let is_stopped = Rc::new(Cell::new(false));
    let stopped = Rc::clone(&is_stopped);
    let server = Daemon::start("server", move |reactor| {
        Ok((Count::default(), serve(reactor, &stopped)?))
    });
    let stops = !is_clean && simulation::random(2) == 0;
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let (message, is_stopped) = (draw_message(), Rc::clone(&is_stopped));
            let cuts = simulation::random(4) == 0;
            let cut = cuts.then(|| simulation::random(message.len() as u64) as usize);
            simulation::process(&format!("process {number}"), move || {
                if number % 2 == 0 {
                    let is_done = run_ours(number, message, &is_stopped);
                    assert!(is_done || !is_clean);
                    return;
                }
                match run_other(&message, cut) {
                    Ok(received) => assert!(received == message || is_stopped.get()),
                    Err(error) => assert!(!is_clean || cut.is_some(), "{error}"),
                }
            })
        })
        .collect();
    if stops {
        simulation::sleep(Duration::from_millis(simulation::random(200)));
        is_stopped.set(true);
    }
    let grace = Duration::from_millis(simulation::random(5000));
    let end = |server: Daemon<Count, ServerKey<Count>>| {
        let (count, reactor) = server.end(move |key, cx| key.stop(cx.registry, grace));
        expect_nothing_left(&reactor);
        assert!(count.opened <= count.finished + count.failed, "{count:?}");
    };
    if stops {
        end(server);
        clients.into_iter().for_each(simulation::Handle::join);
    } else {
        clients.into_iter().for_each(simulation::Handle::join);
        end(server);
    }
}

#[test]
fn sessions_keep_every_byte_whatever_the_timing() {
    LazyLock::force(&CERTIFICATE);
    Seeds::new(0..50)
        .faults(Faults::slow())
        .check(|| trial(true));
}

#[test]
fn no_fault_makes_a_cut_session_look_whole() {
    LazyLock::force(&CERTIFICATE);
    Seeds::new(0..100)
        .faults(Faults::all())
        .check(|| trial(false));
}

#[test]
fn a_run_is_the_same_whatever_the_keys_are() {
    LazyLock::force(&CERTIFICATE);
    for seed in 0..10 {
        let run = || {
            let simulation = Simulation::new(seed).faults(Faults::all());
            simulation.run(|| trial(false)).hash
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
