//! The check of streams on the sockets of a simulation.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "the tests of connections use more of it")]
#[path = "../../handlers/tests/connection/layered/toy.rs"]
mod toy;

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use handlers::{StreamCheck, StreamFault, StreamRule};
use simulation::{Faults, Seeds, Simulation, random};

use self::toy::{Fault, Toy};

/// Makes a bare stream. A call that bypasses the simulation fails.
fn bare(socket: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(socket);
    assert!(stream.local_addr().is_err(), "the socket is simulated");
    stream
}

fn toy(socket: OwnedFd) -> Toy<TcpStream> {
    Toy::new(bare(socket))
}

/// Enough for all scenarios.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// A network that resets nothing by itself.
fn seeds() -> Seeds {
    Seeds::new(1..3).time_max(TIME_MAX)
}

#[test]
fn a_check_of_a_bare_stream_runs_within_a_simulation() {
    seeds().check(|| {
        let check = StreamCheck::new().seed(random(u64::MAX));
        check.run(bare, bare).unwrap();
    });
}

#[test]
fn a_check_of_a_layered_stream_runs_within_a_simulation() {
    seeds().check(|| {
        let check = StreamCheck::new().with_end().seed(random(u64::MAX));
        check.run(toy, toy).unwrap();
    });
}

#[test]
fn a_check_runs_on_sockets_that_take_few_bytes_at_once() {
    let mut faults = Faults::none();
    faults.buffer_bytes = 900..1000;
    let seeds = Seeds::new(1..2).faults(faults).time_max(TIME_MAX);
    seeds.check(|| StreamCheck::new().run(bare, bare).unwrap());
}

#[test]
fn a_stream_that_dozes_is_found_within_a_simulation() {
    let dozing = |socket| {
        let mut toy = toy(socket);
        toy.fault = Some(Fault::Dozes);
        toy
    };
    let run = Simulation::new(1).faults(Faults::slow()).run(move || {
        let found = StreamCheck::new().with_end().run(dozing, toy);
        assert!(
            matches!(
                found,
                Err(StreamFault::Broken {
                    rule: StreamRule::Rest,
                    ..
                })
            ),
            "{found:?}"
        );
    });
    assert_eq!(run.outcome, Ok(()));
}
