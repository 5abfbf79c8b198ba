//! Layered streams on simulated sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "the tests of connections use more of it")]
#[path = "../../handlers/tests/connection/layered/toy.rs"]
mod toy;

use std::io::{Read, Write};

use handlers::{Connection, ConnectionOptions, on_data};
use reactor::Reactor;
use simulation::{Faults, Peer, Simulation};

use self::toy::{END, HELLO, Toy, record, records};

/// More bytes than the waits without sleep that a simulation accepts.
const HELD: usize = 1000;

#[test]
fn turns_that_deliver_held_input_are_no_spin() {
    let run = Simulation::new(1).faults(Faults::none()).run(|| {
        let (stream, mut peer) = Peer::pair().unwrap();
        let daemon = simulation::process("daemon", move || {
            let mut reactor = Reactor::<usize>::new().unwrap();
            let mut given = 0;
            let options = ConnectionOptions::new().max_bytes_per_turn(1);
            let count = on_data(|data, _connection, cx| {
                *cx.state += data.len();
                Ok(data.len())
            });
            Connection::open(&mut reactor, Toy::new(stream), &options, count).unwrap();
            reactor.run(&mut given).unwrap();
            given
        });
        // One piece, so the stream takes all of it with its first byte.
        peer.write_all(&[record(HELLO, b""), records(&[7; HELD]), record(END, b"")].concat())
            .unwrap();
        peer.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(daemon.join(), HELD);
    });
    assert_eq!(run.outcome, Ok(()));
}
