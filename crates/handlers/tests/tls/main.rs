//! TLS connections on a loop: the turns that they take, their bytes, their ends. The peers are
//! connections of ours, or sessions of the buffered interface of rustls, which shares no code with
//! ours.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod alerts;
mod closing;
mod configs;
mod garbage;
#[path = "../taking/journey.rs"]
mod journey;
mod layers;
#[path = "../logged/mod.rs"]
mod logged;
mod memory;
mod moving;
mod peer;
mod relaying;
mod servers;
mod starttls;
mod taking;
mod tickets;
#[allow(dead_code, reason = "the tests of connections use more of it")]
#[path = "../connection/layered/toy.rs"]
mod toy;
mod traffic;
mod truncation;
mod turns;
mod upstreams;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use handlers::tls::{
    Tls, TlsCertificate, TlsClientConfig, TlsClientOptions, TlsError, TlsRoots, TlsServerConfig,
    TlsServerOptions,
};
use handlers::{
    CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Timeout,
};
use reactor::{Context, ManualClock, Reactor};
use support::{PATIENCE, Result, ms};

use self::peer::Peer;

const NAME: &str = "a.example";

/// A certificate that signs itself, and its key, as PEM.
static CERTIFICATE: LazyLock<[String; 2]> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    [made.cert.pem(), made.signing_key.serialize_pem()]
});

fn server_config() -> TlsServerConfig {
    let [chain, key] = CERTIFICATE.each_ref().map(String::as_str);
    let certificate = TlsCertificate::pem(chain, key);
    let options = TlsServerOptions::new().certificate(certificate);
    options.load().unwrap()
}

fn client_config() -> TlsClientConfig {
    let roots = TlsRoots::pem(CERTIFICATE[0].as_str());
    TlsClientOptions::new().roots(roots).load().unwrap()
}

/// The calls that handlers got.
#[derive(Debug, Default)]
struct Seen {
    log: Vec<String>,
    /// The bytes that each handler got, by its name.
    received: BTreeMap<&'static str, Vec<u8>>,
}

impl Seen {
    fn has(&self, event: &str) -> bool {
        self.log.iter().any(|entry| entry == event)
    }

    /// Returns the end of a connection, if it has ended.
    fn end_of(&self, name: &str) -> Option<&str> {
        let start = format!("{name} close ");
        let mut ends = self
            .log
            .iter()
            .filter_map(|entry| entry.strip_prefix(&start));
        let end = ends.next();
        assert_eq!(ends.next(), None, "the end is reported once: {self:?}");
        end
    }

    fn received(&self, name: &str) -> &[u8] {
        self.received.get(name).map_or(&[], Vec::as_slice)
    }
}

/// A handler that notes its calls, keeps its input, and leaves the rest to its closure.
struct Notes<F> {
    name: &'static str,
    on_data: F,
}

/// Returns a handler that only takes its input.
fn sink(name: &'static str) -> impl ConnectionHandler<Seen> {
    notes(name, |_, _, _| Ok(()))
}

/// Returns a handler that sends its input back.
fn echo(name: &'static str) -> impl ConnectionHandler<Seen> {
    notes(name, |data, connection, _| connection.write(data).map(drop))
}

/// Returns a handler that calls `on_data` with each input, after it was noted.
fn notes<F>(name: &'static str, on_data: F) -> Notes<F>
where
    F: FnMut(&[u8], &mut Connection<'_, Seen>, &mut Context<'_, Seen>) -> io::Result<()> + 'static,
{
    Notes { name, on_data }
}

impl<F> Notes<F> {
    fn note(&self, cx: &mut Context<'_, Seen>, event: &str) {
        cx.state.log.push(format!("{} {event}", self.name));
    }
}

impl<F> ConnectionHandler<Seen> for Notes<F>
where
    F: FnMut(&[u8], &mut Connection<'_, Seen>, &mut Context<'_, Seen>) -> io::Result<()> + 'static,
{
    fn on_open(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.note(cx, "open");
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let received = cx.state.received.entry(self.name).or_default();
        received.extend_from_slice(data);
        (self.on_data)(data, connection, cx)?;
        Ok(data.len())
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        assert_eq!(rest, b"", "all input is consumed");
        self.note(cx, "end");
        connection.shutdown_after_responses();
        Ok(())
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.note(cx, &timeout.to_string());
        connection.close();
        Ok(())
    }

    fn on_graceful_close(
        &mut self,
        _: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        self.note(cx, "graceful close");
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Seen>) {
        self.note(cx, &format!("close {}", named(&reason)));
    }
}

/// Returns the name of the end of a connection: of an error, its kind.
fn named(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Failed(error) => match TlsError::of(error) {
            Some(error) => format!("{:?}", error.kind()),
            None => format!("{:?}", error.kind()),
        },
        reason => reason.to_string(),
    }
}

/// A loop on a manual clock, and its state.
struct Bench {
    reactor: Reactor<Seen>,
    seen: Seen,
}

impl Bench {
    fn new() -> Result<Self> {
        Ok(Self {
            reactor: Reactor::builder().clock(ManualClock::new()).build()?,
            seen: Seen::default(),
        })
    }

    /// Opens the server side of a session on one end of a pair of sockets. Returns the peer on the
    /// other end, whose handshake has not begun.
    fn open(
        &mut self,
        options: &ConnectionOptions,
        handler: impl ConnectionHandler<Seen>,
    ) -> Result<(ConnectionKey<Seen>, Peer<UnixStream>)> {
        let (near, far) = UnixStream::pair()?;
        far.set_nonblocking(true)?;
        let stream = server_config().accept(near)?;
        let key = Connection::open(&mut self.reactor, stream, options, handler)?;
        Ok((key, Peer::client(far)))
    }

    /// Opens a session, whose handshake is done.
    fn open_established(
        &mut self,
        options: &ConnectionOptions,
        handler: impl ConnectionHandler<Seen>,
    ) -> Result<(ConnectionKey<Seen>, Peer<UnixStream>)> {
        let (key, mut peer) = self.open(options, handler)?;
        self.until(&mut peer, |seen, peer| {
            !seen.log.is_empty() && !peer.tls.is_handshaking()
        });
        self.run_until_idle();
        peer.step(); // takes the tickets
        Ok((key, peer))
    }

    /// Opens both sides of a session on a pair of sockets.
    fn open_pair(
        &mut self,
        options: &ConnectionOptions,
        server: impl ConnectionHandler<Seen>,
        client: impl ConnectionHandler<Seen>,
    ) -> Result<[ConnectionKey<Seen>; 2]> {
        let (near, far) = UnixStream::pair()?;
        let near: Tls<_> = server_config().accept(near)?;
        let far = client_config().connect(far, NAME)?;
        Ok([
            Connection::open(&mut self.reactor, near, options, server)?,
            Connection::open(&mut self.reactor, far, options, client)?,
        ])
    }

    /// Takes a turn that does not wait.
    fn turn(&mut self) -> usize {
        let zero = Duration::ZERO;
        self.reactor.turn(&mut self.seen, Some(zero)).unwrap()
    }

    /// Takes turns until there is nothing more to do.
    #[track_caller]
    fn run_until_idle(&mut self) {
        let began = Instant::now();
        while self.turn() > 0 {
            assert!(began.elapsed() < PATIENCE, "no rest: {:?}", self.seen.log);
        }
    }

    /// Takes turns until `done`.
    #[track_caller]
    fn turn_until(&mut self, done: impl Fn(&Seen) -> bool) {
        let began = Instant::now();
        while !done(&self.seen) {
            assert!(
                began.elapsed() < PATIENCE,
                "not in time: {:?}",
                self.seen.log
            );
            self.reactor.turn(&mut self.seen, Some(ms(1))).unwrap();
        }
    }

    /// Lets the loop and the peer go on until `done`.
    #[track_caller]
    fn until<T: peer::Socket>(
        &mut self,
        peer: &mut Peer<T>,
        done: impl Fn(&Seen, &Peer<T>) -> bool,
    ) {
        let began = Instant::now();
        while !done(&self.seen, peer) {
            let log = &self.seen.log;
            assert!(began.elapsed() < PATIENCE, "not in time: {log:?}, {peer:?}");
            let wait = if peer.step() { ms(0) } else { ms(1) };
            self.reactor.turn(&mut self.seen, Some(wait)).unwrap();
        }
    }

    /// Accesses a connection from a deferred callback.
    fn with<R: 'static>(
        &mut self,
        key: ConnectionKey<Seen>,
        access: impl FnOnce(&mut Connection<'_, Seen>, &mut Context<'_, Seen>) -> R + 'static,
    ) -> R {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        self.reactor.defer(move |cx| {
            *place.borrow_mut() = Some(key.with(cx, access).unwrap());
        });
        self.turn();
        result.take().unwrap()
    }

    /// Lets time pass.
    fn advance(&mut self, time: Duration) {
        self.reactor.advance(&mut self.seen, time).unwrap();
    }
}

/// Returns bytes that are not all alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place * 31 + place / 251) as u8)
        .collect()
}
