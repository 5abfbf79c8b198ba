//! A server whose answers are made by workers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use handlers::{
    Connection, ConnectionHandler, ConnectionOptions, ListenOptions, PoolHandle, WorkerPool,
};
use reactor::Context;

use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{
    Assumptions, Daemon, World, listen, over_every_stream, patiently, stop_server, try_out,
};

/// The state of the loop, which owns the pool.
struct Server {
    _pool: WorkerPool<Self>,
}

/// Sends back what it receives after a worker has had it.
struct Slow {
    pool: PoolHandle<Server>,
}

impl ConnectionHandler<Server> for Slow {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Server>,
        _cx: &mut Context<'_, Server>,
    ) -> io::Result<usize> {
        let (key, bytes) = (connection.key(), data.to_vec());
        let submitted = self.pool.submit(
            move || bytes,
            move |answer, cx| {
                // The connection may have ended meanwhile.
                let _ = key.with(cx, |connection, _cx| {
                    connection.end_response();
                    connection.resume_reading();
                    let _ = connection.write(&answer.unwrap_or_default());
                });
            },
        );
        if submitted.is_ok() {
            connection.begin_response();
            connection.pause_reading(); // one job at a time, so that answers keep their order
        } else {
            let _ = connection.write(data)?; // the pool is busy
        }
        Ok(data.len())
    }
}

fn start(book: &Book, address: SocketAddr, stream: Stream) -> Daemon {
    let watched = book.clone();
    let (workers, jobs) = (1 + simulation::random(3), simulation::random(4));
    Daemon::start("pool", book, move |registry| {
        let builder = || WorkerPool::builder().workers(workers as usize);
        let pool = patiently(|| builder().max_queued_jobs(jobs as usize).build(registry));
        let handle = pool.handle();
        let listener = listen(&ListenOptions::new(), address);
        let options = ConnectionOptions::new();
        let server = stream.serve(listener, registry, &options, move |peer, _cx| {
            let pool = handle.clone();
            Ok(watched.watch(peer, Slow { pool }))
        });
        (Server { _pool: pool }, stop_server(server.unwrap()))
    })
}

over_every_stream!(
    a_server_whose_answers_take_long_keeps_the_laws,
    60,
    |world, stream| {
        let book = Book::default();
        let address = ([127, 0, 0, 1], 7000).into();
        let daemon = start(&book, address, stream);
        let assumed = Assumptions {
            world,
            stream,
            answers_at_stop: true,
            computes: Duration::ZERO,
        };
        let script = || Script::echo(simulation::random(1 << simulation::random(15)) as usize);
        try_out(daemon, address, &book, script, assumed);
    }
);
