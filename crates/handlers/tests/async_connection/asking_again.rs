//! Futures that ask again and again after an end or an error: they leave turns to others.

use std::cell::Cell;
use std::net::Shutdown;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::AsyncConnection;
use reactor::{Reactor, Then};
use support::{PATIENCE, Result, ms, reset, run_out, turn_until_quiet};

use crate::{Notes, open, reactor};

/// More calls than a poll makes.
const MANY: u32 = 1_000_000;

/// A call that a future makes again and again.
#[derive(Clone, Copy, Debug)]
enum Call {
    Read,
    Write,
    Flush,
    Close,
    Stopping,
}

/// Makes a call until the test stops it. Returns how often.
async fn repeat(stream: &mut AsyncConnection, call: Call, stops: &Cell<bool>) -> u32 {
    let mut count = 0;
    while !stops.get() && count < MANY {
        let _ = match call {
            Call::Read => stream.read(&mut [0]).await.map(drop),
            Call::Write => stream.write(b"x").await.map(drop),
            Call::Flush => stream.flush().await,
            Call::Close => stream.close().await,
            Call::Stopping => {
                stream.stopping().await;
                Ok(())
            }
        };
        count += 1;
    }
    count
}

/// Stops the calls of a future by a timer, which runs only if the future lets the loop go on.
fn stop_by_timer(reactor: &mut Reactor<()>, stops: Rc<Cell<bool>>) -> Result {
    reactor.after(ms(1), move |_cx| {
        stops.set(true);
        Ok(Then::Done)
    });
    run_out(reactor, &mut ())?;
    turn_until_quiet(reactor, &mut ()) // the future of a failed connection keeps no loop alive
}

#[test]
fn a_future_that_asks_again_after_an_end_leaves_turns_to_others() -> Result {
    for call in [Call::Read, Call::Write, Call::Close, Call::Stopping] {
        let mut reactor = reactor()?;
        let counts = Notes::default();
        let notes = Rc::clone(&counts);
        let stops = Rc::new(Cell::new(false));
        let stopped = Rc::clone(&stops);
        let (key, peer) = open(&mut reactor, move |mut stream| async move {
            stream.read_to_end(&mut Vec::new()).await?;
            stream.close().await?;
            let count = repeat(&mut stream, call, &stopped).await;
            notes.borrow_mut().push(count);
            Ok(())
        })?;
        turn_until_quiet(&mut reactor, &mut ())?;
        reactor.defer(move |cx| {
            let closed = key.with(cx, |connection, _cx| connection.close_gracefully(PATIENCE));
            assert!(closed.is_ok());
        });
        turn_until_quiet(&mut reactor, &mut ())?;
        peer.shutdown(Shutdown::Write)?;
        stop_by_timer(&mut reactor, stops)?;
        assert!(counts.take()[0] < MANY, "the timer has ended it: {call:?}");
    }
    Ok(())
}

#[test]
fn a_future_that_asks_again_after_an_error_leaves_turns_to_others() -> Result {
    for call in [Call::Read, Call::Write, Call::Flush, Call::Close] {
        let mut reactor = reactor()?;
        let counts = Notes::default();
        let notes = Rc::clone(&counts);
        let stops = Rc::new(Cell::new(false));
        let stopped = Rc::clone(&stops);
        let (_key, peer) = open(&mut reactor, move |mut stream| async move {
            let error = stream.read(&mut [0]).await.unwrap_err();
            let count = repeat(&mut stream, call, &stopped).await;
            notes.borrow_mut().push(count);
            Err(error)
        })?;
        turn_until_quiet(&mut reactor, &mut ())?;
        reset(peer)?;
        stop_by_timer(&mut reactor, stops)?;
        assert!(counts.take()[0] < MANY, "the timer has ended it: {call:?}");
    }
    Ok(())
}
