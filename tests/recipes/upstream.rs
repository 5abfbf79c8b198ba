use std::collections::VecDeque;
use std::io;
use std::mem::replace;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handlers::{
    CloseReason, Connecting, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Flow,
};
use reactor::{Context, Then, TimerKey};

/// A connection that has lasted this long has worked. Neither a successful connect nor a greeting
/// proves that.
const STEADY: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
const WAITING_MAX: usize = 10_000;

struct Forwarder {
    upstream: SocketAddr,
    link: Link,
    /// Consecutive connections that did not work.
    failures: u32,
    waiting: VecDeque<Bytes>,
    full: bool,
    /// Returns a random number. A test that has to be repeatable draws it from a seed.
    random: Box<dyn FnMut() -> u64>,
}

enum Link {
    Connecting(Connecting<Forwarder>),
    Open(ConnectionKey<Forwarder>),
    Waiting(TimerKey),
    Ended,
}

/// Sends a message now, or later. If too many wait, the oldest is lost.
fn send(message: Bytes, cx: &mut Context<'_, Forwarder>) {
    cx.state.waiting.push_back(message);
    if cx.state.waiting.len() > WAITING_MAX {
        cx.state.waiting.pop_front();
    }
    if let Link::Open(link) = cx.state.link {
        // If the connection is ending this returns an error, and the messages keep waiting.
        let _ = link.with(cx, |connection, cx| feed(connection, cx.state));
    }
}

fn feed(connection: &mut Connection<'_, Forwarder>, state: &mut Forwarder) {
    while !state.full
        && let Some(message) = state.waiting.pop_front()
    {
        // Stops at the watermark: messages queued in the connection are lost with it.
        state.full = matches!(connection.write_bytes(message), Ok(Flow::Full) | Err(_));
    }
}

fn dial(cx: &mut Context<'_, Forwarder>) {
    let session = Session { opened: None };
    cx.state.link = Link::Connecting(Connection::connect(
        cx.registry,
        [cx.state.upstream],
        &ConnectionOptions::new(),
        session,
    ));
}

/// Ends the link for good. Bytes written to the connection are sent. Nothing is dialled after that.
fn end(cx: &mut Context<'_, Forwarder>) {
    match replace(&mut cx.state.link, Link::Ended) {
        Link::Connecting(connecting) => connecting.cancel(cx.registry),
        Link::Open(link) => {
            drop(link.with(cx, |connection, _cx| connection.close_after_flush(GRACE)))
        }
        Link::Waiting(timer) => drop(cx.registry.cancel(timer)),
        Link::Ended => {}
    }
}

/// Returns 100 ms to 25 s, doubled each time. Half of it is random, so that clients that lost the
/// same upstream at the same time do not all reconnect at the same time.
fn delay(failures: u32, random: u64) -> Duration {
    let longest = 100_000 << failures.min(8);
    Duration::from_micros(longest / 2 + random % (longest / 2 + 1))
}

struct Session {
    opened: Option<Instant>,
}

impl ConnectionHandler<Forwarder> for Session {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Forwarder>,
        cx: &mut Context<'_, Forwarder>,
    ) -> io::Result<()> {
        self.opened = Some(cx.now());
        (cx.state.link, cx.state.full) = (Link::Open(connection.key()), false);
        feed(connection, cx.state);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _: &mut Connection<'_, Forwarder>,
        _: &mut Context<'_, Forwarder>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Forwarder>,
        cx: &mut Context<'_, Forwarder>,
    ) -> io::Result<()> {
        cx.state.full = false;
        feed(connection, cx.state);
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, Forwarder>) {
        if matches!(cx.state.link, Link::Ended) {
            return;
        }
        if self
            .opened
            .is_some_and(|opened| cx.now().saturating_duration_since(opened) >= STEADY)
        {
            cx.state.failures = 0;
        }
        let delay = delay(cx.state.failures, (cx.state.random)());
        tracing::warn!(%reason, ?delay, "no upstream");
        cx.state.failures = cx.state.failures.saturating_add(1);
        cx.state.link = Link::Waiting(cx.registry.after(delay, |cx| {
            dial(cx);
            Ok(Then::Done)
        }));
    }
}
