//! The acceptor: what the loop calls for a listener.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Capacity, Closed, Context, Handler, Interest, Io, Key, Next, Registry, Sender, notification_queue};
use rustix::io::Errno;

use super::accepted::{Accepted, Listen};
use super::bind::Socket;
use super::limit::{ConnectionLimit, Permit};
use super::options::ListenOptions;

/// The first pause when there is no room for another connection; doubled up to the second as long as there is none.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a listener wants while it rests by itself. That tells such a rest from a pause by its key, which is none of ours to end:
/// there nothing is wanted. Of all interests the one in urgent data is not met by a listening socket.
const RESTING: Interest = Interest::PRIORITY;

/// Puts a listening socket on a loop.
#[track_caller]
pub(super) fn add<S, F>(
    socket: Socket,
    options: ListenOptions,
    registry: &mut Registry<S>,
    accept: F,
) -> io::Result<Key>
where
    F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    let own_key = Rc::new(Cell::new(Key::NULL));
    let admission = match options.limit {
        Some(limit) => Some(Admission::new(limit, registry, Rc::clone(&own_key))?),
        None => None,
    };
    let room = admission.as_ref().map_or(Key::NULL, |admission| admission.room);
    let acceptor = Acceptor { accepts_per_turn: options.accepts_per_turn, accept, admission, pause: PAUSES.0 };
    let added = match socket {
        Socket::Tcp(listener) => registry.add_handler(listener, Interest::READABLE, acceptor).map_err(Into::into),
        Socket::Unix(socket) => registry.add_handler(socket, Interest::READABLE, acceptor).map_err(Into::into),
    };
    if added.is_err() {
        let _ = registry.remove(room); // there may be none
    }
    own_key.set(*added.as_ref().unwrap_or(&Key::NULL));
    added
}

/// What a listener needs to keep to a limit.
struct Admission {
    limit: ConnectionLimit,
    /// Tells this listener that there is room again.
    wake: Sender<()>,
    /// The registration of the queue by which it is told.
    room: Key,
}

impl Admission {
    /// The queue is there before the listener, whose key is known afterwards.
    #[track_caller]
    fn new<S>(limit: ConnectionLimit, registry: &mut Registry<S>, listener: Rc<Cell<Key>>) -> io::Result<Self> {
        let (wake, receiver) = notification_queue(Capacity::Unbounded);
        let room = registry.consume(receiver, move |room, cx| match room {
            Some(()) if cx.registry.contains(listener.get()) => end_rest(listener.get(), cx),
            _ => Ok(Next::Remove),
        })?;
        registry.set_background(room)?;
        Ok(Self { limit, wake, room })
    }

    /// Room for one more; without any, this listener is told once there is some.
    fn acquire(&self) -> Option<Permit> {
        let permit = self.limit.acquire_or_wait(&self.wake);
        if permit.is_none() {
            tracing::info!(limit = ?self.limit, "as many connections as allowed: accepting pauses");
        }
        permit
    }
}

struct Acceptor<F> {
    accepts_per_turn: usize,
    accept: F,
    admission: Option<Admission>,
    /// How long the next pause is.
    pause: Duration,
}

impl<F> Acceptor<F> {
    /// Accepts no more until [`end_rest`].
    fn rest<S>(&self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        cx.registry.set_interest(cx.key(), RESTING)?;
        Ok(Next::Keep)
    }
}

impl<S, L: Listen, F> Handler<S, L> for Acceptor<F>
where
    F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn ready(&mut self, listener: &mut Io<L>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if cx.readiness().is_timeout() {
            end_rest(cx.key(), cx)?;
        }
        for _ in 0..self.accepts_per_turn {
            if !cx.registry.interest(cx.key()).is_ok_and(|interest| interest.contains(Interest::READABLE)) {
                break; // who was told of the last one has removed or paused this listener
            }
            let permit = match self.admission.as_ref().map(Admission::acquire) {
                Some(None) => return self.rest(cx),
                permit => permit.flatten(),
            };
            match listener.try_io(Interest::READABLE, |listener| Listen::accept(listener)) {
                Ok(accepted) => {
                    self.pause = PAUSES.0;
                    if let Err(error) = (self.accept)(Accepted::new(accepted, permit), cx) {
                        tracing::warn!(%error, "a connection is dropped");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) if is_out_of_resources(&error) => {
                    tracing::warn!(%error, pause = ?self.pause, "no room for another connection: accepting pauses");
                    cx.registry.set_timeout(cx.key(), Some(self.pause))?;
                    self.pause = (self.pause * 2).min(PAUSES.1);
                    return self.rest(cx);
                }
                Err(error) if listens_no_more(&error) => return Err(error),
                // accept(2) passes on what went wrong with that one connection: the next one is another matter.
                Err(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
            }
        }
        Ok(Next::Keep)
    }

    fn closed(&mut self, reason: Closed, cx: &mut Context<'_, S>) {
        if let Some(admission) = &self.admission {
            let _ = cx.registry.remove(admission.room); // it is gone if it was told of room meanwhile
        }
        if !matches!(reason, Closed::ByKey) {
            tracing::error!(%reason, "a listener has ended");
        }
    }
}

/// Ends a rest, for whatever reason it was taken, and no pause by the key.
fn end_rest<S>(listener: Key, cx: &mut Context<'_, S>) -> io::Result<Next> {
    if cx.registry.interest(listener)? == RESTING {
        cx.registry.set_interest(listener, Interest::READABLE)?;
    }
    Ok(Next::Keep)
}

/// The socket is none that listens, or not any more: `shutdown(2)` ends that, also from another process that has it.
fn listens_no_more(error: &io::Error) -> bool {
    let ends = [Errno::INVAL, Errno::BADF, Errno::NOTSOCK];
    Errno::from_io_error(error).is_some_and(|errno| ends.contains(&errno))
}

/// The process, the system or the kernel's memory has nothing left for another connection.
fn is_out_of_resources(error: &io::Error) -> bool {
    let resources = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| resources.contains(&errno))
}
