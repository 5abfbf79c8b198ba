//! Keys of UDP sockets: sending from the callback of another source or of a timer.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use reactor::{Context, Error, Io, Key};

use super::handler::Udp;
use super::sending::Sending;
use super::socket::UdpSocket;
use crate::carried::in_own_context;

/// Identifies a socket on its loop. The key is `Copy`. Like a [`Key`], it is checked at each use:
/// if the socket has ended, the call returns an error, and never reaches another socket.
pub struct UdpKey<S> {
    key: Key,
    state: PhantomData<fn(S)>,
}

impl<S: 'static> UdpKey<S> {
    pub(super) const fn new(key: Key) -> Self {
        Self {
            key,
            state: PhantomData,
        }
    }

    /// Returns the key of the socket's registration. Use it to pause receiving, to set a timeout,
    /// or to remove the socket.
    pub const fn key(self) -> Key {
        self.key
    }

    /// Calls `act` with the sending side of the socket. Use this to send from the callback of
    /// another source or of a timer. In the socket's own callbacks you need no key, since they get
    /// the sending side as an argument.
    ///
    /// When `act` has returned, this method calls
    /// [`on_failure`](super::DatagramHandler::on_failure) for each error that has occurred
    /// meanwhile. Datagrams that were queued are sent when the socket has room. With the feature
    /// `request-context`, `act` runs in the context of its caller, and `on_failure` in that of the
    /// socket.
    ///
    /// # Cost
    /// O(1), in addition to the cost of `act`.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the socket has ended.
    /// - [`Error::Running`] in the socket's own callbacks.
    /// - [`Error::Os`] if epoll refuses to report when the socket has room again. In this case
    ///   `act` has already run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::udp::{self, UdpSocket};
    /// use reactor::{Missed, Next, Reactor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let collector = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let socket = UdpSocket::connect(collector.local_addr()?)?;
    /// let metrics = udp::add(&mut reactor, socket, |_answer, _socket, _cx| Ok(Next::Keep))?;
    /// reactor.every(Duration::from_millis(10), Missed::Skip, move |cx| {
    ///     if let Err(full) = metrics.with(cx, |socket, _cx| socket.send(b"turns:1|c"))? {
    ///         eprintln!("a sample is lost: {full}");
    ///     }
    ///     Ok(Next::Keep)
    /// });
    /// # reactor.turn(&mut (), None)?;
    /// # assert_eq!(collector.recv(&mut [0; 16])?, 9);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with<R>(
        self,
        cx: &mut Context<'_, S>,
        act: impl FnOnce(&mut Sending<'_>, &mut Context<'_, S>) -> R,
    ) -> Result<R, Error> {
        cx.with_handler(self.key, |io: &mut Io<UdpSocket>, udp: &mut Udp<S>, cx| {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let result = act(
                    &mut Sending {
                        io,
                        send: &mut udp.send,
                    },
                    cx,
                );
                in_own_context(cx, |cx| udp.report_failures(cx));
                result
            }));
            // This also runs after a panic of `act`, since datagrams that were queued before the
            // panic must still be sent. The panic is then passed on to the caller.
            if cx.registry.contains(self.key) {
                udp.want_room(self.key, cx.registry)?;
            }
            Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
        })?
    }
}

impl<S> Clone for UdpKey<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for UdpKey<S> {}

impl<S> PartialEq for UdpKey<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<S> Eq for UdpKey<S> {}

impl<S> Hash for UdpKey<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Displays as the [`Key`] of the socket's registration.
impl<S> fmt::Display for UdpKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<S> fmt::Debug for UdpKey<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpKey({})", self.key)
    }
}
