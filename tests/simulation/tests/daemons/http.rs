//! The example `http_hello`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use handlers::ListenOptions;

use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{Assumptions, Daemon, World, listen, over_every_stream, stop_server, try_out};

#[path = "../../../../examples/http_hello/main.rs"]
#[allow(dead_code, reason = "its `main` and what belongs to it")]
mod http_hello;

/// Starts the example, with timeouts that no client reaches.
pub(crate) fn start(book: &Book, address: SocketAddr, stream: Stream) -> Daemon {
    start_with(book, &ListenOptions::new(), address, stream)
}

/// Starts the same with options of the listener.
pub(crate) fn start_with(
    book: &Book,
    listens: &ListenOptions,
    address: SocketAddr,
    stream: Stream,
) -> Daemon {
    let listens = listens.clone();
    Daemon::start("http_hello", book, move |registry| {
        let arguments = [
            "http_hello",
            "--idle-timeout",
            "1000000",
            "--request-timeout",
            "1000000",
        ];
        let options = http_hello::Options::parse_from(arguments);
        let listener = listen(&listens, address);
        let server =
            http_hello::serve(registry, listener, &options, stream.server().as_ref()).unwrap();
        ((), stop_server(server))
    })
}

/// Returns requests of a client and their responses.
pub(crate) fn script() -> Script {
    let mut script = Script::default();
    let get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\n";
    let hello = [head.as_slice(), b"Hello, world!\n"].concat();
    for _ in 0..simulation::random(1 << simulation::random(10)) {
        match simulation::random(8) {
            0 => script.push(b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n", head),
            1 => {
                let body = simulation::random(3000) as usize;
                let mut post = format!("GET / HTTP/1.1\r\nContent-Length: {body}\r\n\r\n");
                post.extend(std::iter::repeat_n('x', body));
                // The response is sent when the head is there.
                script.push(post.as_bytes(), &hello);
            }
            _ => script.push(get, &hello),
        }
    }
    if simulation::random(4) == 0 {
        let last = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\
            Connection: close\r\n\r\n";
        script.push(last, &[head.as_slice(), b"Hello, world!\n"].concat());
    }
    script
}

over_every_stream!(
    the_example_http_hello_keeps_the_laws,
    60,
    |world, stream| {
        let book = Book::default();
        let address = ([127, 0, 0, 1], 8080).into();
        let daemon = start(&book, address, stream);
        let assumed = Assumptions {
            world,
            stream,
            answers_at_stop: true,
            computes: Duration::ZERO,
        };
        try_out(daemon, address, &book, script, assumed);
    }
);
