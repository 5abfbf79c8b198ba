//! An echo server whose protocol is a future.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, AsyncConnection, yield_now};
use handlers::{ConnectionOptions, ListenOptions};

use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{Assumptions, Daemon, World, listen, over_every_stream, stop_server, try_out};

fn address() -> SocketAddr {
    ([127, 0, 0, 1], 7777).into()
}

/// Sends back what has come, until the client ends or the server stops. It may be some turns
/// late, and may read little at a time.
async fn echo(mut stream: AsyncConnection) -> io::Result<()> {
    let stopping = stream.stopping();
    let mut buf = vec![0; 1 + simulation::random(100_000) as usize];
    loop {
        let stopped = async {
            stopping.clone().await;
            Ok(0)
        };
        let read = or(stream.read(&mut buf), stopped).await?;
        if read == 0 {
            return Ok(());
        }
        // A sleep would outlive a connection that is cut, and its timer would be left.
        for _ in 0..simulation::random(8) {
            yield_now().await;
        }
        stream.write_all(&buf[..read]).await?;
    }
}

fn daemon(book: &Book, stream: Stream) -> Daemon {
    let watching = book.clone();
    let high = 1 + simulation::random(300_000) as usize;
    let low = simulation::random(high as u64) as usize;
    let per_turn = 1 + simulation::random(100_000) as usize;
    Daemon::start("async echo", book, move |registry| {
        let listener = listen(&ListenOptions::new(), address());
        let options = ConnectionOptions::new()
            .watermarks(low, high)
            .max_bytes_per_turn(per_turn);
        let server = stream.serve(listener, registry, &options, move |peer, _cx| {
            let handler = futures::protocol(|stream, _connection, _cx| echo(stream));
            Ok(watching.watch(peer, handler))
        });
        ((), stop_server(server.unwrap()))
    })
}

fn script() -> Script {
    Script::echo(simulation::random(1 << simulation::random(19)) as usize)
}

over_every_stream!(
    a_server_whose_protocol_is_a_future_keeps_the_laws,
    60,
    |world, stream| {
        let book = Book::default();
        let daemon = daemon(&book, stream);
        let assumed = Assumptions {
            world,
            stream,
            answers_at_stop: true,
            computes: Duration::ZERO,
        };
        try_out(daemon, address(), &book, script, assumed);
    }
);
