//! The acceptor: what the loop calls for a listener.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Capacity, CloseReason, Context, Handler, Interest, Io, Key, Next, Registry, Sender,
    notification_queue,
};
use rustix::io::Errno;
use socket2::SockRef;

use super::accepted::{Accepted, Listen};
use super::bind::Socket;
use super::options::ListenOptions;
use super::{on_end, stopping};
use crate::error::errno;
use crate::limit::{ConnectionLimit, Permit};
use crate::socket::has_input;

/// The first pause when there is no room for another connection; it doubles up to the second while there is none.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The interest of a listener that has backed off by itself. It tells that from a pause by its key, which is not ours
/// to end: there the interest is empty. Of all interests the one in urgent data is not met by a listening socket.
const BACKED_OFF: Interest = Interest::PRIORITY;

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
    let room = admission
        .as_ref()
        .map_or(Key::NULL, |admission| admission.room);
    let acceptor = Acceptor {
        max_accepts_per_turn: options.max_accepts_per_turn,
        accept,
        admission,
        pause: BACK_OFF.0,
        is_stopping: false,
    };
    let added = match socket {
        Socket::Tcp(listener) => registry
            .add_handler(listener, Interest::READABLE, acceptor)
            .map_err(Into::into),
        Socket::Unix(socket) => registry
            .add_handler(socket, Interest::READABLE, acceptor)
            .map_err(Into::into),
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
    fn new<S>(
        limit: ConnectionLimit,
        registry: &mut Registry<S>,
        listener: Rc<Cell<Key>>,
    ) -> io::Result<Self> {
        let (wake, receiver) = notification_queue(Capacity::Unbounded);
        let room = registry.consume(receiver, move |room, cx| match room {
            Some(()) if cx.registry.contains(listener.get()) => end_back_off(listener.get(), cx),
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
    max_accepts_per_turn: usize,
    accept: F,
    admission: Option<Admission>,
    /// How long the next pause is.
    pause: Duration,
    /// Its server stops: who has connected by now is accepted, and then it ends.
    is_stopping: bool,
}

impl<F> Acceptor<F> {
    /// Accepts no more until [`end_back_off`], for at most `pause`. A listener that is to end does so no longer than
    /// its grace.
    fn back_off<S>(&self, pause: Option<Duration>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        cx.registry.set_interest(cx.key(), BACKED_OFF)?;
        let left = stopping::grace_left(cx.registry, cx.key());
        let left = if self.is_stopping {
            left
        } else {
            left.map(|_| Duration::ZERO)
        }; // it is to begin to stop
        if let Some(pause) = pause.into_iter().chain(left).min() {
            cx.registry.set_timeout(cx.key(), Some(pause))?;
        }
        Ok(Next::Keep)
    }

    /// Resumes after a pause, or begins to stop. Returns whether the listener has to end now.
    fn resume_or_stop<S>(
        &mut self,
        listener: &impl AsFd,
        cx: &mut Context<'_, S>,
    ) -> io::Result<bool> {
        end_back_off(cx.key(), cx)?;
        let Some(grace_left) = stopping::grace_left(cx.registry, cx.key()) else {
            return Ok(false);
        };
        if !self.is_stopping {
            self.is_stopping = true;
            // listen(2) again changes the length of the queue, and nothing of what is in it: hardly anybody comes
            // behind.
            if let Err(error) = SockRef::from(listener).listen(0) {
                tracing::debug!(%error, "the queue of a listener that ends stays as long as it was");
            }
        }
        Ok(grace_left.is_zero())
    }

    /// Returns whether the listener may go on: the callback of the last connection may have removed or paused it.
    fn may_accept<S>(&self, cx: &Context<'_, S>) -> bool {
        match cx.registry.interest(cx.key()) {
            Ok(interest) => self.is_stopping || interest.contains(Interest::READABLE),
            Err(_) => false,
        }
    }

    /// All that a turn has room for has been accepted.
    fn end_turn<S>(&self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.is_stopping && cx.registry.contains(cx.key()) {
            cx.registry.set_timeout(cx.key(), Some(Duration::ZERO))?; // there may be more that no event tells of
        }
        Ok(Next::Keep)
    }
}

impl<S, L: Listen, F> Handler<S, L> for Acceptor<F>
where
    F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn ready(&mut self, listener: &mut Io<L>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if cx.readiness().is_timeout() && self.resume_or_stop(listener, cx)? {
            return Ok(Next::Remove);
        }
        // A listener that ends asks the kernel itself: nobody has said yet who came just before.
        let direction = if self.is_stopping {
            Interest::NONE
        } else {
            Interest::READABLE
        };
        for _ in 0..self.max_accepts_per_turn {
            if !self.may_accept(cx) {
                break;
            }
            // Also where there is no room: a limit that is used up is no reason to wait for nobody.
            if self.is_stopping && !has_input(&*listener) {
                return Ok(Next::Remove);
            }
            let permit = match self.admission.as_ref().map(Admission::acquire) {
                Some(None) => return self.back_off(None, cx),
                permit => permit.flatten(),
            };
            match listener.try_io(direction, |listener| Listen::accept(listener)) {
                Ok(accepted) => {
                    self.pause = BACK_OFF.0;
                    if let Err(error) = (self.accept)(Accepted::new(accepted, permit), cx) {
                        tracing::warn!(%error, "a connection is dropped");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_stopping => {
                    return Ok(Next::Remove);
                }
                // A Unix socket that was shut down has nobody to accept, for ever, and accept(2) says EAGAIN.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && cx.readiness().is_read_closed() =>
                {
                    return Err(Errno::INVAL.into());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) if is_out_of_resources(&error) => {
                    tracing::warn!(%error, pause = ?self.pause, "no room for another connection: accepting pauses");
                    let pause = self.pause;
                    self.pause = (pause * 2).min(BACK_OFF.1);
                    return self.back_off(Some(pause), cx);
                }
                Err(error) if listens_no_more(&error) => return Err(error),
                // accept(2) passes on what went wrong with that one connection: the next one is another matter.
                Err(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
            }
        }
        self.end_turn(cx)
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        if let Some(admission) = &self.admission {
            let _ = cx.registry.remove(admission.room); // it is gone if it was told of room meanwhile
        }
        let stops = stopping::end(cx.registry, cx.key()).is_some();
        if !stops && !matches!(reason, CloseReason::ByKey) {
            tracing::error!(%reason, "a listener has ended");
        }
        on_end::report(cx.registry, cx.key(), reason);
    }
}

/// Accepts again after backing off, for whatever reason; a pause by the key goes on.
fn end_back_off<S>(listener: Key, cx: &mut Context<'_, S>) -> io::Result<Next> {
    if cx.registry.interest(listener)? == BACKED_OFF {
        cx.registry.set_interest(listener, Interest::READABLE)?;
        if stopping::grace_left(cx.registry, listener).is_some() {
            cx.registry.set_timeout(listener, Some(Duration::ZERO))?; // no event tells of an empty queue
        }
    }
    Ok(Next::Keep)
}

/// The socket is none that listens, or not any more: `shutdown(2)` ends that, also from another process that has it.
fn listens_no_more(error: &io::Error) -> bool {
    let ends = [Errno::INVAL, Errno::BADF, Errno::NOTSOCK];
    errno(error).is_some_and(|errno| ends.contains(&errno))
}

/// The process, the system or the kernel's memory has nothing left for another connection.
fn is_out_of_resources(error: &io::Error) -> bool {
    let resources = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errno(error).is_some_and(|errno| resources.contains(&errno))
}
