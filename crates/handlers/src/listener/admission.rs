//! Admission: which clients a listener with a connection limit serves, refuses or lets wait.
//!
//! Ground rule: a refusal is bounded in time and number, so that clients that are refused cannot
//! take more descriptors than the limit allows. A client that has sent a request already reads the
//! answer: our side is closed first, and its input is discarded until it closes its own. A socket
//! that is closed with unread input is reset, and a reset may overtake the answer.

use std::cell::Cell;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Capacity, Context, Key, Next, Registry, Sender, notification_queue};

use super::accepted::Accepted;
use super::acceptor::end_back_off;
use crate::connection::{CloseReason, Connection, ConnectionHandler, ConnectionOptions};
use crate::limit::{ConnectionLimit, Permit};

/// The most clients of a listener that are being refused at once.
const REFUSALS_MAX: usize = 64;
/// The time within which a client that is refused must read its answer and close.
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// The most bytes that are discarded of a client in a turn.
const DISCARDED_MAX: usize = 64 * 1024;

/// The treatment of clients that connect while the
/// [limit](crate::ListenOptions::limit) of a listener is reached, for
/// [`ListenOptions::when_full`](crate::ListenOptions::when_full).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Clients wait in the kernel's accept queue until a connection has ended.
    #[default]
    Pause,
    /// Clients are accepted, get these bytes and the end of the stream, and are closed. With no
    /// bytes they only get the end of the stream.
    ///
    /// A client is closed when it has closed its own side, and after 5 seconds at the latest. Until
    /// then its input is discarded, so a client that has already sent a request can read the
    /// answer. A listener refuses at most 64 clients at once, in addition to its limit. Further
    /// clients wait in the accept queue.
    ///
    /// The bytes are sent as they are, without TLS and before a PROXY header is read.
    Refuse(Bytes),
}

/// The way in which the next client is treated.
pub(super) enum Entry {
    /// It is served.
    Open(Option<Permit>),
    Refused,
    /// It waits for this time, or until the listener is notified that there is room.
    Waits(Option<Duration>),
}

/// The part of a listener that keeps it below a connection limit.
pub(super) struct Admission {
    pub(super) limit: ConnectionLimit,
    /// Notifies this listener when the limit has room again.
    wake: Sender<()>,
    /// The registration of the queue that receives these notifications.
    pub(super) room: Key,
    /// `true` while the limit holds a clone of `wake`. It must not hold many.
    is_waiting: Rc<Cell<bool>>,
    refusals: Option<Refusals>,
}

impl Admission {
    /// Creates the queue. The listener does not exist yet, and its key is filled in afterwards.
    #[track_caller]
    pub(super) fn new<S>(
        limit: ConnectionLimit,
        when_full: WhenFull,
        registry: &mut Registry<S>,
        listener: &Rc<Cell<Key>>,
    ) -> io::Result<Self> {
        let is_waiting = Rc::new(Cell::new(false));
        let (wake, receiver) = notification_queue(Capacity::Unbounded);
        let (own, waits) = (Rc::clone(listener), Rc::clone(&is_waiting));
        let room = registry.consume(receiver, move |room, cx| {
            waits.set(false);
            match room {
                Some(()) if cx.registry.contains(own.get()) => end_back_off(own.get(), cx),
                _ => Ok(Next::Remove),
            }
        })?;
        registry.set_background(room)?;
        let refusals = match when_full {
            WhenFull::Pause => None,
            WhenFull::Refuse(answer) => Some(Refusals::new(answer, Rc::clone(listener))),
        };
        Ok(Self {
            limit,
            wake,
            room,
            is_waiting,
            refusals,
        })
    }

    /// Returns how the next client is treated.
    pub(super) fn next_entry(&self) -> Entry {
        if let Some(permit) = self.limit.try_acquire() {
            return Entry::Open(Some(permit));
        }
        if self.refusals.as_ref().is_some_and(Refusals::have_room) {
            return Entry::Refused;
        }
        if self.is_waiting.replace(true) {
            return Entry::Waits(None);
        }
        match self.limit.acquire_or_wait(&self.wake) {
            None => Entry::Waits(None),
            permit => {
                self.is_waiting.set(false);
                Entry::Open(permit)
            }
        }
    }

    /// Answers and closes an accepted connection.
    pub(super) fn refuse<S>(
        &self,
        accepted: Accepted,
        registry: &mut Registry<S>,
    ) -> io::Result<()> {
        let Some(refusals) = &self.refusals else {
            return Ok(());
        };
        let handler = Refusing {
            answer: refusals.answer.clone(),
            place: Some(Place::new(&refusals.count)),
            listener: refusals.listener.get(),
        };
        let opened = accepted.open_from(refusals.line, registry, &refusals.options, handler);
        opened.map(drop)
    }
}

/// The clients of a listener that are being refused.
struct Refusals {
    answer: Bytes,
    count: Rc<Cell<usize>>,
    listener: Rc<Cell<Key>>,
    options: ConnectionOptions,
    /// The line of user code that has registered the listener.
    line: &'static Location<'static>,
}

impl Refusals {
    #[track_caller]
    fn new(answer: Bytes, listener: Rc<Cell<Key>>) -> Self {
        Self {
            options: ConnectionOptions::new()
                .max_write_queue(answer.len())
                .max_bytes_per_turn(DISCARDED_MAX),
            answer,
            count: Rc::default(),
            listener,
            line: Location::caller(),
        }
    }

    fn have_room(&self) -> bool {
        self.count.get() < REFUSALS_MAX
    }
}

/// One of the [`REFUSALS_MAX`] places, until it is dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The handler of a connection that is refused.
struct Refusing {
    answer: Bytes,
    place: Option<Place>,
    listener: Key,
}

impl<S> ConnectionHandler<S> for Refusing {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        // An error means that the client is gone.
        let _ = connection.write_bytes(std::mem::take(&mut self.answer));
        connection.close_after_flush(REFUSAL_TIME);
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        _connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        Ok(data.len())
    }

    fn on_close(&mut self, _reason: CloseReason, cx: &mut Context<'_, S>) {
        self.place = None;
        // An error means that the listener has ended.
        let _ = end_back_off(self.listener, cx);
    }
}
