//! Echo servers: the example `echo_server`, and one whose handler is watched.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use handlers::{Connection, ConnectionHandler, ConnectionLimit, ConnectionOptions, ListenOptions};
use reactor::{Context, Then};

use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{Assumptions, Daemon, World, listen, over_every_stream, stop_server, try_out};

#[path = "../../../../examples/echo_server.rs"]
#[allow(dead_code, reason = "its `main` and what belongs to it")]
mod echo_server;

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 7777).into()
}

/// The example, with one loop.
fn example(book: &Book, stream: Stream) -> Daemon {
    Daemon::start("echo_server", book, move |registry| {
        let options = echo_server::Options::parse_from(["echo_server"]);
        let listener = listen(&ListenOptions::new(), address());
        let server = echo_server::serve(
            registry,
            0,
            vec![listener],
            &options,
            stream.server().as_ref(),
        )
        .unwrap();
        let stop = |remote: &reactor::Remote<echo_server::Server>, grace| {
            let _ = remote.post(move |cx| echo_server::Server::stop(cx, grace));
        };
        (server, Box::new(stop))
    })
}

/// Sends back what it receives, sometimes after a while.
struct Echo {
    /// The chance that a call computes for some time, and the longest time.
    computes: Duration,
}

impl<S: 'static> ConnectionHandler<S> for Echo {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, S>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<usize> {
        if simulation::random(20) == 0 {
            let longest = self.computes.as_micros() as u64;
            simulation::compute(Duration::from_micros(simulation::random(longest)));
        }
        // Now and then the rest must wait.
        let taken = match simulation::random(4) {
            0 => simulation::random(data.len() as u64 + 1) as usize,
            _ => data.len(),
        };
        if taken < data.len() {
            connection.pause_reading();
            connection.begin_response(); // otherwise a stop discards the rest
            let (key, pause) = (connection.key(), simulation::random(50_000));
            cx.registry.after(Duration::from_micros(pause), move |cx| {
                // The connection may have ended.
                let _ = key.with(cx, |connection, _cx| {
                    connection.end_response();
                    connection.resume_reading();
                });
                Ok(Then::Done)
            });
        }
        let _ = connection.write(&data[..taken])?;
        Ok(taken)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, S>,
        _cx: &mut Context<'_, S>,
    ) -> io::Result<()> {
        let _ = connection.write(rest)?;
        connection.shutdown();
        Ok(())
    }
}

/// The longest time that a handler computes.
const COMPUTES: Duration = Duration::from_millis(100);

fn watched(book: &Book, limit: Option<usize>, stream: Stream) -> Daemon {
    let written = book.clone();
    let high = 1 + simulation::random(300_000) as usize;
    let low = simulation::random(high as u64) as usize;
    let per_turn = 1 + simulation::random(100_000) as usize;
    Daemon::start("echo", book, move |registry| {
        let listener = listen(
            &ListenOptions::new().limit(limit.map(ConnectionLimit::new)),
            address(),
        );
        let options = ConnectionOptions::new()
            .watermarks(low, high)
            .max_bytes_per_turn(per_turn);
        let server = stream.serve(listener, registry, &options, move |peer, _cx| {
            Ok(written.watch(peer, Echo { computes: COMPUTES }))
        });
        ((), stop_server(server.unwrap()))
    })
}

fn script() -> Script {
    Script::echo(simulation::random(1 << simulation::random(17)) as usize)
}

over_every_stream!(
    the_example_echo_server_keeps_the_laws,
    60,
    |world, stream| {
        let book = Book::default();
        let daemon = example(&book, stream);
        let assumed = Assumptions {
            world,
            stream,
            answers_at_stop: true,
            computes: Duration::ZERO,
        };
        try_out(daemon, address(), &book, script, assumed);
    }
);

over_every_stream!(
    a_handler_of_an_echo_server_sees_only_lawful_calls,
    60,
    |world, stream| {
        let limit = (simulation::random(2) == 0).then(|| 1 + simulation::random(3) as usize);
        let book = limit.map_or_else(Book::default, Book::with_limit);
        let daemon = watched(&book, limit, stream);
        let assumed = Assumptions {
            world,
            stream,
            answers_at_stop: false,
            computes: 100 * COMPUTES,
        };
        try_out(daemon, address(), &book, script, assumed);
    }
);
