//! Connecting and opening as another stream.
//!
//! The attempts are those of [`Connection::connect`]. The winner is a connection that reads
//! nothing: its stream is taken at once, another stream is made of it, and the handler of the user
//! gets a connection on that one.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;

use reactor::{Context, Key, Registry};

use super::by_target::connect_race;
use super::race::Race;
use super::{Connecting, PendingRace, new_race};
use crate::connection::connection::Connection;
use crate::connection::handler::ConnectionHandler;
use crate::connection::handshakes;
use crate::connection::key::ConnectionKey;
use crate::connection::later::{defer_for, run_later};
use crate::connection::options::ConnectionOptions;
use crate::connection::reason::CloseReason;
use crate::connection::registration::Registration;
use crate::connection::stream::Stream;
use crate::error::{copy_error, panic_message};
use crate::names::Target;
use crate::sockets::{Address, SocketStream};

impl<S> Connection<'_, S> {
    /// Connects by TCP to the first of `addresses` that answers, as [`connect`](Self::connect)
    /// does, and opens the connection on the stream that `make` makes of the connected socket, for
    /// example on a TLS stream.
    ///
    /// The attempts and their time limit are those of [`connect`](Self::connect). `make` is called
    /// once, for the attempt that has succeeded, and nothing has been read before. If the
    /// connection is not made, [`on_close`](ConnectionHandler::on_close) is called with one of the
    /// reasons listed there, or with one of these:
    /// - [`CloseReason::Failed`] with the error of `make`, or with the error of the loop that
    ///   cannot watch the new stream.
    /// - [`CloseReason::Panicked`] if `make` panics.
    ///
    /// [`Connecting::cancel`] works until the handshake of the new stream is complete. If the
    /// stream has none, it works until the stream is registered.
    ///
    /// ```no_run
    /// use std::io;
    /// use std::net::TcpStream;
    /// use handlers::{Connecting, Connection, ConnectionOptions, Stream, on_data};
    /// use reactor::Registry;
    ///
    /// /// Connects through a layer of your own.
    /// fn connect_layered<L: Stream>(
    ///     registry: &mut Registry<()>,
    ///     layer: impl FnOnce(TcpStream) -> io::Result<L> + 'static,
    /// ) -> Connecting<()> {
    ///     let address = ([127, 0, 0, 1], 7777).into();
    ///     let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    ///     Connection::connect_as(registry, [address], &ConnectionOptions::new(), layer, discard)
    /// }
    /// ```
    #[track_caller]
    pub fn connect_as<T, H>(
        registry: &mut Registry<S>,
        addresses: impl IntoIterator<Item = SocketAddr>,
        options: &ConnectionOptions,
        make: impl FnOnce(TcpStream) -> io::Result<T> + 'static,
        handler: H,
    ) -> Connecting<S>
    where
        T: Stream,
        H: ConnectionHandler<S>,
    {
        let line = Location::caller();
        let make = move |stream: SocketStream| make(stream.into_tcp()?);
        let pending = RaceAs::new(registry, options, Box::new(make), handler, line);
        let addresses = addresses.into_iter().map(Address::Tcp).collect();
        pending.race.begin(registry, addresses);
        Connecting {
            race: Rc::new(pending),
        }
    }
}

impl<S: 'static> Connection<'_, S> {
    /// Connects to `target`, as [`connect_to`](Self::connect_to) does, and opens the connection on
    /// the stream that `make` makes of the connected socket, as [`connect_as`](Self::connect_as)
    /// does.
    ///
    /// ```no_run
    /// use std::io;
    /// use std::os::unix::net::UnixStream;
    /// use handlers::{Address, Connecting, Connection, ConnectionOptions, Stream, on_data};
    /// use reactor::Registry;
    ///
    /// /// Connects to a Unix socket through a layer of your own.
    /// fn connect_layered<L: Stream>(
    ///     registry: &mut Registry<()>,
    ///     address: &Address,
    ///     layer: impl FnOnce(UnixStream) -> io::Result<L> + 'static,
    /// ) -> Connecting<()> {
    ///     let options = ConnectionOptions::new();
    ///     let make = |stream: handlers::SocketStream| layer(stream.into_unix()?);
    ///     let discard = on_data(|data, _connection, _cx| Ok(data.len()));
    ///     Connection::connect_to_as(registry, address, &options, make, discard)
    /// }
    /// ```
    #[track_caller]
    pub fn connect_to_as<T, H>(
        registry: &mut Registry<S>,
        target: impl Into<Target>,
        options: &ConnectionOptions,
        make: impl FnOnce(SocketStream) -> io::Result<T> + 'static,
        handler: H,
    ) -> Connecting<S>
    where
        T: Stream,
        H: ConnectionHandler<S>,
    {
        let (target, make) = (Some(target.into()), Box::new(make));
        connect_next_as(registry, target, options, make, handler, Location::caller())
    }
}

/// Connects to `target`, and opens the connection on the stream that `make` makes, on behalf of the
/// call at `line`. Without a target, it fails as without an address.
pub(crate) fn connect_next_as<S: 'static, T: Stream, H: ConnectionHandler<S>>(
    registry: &mut Registry<S>,
    target: Option<Target>,
    options: &ConnectionOptions,
    make: Make<T>,
    handler: H,
    line: &'static Location<'static>,
) -> Connecting<S> {
    let pending = RaceAs::new(registry, options, make, handler, line);
    connect_race(registry, &pending.race.clone(), target.as_ref(), pending)
}

/// The function that makes a stream of the connected socket.
type Make<T> = Box<dyn FnOnce(SocketStream) -> io::Result<T>>;

/// The handler that waits for its connection.
struct Waiting<T, H> {
    /// `None` when the handler has its connection, or was notified that it gets none.
    maker: RefCell<Option<(Make<T>, H)>>,
    /// The connection of the winner, until its stream is taken.
    key: Cell<Key>,
    /// The connection on the new stream, until the attempts are cancelled.
    opened: Cell<Key>,
    options: ConnectionOptions,
    line: &'static Location<'static>,
}

/// The handler of the winner until its stream is taken.
struct Passing<T, H>(Rc<Waiting<T, H>>);

impl<S, T: Stream, H: ConnectionHandler<S>> ConnectionHandler<S> for Passing<T, H> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        connection.pause_reading(); // the input is for the new stream
        let key = connection.key().key();
        self.0.key.set(key);
        let waiting = Rc::clone(&self.0);
        defer_for(cx.registry, key, move |cx| waiting.open(cx));
        Ok(())
    }

    fn on_data(
        &mut self,
        _data: &[u8],
        _connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        Ok(0) // not called, because reading is paused
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        _connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        Err(copy_error(error))
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Context<'_, S>) {
        // The borrow must end before the handler is called.
        let waiting = self.0.maker.borrow_mut().take();
        if let Some((_, mut handler)) = waiting {
            handler.on_close(reason, cx);
        }
    }
}

impl<T: Stream, H: 'static> Waiting<T, H> {
    /// Opens the connection on the new stream. If the connection of the winner has ended, its
    /// handler has been notified.
    fn open<S>(&self, cx: &mut Context<'_, S>)
    where
        H: ConnectionHandler<S>,
    {
        let Ok(stream) = self.take_socket(cx) else {
            return;
        };
        let Some((make, mut handler)) = self.maker.borrow_mut().take() else {
            return;
        };
        let made = catch_unwind(AssertUnwindSafe(|| make(stream)));
        let (reason, panic) = match made.map(|made| made.and_then(|made| self.register(made, cx))) {
            Ok(Ok(key)) => {
                self.opened.set(key);
                return open_with::<S, T, H>(key, handler, cx);
            }
            Ok(Err(error)) => (CloseReason::Failed(error), None),
            Err(panic) => (CloseReason::Panicked(panic_message(&*panic)), Some(panic)),
        };
        cx.registry
            .defer_from(self.line, move |cx| handler.on_close(reason, cx));
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Takes the socket of the winner. Fails if its connection has ended.
    fn take_socket<S>(&self, cx: &mut Context<'_, S>) -> io::Result<SocketStream>
    where
        H: ConnectionHandler<S>,
    {
        let key = self.key.get();
        let tcp = ConnectionKey::<S>::of::<TcpStream, Passing<T, H>>(key);
        if let Ok(taken) = tcp.take::<TcpStream>(cx) {
            return Ok(SocketStream::Tcp(taken.into_inner().0));
        }
        let unix = ConnectionKey::<S>::of::<UnixStream, Passing<T, H>>(key);
        let taken = unix.take::<UnixStream>(cx)?;
        Ok(SocketStream::Unix(taken.into_inner().0))
    }

    /// Registers the new stream, without the handler: a refused registration would drop it.
    fn register<S>(&self, stream: T, cx: &mut Context<'_, S>) -> io::Result<Key>
    where
        H: ConnectionHandler<S>,
    {
        let vacant = Registration::<H>::vacant::<T>(&self.options);
        let key = cx.registry.add_handler(stream, vacant.interest(), vacant)?;
        cx.registry.set_origin(key, self.line)?;
        Ok(key)
    }
}

/// Gives a new connection its handler.
fn open_with<S, T: Stream, H: ConnectionHandler<S>>(key: Key, handler: H, cx: &mut Context<'_, S>) {
    let set = |_: &mut reactor::Io<T>, to: &mut Registration<H>, _: &mut Context<'_, S>| {
        to.set_handler(handler);
    };
    // It was just registered, so both calls succeed.
    let _ = cx.with_handler(key, set);
    if T::LAYERED {
        handshakes::make_cancellable(cx.registry, key);
    }
    run_later::<S, T, H>(cx.registry, key);
}

/// A race whose winner is opened as another stream.
struct RaceAs<T, H> {
    race: Race<Passing<T, H>>,
    waiting: Rc<Waiting<T, H>>,
}

impl<T: Stream, H: 'static> RaceAs<T, H> {
    /// Makes a race whose winner is opened on the stream that `make` makes. It has no addresses
    /// yet.
    fn new<S>(
        registry: &Registry<S>,
        options: &ConnectionOptions,
        make: Make<T>,
        handler: H,
        line: &'static Location<'static>,
    ) -> Self
    where
        H: ConnectionHandler<S>,
    {
        let waiting = Rc::new(Waiting {
            maker: RefCell::new(Some((make, handler))),
            key: Cell::new(Key::NULL),
            opened: Cell::new(Key::NULL),
            options: options.clone(),
            line,
        });
        let passing = Passing(Rc::clone(&waiting));
        let race = new_race(registry, options, passing, line);
        Self { race, waiting }
    }
}

impl<S, T: Stream, H: ConnectionHandler<S>> PendingRace<S> for RaceAs<T, H> {
    fn cancel(&self, registry: &mut Registry<S>) {
        self.race.give_up(registry, CloseReason::Closed);
        // An error means that no attempt has won, or that its stream was taken.
        let _ = registry.remove(self.waiting.key.replace(Key::NULL));
        handshakes::cancel(registry, self.waiting.opened.replace(Key::NULL));
    }

    fn is_pending(&self) -> bool {
        let has_won = self.waiting.key.get() != Key::NULL;
        self.race.is_pending() || has_won && self.waiting.maker.borrow().is_some()
    }

    fn attempts(&self) -> usize {
        self.race.attempts()
    }
}
