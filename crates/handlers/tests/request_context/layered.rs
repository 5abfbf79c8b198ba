//! Layered streams: each step of a handshake runs in the request of its connection, also the step
//! that has waited for its turn.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use handlers::{Connection, ConnectionOptions, Stream};
use reactor::{IoState, Reactor};
use support::{Result, turn_until_quiet};

use crate::{App, current, noting, request, within};

/// The requests in which steps of handshakes were taken.
type Steps = Rc<RefCell<Vec<Option<u32>>>>;

/// A stream whose handshake is one byte of the peer.
struct Greeted {
    inner: UnixStream,
    steps: Steps,
}

impl AsFd for Greeted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Stream for Greeted {
    const LAYERED: bool = true;

    fn try_handshake(&mut self, io: &mut IoState) -> io::Result<()> {
        self.steps.borrow_mut().push(current());
        self.inner.try_read(io, &mut [0]).map(drop)
    }

    fn try_read(&mut self, io: &mut IoState, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.try_read(io, buf)
    }

    fn try_write(&mut self, io: &mut IoState, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write(io, bufs)
    }
}

#[test]
fn each_step_of_a_handshake_runs_in_the_request_of_its_connection() -> Result {
    let steps = Steps::default();
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    // The second and the third handshake wait for their turn.
    let options = ConnectionOptions::new().max_handshakes_per_turn(1);
    let mut peers = Vec::new();
    for number in 1..4 {
        let (inner, mut far) = UnixStream::pair()?;
        let steps = Rc::clone(&steps);
        let stream = Greeted { inner, steps };
        within(number, || {
            Connection::open(&mut reactor, stream, &options, noting())
        })?;
        far.write_all(b"H")?;
        peers.push(far);
    }
    turn_until_quiet(&mut reactor, &mut app)?;
    assert_eq!(app.seen, [1, 2, 3].map(|number| ("open", Some(number))));
    let steps = steps.take();
    assert_eq!(steps, [1, 2, 3].map(Some));
    Ok(())
}

#[test]
fn an_access_lets_a_handshake_go_on_in_the_request_of_its_connection() -> Result {
    let steps = Steps::default();
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    let (inner, mut far) = UnixStream::pair()?;
    let stream = Greeted {
        inner,
        steps: Rc::clone(&steps),
    };
    let options = ConnectionOptions::new();
    let (context, kept) = request(7);
    let key = context.scope(|| Connection::open(&mut reactor, stream, &options, noting()))?;
    drop(context);
    turn_until_quiet(&mut reactor, &mut app)?;
    far.write_all(b"H")?;
    within(9, || {
        reactor.defer(move |cx| {
            let _ = key.write(cx, b"bytes").unwrap();
            assert_eq!(current(), Some(9));
            key.close(cx).unwrap();
        });
    });
    turn_until_quiet(&mut reactor, &mut app)?;
    assert!(
        app.seen.iter().all(|(_, number)| *number == Some(7)),
        "{app:?}"
    );
    assert!(steps.borrow().iter().all(|number| *number == Some(7)));
    kept.expect_dropped("after the connection");
    Ok(())
}
