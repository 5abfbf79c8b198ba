//! "An upstream that reconnects": the messages that wait, and the end by a signal.

use std::io::Read;
use std::thread;

use reactor::Reactor;
use rustix::process::{Signal, getpid, kill_process};
use support::{Result, listen, run_out};

use super::link;

#[test]
fn messages_that_wait_are_sent_before_a_signal_ends_the_link() -> Result {
    let (listener, address) = listen("127.0.0.1:0")?;
    let mut reactor = Reactor::<()>::new()?;
    let upstream = link(&mut reactor, address.into())?;
    for message in ["one\n", "two\n", "three\n"] {
        let _ = upstream.send(&mut reactor, message)?;
    }
    let peer = thread::spawn(move || {
        let mut received = String::new();
        listener
            .accept()?
            .0
            .read_to_string(&mut received)
            .map(|_| received)
    });
    kill_process(getpid(), Signal::TERM)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(
        peer.join().map_err(|_| "it panicked")??,
        "one\ntwo\nthree\n"
    );
    Ok(())
}
