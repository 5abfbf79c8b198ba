//! A server that hands its connections over to the loops of a pool.

use std::net::SocketAddr;
use std::time::Duration;

use handlers::{ConnectionKey, ConnectionOptions, ListenOptions, on_data};
use reactor::{LoopPool, Remote};

use crate::laws::Book;
use crate::peers::Script;
use crate::trial::{Assumptions, Daemon, World, in_every_world, listen, patiently, try_out};

/// The state of one loop of the pool.
#[derive(Default)]
struct Worker {
    connections: Vec<ConnectionKey<Self>>,
}

/// The state of the loop that accepts. It waits for the others at its end.
struct Acceptor {
    pool: Option<LoopPool<Worker>>,
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

fn start(book: &Book, address: SocketAddr) -> Daemon {
    let loops = 1 + simulation::random(3) as usize;
    Daemon::start("acceptor", book, move |registry| {
        let start = || LoopPool::spawn(loops, "loop-", |_number, _registry| Ok(Worker::default()));
        let pool = patiently(start);
        let listener = listen(&ListenOptions::new(), address);
        let accepted = listener.accept(
            registry,
            |accepted, cx: &mut reactor::Context<'_, Acceptor>| {
                let pool = cx.state.pool.as_ref().expect("it has not ended");
                let worker = pool.round_robin().expect("there are loops");
                let posted = worker.post(move |cx| {
                    let echo = on_data(|data, connection, _cx| {
                        let _ = connection.write(data)?;
                        Ok(data.len())
                    });
                    let opened = accepted.open(cx.registry, &ConnectionOptions::new(), echo);
                    cx.state.connections.extend(opened.ok());
                });
                Ok(posted?)
            },
        );
        let key = accepted.unwrap().key();
        let stop = move |remote: &Remote<Acceptor>, grace| {
            // A loop that has ended needs no stop.
            let _ = remote.post(move |cx| {
                let _ = cx.registry.remove(key);
                let pool = cx.state.pool.as_ref().expect("it has not ended");
                let _ = pool.broadcast(move |cx| {
                    for connection in std::mem::take(&mut cx.state.connections) {
                        // It may have ended.
                        let _ = connection.with(cx, |connection, _cx| {
                            connection.close_gracefully(grace);
                        });
                    }
                });
            });
        };
        (Acceptor { pool: Some(pool) }, Box::new(stop))
    })
}

in_every_world!(a_server_with_several_loops_keeps_the_laws, 60, |world| {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 7001).into();
    let daemon = start(&book, address);
    let assumed = Assumptions {
        world,
        answers_at_stop: false, // the clients in the queue of the listener are reset
        computes: Duration::ZERO,
    };
    let script = || Script::echo(simulation::random(1 << simulation::random(15)) as usize);
    try_out(daemon, address, &book, script, assumed);
});
