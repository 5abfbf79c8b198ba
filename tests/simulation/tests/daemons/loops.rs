//! A server that hands its connections over to the loops of a pool.

use std::net::SocketAddr;
use std::time::Duration;

use handlers::{ConnectionOptions, ListenOptions, on_data};
use reactor::{LoopPool, Remote};

use crate::laws::Book;
use crate::peers::Script;
use crate::trial::{Assumptions, Daemon, World, in_every_world, listen, patiently, try_out};

/// The state of the loop that accepts. It waits for the others at its end.
struct Acceptor {
    pool: Option<LoopPool<()>>,
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
        let start = || LoopPool::spawn(loops, "loop-", |_number, _registry| Ok(()));
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
                    // An error means that the client is gone.
                    let _ = accepted.open(cx.registry, &ConnectionOptions::new(), echo);
                });
                Ok(posted?)
            },
        );
        let server = accepted.unwrap();
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

in_every_world!(a_server_with_several_loops_keeps_the_laws, 60, |world| {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 7001).into();
    let daemon = start(&book, address);
    let assumed = Assumptions {
        world,
        answers_at_stop: true,
        computes: Duration::ZERO,
    };
    let script = || Script::echo(simulation::random(1 << simulation::random(15)) as usize);
    try_out(daemon, address, &book, script, assumed);
});
