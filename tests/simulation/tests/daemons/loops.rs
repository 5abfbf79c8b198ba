//! Servers whose connections are served by the loops of a pool: opened there, or moved there while
//! the peer sends.

use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use handlers::{
    Accepted, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, ListenOptions,
    Listener, ServerKey, SocketStream, on_data,
};
use reactor::{Context, LoopPool, Registry, Remote};

use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{Assumptions, Daemon, World, listen, over_every_stream, patiently, try_out};

type Cx<'a> = Context<'a, Acceptor>;

/// The state of the loop that accepts. It waits for the others at its end.
struct Acceptor {
    pool: Option<LoopPool<()>>,
}

impl Acceptor {
    /// Returns the loop that has the next connection.
    fn next(&self) -> &Remote<()> {
        let pool = self.pool.as_ref().expect("it has not ended");
        pool.round_robin().expect("there are loops")
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let ended = pool.join();
            let is_killed = std::thread::panicking();
            assert!(is_killed || ended.is_ok(), "a loop has ended by an error");
        }
    }
}

/// Sends back what it receives.
fn echo() -> impl ConnectionHandler<()> {
    on_data(|data, connection, _cx| {
        let _ = connection.write(data)?;
        Ok(data.len())
    })
}

fn options() -> ConnectionOptions {
    ConnectionOptions::new().handshake_timeout(None)
}

/// Opens each connection on a loop of the pool.
fn open<T: handlers::Stream + Send>(
    listener: Listener,
    registry: &mut Registry<Acceptor>,
    protect: impl Fn(TcpStream) -> io::Result<T> + Send + Sync + 'static,
) -> io::Result<ServerKey<Acceptor>> {
    let protect = Arc::new(protect);
    listener.accept(
        registry,
        move |accepted: Accepted<SocketStream>, cx: &mut Cx<'_>| {
            let protect = Arc::clone(&protect);
            let posted = cx.state.next().post(move |cx| {
                let made = accepted.map(|stream| protect(stream.into_tcp()?));
                // An error means that the client is gone.
                let _ = made.and_then(|made| made.open(cx.registry, &options(), echo()));
            });
            Ok(posted?)
        },
    )
}

/// Sends back what it receives, and is moved to a loop of the pool after some bytes.
struct Moves<T> {
    bytes: usize,
    stream: PhantomData<T>,
}

impl<T: handlers::Stream + Send> ConnectionHandler<Acceptor> for Moves<T> {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Acceptor>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        let taken = data.len().min(self.bytes);
        let _ = connection.write(&data[..taken])?;
        self.bytes -= taken;
        if self.bytes == 0 && !connection.is_paused() {
            connection.pause_reading(); // the end is for the next handler
            let key = connection.key();
            cx.registry.defer(move |cx| move_on::<T>(key, cx));
        }
        Ok(taken)
    }
}

/// Moves a connection to a loop of the pool. It is cut if the server stops meanwhile.
fn move_on<T: handlers::Stream + Send>(key: ConnectionKey<Acceptor>, cx: &mut Cx<'_>) {
    let taken = match key.take::<T>(cx) {
        Ok(taken) => taken,
        Err(_) => return drop(key.abort(cx)), // it may have ended
    };
    let _ = cx.state.next().post(move |cx| {
        // An error means that the client is gone.
        let _ = taken.open(cx.registry, &options(), echo());
    });
}

/// Serves each connection here, and moves it to a loop of the pool.
fn serve<T: handlers::Stream + Send>(
    listener: Listener,
    registry: &mut Registry<Acceptor>,
    protect: impl Fn(TcpStream) -> io::Result<T> + 'static,
) -> io::Result<ServerKey<Acceptor>> {
    let protect = move |stream: SocketStream| protect(stream.into_tcp()?);
    listener.serve_as(registry, &options(), protect, |_peer, _cx| {
        Ok(Moves {
            bytes: simulation::random(20_000) as usize,
            stream: PhantomData::<T>,
        })
    })
}

/// When a connection comes to the loop that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Accepted,
    Open,
}

fn start(book: &Book, address: SocketAddr, stream: Stream, comes: Comes) -> Daemon {
    let loops = 1 + simulation::random(3) as usize;
    Daemon::start("acceptor", book, move |registry| {
        let start = || LoopPool::spawn(loops, "loop-", |_number, _registry| Ok(()));
        let pool = patiently(start);
        let listener = listen(&ListenOptions::new(), address);
        let server = match (comes, stream.server()) {
            (Comes::Accepted, None) => open(listener, registry, Ok),
            (Comes::Accepted, Some(tls)) => open(listener, registry, move |tcp| tls.accept(tcp)),
            (Comes::Open, None) => serve(listener, registry, Ok),
            (Comes::Open, Some(tls)) => serve(listener, registry, move |tcp| tls.accept(tcp)),
        };
        let server = server.unwrap();
        let stop = move |remote: &Remote<Acceptor>, grace| {
            // A loop that has ended needs no stop.
            let _ = remote.post(move |cx| {
                server.stop(cx.registry, grace);
                let pool = cx.state.pool.as_ref().expect("it has not ended");
                let _ = pool.broadcast(move |cx| server.for_state().stop(cx.registry, grace));
            });
        };
        (Acceptor { pool: Some(pool) }, Box::new(stop))
    })
}

fn keep_laws(world: World, stream: Stream, comes: Comes) {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 7001).into();
    let daemon = start(&book, address, stream, comes);
    let assumed = Assumptions {
        world,
        stream,
        answers_at_stop: comes == Comes::Accepted,
        computes: Duration::ZERO,
    };
    let script = || Script::echo(simulation::random(1 << simulation::random(15)) as usize);
    try_out(daemon, address, &book, script, assumed);
}

over_every_stream!(
    a_server_with_several_loops_keeps_the_laws,
    60,
    |world, stream| keep_laws(world, stream, Comes::Accepted)
);

over_every_stream!(
    a_server_that_moves_connections_keeps_the_laws,
    60,
    |world, stream| keep_laws(world, stream, Comes::Open)
);
