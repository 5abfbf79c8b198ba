//! The check of streams within a simulation, which interrupts the waits of its loops. The sockets
//! are real.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "the tests of connections use more of it")]
#[path = "../../handlers/tests/connection/layered/toy.rs"]
mod toy;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use handlers::StreamCheck;
use simulation::{Seeds, random};

use self::toy::Toy;

fn toy(socket: OwnedFd) -> Toy<UnixStream> {
    Toy::new(socket.into())
}

#[test]
fn a_check_of_a_stream_runs_within_a_simulation() {
    Seeds::new(0..4).check(|| {
        let check = StreamCheck::new().with_end().seed(random(u64::MAX));
        check.run(toy, toy).unwrap();
    });
}
