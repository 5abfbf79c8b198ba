//! The example `proxy`, in front of servers that come and go.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use handlers::ListenOptions;

use crate::http;
use crate::laws::Book;
use crate::trial::{Assumptions, Daemon, World, in_every_world, listen, stop_server, try_out};

#[path = "../../../../examples/proxy.rs"]
#[allow(dead_code, reason = "its `main` and what belongs to it")]
mod proxy;

/// Starts the example, which connects to one of these addresses.
pub(crate) fn start(book: &Book, address: SocketAddr, to: &[SocketAddr]) -> Daemon {
    let to: Vec<String> = to.iter().map(SocketAddr::to_string).collect();
    Daemon::start("proxy", book, move |registry| {
        let arguments = to.iter().flat_map(|to| ["--to", to]);
        let options = proxy::Options::parse_from(["proxy"].into_iter().chain(arguments));
        let listener = listen(&ListenOptions::new(), address);
        let server = proxy::serve(registry, listener, &options, &proxy::Tls::default()).unwrap();
        ((), stop_server(server))
    })
}

in_every_world!(the_example_proxy_keeps_the_laws, 60, |world| {
    let book = Book::default();
    let address = ([127, 0, 0, 1], 7778).into();
    let upstream = ([127, 0, 0, 1], 8080).into();
    let server = http::start(&book, upstream);
    let daemon = start(&book, address, &[upstream]);
    let assumed = Assumptions {
        world,
        answers_at_stop: false,
        computes: Duration::ZERO,
    };
    try_out(daemon, address, &book, http::script, assumed);
    server.stop(Duration::ZERO);
    server.join();
});
