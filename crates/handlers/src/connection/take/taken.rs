//! A stream that was taken from its connection.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::panic::Location;

use reactor::Registry;

use crate::connection::handler::ConnectionHandler;
use crate::connection::key::ConnectionKey;
use crate::connection::open::register;
use crate::connection::options::ConnectionOptions;
use crate::connection::registration::Registration;
use crate::connection::state::{Carried, Writing};
use crate::connection::stream::Stream;
use crate::connection::write::queue::WriteQueue;
use crate::limit::Permit;
use crate::sockets::reset_on_close;

/// A stream that was [taken](ConnectionKey::take) from its connection, with the bytes that were
/// read and not consumed, and the bytes that were written and not sent. It is `Send` if the stream
/// is, so you can [post](reactor::Remote::post) it to another loop.
///
/// If it is dropped, the stream is closed. If bytes were not sent or a response was
/// [pending](crate::Connection::begin_response), the stream is reset, so that the peer does not
/// mistake the bytes that it has for the whole stream.
pub struct Taken<T: Stream>(
    /// `None` only in the destructor of a value that was taken apart.
    Option<(T, Carried)>,
);

/// The parts of a [`Taken`] stream. [`Taken::into_parts`] returns them.
#[derive(Debug)]
#[non_exhaustive]
pub struct TakenParts<T> {
    /// The stream. It is non-blocking.
    pub stream: T,
    /// The bytes that were read and that the handler has not consumed.
    pub unread: Vec<u8>,
    /// The bytes that were written and that the stream has not taken.
    pub unsent: Vec<u8>,
    /// `true` if the peer has closed its write side, and its end was read.
    pub is_read_ended: bool,
    /// `true` if our write side is closed, or has to be closed once everything has been sent.
    pub is_write_ended: bool,
    /// The permit of the connection, if it was accepted below a
    /// [limit](crate::ListenOptions::limit).
    pub permit: Option<Permit>,
}

impl<T: Stream> Taken<T> {
    pub(super) const fn new(stream: T, carried: Carried) -> Self {
        Self(Some((stream, carried)))
    }

    pub(in crate::connection) fn into_inner(mut self) -> (T, Carried) {
        let Some(inner) = self.0.take() else {
            unreachable!("only the destructor follows")
        };
        inner
    }

    fn carried(&self) -> Option<&Carried> {
        self.0.as_ref().map(|(_, carried)| carried)
    }

    /// Returns the bytes that were read and that the handler has not consumed.
    pub fn unread(&self) -> &[u8] {
        self.carried().map_or(&[], |carried| &carried.unread)
    }

    /// Returns the number of bytes that were written and that the stream has not taken.
    pub fn unsent(&self) -> usize {
        let queue = self.carried().and_then(|carried| carried.queue.as_ref());
        queue.map_or(0, |queue| queue.len())
    }

    /// Opens a connection on the stream, on the loop of `registry`. The handler's
    /// [`on_open`](ConnectionHandler::on_open) runs after `open` has returned, with the [deferred
    /// callbacks](Registry::defer). After it, the handler is called with the unread bytes, and with
    /// the end of the stream if that was read. The unsent bytes are sent before all others.
    ///
    /// The connection has the permit of the old one. If its [server](crate::ServerKey) has stopped
    /// meanwhile, it is closed gracefully in what is left of the grace period. The options of the
    /// socket stay as they are.
    ///
    /// # Errors
    /// If one of these errors is returned, the stream is dropped:
    /// - [`Error::Full`](reactor::Error::Full) at the registration limit of the loop.
    /// - [`Error::AlreadyRegistered`](reactor::Error::AlreadyRegistered) or
    ///   [`Error::Os`](reactor::Error::Os) if the loop cannot watch the stream: see
    ///   [`Registry::add`].
    #[track_caller]
    pub fn open<S, H>(
        self,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: H,
    ) -> io::Result<ConnectionKey<S>>
    where
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        let (stream, carried) = self.into_inner();
        let is_truncated = carried.is_truncated;
        let registration = Registration::resumed::<T>(options, handler, carried);
        register(registry, stream, registration, line).map_err(|refused| {
            if is_truncated {
                reset_on_close(refused.inner.as_fd());
            }
            refused.into()
        })
    }

    /// Makes a stream of another protocol of this one, for example a TLS stream. Permit and server
    /// stay the same.
    ///
    /// Bytes that came before the change of protocol belong to the old protocol. If they were taken
    /// for bytes of the new one, an attacker on the way could add requests to a session that is
    /// protected later. So `upgrade` refuses a stream with unread bytes. It refuses a stream with
    /// unsent bytes too, because `make` would not know of them: use
    /// [`take_after_flush`](crate::Connection::take_after_flush).
    ///
    /// # Errors
    /// The stream is dropped if one of these is returned:
    /// - `InvalidData` if there are unread or unsent bytes. The error names their number, unless a
    ///   layered stream holds them.
    /// - The error of `make`.
    ///
    /// # Source
    /// CVE-2011-0411, CVE-2021-38371: STARTTLS command injection.
    pub fn upgrade<U: Stream>(self, make: impl FnOnce(T) -> io::Result<U>) -> io::Result<Taken<U>> {
        for (count, which) in [
            (
                self.unread().len(),
                "were received before the upgrade, which may be an injection",
            ),
            (
                self.unsent(),
                "were written before the upgrade and are not sent yet",
            ),
        ] {
            if count > 0 {
                let text = format!("cannot upgrade the stream: {count} bytes {which}");
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
        }
        let (stream, mut carried) = self.into_inner();
        // The new stream begins with its handshake, and the old one holds nothing.
        (carried.is_handshaking, carried.holds_output) = (true, false);
        if stream.has_buffered_input() || stream.buffered_output() > 0 {
            let text = "cannot upgrade the stream: it holds bytes from before the upgrade";
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(Taken::new(make(stream)?, carried))
    }

    /// Returns the stream and the bytes. Use it to go on with the stream outside of a connection.
    /// The parts do not belong to a [server](crate::ServerKey) any more.
    ///
    /// If unsent bytes are not sent, the caller must reset the stream, or its peer mistakes the
    /// bytes that it has for the whole stream.
    pub fn into_parts(self) -> TakenParts<T> {
        let (stream, carried) = self.into_inner();
        TakenParts {
            stream,
            unread: carried.unread,
            unsent: carried
                .queue
                .map_or_else(Vec::new, |queue| bytes_of(*queue)),
            is_read_ended: carried.is_read_ended,
            is_write_ended: carried.writing != Writing::Open,
            permit: carried.permit,
        }
    }
}

/// Returns all bytes of a queue, in order.
fn bytes_of(mut queue: WriteQueue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(queue.len());
    while queue.len() > 0 {
        let copied = queue.write_to(usize::MAX, |slices: &[IoSlice<'_>]| {
            let before = bytes.len();
            slices
                .iter()
                .for_each(|slice| bytes.extend_from_slice(slice));
            Ok(bytes.len() - before)
        });
        debug_assert!(copied.is_ok_and(|copied| copied > 0), "a queue has bytes");
    }
    bytes
}

impl<T: Stream> Drop for Taken<T> {
    fn drop(&mut self) {
        if let Some((stream, carried)) = &self.0
            && carried.is_truncated
        {
            reset_on_close(stream.as_fd());
        }
    }
}

impl<T: Stream> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken")
            .field("unread", &self.unread().len())
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}
