//! The acceptor: the handler that the loop calls for a listener.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reactor::{CloseReason, Context, Handler, Interest, Io, Key, Next, Registry};
use rustix::io::Errno;

use super::accepted::{Accepted, Listen, Peer};
use super::admission::{Admission, Entry};
use super::bind::Socket;
use super::options::ListenOptions;
#[cfg(feature = "proxy-protocol")]
use super::preamble::Preambles;
use super::reports::Reports;
use super::{on_end, stopping};
use crate::backoff::{Backoff, Jitter};
use crate::connection::RateLimit;
use crate::error::{errno, is_out_of_resources};
use crate::server::Server;
use crate::sockets::{SocketStream, has_input, listen};

/// The first and the longest pause while resources for another connection are missing. Pauses have
/// no jitter, because an attempt costs nobody else anything.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The interest of a listener that has backed off by itself.
///
/// If the user pauses the listener through its key, its interest is empty, and such a pause must
/// not be ended here. So this interest is not empty. It is never met, because a listening socket
/// never reports urgent data.
const BACKED_OFF: Interest = Interest::PRIORITY;

/// Registers a listening socket on a loop.
#[track_caller]
pub(super) fn add<S, F>(
    socket: Socket,
    options: ListenOptions,
    server: Arc<Server>,
    registry: &mut Registry<S>,
    accept: F,
) -> io::Result<Key>
where
    F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    // The queue that reports room and the preambles need the listener's key, and the listener needs
    // them. So the key is filled in last.
    let own_key = Rc::new(Cell::new(Key::NULL));
    let admission = match options.limit {
        Some(limit) => Some(Admission::new(
            limit,
            options.when_full,
            registry,
            &own_key,
        )?),
        None => None,
    };
    let room = admission
        .as_ref()
        .map_or(Key::NULL, |admission| admission.room);
    let acceptor = Acceptor {
        max_accepts_per_turn: options.max_accepts_per_turn,
        server,
        accept,
        admission,
        accept_rate: options.accept_rate,
        #[cfg(feature = "proxy-protocol")]
        preambles: options
            .proxy_protocol
            .map(|options| Preambles::new(options, Rc::clone(&own_key))),
        pauses: Backoff::new(PAUSES.0, PAUSES.1).jitter(Jitter::None),
        pause: PAUSES.0,
        is_stopping: false,
        reports: Reports::default(),
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
        let _ = registry.remove(room); // it is `Key::NULL` without a limit
    }
    own_key.set(*added.as_ref().unwrap_or(&Key::NULL));
    added
}

struct Acceptor<F> {
    max_accepts_per_turn: usize,
    server: Arc<Server>,
    accept: F,
    admission: Option<Admission>,
    accept_rate: Option<RateLimit>,
    /// The connections whose PROXY header has not been passed on, if it is expected.
    #[cfg(feature = "proxy-protocol")]
    preambles: Option<Rc<Preambles>>,
    pauses: Backoff,
    /// The length of the last pause for lack of resources.
    pause: Duration,
    /// `true` while the server stops: connections that are already queued are accepted, then the
    /// listener ends.
    is_stopping: bool,
    reports: Reports,
}

impl<F> Acceptor<F> {
    /// Accepts no more until [`end_back_off`], or for `pause`. A stopping listener pauses at most
    /// for the rest of its grace period.
    fn back_off<S>(&self, pause: Option<Duration>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        cx.registry.set_interest(cx.key(), BACKED_OFF)?;
        let left = stopping::grace_left(cx.registry, cx.key());
        let left = if self.is_stopping {
            left
        } else {
            left.map(|_| Duration::ZERO)
            // `stop` was called, but this listener has not begun to stop: call it at once.
        };
        if let Some(pause) = pause.into_iter().chain(left).min() {
            cx.registry.set_timeout(cx.key(), Some(pause))?;
        }
        Ok(Next::Keep)
    }

    /// Resumes after a pause, or begins to stop. Returns `true` if the listener has to end now.
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
            // A second listen(2) changes the length of the queue and keeps its entries. With a
            // length of 0, hardly any new connection joins the queue.
            if let Err(error) = listen(listener.as_fd(), 0) {
                tracing::debug!(%error, "listen(2) failed: accept queue not shortened");
            }
            #[cfg(feature = "proxy-protocol")]
            if let Some(preambles) = &self.preambles {
                preambles.hurry(cx);
            }
        }
        Ok(grace_left.is_zero())
    }

    /// Returns `true` if the listener may go on. The callback of the last connection may have
    /// removed or paused the listener.
    fn may_accept<S>(&self, cx: &Context<'_, S>) -> bool {
        match cx.registry.interest(cx.key()) {
            Ok(interest) => self.is_stopping || interest.contains(Interest::READABLE),
            Err(_) => false,
        }
    }

    /// Ends a call that has accepted as many connections as one turn allows.
    fn end_turn<S>(&self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        if self.is_stopping && cx.registry.contains(cx.key()) {
            // More connections may be queued, and no event reports them.
            cx.registry.set_timeout(cx.key(), Some(Duration::ZERO))?;
        }
        Ok(Next::Keep)
    }
}

impl<F> Acceptor<F> {
    /// Ends a pause or begins to stop after a timeout, and accepts the connections in the queue, as
    /// many as one turn allows.
    fn accept_queued<S>(
        &mut self,
        listener: &mut Io<impl Listen>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next>
    where
        F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()>,
    {
        if cx.readiness().is_timeout() && self.resume_or_stop(listener, cx)? {
            return Ok(Next::Remove);
        }
        // A stopping listener asks the kernel itself: epoll may not have reported the connections
        // that arrived just before.
        let direction = if self.is_stopping {
            Interest::NONE
        } else {
            Interest::READABLE
        };
        for _ in 0..self.max_accepts_per_turn {
            if !self.may_accept(cx) {
                break;
            }
            // Checked before the limit: if the queue is empty, a listener at its limit can end too.
            if self.is_stopping && !has_input(listener.as_fd()) {
                return self.end_of_queue(cx);
            }
            let entry = self.next_entry(cx.now());
            if let Entry::Waits(pause) = entry {
                return self.back_off(pause, cx);
            }
            match listener.try_io(direction, |listener| Listen::accept(listener)) {
                Ok(accepted) => {
                    self.pauses.reset();
                    if let Err(error) = self.admit(entry, accepted, cx) {
                        self.reports.dropped(&error, cx.now());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.is_stopping => {
                    return self.end_of_queue(cx);
                }
                // After `shutdown(2)` of a listening Unix socket, accept(2) fails with `EAGAIN`
                // every time.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && cx.readiness().is_read_closed() =>
                {
                    return Err(Errno::INVAL.into());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) if is_out_of_resources(&error) => {
                    self.pause = self.pauses.next_delay();
                    self.reports.out_of_resources(&error, self.pause, cx.now());
                    return self.back_off(Some(self.pause), cx);
                }
                Err(error) if listens_no_more(&error) => return Err(error),
                // accept(2) also returns errors of one connection. The next connection may be fine.
                Err(error) => tracing::debug!(%error, "accept(2) failed for one connection"),
            }
        }
        self.end_turn(cx)
    }

    /// Returns how the next client is treated.
    fn next_entry(&mut self, now: Instant) -> Entry {
        if let Some(rate) = &self.accept_rate {
            let wait = rate.time_until(1, now);
            if !wait.is_zero() {
                return Entry::Waits(Some(wait));
            }
        }
        let Some(admission) = &self.admission else {
            return Entry::Open(None);
        };
        let entry = admission.next_entry();
        if matches!(entry, Entry::Waits(_)) {
            self.reports.at_limit(&admission.limit, now);
        }
        entry
    }

    /// Serves or refuses a connection that was accepted.
    fn admit<S>(
        &mut self,
        entry: Entry,
        accepted: (SocketStream, Peer),
        cx: &mut Context<'_, S>,
    ) -> io::Result<()>
    where
        F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()>,
    {
        if let Some(rate) = &self.accept_rate {
            rate.take(1, cx.now());
        }
        let server = Arc::clone(&self.server);
        match (entry, &self.admission) {
            (Entry::Open(permit), _) => self.pass_on(Accepted::new(accepted, permit, server), cx),
            (_, Some(admission)) => {
                self.reports.refused(&admission.limit, cx.now());
                admission.refuse(Accepted::new(accepted, None, server), cx.registry)
            }
            (_, None) => Ok(()), // without a limit, each client is served
        }
    }

    /// Passes a connection to the callback, or first waits for its PROXY header.
    fn pass_on<S>(&mut self, accepted: Accepted, cx: &mut Context<'_, S>) -> io::Result<()>
    where
        F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()>,
    {
        #[cfg(feature = "proxy-protocol")]
        if let Some(preambles) = &self.preambles {
            return preambles.begin(accepted, self.is_stopping, cx.registry);
        }
        (self.accept)(accepted, cx)
    }

    /// Ends a listener that stops and has accepted all queued connections. If some of them wait for
    /// their PROXY header, it ends after them.
    fn end_of_queue<S>(&self, cx: &mut Context<'_, S>) -> io::Result<Next> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(preambles) = &self.preambles
            && preambles.is_pending()
        {
            return self.back_off(None, cx);
        }
        let _ = cx;
        Ok(Next::Remove)
    }
}

#[cfg(feature = "proxy-protocol")]
impl<F> Acceptor<F> {
    /// Passes on the connections whose PROXY header has arrived, and accepts those in the queue.
    fn accept_arrived<S, L: Listen>(
        &mut self,
        preambles: &Preambles,
        listener: &mut Io<L>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next>
    where
        F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()>,
    {
        let next = if self.pass_on_arrived(preambles, cx) > 0 && is_in_pause(cx) {
            self.back_off(Some(self.pause), cx)
        } else {
            self.accept_queued(listener, cx)
        };
        if preambles.has_arrived() {
            // Call the listener again. An error means that it ends.
            let _ = cx.registry.set_timeout(cx.key(), Some(Duration::ZERO));
        }
        next
    }

    /// Passes on the connections whose PROXY header has arrived, as many as one turn allows.
    /// Returns their number.
    fn pass_on_arrived<S>(&mut self, preambles: &Preambles, cx: &mut Context<'_, S>) -> usize
    where
        F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()>,
    {
        for count in 0..self.max_accepts_per_turn {
            // The callback may have ended the listener.
            if !cx.registry.contains(cx.key()) {
                return count;
            }
            let Some(accepted) = preambles.next_arrived(cx.registry) else {
                return count;
            };
            if let Err(error) = (self.accept)(accepted, cx) {
                self.reports.dropped(&error, cx.now());
            }
        }
        self.max_accepts_per_turn
    }
}

impl<S, L: Listen, F> Handler<S, L> for Acceptor<F>
where
    F: FnMut(Accepted, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn ready(&mut self, listener: &mut Io<L>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(preambles) = self.preambles.clone() {
            return preambles.end_at_panic(cx, |cx| self.accept_arrived(&preambles, listener, cx));
        }
        self.accept_queued(listener, cx)
    }

    fn closed(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        if let Some(admission) = &self.admission {
            // An error means that it has ended, after a notification that came meanwhile.
            let _ = cx.registry.remove(admission.room);
        }
        #[cfg(feature = "proxy-protocol")]
        if let Some(preambles) = &self.preambles {
            preambles.end(cx);
        }
        let stops = stopping::end(cx.registry, cx.key()).is_some();
        if !stops && !matches!(reason, CloseReason::ByKey) {
            tracing::error!(%reason, "listener ended");
        }
        on_end::report(cx.registry, cx.key(), reason);
    }
}

/// Accepts again after backing off, for every cause. If the user has paused the listener through
/// its key, the pause goes on.
pub(super) fn end_back_off<S>(listener: Key, cx: &mut Context<'_, S>) -> io::Result<Next> {
    if cx.registry.interest(listener)? == BACKED_OFF {
        cx.registry.set_interest(listener, Interest::READABLE)?;
        if stopping::grace_left(cx.registry, listener).is_some() {
            // A stopping listener must find out whether the queue is empty, and no event reports
            // that.
            cx.registry.set_timeout(listener, Some(Duration::ZERO))?;
        }
    }
    Ok(Next::Keep)
}

/// Returns `true` if the listener whose handler is running has backed off, and does not stop. Its
/// pause does not end because a PROXY header has arrived.
#[cfg(feature = "proxy-protocol")]
fn is_in_pause<S>(cx: &mut Context<'_, S>) -> bool {
    let is_stopping = stopping::grace_left(cx.registry, cx.key()).is_some();
    !is_stopping && cx.registry.interest(cx.key()).ok() == Some(BACKED_OFF)
}

/// Returns `true` if the socket does not listen, or no longer does. `shutdown(2)` stops it, even if
/// another process that shares the socket calls it.
fn listens_no_more(error: &io::Error) -> bool {
    let ends = [Errno::INVAL, Errno::BADF, Errno::NOTSOCK];
    errno(error).is_some_and(|errno| ends.contains(&errno))
}
