//! An upstream: a link to another server that keeps itself up.
//!
//! ```text
//!            ┌────────── driver.rs: a timer ◀─────────┐
//!            ▼                                        │ on_close
//!   driver.rs  attempt ──▶ Connecting ──▶ session.rs  Session: a connection
//!                                                ▲    │ calls the handler of the user
//!   Upstream::send ─▶ queue.rs ─▶ feeding.rs ────┘    ▼
//! ```
//!
//! - The pure part knows neither a clock nor a socket: `queue.rs` has the messages, `trust.rs` the
//!   back-off and its reset, `targets.rs` the choice of the next target.
//! - [`Shared`] connects the pure part with the present connection: `feeding.rs` writes the
//!   messages, `stopping.rs` ends the link.
//! - The driver owns the handler of the user. It is at one place at a time: the attempt, the
//!   connection or the timer.
//!
//! Decision 0014 has the reasons.

mod attempts;
mod driver;
mod feeding;
mod metrics;
mod options;
mod queue;
mod refused;
mod session;
mod shared;
mod stopping;
mod targets;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Context, Registry};

use self::driver::{Connect, Driver};
pub use self::metrics::{UpstreamMetrics, UpstreamState};
pub use self::options::{Overflow, UpstreamOptions};
pub use self::refused::{UpstreamRefusal, UpstreamRefused};
use self::session::Session;
use self::shared::{Shared, Stage};
pub use self::targets::TargetOrder;
pub use self::trust::Proof;
use crate::connection::{
    ConnectionHandler, ConnectionKey, Flow, Stream, connect_next, connect_next_as,
};
use crate::names::Target;
use crate::sockets::SocketStream;

/// A link to another server that keeps itself up: it connects, and after the end of each connection
/// it waits and connects again.
///
/// The handler is an ordinary [`ConnectionHandler`], kept over all connections:
/// - [`on_open`](ConnectionHandler::on_open) is called when a connection has opened.
/// - [`on_close`](ConnectionHandler::on_close) is called when a connection has ended or an attempt
///   has failed. In this callback [`retry_in`](Self::retry_in) returns the delay before the next
///   attempt.
///
/// An `Upstream` is a handle. Clones refer to the same link. If all handles are dropped, the link
/// continues, and nothing can stop it except the end of its loop.
///
/// ```
/// use handlers::{ConnectionOptions, Upstream, UpstreamOptions, on_data};
/// use std::io::Read;
/// use std::net::TcpListener;
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let mut reactor = reactor::Reactor::<()>::new()?;
/// let discard = on_data(|data, _connection, _cx| Ok(data.len()));
/// let target = server.local_addr()?;
/// let upstream = Upstream::start(&mut reactor, [target], &UpstreamOptions::new(), discard);
/// let _ = upstream.send(&mut reactor, &b"hello\n"[..])?; // waits until the link is up
/// upstream.stop(&mut reactor, Duration::from_secs(5)); // sends what waits, then closes
/// let peer = std::thread::spawn(move || {
///     let mut received = String::new();
///     server.accept()?.0.read_to_string(&mut received).map(|_| received)
/// });
/// reactor.run(&mut ())?; // returns when the link has ended
/// assert_eq!(peer.join().unwrap()?, "hello\n");
/// # Ok(())
/// # }
/// ```
///
/// # Messages
/// [`send`](Self::send) takes whole messages. While the link is away they wait in a queue, up to
/// [`max_messages`](UpstreamOptions::max_messages) and [`max_bytes`](UpstreamOptions::max_bytes).
/// When a connection ends, the fate of its messages depends on the bytes that the kernel has taken:
/// - A message of which the kernel has taken no byte waits again, in its order.
/// - A message that the kernel has taken whole may have arrived or not. Without
///   [`acknowledged`](UpstreamOptions::acknowledged) it is forgotten, as with any socket. With it,
///   the message is kept as unacknowledged.
/// - A message that the kernel has taken in part has not arrived whole. Without `acknowledged` it
///   is dropped and counted as [lost](UpstreamMetrics::lost). With it, the message is kept as
///   unacknowledged. A message that a [layered stream](Stream#layered-streams), such as TLS, holds
///   encrypted counts as taken in part too, because the kernel may have taken a part of it.
///
/// The link never sends a message twice by itself. If the peer can recognize a message that it has
/// already, call [`resend`](Self::resend) in `on_open`.
///
/// The handler can also write to its connection. Such bytes are no message: they are lost with the
/// connection. Bytes that `on_open` writes come before all messages.
/// [`on_drain`](ConnectionHandler::on_drain) and [`on_sent`](ConnectionHandler::on_sent) are
/// also called for the bytes of messages.
///
/// # The end
/// The link ends after [`stop`](Self::stop). It keeps [`Reactor::run`](reactor::Reactor::run) alive
/// until then, also while it waits for the next attempt. Nothing else ends it, with two exceptions:
/// - Its loop is dropped.
/// - A panic of the handler unwinds through the loop, under
///   [`PanicPolicy::Propagate`](reactor::PanicPolicy::Propagate). After a panic of
///   [`on_close`](ConnectionHandler::on_close) the link continues if the loop is run again.
///
/// If the handler panics under another policy, the panic costs the connection, and the same handler
/// gets the next one.
///
/// # Contexts of requests
/// With the feature `request-context`, the handler is called in the context that was current when
/// the link was started, on each of its connections. A context that a callback sets lasts as long
/// as the connection.
///
/// # Restrictions
/// The handler cannot be [replaced](crate::Connection::replace_handler). The state of
/// the loop must be `'static`.
#[doc(alias("reconnect", "ReconnectingClientFactory"))]
pub struct Upstream<S: 'static> {
    shared: Rc<Shared<S>>,
}

impl<S> Upstream<S> {
    /// Starts a link to one of `targets`. Each attempt goes to one target, which is an address of
    /// TCP, a Unix socket, or a name. A name is looked up again for each attempt, by the resolver
    /// of the [options of the connection](UpstreamOptions::connection). No callback runs before
    /// `start` returns.
    ///
    /// No error is returned: an attempt that fails is reported by
    /// [`on_close`](ConnectionHandler::on_close), with the reasons of
    /// [`Connection::connect_to`](crate::Connection::connect_to), and repeated. If `targets` is
    /// empty, each attempt fails.
    ///
    /// # Cost
    /// Some allocations, in addition to the cost of
    /// [`Connection::connect_to`](crate::Connection::connect_to).
    #[track_caller]
    pub fn start<H>(
        registry: &mut Registry<S>,
        targets: impl IntoIterator<Item = impl Into<Target>>,
        options: &UpstreamOptions,
        handler: H,
    ) -> Self
    where
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        let targets = options.targets(targets);
        let connection = options.connection.clone();
        let connect = move |registry: &mut Registry<S>, session: Session<S, H>| {
            let target = targets.borrow_mut().next();
            connect_next(registry, target, &connection, session, line)
        };
        Self::drive(registry, options, Rc::new(connect), handler, line)
    }

    /// Starts a link as [`start`](Self::start) does. Each connection is opened on the stream that
    /// `make` makes of the connected socket, for example on a TLS stream.
    ///
    /// If `make` returns an error, the attempt fails with this error and is repeated. If `make`
    /// panics, the attempt fails with [`CloseReason::Panicked`](crate::CloseReason::Panicked).
    ///
    /// ```no_run
    /// use std::io;
    /// use std::net::TcpStream;
    /// use handlers::{SocketStream, Stream, Target, Upstream, UpstreamOptions, on_data};
    /// use reactor::Registry;
    ///
    /// /// Starts a link through a layer of your own.
    /// fn link_layered<L: Stream>(
    ///     registry: &mut Registry<()>,
    ///     to: Target,
    ///     layer: impl Fn(TcpStream) -> io::Result<L> + 'static,
    /// ) -> Upstream<()> {
    ///     let make = move |stream: SocketStream| layer(stream.into_tcp()?);
    ///     let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    ///     Upstream::start_as(registry, [to], &UpstreamOptions::new(), make, discard)
    /// }
    /// ```
    #[track_caller]
    pub fn start_as<T, H>(
        registry: &mut Registry<S>,
        targets: impl IntoIterator<Item = impl Into<Target>>,
        options: &UpstreamOptions,
        make: impl Fn(SocketStream) -> io::Result<T> + 'static,
        handler: H,
    ) -> Self
    where
        T: Stream,
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        let targets = options.targets(targets);
        let (connection, make) = (options.connection.clone(), Rc::new(make));
        let connect = move |registry: &mut Registry<S>, session: Session<S, H>| {
            let target = targets.borrow_mut().next();
            let make = Rc::clone(&make);
            let make = Box::new(move |stream| make(stream));
            connect_next_as(registry, target, &connection, make, session, line)
        };
        Self::drive(registry, options, Rc::new(connect), handler, line)
    }

    fn drive<H: ConnectionHandler<S>>(
        registry: &mut Registry<S>,
        options: &UpstreamOptions,
        connect: Connect<S, H>,
        handler: H,
        line: &'static Location<'static>,
    ) -> Self {
        let shared = Rc::new(Shared::new(options, line));
        let driver = Driver {
            shared: Rc::clone(&shared),
            handler,
            connect,
        };
        driver.attempt(registry);
        Self { shared }
    }

    /// Sends a message after all messages that were sent earlier. If the link is away, the message
    /// waits. No callback runs before `send` returns.
    ///
    /// The messages of a turn are written together, with the [deferred
    /// callbacks](Registry::defer) of the turn.
    ///
    /// A message does not carry a `RequestContext`. If the peer answers, keep the context with the
    /// list of the requests that wait for an answer, and handle the answer in its
    /// `RequestContext::scope`.
    ///
    /// Returns [`Flow::Full`] if the queue has reached half of one of its limits. If a single
    /// producer pauses then, and continues at [`on_room`](Self::on_room), it does not meet the
    /// limit, unless a message is longer than half of
    /// [`max_bytes`](UpstreamOptions::max_bytes).
    ///
    /// # Cost
    /// O(1) amortized. `message` is not copied here: see
    /// [`Connection::write_bytes`](crate::Connection::write_bytes).
    ///
    /// # Errors
    /// [`UpstreamRefused`] returns the message, with one of these reasons:
    /// - [`UpstreamRefusal::Full`] if the queue is full: see [`Overflow`].
    /// - [`UpstreamRefusal::TooLong`] if the message can never be sent.
    /// - [`UpstreamRefusal::Stopped`] after [`stop`](Self::stop), or if the link has ended.
    pub fn send(
        &self,
        registry: &mut Registry<S>,
        message: impl Into<Bytes>,
    ) -> Result<Flow, UpstreamRefused> {
        let message = message.into();
        if self.shared.is_stopping() {
            let reason = UpstreamRefusal::Stopped;
            return Err(UpstreamRefused { message, reason });
        }
        let pushed = self.shared.with_queue(|queue| queue.push(message));
        let flow = pushed.map_err(|(message, reason)| UpstreamRefused { message, reason })?;
        if let Stage::Up(_) = self.shared.stage() {
            self.shared.advance_later(registry);
        }
        Ok(flow)
    }

    /// Drops the oldest `count` messages of the present connection, because the peer has
    /// acknowledged them. Returns the number of messages that were dropped. Only messages that the
    /// kernel has taken whole can be acknowledged, so a result below `count` means that the peer
    /// acknowledges messages that it has not received. Without
    /// [`UpstreamOptions::acknowledged`] the result is 0.
    ///
    /// Unacknowledged messages of earlier connections are not counted. If they are [sent
    /// again](Self::resend), they are messages of the present connection.
    ///
    /// # Cost
    /// O(count).
    pub fn acknowledge(&self, registry: &mut Registry<S>, count: usize) -> usize {
        let acknowledged = self.shared.acknowledge(count);
        self.shared.after_removal(registry);
        acknowledged
    }

    /// Sends the unacknowledged messages of earlier connections again, before all messages that
    /// wait. Returns their number. Call it in [`on_open`](ConnectionHandler::on_open) to keep the
    /// order of all messages. The peer must be able to recognize a message that it already has.
    ///
    /// # Cost
    /// O(number of messages that wait).
    pub fn resend(&self, registry: &mut Registry<S>) -> usize {
        let count = self.shared.with_queue(queue::Queue::resend);
        self.shared.after_removal(registry);
        count
    }

    /// Removes and returns the unacknowledged messages of earlier connections, the oldest first. It
    /// also works after the end of the link.
    pub fn take_unacknowledged(&self, registry: &mut Registry<S>) -> Vec<Bytes> {
        let messages = self.shared.with_queue(queue::Queue::take_unacknowledged);
        self.shared.after_removal(registry);
        messages
    }

    /// Removes and returns the messages that wait, the oldest first: those that were not written to
    /// a connection. It also works after the end of the link.
    pub fn take_waiting(&self, registry: &mut Registry<S>) -> Vec<Bytes> {
        let messages = self.shared.with_queue(queue::Queue::take_waiting);
        self.shared.after_removal(registry);
        messages
    }

    /// Confirms that the present connection works, for example because the peer has accepted a
    /// login. The back-off begins again with its initial delay when the connection ends. With
    /// [`UpstreamOptions::send_when_confirmed`] the messages are sent from now on. Does nothing if
    /// no connection is open.
    pub fn confirm(&self, registry: &mut Registry<S>) {
        if let Stage::Up(_) = self.shared.stage() {
            self.shared.confirm();
            self.shared.advance_later(registry);
        }
    }

    /// Stops the link gracefully within `grace`. Later messages are refused. No callback runs
    /// before `stop` returns.
    ///
    /// - If a connection is open, the messages that wait are sent. With
    ///   [`UpstreamOptions::acknowledged`] the link also waits until all messages are acknowledged.
    ///   Then the connection is [closed gracefully](crate::Connection::close_gracefully).
    /// - If the link is away, it continues to connect while messages are left. It ends at once if
    ///   none is left.
    /// - When `grace` is over, the link ends although messages are left. A message that was sent in
    ///   part is cut by a reset.
    ///
    /// After the end, the [callbacks](Self::on_end) run, and
    /// [`take_waiting`](Self::take_waiting) and
    /// [`take_unacknowledged`](Self::take_unacknowledged) return the messages that are left. If
    /// `stop` is called several times, the earliest deadline holds.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use handlers::{Target, Upstream, UpstreamOptions, on_data};
    /// use handlers::signal::{self, Signal};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<()>::new()?;
    /// let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    /// let target: Target = "unix:/run/upstream.sock".parse().unwrap();
    /// let upstream = Upstream::start(&mut reactor, [target], &UpstreamOptions::new(), discard);
    /// signal::shutdown_on(&mut reactor, [Signal::TERM], move |_arrival, cx| {
    ///     upstream.stop(cx.registry, Duration::from_secs(5));
    /// })?;
    /// reactor.run(&mut ())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(&self, registry: &mut Registry<S>, grace: Duration) {
        self.shared.stop(registry, grace);
    }

    /// Calls `callback` once, with the [deferred callbacks](Registry::defer), when at most a
    /// quarter of each limit of the queue is used. If that holds already, the callback runs in this
    /// turn or the next one. It also runs when the link is stopped or has ended: then
    /// [`send`](Self::send) returns an error. If the loop is dropped before, the callback is
    /// dropped.
    ///
    /// ```
    /// use handlers::{Flow, Upstream};
    /// use reactor::Registry;
    ///
    /// /// Sends numbers, as fast as the link takes them.
    /// fn send_numbers(upstream: &Upstream<()>, mut next: u64, registry: &mut Registry<()>) {
    ///     loop {
    ///         match upstream.send(registry, next.to_be_bytes().to_vec()) {
    ///             Ok(Flow::Open) => next += 1,
    ///             Ok(Flow::Full) => break,
    ///             Err(_) => return,
    ///         }
    ///     }
    ///     let again = upstream.clone();
    ///     upstream.on_room(registry, move |cx| send_numbers(&again, next + 1, cx.registry));
    /// }
    /// ```
    pub fn on_room(
        &self,
        registry: &mut Registry<S>,
        callback: impl FnOnce(&mut Context<'_, S>) + 'static,
    ) {
        self.shared.on_room(registry, Box::new(callback));
    }

    /// Calls `callback` once, with the [deferred callbacks](Registry::defer), when the link has
    /// ended. If the link has ended already, the callback runs in this turn or the next one. If the
    /// loop is dropped before, or a panic unwinds through the loop, the callback is dropped.
    pub fn on_end(
        &self,
        registry: &mut Registry<S>,
        callback: impl FnOnce(&mut Context<'_, S>) + 'static,
    ) {
        self.shared.on_end(registry, Box::new(callback));
    }

    /// Returns the state of the link.
    pub fn state(&self) -> UpstreamState {
        match self.shared.stage() {
            Stage::Connecting => UpstreamState::Connecting,
            Stage::Up(_) => UpstreamState::Up,
            Stage::Down { .. } | Stage::Waiting { .. } => UpstreamState::Waiting,
            Stage::Ended => UpstreamState::Ended,
        }
    }

    /// Returns the time until the next attempt, or `None` if the link does not wait for it.
    pub fn retry_in(&self, registry: &Registry<S>) -> Option<Duration> {
        match self.shared.stage() {
            Stage::Down { until } | Stage::Waiting { until, .. } => {
                let left =
                    |until: std::time::Instant| until.saturating_duration_since(registry.now());
                Some(until.map_or(Duration::MAX, left))
            }
            _ => None,
        }
    }

    /// Returns the key of the present connection, or `None` if none is open.
    pub fn key(&self) -> Option<ConnectionKey<S>> {
        match self.shared.stage() {
            Stage::Up(key) => Some(key),
            _ => None,
        }
    }

    /// Returns the number of messages in the queue: those that
    /// [`max_messages`](UpstreamOptions::max_messages) counts.
    pub fn len(&self) -> usize {
        self.shared.with_queue(|queue| queue.len())
    }

    /// Returns `true` if no message is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the length of all messages in the queue together, in bytes.
    pub fn bytes(&self) -> usize {
        self.shared.with_queue(|queue| queue.bytes())
    }

    /// Returns the numbers of this link since its start.
    pub fn metrics(&self) -> UpstreamMetrics {
        self.shared.metrics()
    }
}

impl<S> Clone for Upstream<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }
}

impl<S> fmt::Debug for Upstream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("state", &self.state())
            .field("messages", &self.len())
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}
