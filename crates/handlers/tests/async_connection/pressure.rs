//! Back-pressure both ways.

use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::ConnectionOptions;
use handlers::futures::sleep;
use support::{Result, ms, reset, run_out, turn_until_quiet};

use crate::{Notes, RESET, open, open_with, reactor, read_all};

/// Writes until the kernel takes no more. Returns the number of bytes.
fn fill(mut peer: &TcpStream, reactor: &mut reactor::Reactor<()>) -> Result<usize> {
    peer.set_nonblocking(true)?;
    let mut sent = 0;
    loop {
        match peer.write(&[7; 100_000]) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let before = sent;
                turn_until_quiet(reactor, &mut ())?;
                if let Ok(length) = peer.write(&[7; 100_000]) {
                    sent += length;
                }
                if sent == before {
                    peer.set_nonblocking(false)?;
                    return Ok(sent);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn a_future_that_does_not_read_stops_its_peer() -> Result {
    let mut reactor = reactor()?;
    let options = ConnectionOptions::new();
    let (key, peer) = open_with(&mut reactor, &options, |stream| async move {
        pending::<()>().await;
        drop(stream);
        Ok(())
    })?;
    let sent = fill(&peer, &mut reactor)?;
    let seen = Notes::default();
    let read = seen.clone();
    reactor.defer(move |cx| {
        let metrics = key.with(cx, |connection, _cx| connection.metrics());
        read.borrow_mut().push(metrics.unwrap().read);
    });
    turn_until_quiet(&mut reactor, &mut ())?;
    let read = seen.borrow()[0] as usize;
    assert!(
        sent > read && (64 << 10..=128 << 10).contains(&read),
        "{read} of {sent}"
    );
    Ok(())
}

#[test]
fn a_slow_future_gets_all_that_its_peer_sends() -> Result {
    let mut reactor = reactor()?;
    let options = ConnectionOptions::new();
    let (_key, peer) = open_with(&mut reactor, &options, |mut stream| async move {
        let (mut total, mut buf) = (0_u64, vec![0; 300_000]);
        loop {
            match stream.read(&mut buf).await? {
                0 => return stream.write_all(total.to_string().as_bytes()).await,
                read => total += read as u64,
            }
            sleep(ms(1)).await;
        }
    })?;
    let writer = std::thread::spawn(move || {
        (&peer).write_all(&[7; 5_000_000]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        read_all(&peer)
    });
    run_out(&mut reactor, &mut ())?;
    assert_eq!(writer.join().unwrap(), (b"5000000".to_vec(), None));
    Ok(())
}

#[test]
fn a_future_waits_for_a_peer_that_does_not_read() -> Result {
    const LENGTH: usize = 16 << 20;
    for max_write_queue in [1, 1000, 100_000, 1 << 30] {
        let mut reactor = reactor()?;
        let options = ConnectionOptions::new().max_write_queue(max_write_queue);
        let length = if max_write_queue == 1 { 5_000 } else { LENGTH };
        let (key, mut peer) = open_with(&mut reactor, &options, move |mut stream| async move {
            stream.write_all(&vec![7; length]).await
        })?;
        turn_until_quiet(&mut reactor, &mut ())?;
        let seen = Notes::default();
        let queued = seen.clone();
        reactor.defer(move |cx| {
            let _ = key.with(cx, |connection, _cx| {
                queued.borrow_mut().push(connection.queued())
            });
        });
        turn_until_quiet(&mut reactor, &mut ())?;
        let bound = max_write_queue.min((256 << 10) + (64 << 10));
        assert!(
            seen.borrow().iter().all(|queued| *queued <= bound),
            "{seen:?}"
        );
        peer.shutdown(Shutdown::Write)?;
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all.len())
        });
        run_out(&mut reactor, &mut ())?;
        assert_eq!(reader.join().unwrap()?, length, "{max_write_queue}");
    }
    Ok(())
}

#[test]
fn a_full_queue_does_not_stop_the_reads_of_a_future() -> Result {
    let mut reactor = reactor()?;
    let seen = Notes::default();
    let read = seen.clone();
    let (_key, mut peer) = open(&mut reactor, |stream| async move {
        let (mut reader, mut writer) = futures_lite::io::split(stream);
        let write = async move { writer.write_all(&vec![7; 16 << 20]).await };
        let read = async move {
            let mut text = [0; 5];
            reader.read_exact(&mut text).await?;
            read.borrow_mut().push(text);
            Ok(())
        };
        futures_lite::future::race(write, read).await
    })?;
    turn_until_quiet(&mut reactor, &mut ())?; // the queue is full now
    peer.write_all(b"hello")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*seen.borrow(), [*b"hello"]);
    Ok(())
}

/// The future has read nothing, so the connection does not read either. It learns of the reset by
/// an event, and the future by its write.
#[test]
fn a_write_that_waits_fails_at_a_reset_although_input_is_unread() -> Result {
    let mut reactor = reactor()?;
    let seen = Notes::default();
    let notes = seen.clone();
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        let error = stream.write_all(&vec![7; 32 << 20]).await.unwrap_err();
        let mut input = Vec::new();
        let read = stream.read_to_end(&mut input).await;
        let errors = [&error, &read.unwrap_err()].map(|error| handlers::errno(error));
        notes.borrow_mut().push((errors, input.is_empty()));
        Err(error)
    })?;
    fill(&peer, &mut reactor)?;
    reset(peer)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*seen.borrow(), [([RESET; 2], false)]);
    Ok(())
}
