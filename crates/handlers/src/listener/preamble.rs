//! Preambles: the PROXY header in front of an accepted connection.
//!
//! Until its header has arrived, the connection is a registration of its own. The listener then
//! takes the stream out of it, and passes the connection on as if it had just been accepted.
//!
//! Ground rule: no byte after the header is read. The parser says how many bytes are part of the
//! header at least, and only these are read. So whatever follows is read by the connection itself,
//! be it plain text or TLS.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{CloseReason, Context, Handler, Interest, Io, Key, Next, Registry};

use super::accepted::Accepted;
use super::stopping;
use crate::error::named;
use crate::proxy_protocol::{Header, Progress, ProxyProtocol};
use crate::sockets::{SocketStream, reset_on_close};

/// The connections of a listener whose header has not been passed on.
pub(super) struct Preambles {
    options: ProxyProtocol,
    /// The listener. Its key is filled in when it is registered.
    listener: Rc<Cell<Key>>,
    /// The number of registrations.
    pending: Cell<usize>,
    /// The registrations whose header has arrived.
    arrived: RefCell<VecDeque<Key>>,
}

/// A request of a listener to its preambles. Other registrations ignore it.
enum Request {
    /// Fail, unless the header has already arrived.
    Hurry { listener: Key },
    /// Fail.
    End { listener: Key },
}

impl Preambles {
    pub(super) fn new(options: ProxyProtocol, listener: Rc<Cell<Key>>) -> Rc<Self> {
        Rc::new(Self {
            options,
            listener,
            pending: Cell::new(0),
            arrived: RefCell::default(),
        })
    }

    /// Waits for the header of a connection. A listener that stops waits only for what has already
    /// arrived.
    pub(super) fn begin<S>(
        self: &Rc<Self>,
        accepted: Accepted,
        is_stopping: bool,
        registry: &mut Registry<S>,
    ) -> io::Result<()> {
        let peer = accepted.peer();
        if !self.options.trusts(peer) {
            tracing::debug!(%peer, "connection closed: not from a trusted proxy");
            return Ok(());
        }
        let (stream, accepted) = accepted.replace_stream(());
        let preamble = Preamble {
            accepted,
            bytes: Vec::new(),
            header: None,
            of: Rc::clone(self),
        };
        let key = match stream {
            SocketStream::Tcp(stream) => {
                registry.add_handler(stream, Interest::READABLE, preamble)?
            }
            SocketStream::Unix(stream) => {
                registry.add_handler(stream, Interest::READABLE, preamble)?
            }
        };
        self.pending.set(self.pending.get() + 1);
        registry.set_origin(key, registry.origin(self.listener.get())?)?;
        let timeout = match is_stopping {
            true => Duration::ZERO,
            false => self.options.time_for_header(),
        };
        Ok(registry.set_timeout(key, Some(timeout))?)
    }

    /// Returns the next connection whose header has arrived.
    pub(super) fn next_arrived<S>(&self, registry: &mut Registry<S>) -> Option<Accepted> {
        loop {
            let key = self.arrived.borrow_mut().pop_front()?;
            // An error means that the user has removed it.
            if let Some((stream, preamble)) = take(registry, key) {
                self.pending.set(self.pending.get() - 1);
                let accepted = preamble.accepted.replace_stream(stream).1;
                return Some(match preamble.header {
                    Some(header) => accepted.with_header(header),
                    None => accepted,
                });
            }
        }
    }

    /// Returns `true` if a header has arrived and was not passed on.
    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.borrow().is_empty()
    }

    /// Returns `true` if a connection waits for its header, or to be passed on.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.get() > 0
    }

    /// Lets the preambles whose header has not arrived fail, because their server stops.
    pub(super) fn hurry<S>(&self, cx: &mut Context<'_, S>) {
        let listener = self.listener.get();
        self.request(&mut Request::Hurry { listener }, cx);
    }

    /// Calls the listener. If it panics, lets all preambles fail: the listener ends then, and under
    /// [`PanicPolicy::Propagate`](reactor::PanicPolicy::Propagate) it is not notified of that.
    pub(super) fn end_at_panic<S, R>(
        self: &Rc<Self>,
        cx: &mut Context<'_, S>,
        call: impl FnOnce(&mut Context<'_, S>) -> R,
    ) -> R {
        let called = catch_unwind(AssertUnwindSafe(|| call(cx)));
        called.unwrap_or_else(|panic| {
            let preambles = Rc::clone(self);
            cx.registry.defer(move |cx| preambles.end(cx));
            resume_unwind(panic)
        })
    }

    /// Lets all preambles fail, because their listener has ended.
    pub(super) fn end<S>(&self, cx: &mut Context<'_, S>) {
        let listener = self.listener.get();
        self.request(&mut Request::End { listener }, cx);
    }

    fn request<S>(&self, request: &mut Request, cx: &mut Context<'_, S>) {
        if !self.is_pending() {
            return;
        }
        let keys: Vec<Key> = cx.registry.registrations().map(|info| info.key).collect();
        for key in keys {
            let _ = cx.request(key, request); // an error means that it is the listener itself
        }
    }

    /// Calls the listener, which looks at its preambles. Returns `false` if it has ended.
    fn wake_listener<S>(&self, registry: &mut Registry<S>) -> bool {
        let wakes = registry.set_timeout(self.listener.get(), Some(Duration::ZERO));
        wakes.is_ok()
    }
}

/// Takes a preamble and its stream back from the loop.
fn take<S>(registry: &mut Registry<S>, key: Key) -> Option<(SocketStream, Preamble)> {
    if let Ok((stream, preamble)) = registry.take::<TcpStream, Preamble>(key) {
        return Some((SocketStream::Tcp(stream), preamble));
    }
    let (stream, preamble) = registry.take::<UnixStream, Preamble>(key).ok()?;
    Some((SocketStream::Unix(stream), preamble))
}

/// A connection that waits for its header.
struct Preamble {
    accepted: Accepted<()>,
    /// The part of the header that has arrived.
    bytes: Vec<u8>,
    header: Option<Header>,
    of: Rc<Preambles>,
}

impl Preamble {
    /// Reads what has arrived of the header, and nothing that follows it.
    fn read<T: Read + AsFd>(&mut self, io: &mut Io<T>) -> io::Result<Header> {
        loop {
            let more = match Header::parse(&self.bytes)? {
                Progress::Complete { header, .. } => return Ok(header),
                Progress::Incomplete(more) => more,
            };
            let begun = self.bytes.len();
            self.bytes.resize(begun + more, 0);
            let read = io.read(&mut self.bytes[begun..]);
            self.bytes
                .truncate(begun + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                let text = "the peer has ended within its PROXY header";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
        }
    }

    /// Reads the header, and calls the listener once it has arrived.
    fn advance<S, T: Read + AsFd>(
        &mut self,
        io: &mut Io<T>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        if cx.readiness().is_timeout() {
            return Err(self.missing(cx.registry));
        }
        self.header = Some(self.read(io)?);
        cx.registry.set_interest(cx.key(), Interest::NONE)?;
        cx.registry.set_timeout(cx.key(), None)?;
        self.of.arrived.borrow_mut().push_back(cx.key());
        let is_passed_on = self.of.wake_listener(cx.registry);
        Ok(if is_passed_on {
            Next::Keep
        } else {
            Next::Remove
        })
    }

    /// Returns the error of a header that has not arrived in time.
    fn missing<S>(&self, registry: &mut Registry<S>) -> io::Error {
        let is_stopping = stopping::grace_left(registry, self.of.listener.get()).is_some();
        let text = match is_stopping {
            true => "no PROXY header before the server stopped".to_owned(),
            false => format!(
                "no PROXY header within {:?}",
                self.of.options.time_for_header()
            ),
        };
        io::Error::new(ErrorKind::TimedOut, text)
    }
}

impl<S, T: Read + AsFd + 'static> Handler<S, T> for Preamble {
    fn ready(&mut self, io: &mut Io<T>, cx: &mut Context<'_, S>) -> io::Result<Next> {
        let result = self.advance(io, cx);
        result.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => error,
            _ => named(format_args!("peer {}", self.accepted.peer()), error),
        })
    }

    fn request(&mut self, _io: &mut Io<T>, request: &mut dyn Any, cx: &mut Context<'_, S>) {
        let ours = |listener: &Key| *listener == self.of.listener.get();
        // No error is possible: the registration exists, because it is in use.
        match request.downcast_ref() {
            Some(Request::Hurry { listener }) if ours(listener) && self.header.is_none() => {
                let _ = cx.registry.set_timeout(cx.key(), Some(Duration::ZERO));
            }
            Some(Request::End { listener }) if ours(listener) => {
                let _ = cx.registry.remove(cx.key());
            }
            _ => {}
        }
    }

    /// Resets the connection, which was accepted and is not served.
    fn closing(&mut self, io: &mut Io<T>) {
        reset_on_close(io.as_fd());
    }

    fn closed(&mut self, _reason: CloseReason, cx: &mut Context<'_, S>) {
        self.of.pending.set(self.of.pending.get() - 1);
        if stopping::grace_left(cx.registry, self.of.listener.get()).is_some() {
            self.of.wake_listener(cx.registry); // which may have waited only for this one
        }
    }
}
