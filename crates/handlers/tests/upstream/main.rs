//! Upstreams over real sockets, on a clock that the tests move.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod coming;
mod messages;
mod panics;
mod stopping;

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{
    Backoff, CloseReason, Connection, ConnectionHandler, Flow, Jitter, Target, Upstream,
    UpstreamOptions, UpstreamRefusal,
};
use reactor::{Context, ManualClock, PanicPolicy, Reactor};
use support::{PATIENCE, Result, listen};

/// The state of a loop with an upstream, and the calls of its handler.
#[derive(Default)]
struct App {
    upstream: Option<Upstream<Self>>,
    opened: usize,
    /// The peers of the connections.
    peers: Vec<SocketAddr>,
    received: Vec<u8>,
    /// The reasons for which connections have ended, with the delay that followed.
    closed: Vec<(String, Option<Duration>)>,
    /// The calls of `on_room` and of `on_end`.
    rooms: usize,
    ends: usize,
    /// Called by the callbacks of the handler.
    on_open: Option<Action>,
    on_data: Option<Action>,
    on_close: Option<Action>,
}

type Action = Rc<dyn Fn(&Upstream<App>, &mut Context<'_, App>)>;

impl App {
    fn upstream(&self) -> Upstream<Self> {
        self.upstream.clone().expect("an upstream")
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} opened {} closed {:?}",
            self.upstream, self.opened, self.closed
        )
    }
}

/// Notes its calls. It owns a handle of its upstream, as a handler of a user may.
#[derive(Default)]
struct Notes {
    _alive: Rc<()>,
}

/// Calls an action with the upstream.
fn act(action: Option<Action>, cx: &mut Context<'_, App>) {
    if let Some(action) = action {
        let upstream = cx.state.upstream();
        action(&upstream, cx);
    }
}

impl ConnectionHandler<App> for Notes {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<()> {
        cx.state.opened += 1;
        cx.state.peers.extend(connection.peer_addr().ok());
        act(cx.state.on_open.clone(), cx);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, App>,
        cx: &mut Context<'_, App>,
    ) -> io::Result<usize> {
        cx.state.received.extend(data);
        act(cx.state.on_data.clone(), cx);
        Ok(data.len())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, App>) {
        let delay = cx.state.upstream().retry_in(cx.registry);
        cx.state.closed.push((reason.to_string(), delay));
        act(cx.state.on_close.clone(), cx);
    }
}

/// A loop on a manual clock, with an upstream.
struct Setup {
    reactor: Reactor<App>,
    app: App,
    clock: ManualClock,
    /// A value of which the handler owns a clone.
    alive: Rc<()>,
    /// The numbers of connections that `accept` and `ends` have returned.
    accepted: usize,
    ended: usize,
}

const SECOND: Duration = Duration::from_secs(1);

/// Returns options whose delays are 1 s, 2 s, 4 s and then 8 s.
fn options() -> UpstreamOptions {
    UpstreamOptions::new().backoff(Backoff::new(SECOND, 8 * SECOND).jitter(Jitter::None))
}

impl Setup {
    fn new<T: Into<Target>>(
        targets: impl IntoIterator<Item = T>,
        options: &UpstreamOptions,
    ) -> Result<Self> {
        let mut setup = Self::empty()?;
        let handler = Notes {
            _alive: Rc::clone(&setup.alive),
        };
        let upstream = Upstream::start(&mut setup.reactor, targets, options, handler);
        setup.app.upstream = Some(upstream);
        Ok(setup)
    }

    fn empty() -> Result<Self> {
        let clock = ManualClock::new();
        let builder = Reactor::builder().on_panic(PanicPolicy::RemoveHandler);
        Ok(Self {
            reactor: builder.clock(clock.clone()).build()?,
            app: App::default(),
            clock,
            alive: Rc::new(()),
            accepted: 0,
            ended: 0,
        })
    }

    fn upstream(&self) -> Upstream<App> {
        self.app.upstream()
    }

    fn send(&mut self, message: &str) -> std::result::Result<Flow, UpstreamRefusal> {
        let message = message.to_owned();
        let sent = self.upstream().send(&mut self.reactor, message);
        sent.map_err(|refused| refused.reason)
    }

    #[track_caller]
    fn turn_until(&mut self, done: impl Fn(&App) -> bool) -> Result {
        support::turn_until(&mut self.reactor, &mut self.app, done)
    }

    fn advance(&mut self, time: Duration) -> Result {
        self.reactor.advance(&mut self.app, time)?;
        Ok(())
    }

    /// Takes turns until nothing happens.
    fn settle(&mut self) -> Result {
        support::turn_until_quiet(&mut self.reactor, &mut self.app)
    }

    /// Waits until the next connection is open, and returns the side of the peer.
    #[track_caller]
    fn accept(&mut self, listener: &TcpListener) -> Result<TcpStream> {
        let accepted = self.accepted;
        self.turn_until(|app| app.opened > accepted)?;
        self.accepted += 1;
        let (peer, _) = listener.accept()?;
        peer.set_read_timeout(Some(PATIENCE))?;
        Ok(peer)
    }

    /// Waits until the connection or the attempt has ended. Returns the delay before the next one.
    #[track_caller]
    fn ends(&mut self) -> Result<Duration> {
        let ended = self.ended;
        self.turn_until(|app| app.closed.len() > ended)?;
        self.ended += 1;
        let (_, delay) = self.app.closed.last().ok_or("it has ended")?;
        delay.ok_or_else(|| "it does not wait".into())
    }

    /// Waits until the next attempt.
    fn retry(&mut self) -> Result {
        let delay = self.upstream().retry_in(&self.reactor).ok_or("no retry")?;
        self.advance(delay)
    }

    /// Reads exactly these bytes, and takes turns meanwhile.
    #[track_caller]
    fn expect(&mut self, peer: &mut TcpStream, expected: &str) -> Result {
        assert_eq!(
            String::from_utf8(self.read(peer, expected.len())?)?,
            expected
        );
        Ok(())
    }

    /// Reads this many bytes, and takes turns meanwhile. Fewer are returned only at the end.
    #[track_caller]
    fn read(&mut self, peer: &mut TcpStream, count: usize) -> Result<Vec<u8>> {
        peer.set_nonblocking(true)?;
        let (mut bytes, began) = (vec![0; count], Instant::now());
        let mut filled = 0;
        while filled < count {
            assert!(
                began.elapsed() < PATIENCE,
                "{filled} of {count} bytes: {:?}",
                self.app
            );
            match peer.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.reactor
                        .turn(&mut self.app, Some(Duration::from_millis(1)))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(filled);
        peer.set_nonblocking(false)?;
        Ok(bytes)
    }

    /// Checks that the upstream has ended and has left nothing on the loop.
    #[track_caller]
    fn expect_end(mut self) -> Result {
        support::run_out(&mut self.reactor, &mut self.app)?;
        assert!(self.reactor.is_empty(), "{:?}", self.reactor);
        assert_eq!(self.reactor.timers().count(), 0);
        assert_eq!(Rc::strong_count(&self.alive), 1, "the handler is dropped");
        Ok(())
    }
}

fn notes(setup: &Setup) -> Notes {
    Notes {
        _alive: Rc::clone(&setup.alive),
    }
}

/// Returns an address that refuses.
fn refuses() -> Result<SocketAddr> {
    Ok(listen("127.0.0.1:0")?.1)
}
