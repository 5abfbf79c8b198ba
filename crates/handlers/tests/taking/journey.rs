//! A connection that moves between two loops, again and again, and echoes on its way.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Stream, Taken};
use reactor::{Context, LoopPool, Registry, Remote};
use support::Result;

const MOVES: usize = 1000;

/// The loops that a connection on a stream of type `T` moves between, and what is known of it.
pub(crate) struct Journey<T> {
    loops: [Remote<()>; 2],
    options: ConnectionOptions,
    known: Arc<Mutex<Known>>,
    stream: std::marker::PhantomData<fn(T)>,
}

impl<T> Clone for Journey<T> {
    fn clone(&self) -> Self {
        Self {
            loops: self.loops.clone(),
            options: self.options.clone(),
            known: Arc::clone(&self.known),
            stream: self.stream,
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    received: Vec<u8>,
    moves: usize,
    /// The loop that the connection is on, and the threads that its handlers have run on.
    at: usize,
    threads: Vec<ThreadId>,
    closed: Vec<String>,
}

impl<T: Stream + Send> Journey<T> {
    /// Opens a connection on the first loop of a pool.
    pub(crate) fn begin(
        pool: &LoopPool<()>,
        options: ConnectionOptions,
        stream: T,
    ) -> Result<Self> {
        let remote = |number| pool.get(number).cloned().ok_or("there are two loops");
        let journey = Self {
            loops: [remote(0)?, remote(1)?],
            options,
            known: Arc::default(),
            stream: std::marker::PhantomData,
        };
        let first = journey.clone();
        journey.loops[0].post(move |cx| {
            let options = first.options.clone();
            Connection::open(cx.registry, stream, &options, Echoes(first)).expect("there is room");
        })?;
        Ok(journey)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no other thread has panicked")
    }

    /// Returns `true` once the connection has moved often enough, and stays.
    pub(crate) fn is_over(&self) -> bool {
        self.known().moves >= MOVES
    }

    fn open(&self, taken: Taken<T>, registry: &mut Registry<()>) {
        let opened = taken.open(registry, &self.options, Echoes(self.clone()));
        opened.expect("there is room");
    }

    /// Moves the stream to the other loop.
    fn go_on(&self, taken: Taken<T>) {
        let to = {
            let mut known = self.known();
            known.moves += 1;
            known.at = 1 - known.at;
            known.at
        };
        let journey = self.clone();
        let posted = self.loops[to].post(move |cx| journey.open(taken, cx.registry));
        posted.expect("the loop is there");
    }

    /// Asserts that all bytes have arrived and come back, and that the connection has moved.
    #[track_caller]
    pub(crate) fn expect_whole(&self, sent: &[u8], echo: &[u8]) {
        let known = self.known();
        let (received, back) = (known.received.len(), echo.len());
        assert!(known.received == sent, "{received} of {} bytes", sent.len());
        assert!(echo == sent, "{back} of {} bytes came back", sent.len());
        let ends = |reason: &str| known.closed.iter().filter(|end| *end == reason).count();
        assert_eq!(
            (known.moves, ends("taken"), ends("finished")),
            (MOVES, MOVES, 1),
            "{:?}",
            known.closed.last()
        );
        assert_eq!(known.closed.len(), MOVES + 1);
        let mut threads = known.threads.clone();
        threads.dedup();
        let count = threads.len();
        assert!(count > MOVES / 2, "it has moved {count} times");
    }
}

/// Echoes a part of its input, and then goes to the other loop with the rest.
struct Echoes<T>(Journey<T>);

impl<T: Stream + Send> ConnectionHandler<()> for Echoes<T> {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, ()>,
        cx: &mut Context<'_, ()>,
    ) -> io::Result<usize> {
        let journey = self.0.clone();
        let stays = journey.is_over();
        let consumed = if stays {
            data.len()
        } else {
            data.len().div_ceil(2)
        };
        {
            let mut known = journey.known();
            known.received.extend_from_slice(&data[..consumed]);
            known.threads.push(thread::current().id());
        }
        let _ = connection.write(&data[..consumed])?;
        if !stays {
            let key = connection.key();
            cx.registry.defer(move |cx| {
                // Of several calls in a turn, the first has moved it.
                if let Ok(taken) = key.take(cx) {
                    journey.go_on(taken);
                }
            });
        }
        Ok(consumed)
    }

    fn on_close(&mut self, reason: CloseReason, _: &mut Context<'_, ()>) {
        self.0.known().closed.push(reason.to_string());
    }
}

/// Appends numbered bytes, the piece of this number. Its length varies. Returns its start.
pub(crate) fn append_piece(sent: &mut Vec<u8>, piece: usize) -> usize {
    let start = sent.len();
    sent.extend((start..=start + piece * 37 % 1500).map(|at| (at % 251) as u8));
    start
}
