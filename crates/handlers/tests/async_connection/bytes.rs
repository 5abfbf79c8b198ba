//! Reading and writing.

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::thread;

use futures_lite::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use handlers::ConnectionOptions;
use handlers::futures::AsyncConnection;
use support::{Result, run_out, turn_until_quiet};

use crate::{Notes, open, open_with, reactor, read_all};

async fn echo(mut stream: AsyncConnection) -> std::io::Result<()> {
    let mut buf = [0; 1000];
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(()),
            n => stream.write_all(&buf[..n]).await?,
        }
    }
}

#[test]
fn a_message_is_answered_in_the_turn_that_reads_it() -> Result {
    let mut reactor = reactor()?;
    let (_key, mut peer) = open(&mut reactor, echo)?;
    turn_until_quiet(&mut reactor, &mut ())?;
    for message in ["one", "two", "three"] {
        peer.write_all(message.as_bytes())?;
        reactor.turn(&mut (), None)?;
        peer.set_nonblocking(true)?;
        let mut answer = [0; 10];
        let length = peer.read(&mut answer)?;
        assert_eq!(&answer[..length], message.as_bytes());
    }
    Ok(())
}

#[test]
fn the_end_of_the_peer_is_an_end_of_input_and_ok_a_clean_end() -> Result {
    let mut reactor = reactor()?;
    let (_key, mut peer) = open(&mut reactor, echo)?;
    peer.write_all(b"hello")?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"hello".to_vec(), None));
    Ok(())
}

#[test]
fn a_megabyte_in_pieces_of_all_sizes_comes_back_the_same() -> Result {
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let mut reactor = reactor()?;
    let (_key, peer) = open(&mut reactor, |mut stream| async move {
        let mut sizes = (1..).step_by(37).map(|size| 1 + size % 9973);
        let mut buf = vec![0; 10_000];
        loop {
            let size = sizes.next().unwrap();
            let read = stream.read(&mut buf[..size]).await?;
            if read == 0 {
                return Ok(());
            }
            for piece in buf[..read].chunks(1 + size / 3) {
                stream.write_all(piece).await?;
            }
        }
    })?;
    let (mut writer, bytes) = (peer.try_clone()?, sent.clone());
    let writing = thread::spawn(move || {
        for piece in bytes.chunks(12_345) {
            writer.write_all(piece)?;
        }
        writer.shutdown(Shutdown::Write)
    });
    let reading = thread::spawn(move || read_all(&peer));
    run_out(&mut reactor, &mut ())?;
    writing.join().unwrap()?;
    let (came, error) = reading.join().unwrap();
    assert!(came == sent && error.is_none(), "{}: {error:?}", came.len());
    Ok(())
}

#[test]
fn lines_are_read_without_a_buffer_of_their_own() -> Result {
    let mut reactor = reactor()?;
    let lines = Notes::default();
    let seen = lines.clone();
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            seen.borrow_mut().push(std::mem::take(&mut line));
        }
        Ok(())
    })?;
    peer.write_all(b"one\ntwo\nrest")?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*lines.borrow(), ["one\n", "two\n", "rest"]);
    Ok(())
}

#[test]
fn several_buffers_are_filled_and_sent_in_order() -> Result {
    let mut reactor = reactor()?;
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        let (mut first, mut second) = ([0; 2], [0; 10]);
        let read = poll_fn(|cx| {
            let bufs = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            Pin::new(&mut stream).poll_read_vectored(cx, bufs)
        });
        let read = read.await?;
        let bufs = [IoSlice::new(&second[..read - 2]), IoSlice::new(&first)];
        let written = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &bufs)).await?;
        assert_eq!(written, read);
        Ok(())
    })?;
    peer.write_all(b"abcde")?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"cdeab".to_vec(), None));
    Ok(())
}

#[test]
fn a_closed_write_side_leaves_reading_open() -> Result {
    let mut reactor = reactor()?;
    let rest = Notes::default();
    let seen = rest.clone();
    let (_key, mut peer) = open(&mut reactor, |mut stream| async move {
        stream.write_all(b"bye").await?;
        stream.close().await?;
        assert!(stream.write_all(b"more").await.is_err());
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        seen.borrow_mut().push(text);
        Ok(())
    })?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"bye".to_vec(), None));
    peer.write_all(b"and you")?;
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    assert_eq!(*rest.borrow(), ["and you"]);
    Ok(())
}

#[test]
fn bytes_that_were_put_back_are_read_again() -> Result {
    let mut reactor = reactor()?;
    let options = ConnectionOptions::new();
    let (_key, mut peer) = open_with(&mut reactor, &options, |mut stream| async move {
        let mut first = [0; 2];
        stream.read_exact(&mut first).await?;
        stream.unread(&first);
        stream.unread(b"");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        stream.unread(b"!");
        stream.read_to_end(&mut all).await?;
        stream.write_all(&all).await
    })?;
    peer.write_all(b"abcd")?;
    peer.shutdown(Shutdown::Write)?;
    run_out(&mut reactor, &mut ())?;
    assert_eq!(read_all(&peer), (b"abcd!".to_vec(), None));
    Ok(())
}
