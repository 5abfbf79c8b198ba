//! The example `http_hello` behind a proxy: each connection begins with a PROXY header.

use std::net::SocketAddr;
use std::time::Duration;

use handlers::ListenOptions;
use handlers::proxy_protocol::{Header, ProxyProtocol};

use crate::http;
use crate::laws::Book;
use crate::peers::Script;
use crate::streams::Stream;
use crate::trial::{Assumptions, World, in_every_world, try_out};

/// The time for a header, which no client exceeds.
const TIMEOUT: Duration = Duration::from_secs(1_000_000);

/// Returns what a proxy sends for a client, and its responses.
fn script() -> Script {
    let client = ([192, 0, 2, 1], 56324).into();
    let header = Header::internet(client, ([192, 0, 2, 2], 443).into());
    let header = match simulation::random(2) {
        0 => header.to_v1(),
        _ => header.to_v2(),
    };
    let client = http::script();
    let ends = client.ends.iter();
    Script {
        request: [&header[..], &client.request].concat(),
        ends: ends
            .map(|(end, answer)| (end + header.len(), *answer))
            .collect(),
        ..client
    }
}

in_every_world!(a_server_behind_a_proxy_keeps_the_laws, 60, |world| {
    let book = Book::default();
    let address: SocketAddr = ([127, 0, 0, 1], 8080).into();
    let trusting = ProxyProtocol::trusting(|_| true).timeout(TIMEOUT);
    let options = ListenOptions::new().proxy_protocol(trusting);
    let daemon = http::start_with(&book, &options, address, Stream::Bare);
    let assumed = Assumptions {
        world,
        stream: Stream::Bare,
        answers_at_stop: true,
        computes: Duration::ZERO,
    };
    try_out(daemon, address, &book, script, assumed);
});
