//! The requests of `http_hello`: the answers do not depend on how the input is cut, and every
//! connection ends in time.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use handlers::{Connection, ConnectionOptions};
use reactor::{ManualClock, Reactor};

use self::protocol::{GRACE, Http};
use super::{bytes, cut, run_until_idle};

#[path = "../../../examples/http_hello/protocol.rs"]
mod protocol;

const TIMEOUT: Duration = Duration::from_secs(30);
const INPUT_MAX: usize = 20_000;

/// Sends the pieces to a server of its own. Returns its answers.
fn answers(pieces: &[&[u8]]) -> Vec<u8> {
    let mut reactor = Reactor::builder()
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let options = ConnectionOptions::new().idle_timeout(TIMEOUT);
    Connection::open(&mut reactor, near, &options, Http::new(TIMEOUT)).unwrap();
    let mut answers = Vec::new();
    let mut read = |far: &mut UnixStream| {
        let _ = far.read_to_end(&mut answers); // no more for now, the end, or a reset
    };
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match far.write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break, // it has closed
            }
            run_until_idle(&mut reactor, &mut ());
            read(&mut far);
        }
    }
    let _ = far.shutdown(Shutdown::Write); // it may have closed
    run_until_idle(&mut reactor, &mut ());
    read(&mut far);
    reactor.advance(&mut (), TIMEOUT + GRACE).unwrap();
    assert!(reactor.is_empty(), "the connection never ends");
    assert_eq!(reactor.timers().count(), 0);
    answers
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let input = bytes(u, INPUT_MAX)?;
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, behind) = cut(rest, u)?;
        pieces.push(piece);
        rest = behind;
    }
    let whole = answers(&[input]);
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "));
    assert_eq!(
        answers(&pieces).escape_ascii().to_string(),
        whole.escape_ascii().to_string()
    );
    Ok(())
}
