//! The check of streams, on simulated sockets.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use handlers::StreamCheck;
use simulation::Seeds;

use crate::streams::{NAME, client_config, server_config};

#[test]
fn a_tls_server_and_its_client_pass_within_a_simulation() {
    let seeds = Seeds::new(1..3).time_max(Duration::from_secs(30 * 24 * 3600));
    seeds.check(|| {
        let (server, client) = (server_config(), client_config());
        let accept = |socket: OwnedFd| server.accept(TcpStream::from(socket)).unwrap();
        let connect = |socket: OwnedFd| client.connect(TcpStream::from(socket), NAME).unwrap();
        let check = StreamCheck::new()
            .with_end()
            .seed(simulation::random(u64::MAX));
        check.run(accept, connect).unwrap();
    });
}
