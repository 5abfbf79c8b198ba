//! The check of streams: it passes those that keep their contract, and names the rule that each
//! faulty one breaks.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod faulty;
#[cfg(feature = "tls")]
mod tls;
#[allow(dead_code, reason = "the tests of connections use more of it")]
#[path = "../connection/layered/toy.rs"]
mod toy;
#[cfg(feature = "proxy-protocol")]
mod with_header;

use std::error::Error;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use handlers::{StreamCheck, StreamFault, StreamRule};

use self::faulty::{Deaf, Fault, Faulty};
use self::toy::Toy;

fn toy(socket: OwnedFd) -> Toy<UnixStream> {
    Toy::new(socket.into())
}

/// Checks a toy with this fault, whose peer is a good one.
fn check(fault: Fault) -> StreamFault {
    let check = StreamCheck::new().with_end();
    let faulty = |socket| Faulty::new(socket, fault);
    check.run(faulty, toy).unwrap_err()
}

#[track_caller]
fn assert_found(fault: Fault, rule: StreamRule) {
    let found = check(fault);
    assert_eq!(found.rule(), Some(rule), "{found}");
}

#[test]
fn the_streams_of_the_standard_library_pass() {
    StreamCheck::new()
        .run(TcpStream::from, UnixStream::from)
        .unwrap();
}

#[test]
fn a_stream_that_carries_descriptors_passes() {
    let carries = |socket: OwnedFd| handlers::FdStream::new(socket.into(), 0);
    let check = StreamCheck::new();
    check.run(carries, UnixStream::from).unwrap();
    check.run(UnixStream::from, carries).unwrap();
}

#[test]
fn a_layered_stream_passes_with_any_seed() {
    for seed in [0, 1, u64::MAX] {
        let check = StreamCheck::new().with_end().seed(seed);
        check.run(toy, toy).unwrap();
    }
}

#[test]
fn a_stream_whose_shutdown_takes_several_steps_passes() {
    let awaits_end = |socket| {
        let mut toy = toy(socket);
        toy.awaits_end = true;
        toy
    };
    let check = StreamCheck::new().with_end();
    check.run(awaits_end, toy).unwrap();
    check.run(toy, awaits_end).unwrap();
}

#[test]
fn a_fault_of_the_peer_is_found_too() {
    let check = StreamCheck::new().with_end();
    let faulty = |socket| Faulty::new(socket, Fault::EndsWhenCut);
    let found = check.run(toy, faulty).unwrap_err();
    assert_eq!(found.rule(), Some(StreamRule::Cut), "{found}");
}

#[test]
fn a_stream_that_loses_held_output_is_found() {
    assert_found(Fault::LosesOutput, StreamRule::Order);
}

#[test]
fn a_stream_that_sends_no_end_is_found() {
    assert_found(Fault::SkipsEnd, StreamRule::Delivery);
}

#[test]
fn a_stream_that_reads_nothing_while_it_holds_output_must_say_so() {
    assert_found(Fault::WritesFirst, StreamRule::Rest);
    let says_so = |socket| Faulty::new(socket, Fault::WaitsToWrite);
    let check = StreamCheck::new().with_end();
    check.run(says_so, toy).unwrap();
}

#[test]
fn a_stream_that_doubles_the_bytes_of_a_refused_write_is_found() {
    assert_found(Fault::DoublesRefused, StreamRule::Order);
}

#[test]
fn a_stream_that_reorders_bytes_is_found() {
    assert_found(Fault::Reorders, StreamRule::Order);
}

#[test]
fn a_stream_that_forgets_held_input_is_found() {
    assert_found(Fault::ForgetsInput, StreamRule::BufferedInput);
}

#[test]
fn a_stream_that_claims_input_is_found() {
    assert_found(Fault::ClaimsInput, StreamRule::BufferedInput);
}

#[test]
fn a_stream_that_forgets_held_output_is_found() {
    assert_found(Fault::ForgetsOutput, StreamRule::BufferedOutput);
}

#[test]
fn a_flush_that_returns_early_is_found() {
    assert_found(Fault::FlushesEarly, StreamRule::BufferedOutput);
}

#[test]
fn a_stream_that_holds_any_amount_of_output_is_found() {
    assert_found(Fault::HoldsAll, StreamRule::BoundedOutput);
}

#[test]
fn a_count_beyond_the_bytes_is_found() {
    assert_found(Fault::CountsMore, StreamRule::Count);
}

#[test]
fn a_shutdown_that_returns_before_the_end_is_sent_is_found() {
    assert_found(Fault::EndsEarly, StreamRule::Shutdown);
}

#[test]
fn a_stream_that_looks_complete_when_it_is_cut_is_found() {
    assert_found(Fault::EndsWhenCut, StreamRule::Cut);
}

#[test]
fn a_reset_that_looks_like_an_end_is_found_in_a_bare_stream() {
    let found = StreamCheck::new()
        .run(Deaf::new, TcpStream::from)
        .unwrap_err();
    assert_eq!(found.rule(), Some(StreamRule::Cut), "{found}");
    assert!(found.to_string().contains("a reset after"), "{found}");
}

#[test]
fn a_bare_stream_has_no_end_of_its_own() {
    let check = StreamCheck::new().with_end();
    let found = check.run(TcpStream::from, TcpStream::from).unwrap_err();
    assert_eq!(found.rule(), Some(StreamRule::Cut), "{found}");
}

#[test]
fn a_stream_that_outlives_a_cut_is_found() {
    assert_found(Fault::IgnoresCut, StreamRule::Close);
}

#[test]
fn a_handshake_that_fails_for_want_of_bytes_is_found() {
    assert_found(Fault::GivesUp, StreamRule::Handshake);
}

#[test]
fn a_stream_that_spins_is_found() {
    assert_found(Fault::WantsToWrite, StreamRule::Rest);
}

#[test]
fn a_handshake_that_blocks_is_found() {
    assert_found(Fault::Blocks, StreamRule::Block);
}

#[test]
fn a_fault_says_the_rule_and_the_scenario() {
    assert_eq!(
        check(Fault::CountsMore).to_string(),
        "a count must be that of the bytes read or taken: try_write returned 2 for 1 bytes (the \
         stream) [large pieces, 1 bytes of the stream, 0 bytes of the peer, the stream ends first]"
    );
}

#[test]
fn a_socket_that_the_loop_refuses_is_no_fault_of_the_stream() {
    let datagrams = |_| File::from(OwnedFd::from(UnixDatagram::unbound().unwrap()));
    let found = StreamCheck::new().run(datagrams, TcpStream::from);
    let found = found.unwrap_err();
    assert_eq!(found.rule(), None, "{found}");
    assert!(found.source().is_some(), "{found}");
}
