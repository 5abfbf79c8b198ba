//! The timeouts of the options, and peers that stop reading.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::ConnectionOptions;
use handlers::futures::{sleep, timeout, wait_event};
use reactor::{ManualClock, Reactor};
use support::{PATIENCE, Result, reset, turn_until_quiet};
use tracing::subscriber;

use crate::logged::Log;
use crate::{Notes, RESET, open_with, read_all};

const LIMIT: Duration = Duration::from_secs(60);
/// The time for which a peer may take nothing during a close: see `futures::protocol`.
const STALL: Duration = Duration::from_secs(30);
const MUCH: usize = 32 << 20;

fn reactor() -> Result<Reactor<()>> {
    Ok(Reactor::builder().clock(ManualClock::jumping()).build()?)
}

#[test]
fn a_peer_that_takes_nothing_is_an_error_of_the_write_and_then_reset() -> Result {
    for returns_ok in [false, true] {
        let mut reactor = reactor()?;
        let options = ConnectionOptions::new().write_timeout(LIMIT);
        let seen = Notes::default();
        let notes = Rc::clone(&seen);
        let (_key, peer) = open_with(&mut reactor, &options, move |mut stream| async move {
            let error = stream.write_all(&vec![7; MUCH]).await.unwrap_err();
            let again = stream.write(b"x").await.unwrap_err();
            let close = stream.close().await.unwrap_err();
            for error in [&error, &again, &close] {
                notes.borrow_mut().push((error.kind(), error.to_string()));
            }
            if returns_ok { Ok(()) } else { Err(error) }
        })?;
        let began = reactor.now();
        reactor.run(&mut ())?;
        let error = (ErrorKind::TimedOut, "write timeout expired".to_owned());
        assert_eq!(*seen.borrow(), vec![error; 3]);
        assert!(reactor.now() - began <= LIMIT + STALL);
        let (all, error) = read_all(&peer);
        assert!(
            all.len() < MUCH && error == RESET,
            "{} {error:?}",
            all.len()
        );
    }
    Ok(())
}

#[test]
fn each_timeout_says_which_one_it_was() -> Result {
    let none = ConnectionOptions::new;
    for (options, text) in [
        (none().idle_timeout(LIMIT), "idle timeout expired"),
        (none().read_timeout(LIMIT), "read timeout expired"),
    ] {
        let mut reactor = reactor()?;
        let seen = Notes::default();
        let notes = Rc::clone(&seen);
        let (_key, mut peer) = open_with(&mut reactor, &options, move |mut stream| async move {
            let mut input = Vec::new();
            let error = stream.read_to_end(&mut input).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            notes.borrow_mut().push((input.len(), error.to_string()));
            Err(error)
        })?;
        peer.write_all(b"hello")?;
        let began = reactor.now();
        reactor.run(&mut ())?;
        assert_eq!(*seen.borrow(), [(5, text.to_owned())]);
        assert!(reactor.now() - began >= LIMIT);
        assert_eq!(read_all(&peer), (Vec::new(), RESET));
    }
    Ok(())
}

/// The connection does not read while the future holds back its peer, so the peer is not late.
#[test]
fn a_future_that_is_slow_is_not_the_fault_of_its_peer() -> Result {
    let mut reactor = reactor()?;
    let options = ConnectionOptions::new().read_timeout(LIMIT);
    let (_key, mut peer) = open_with(&mut reactor, &options, |mut stream| async move {
        let mut input = vec![0; 100_000];
        sleep(10 * LIMIT).await; // more than 64 KiB wait
        stream.read_exact(&mut input).await?;
        stream.write_all(b"all of it").await
    })?;
    let writer = std::thread::spawn(move || {
        peer.write_all(&[7; 200_000]).unwrap();
        read_all(&peer)
    });
    // The clock must not jump before the bytes are there.
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(200) {
        reactor.turn(&mut (), Some(Duration::ZERO))?;
    }
    reactor.run(&mut ())?;
    assert_eq!(writer.join().unwrap().0, b"all of it");
    Ok(())
}

#[test]
fn a_timeout_of_the_future_leaves_the_connection_usable() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open_with(
        &mut reactor,
        &ConnectionOptions::new(),
        |mut stream| async move {
            for _ in 0..3 {
                assert!(timeout(LIMIT, stream.read(&mut [0])).await.is_err());
                stream.write_all(b"ping").await?;
            }
            Ok(())
        },
    )?;
    let reader = std::thread::spawn(move || read_all(&peer));
    reactor.turn(&mut (), Some(PATIENCE))?;
    reactor.run(&mut ())?;
    assert_eq!(reader.join().unwrap(), (b"pingpingping".to_vec(), None));
    Ok(())
}

#[test]
fn a_timeout_that_was_reported_stays_the_error_after_a_reset() -> Result {
    let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::new()).build()?;
    let options = ConnectionOptions::new().idle_timeout(LIMIT);
    let (seen, go) = (Notes::default(), reactor::Event::auto_reset());
    let (notes, goes) = (Rc::clone(&seen), go.clone());
    let (_key, peer) = open_with(&mut reactor, &options, move |mut stream| async move {
        let first = stream.read(&mut [0]).await.unwrap_err();
        wait_event(&goes).await?;
        let read = stream.read(&mut [0]).await.unwrap_err();
        let write = stream.write(b"x").await.unwrap_err();
        notes
            .borrow_mut()
            .extend([first, read, write].map(|error| error.to_string()));
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.advance(&mut (), LIMIT)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reset(peer)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    go.set();
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*seen.borrow(), ["idle timeout expired"; 3]);
    Ok(())
}

/// An error of another crate, which does not display its cause: those of hyper are such.
#[derive(Debug)]
struct Opaque(io::Error);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is not complete")
    }
}

impl Error for Opaque {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn the_log_names_the_timeout_that_an_error_of_a_crate_hides() -> Result {
    let log = Log::default();
    subscriber::with_default(log.clone(), || -> Result {
        let mut reactor = reactor()?;
        let options = ConnectionOptions::new().idle_timeout(LIMIT);
        let (_key, _peer) = open_with(&mut reactor, &options, |mut stream| async move {
            let read = stream.read(&mut [0]).await.map(drop);
            read.map_err(|error| io::Error::other(Opaque(error)))
        })?;
        reactor.run(&mut ())?;
        Ok(())
    })?;
    let text = "error=the body is not complete: idle timeout expired";
    assert_eq!(log.count(text), 1, "{log:?}");
    assert_eq!(log.shown(), [""; 0]);
    Ok(())
}
