//! The example `kv_server`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use handlers::{ConnectionLimit, ListenOptions};

use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{Assumptions, Daemon, World, listen, over_every_stream, stop_server, try_out};

#[path = "../../../../examples/kv_server/main.rs"]
#[allow(dead_code, reason = "its `main` and what belongs to it")]
mod kv_server;

fn start(book: &Book, address: SocketAddr, stream: Stream) -> Daemon {
    Daemon::start("kv_server", book, move |registry| {
        let options = kv_server::Options::parse_from(["kv_server"]);
        let clients = ConnectionLimit::new(options.max_connections);
        let listener = listen(&ListenOptions::new().limit(clients.clone()), address);
        let tls = stream.server();
        let served = kv_server::serve(registry, listener, &options, clients, tls.as_ref());
        let (state, server) = served.unwrap();
        (state, stop_server(server))
    })
}

/// Returns the words of a command, as clients of Redis send them.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Returns commands of a client on keys of its own, and their replies.
fn script() -> Script {
    let mut script = Script::default();
    let (name, number) = (simulation::random(u64::MAX), simulation::random(u64::MAX));
    let (name, number) = (
        format!("k{name}").into_bytes(),
        format!("n{number}").into_bytes(),
    );
    let (mut value, mut count) = (None::<Vec<u8>>, 0);
    for _ in 0..simulation::random(1 << simulation::random(10)) {
        match simulation::random(6) {
            0 => script.push(b"PING\r\n", b"+PONG\r\n"),
            1 => {
                count += 1;
                let reply = format!(":{count}\r\n");
                script.push(&command(&[b"INCR", &number]), reply.as_bytes());
            }
            2 | 3 => {
                let length = simulation::random(1 << simulation::random(12)) as usize;
                let new: Vec<u8> = (0..length).map(|_| simulation::random(256) as u8).collect();
                script.push(&command(&[b"SET", &name, &new]), b"+OK\r\n");
                value = Some(new);
            }
            _ => {
                let reply = value.as_ref().map_or(b"$-1\r\n".to_vec(), |value| {
                    let length = format!("${}\r\n", value.len()).into_bytes();
                    [&length, value.as_slice(), b"\r\n"].concat()
                });
                script.push(&command(&[b"GET", &name]), &reply);
            }
        }
    }
    if simulation::random(4) == 0 {
        script.push(&command(&[b"QUIT"]), b"+OK\r\n");
    }
    script
}

over_every_stream!(the_example_kv_server_keeps_the_laws, 60, |world, stream| {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 6400).into();
    let daemon = start(&book, address, stream);
    let assumed = Assumptions {
        world,
        stream,
        answers_at_stop: true,
        computes: Duration::ZERO,
    };
    try_out(daemon, address, &book, script, assumed);
});
