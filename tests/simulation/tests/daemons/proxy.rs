//! The example `proxy`, in front of servers that come and go.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use handlers::ListenOptions;

use crate::http;
use crate::laws::Book;
use crate::streams::{NAME, Stream, client_config};
use crate::trial::{Assumptions, Daemon, World, listen, over_every_stream, stop_server, try_out};

#[path = "../../../../examples/proxy.rs"]
#[allow(dead_code, reason = "its `main` and what belongs to it")]
mod proxy;

/// Starts the example, which connects to one of these addresses. Both sides speak the same stream.
pub(crate) fn start(book: &Book, address: SocketAddr, to: &[SocketAddr], stream: Stream) -> Daemon {
    let to: Vec<String> = to.iter().map(SocketAddr::to_string).collect();
    Daemon::start("proxy", book, move |registry| {
        let arguments = to.iter().flat_map(|to| ["--to", to]);
        let options = proxy::Options::parse_from(["proxy"].into_iter().chain(arguments));
        let listener = listen(&ListenOptions::new(), address);
        let client = (stream == Stream::Tls).then(|| (client_config(), NAME.to_owned()));
        let server = stream.server();
        let tls = proxy::Tls { server, client };
        let server = proxy::serve(registry, listener, &options, &tls).unwrap();
        ((), stop_server(server))
    })
}

over_every_stream!(the_example_proxy_keeps_the_laws, 60, |world, stream| {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 7778).into();
    let upstream = ([127, 0, 0, 1], 8080).into();
    let server = http::start(&book, upstream, stream);
    let daemon = start(&book, address, &[upstream], stream);
    let assumed = Assumptions {
        world,
        stream,
        answers_at_stop: false,
        computes: Duration::ZERO,
    };
    try_out(daemon, address, &book, http::script, assumed);
    server.stop(Duration::ZERO);
    server.join();
});
