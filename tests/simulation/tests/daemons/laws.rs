//! The laws that every server keeps, whatever happens to it and its peers.
//!
//! 1. Each peer receives a prefix of its answer: no byte is lost, doubled or reordered.
//! 2. A stream that ends cleanly ends where an answer ends. A stream that was cut ends by an error.
//! 3. A stop answers what has arrived before it, within its grace.
//! 4. Every connection opens once, is given its bytes in order and once, and is told its end once,
//!    by its last callback.
//! 5. No timeout expires early. None is told while bytes wait that arrived before it.
//! 6. No limit is exceeded.
//! 7. Nothing is left at the end: no connection, no registration, no timer.
//!
//! The simulation itself checks that no wake is lost (nothing would ever happen again), that a turn
//! has a reason (a loop that spins), and that no socket stays open.
//!
//! A handler that is wrapped by [`Watched`] writes into a [`Book`] what it sees. Faults are
//! collected, since a panic in a handler may be one that the loop survives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use handlers::{CloseReason, Connection, ConnectionHandler, Peer, Timeout};
use reactor::{Context, Reactor};
use simulation::Simulation;

/// The faults of a run, and what is known of its connections on both sides.
#[derive(Clone, Default)]
pub(crate) struct Book(Rc<RefCell<Records>>);

#[derive(Default)]
struct Records {
    faults: Vec<String>,
    /// By the address of the client.
    connections: BTreeMap<SocketAddr, Record>,
    open: usize,
    open_max: Option<usize>,
}

/// One connection of a server.
#[derive(Default)]
pub(crate) struct Record {
    opened: usize,
    closed: usize,
    /// The bytes that the handler was given, in order.
    given: Vec<u8>,
    has_end: bool,
    /// The bytes that the client has sent.
    sent: Vec<u8>,
    has_shut_down: bool,
}

impl Book {
    /// Makes a book that checks that no more than `max` connections are open at once.
    pub(crate) fn with_limit(max: usize) -> Self {
        let book = Self::default();
        book.0.borrow_mut().open_max = Some(max);
        book
    }

    /// Records a fault. The trace has its number only: a text may name a descriptor or a time,
    /// which differ from run to run. [`check`](Self::check) reports the texts with their numbers.
    pub(crate) fn fault(&self, text: String) {
        let faults = &mut self.0.borrow_mut().faults;
        faults.push(text);
        simulation::note(&format!("fault {}", faults.len()));
    }

    pub(crate) fn expect(&self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.fault(text());
        }
    }

    /// Records what a client has sent, before it sends it.
    pub(crate) fn sends(&self, client: SocketAddr, bytes: &[u8]) {
        self.record(client, |record| record.sent.extend(bytes));
    }

    /// Records that a client ends its stream.
    pub(crate) fn shuts_down(&self, client: SocketAddr) {
        self.record(client, |record| record.has_shut_down = true);
    }

    /// Returns what the handler of a client's connection was given so far.
    pub(crate) fn given(&self, client: SocketAddr) -> Vec<u8> {
        self.record(client, |record| record.given.clone())
    }

    /// Returns how many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.0.borrow().open
    }

    /// Returns whether the handler of this client's connection was opened.
    pub(crate) fn knows(&self, client: SocketAddr) -> bool {
        self.record(client, |record| record.opened > 0)
    }

    fn record<R>(&self, client: SocketAddr, access: impl FnOnce(&mut Record) -> R) -> R {
        access(self.0.borrow_mut().connections.entry(client).or_default())
    }

    /// Wraps a handler by one that checks what it sees.
    pub(crate) fn watch<H>(&self, peer: &Peer, handler: H) -> Watched<H> {
        let Peer::Tcp(client) = *peer else {
            panic!("a simulated peer has an address")
        };
        Watched {
            handler,
            book: self.clone(),
            client,
            left: Vec::new(),
            stage: Stage::New,
            last_byte: None,
            idle_timeout: None,
        }
    }

    /// Checks that a loop whose `run` has returned has nothing left.
    pub(crate) fn expect_nothing_left<S>(&self, reactor: &Reactor<S>) {
        let left: Vec<String> = reactor
            .reasons_to_run()
            .map(|reason| format!("{reason:?}"))
            .collect();
        self.expect(left.is_empty(), || format!("left at the end: {left:?}"));
        // A queue has no descriptor. It stays with its loop.
        let sources: Vec<_> = reactor
            .registrations()
            .filter(|registration| registration.fd >= 0)
            .map(|registration| registration.to_string())
            .collect();
        self.expect(sources.is_empty(), || {
            format!("sources are left at the end: {sources:?}")
        });
        let timers = reactor.timers().count();
        self.expect(timers == 0, || {
            format!("{timers} timers are left at the end")
        });
    }

    /// Checks at the end of a run that every connection was told its end, unless the server was
    /// killed, and fails if any law was broken.
    #[track_caller]
    pub(crate) fn check(&self, was_killed: bool) {
        let mut records = self.0.borrow_mut();
        let Records {
            faults,
            connections,
            open,
            ..
        } = &mut *records;
        for (client, record) in connections.iter() {
            let Record { opened, closed, .. } = record;
            if *opened > 1 || opened < closed || !was_killed && opened != closed {
                faults.push(format!("{client}: opened {opened} times, closed {closed}"));
            }
            if !record.sent.starts_with(&record.given) {
                faults.push(format!("{client}: the handler was given other bytes"));
            }
            if record.has_end && (!record.has_shut_down || record.given != record.sent) {
                faults.push(format!(
                    "{client}: its stream ended after {} of {} bytes, shut down: {}",
                    record.given.len(),
                    record.sent.len(),
                    record.has_shut_down
                ));
            }
        }
        if !was_killed && *open > 0 {
            faults.push(format!("{open} connections were not told their end"));
        }
        let texts: Vec<String> = (1..)
            .zip(faults)
            .map(|(number, text)| format!("fault {number}: {text}"))
            .collect();
        assert!(texts.is_empty(), "{}", texts.join("\n"));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    New,
    Open,
    /// The peer has ended its stream.
    Ended,
    Closed,
}

/// A handler whose calls are checked against the laws.
pub(crate) struct Watched<H> {
    handler: H,
    book: Book,
    client: SocketAddr,
    /// The bytes that the last call did not consume.
    left: Vec<u8>,
    stage: Stage,
    last_byte: Option<Instant>,
    idle_timeout: Option<Duration>,
}

impl<H> Watched<H> {
    /// Checks that no idle or read timeout expires before this time without a byte.
    pub(crate) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    fn expect(&self, holds: bool, what: &dyn Debug) {
        let Self { client, stage, .. } = self;
        self.book
            .expect(holds, || format!("{client}: {what:?} while {stage:?}"));
    }
}

impl<S, H: ConnectionHandler<S>> ConnectionHandler<S> for Watched<H> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.expect(self.stage == Stage::New, &"on_open");
        self.stage = Stage::Open;
        self.last_byte = Some(cx.now());
        self.book.record(self.client, |record| record.opened += 1);
        {
            let mut records = self.book.0.borrow_mut();
            records.open += 1;
            let (open, max) = (records.open, records.open_max);
            if max.is_some_and(|max| open > max) {
                records.faults.push(format!("{open} connections are open"));
            }
        }
        self.handler.on_open(connection, cx)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        self.expect(self.stage == Stage::Open, &"on_data");
        self.expect(!data.is_empty(), &"on_data without bytes");
        self.expect(
            data.starts_with(&self.left),
            &"on_data without what was left",
        );
        let fresh = &data[self.left.len().min(data.len())..];
        if !fresh.is_empty() {
            self.last_byte = Some(cx.now());
        }
        self.book
            .record(self.client, |record| record.given.extend(fresh));
        let taken = self.handler.on_data(data, connection, cx);
        let rest = taken.as_ref().map_or(data, |taken| &data[*taken..]);
        self.left = rest.to_vec();
        taken
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.expect(
            matches!(self.stage, Stage::Open | Stage::Ended),
            &"on_drain",
        );
        self.handler.on_drain(connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.expect(self.stage == Stage::Open, &"on_end");
        self.expect(rest == self.left, &"on_end without what was left");
        self.stage = Stage::Ended;
        self.book
            .record(self.client, |record| record.has_end = true);
        self.handler.on_end(rest, connection, cx)
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.expect(
            matches!(self.stage, Stage::Open | Stage::Ended),
            &"on_graceful_close",
        );
        self.handler.on_graceful_close(connection, cx)
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.expect(self.stage == Stage::Open, &"on_failure");
        self.handler.on_failure(error, connection, cx)
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        self.expect(
            matches!(self.stage, Stage::Open | Stage::Ended),
            &"on_timeout",
        );
        if let (Some(last), Some(length)) = (self.last_byte, self.idle_timeout)
            && matches!(timeout, Timeout::Idle | Timeout::Read)
        {
            self.expect(cx.now() >= last + length, &("early", timeout));
        }
        self.handler.on_timeout(timeout, connection, cx)
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        self.expect(self.stage != Stage::Closed, &"on_close");
        // Without the texts of errors and panics: they may name an fd, whose number is another one
        // in each run.
        let ended = match &reason {
            CloseReason::Failed(error) => format!("failed: {:?}", error.kind()),
            CloseReason::Panicked(_) => "panicked".to_owned(),
            other => other.to_string(),
        };
        simulation::note(&format!("{}: {ended}", self.client));
        // A connection that has failed before it was open is told only that.
        if self.stage != Stage::New {
            self.book.record(self.client, |record| record.closed += 1);
            self.book.0.borrow_mut().open -= 1;
        }
        self.stage = Stage::Closed;
        self.handler.on_close(reason, cx);
    }
}

#[test]
fn the_trace_of_a_run_has_no_text_of_a_fault() {
    let hash = |text: &'static str| {
        let run = Simulation::new(0).run(|| Book::default().fault(text.to_owned()));
        run.hash
    };
    assert_eq!(hash("fd 7"), hash("fd 8"));
}
