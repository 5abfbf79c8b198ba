//! A connection that is split, and calls at their edges: no bytes, after the close, after an error.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;

use futures_lite::io::split;
use futures_lite::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future};
use handlers::futures::{AsyncConnection, spawn_local, yield_now};
use support::{PATIENCE, Result, reset, run_out, turn_until_quiet};

use crate::{Notes, RESET, open, reactor, read_all};

#[test]
fn one_task_reads_while_another_one_writes() -> Result {
    const LENGTH: usize = 4 << 20;
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |stream| async move {
        let (mut reader, mut writer) = split(stream);
        let reads = spawn_local(async move {
            let (mut total, mut buf) = (0, vec![0; 100_000]);
            loop {
                match reader.read(&mut buf).await? {
                    0 => return std::io::Result::Ok(total),
                    read => total += read,
                }
            }
        });
        writer.write_all(&vec![7; LENGTH]).await?;
        writer.close().await?; // while the other task reads
        let total = reads.await.map_err(std::io::Error::other)??;
        assert_eq!(total, LENGTH);
        Ok(())
    })?;
    let both = peer.try_clone()?;
    let writer = std::thread::spawn(move || {
        (&both).write_all(&vec![7; LENGTH]).unwrap();
        both.shutdown(Shutdown::Write).unwrap();
    });
    let reader = std::thread::spawn(move || read_all(&peer));
    run_out(&mut reactor, &mut ())?;
    let (all, error) = reader.join().unwrap();
    writer.join().unwrap();
    assert_eq!((all.len(), error), (LENGTH, None));
    Ok(())
}

#[test]
fn an_end_wakes_both_tasks_of_a_split_connection() -> Result {
    let mut reactor = reactor()?;
    let errors = Notes::default();
    let seen = errors.clone();
    let (_key, peer) = open(&mut reactor, |stream| async move {
        let (mut reader, mut writer) = split(stream);
        let notes = seen.clone();
        let reads = spawn_local(async move {
            let read = reader.read(&mut [0]).await;
            notes.borrow_mut().push(read.unwrap_err().kind());
        });
        let write = writer.write_all(&vec![7; 32 << 20]).await;
        seen.borrow_mut().push(write.unwrap_err().kind());
        reads.await.map_err(std::io::Error::other)
    })?;
    turn_until_quiet(&mut reactor, &mut ())?; // both wait
    reset(peer)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*errors.borrow(), [ErrorKind::ConnectionReset; 2]);
    Ok(())
}

#[test]
fn calls_without_bytes_are_done_at_once() -> Result {
    let mut reactor = reactor()?;
    let done = Notes::default();
    let seen = done.clone();
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        let read = future::poll_once(stream.read(&mut [])).await;
        seen.borrow_mut()
            .push(read.map(|read| read.map_err(|error| error.kind())));
        let mut none = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        let read = future::poll_once(stream.read_vectored(&mut none)).await;
        seen.borrow_mut()
            .push(read.map(|read| read.map_err(|error| error.kind())));
        let write = future::poll_once(stream.write(&[])).await;
        seen.borrow_mut()
            .push(write.map(|write| write.map_err(|error| error.kind())));
        let none = [IoSlice::new(&[]), IoSlice::new(&[])];
        let write = future::poll_once(stream.write_vectored(&none)).await;
        seen.borrow_mut()
            .push(write.map(|write| write.map_err(|error| error.kind())));
        // They have taken nothing, and have ended nothing.
        let mut all = [0; 5];
        stream.read_exact(&mut all).await?;
        stream.write_all(&all).await
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*done.borrow(), [Some(Ok(0)); 4]);
    peer.write_all(b"hello")?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"hello".to_vec(), None));
    Ok(())
}

#[test]
fn slices_are_sent_in_order_and_as_many_as_fit() -> Result {
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        let pieces: Vec<_> = (0..3000_usize).map(|n| vec![n as u8; n % 90]).collect();
        for pieces in pieces.chunks(1500) {
            let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut rest = slices.as_mut_slice();
            while rest.iter().any(|slice| !slice.is_empty()) {
                let written = stream.write_vectored(rest).await?;
                assert!(written > 0);
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    })?;
    let reader = std::thread::spawn(move || {
        peer.shutdown(Shutdown::Write).unwrap();
        read_all(&peer)
    });
    run_out(&mut reactor, &mut ())?;
    let (all, error) = reader.join().unwrap();
    let expected: Vec<u8> = (0..3000_usize)
        .flat_map(|n| vec![n as u8; n % 90])
        .collect();
    assert!(all == expected && error.is_none());
    Ok(())
}

#[test]
fn the_end_of_input_and_a_closed_write_side_stay_as_they_are() -> Result {
    let mut reactor = reactor()?;
    let seen = Notes::default();
    let notes = Rc::clone(&seen);
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        for _ in 0..3 {
            assert_eq!(stream.read(&mut [0; 9]).await?, 0);
            assert!(stream.fill_buf().await?.is_empty());
            stream.consume(9);
            yield_now().await;
        }
        stream.write_all(b"whole").await?;
        for _ in 0..3 {
            stream.close().await?;
            let write = stream.write(b"x").await.map_err(|error| error.kind());
            let empty = stream.write(b"").await.map_err(|error| error.kind());
            let flush = stream.flush().await.map_err(|error| error.kind());
            notes.borrow_mut().push((write, empty, flush));
            yield_now().await;
        }
        assert_eq!(stream.read(&mut [0; 9]).await?, 0);
        Ok(())
    })?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    let broken = || Err(ErrorKind::BrokenPipe);
    assert_eq!(*seen.borrow(), [(broken(), broken(), Ok(())); 3]);
    assert_eq!(read_all(&peer), (b"whole".to_vec(), None));
    Ok(())
}

#[test]
fn an_error_is_the_same_at_each_call() -> Result {
    let mut reactor = reactor()?;
    let seen = Notes::default();
    let notes = Rc::clone(&seen);
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        for _ in 0..3 {
            let errors = [
                stream.read(&mut [0]).await.map(drop),
                stream.fill_buf().await.map(drop),
                stream.write(b"x").await.map(drop),
                stream.flush().await,
                stream.close().await,
            ];
            let texts = errors.map(|error| error.unwrap_err().to_string());
            notes.borrow_mut().extend(texts);
        }
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reset(peer)?;
    run_out(&mut reactor, &mut ())?;
    let texts = seen.take();
    assert_eq!(texts.len(), 15);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert!(texts[0].contains("read on fd"), "{texts:?}");
    assert!(texts[0].contains("104"), "{texts:?}");
    Ok(())
}

/// A write that was dropped has been taken or not, as its last poll has said.
#[test]
fn a_write_that_is_dropped_midway_has_sent_what_it_has_said() -> Result {
    let mut reactor = reactor()?;
    let sent = Notes::default();
    let notes = Rc::clone(&sent);
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        let mut total = 0;
        loop {
            let write = stream.write(&[7; 50_000]);
            match future::poll_once(write).await {
                Some(written) => total += written?,
                None => break, // it waits, and is dropped
            }
            yield_now().await;
        }
        notes.borrow_mut().push(total);
        stream.read_exact(&mut [0]).await?;
        stream.write_all(b"the end").await
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    let total = sent.take()[0];
    (&peer).write_all(b"?")?;
    let reader = std::thread::spawn(move || {
        peer.shutdown(Shutdown::Write).unwrap();
        read_all(&peer)
    });
    run_out(&mut reactor, &mut ())?;
    let (all, error) = reader.join().unwrap();
    assert_eq!((all.len(), error), (total + 7, None));
    Ok(())
}

/// A flush waits only while the queue is full, so it ends although the peer reads nothing.
#[test]
fn a_flush_and_a_close_wait_as_documented() -> Result {
    let mut reactor = reactor()?;
    let steps = Notes::default();
    let notes = Rc::clone(&steps);
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(&[7; 1000]).await?;
        stream.flush().await?;
        notes.borrow_mut().push("flushed");
        fill(&mut stream).await;
        assert!(future::poll_once(stream.flush()).await.is_none());
        notes.borrow_mut().push("full");
        let closing = stream.close();
        notes.borrow_mut().push("closing");
        closing.await?;
        notes.borrow_mut().push("closed");
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(*steps.borrow(), ["flushed", "full", "closing"]);
    let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()).map(|_| peer));
    while steps.borrow().len() < 4 {
        reactor.turn(&mut (), None)?;
    }
    drop(reader.join().unwrap()?);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

/// Writes until a write waits.
async fn fill(stream: &mut AsyncConnection) {
    while future::poll_once(stream.write(&[7; 50_000]))
        .await
        .is_some()
    {
        yield_now().await;
    }
}

#[test]
fn a_poll_after_the_stop_of_the_peer_does_not_hang() -> Result {
    let mut reactor = reactor()?;
    let (key, peer) = open(&mut reactor, |mut stream| async move {
        // Closing and reading at the same time, by hand.
        let mut buf = [0; 8];
        let read = poll_fn(|cx| {
            let _ = Pin::new(&mut stream).poll_close(cx);
            Pin::new(&mut stream).poll_read(cx, &mut buf)
        });
        assert_eq!(read.await?, 0);
        stream.close().await
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert!(reactor.contains(key.key()));
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (Vec::new(), None));
    Ok(())
}

#[test]
fn the_rest_of_an_input_is_read_after_a_reset_by_the_handle_alone() -> Result {
    let mut reactor = reactor()?;
    let seen = Notes::default();
    let notes = Rc::clone(&seen);
    let go = reactor::Event::auto_reset();
    let goes = go.clone();
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        stream.read_exact(&mut [0; 2]).await?; // the rest is in the handle
        handlers::futures::wait_event(&goes).await?;
        let mut rest = Vec::new();
        let error = stream.read_to_end(&mut rest).await.unwrap_err();
        notes
            .borrow_mut()
            .push((rest.len(), handlers::errno(&error)));
        Ok(())
    })?;
    peer.write_all(&[7; 50_000])?;
    turn_until_quiet(&mut reactor, &mut ())?;
    peer.write_all(&[7; 30_000])?;
    turn_until_quiet(&mut reactor, &mut ())?;
    peer.write_all(&[7; 90_000])?;
    reset(peer)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    go.set();
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*seen.borrow(), [(170_000 - 2, RESET)]);
    Ok(())
}

/// The connection comes to its end without the future, whose queue was full.
#[test]
fn a_close_through_the_key_ends_the_waits_and_the_writes_of_a_future() -> Result {
    let mut reactor = reactor()?;
    let (seen, go) = (Notes::default(), reactor::Event::auto_reset());
    let (notes, goes) = (Rc::clone(&seen), go.clone());
    let (key, mut peer) = open(&mut reactor, |mut stream| async move {
        fill(&mut stream).await;
        handlers::futures::wait_event(&goes).await?;
        let results = [
            stream.flush().await,
            stream.write(b"x").await.map(drop),
            stream.read(&mut [0]).await.map(drop),
            stream.close().await,
        ];
        let kinds = results.map(|result| result.map_err(|error| error.kind()));
        notes.borrow_mut().push(kinds);
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    reactor.defer(move |cx| {
        let closed = key.with(cx, |connection, _cx| connection.close_after_flush(PATIENCE));
        assert!(closed.is_ok());
    });
    let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()).map(drop));
    while reactor.contains(key.key()) {
        reactor.turn(&mut (), None)?;
    }
    reader.join().unwrap()?;
    go.set();
    run_out(&mut reactor, &mut ())?;
    let broken = Err(ErrorKind::BrokenPipe);
    let aborted = Err(ErrorKind::ConnectionAborted);
    assert_eq!(*seen.borrow(), [[Ok(()), broken, aborted, Ok(())]]);
    Ok(())
}
