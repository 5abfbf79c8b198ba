//! Bytes through sources, in both directions.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use handlers::futures::{self, Async};

use super::{Result, pair};
use crate::reactor;

const MIB: usize = 1024 * 1024;

/// Writes 64 MiB and then ends the direction.
async fn send(mut to: &Async<UnixStream>, seed: u8) -> io::Result<()> {
    let block: Vec<u8> = (0..100_003).map(|n| (n as u8).wrapping_mul(seed)).collect();
    let mut left = 64 * MIB;
    while left > 0 {
        let size = left.min(block.len());
        to.write_all(&block[..size]).await?;
        left -= size;
    }
    to.close().await
}

/// Reads to the end, and compares with what [`send`] writes.
async fn receive(mut from: &Async<UnixStream>, seed: u8) -> io::Result<usize> {
    let block: Vec<u8> = (0..100_003).map(|n| (n as u8).wrapping_mul(seed)).collect();
    let mut buf = vec![0; 65_536];
    let mut received = 0;
    loop {
        let size = from.read(&mut buf).await?;
        if size == 0 {
            return Ok(received);
        }
        let at = received % block.len();
        let until_wrap = size.min(block.len() - at);
        assert_eq!(buf[..until_wrap], block[at..at + until_wrap]);
        assert_eq!(buf[until_wrap..size], block[..size - until_wrap]);
        received += size;
    }
}

#[test]
fn sixty_four_mebibytes_pass_a_socket_pair_in_both_directions() -> Result {
    let mut reactor = reactor::<()>();
    let (near, far) = pair()?;
    let (near, far) = (Rc::new(near), Rc::new(far));
    let received = futures::block_on(&mut reactor, &mut (), async move {
        let tasks = [(&near, 3), (&far, 7)].map(|(end, seed)| {
            let end = Rc::clone(end);
            futures::spawn_local(async move { send(&end, seed).await })
        });
        let at_far = {
            let far = Rc::clone(&far);
            futures::spawn_local(async move { receive(&far, 3).await })
        };
        let at_near = receive(&near, 7).await?;
        for task in tasks {
            task.await.map_err(io::Error::other)??;
        }
        let at_far = at_far.await.map_err(io::Error::other)??;
        io::Result::Ok((at_near, at_far))
    })?;
    assert_eq!(received?, (64 * MIB, 64 * MIB));
    Ok(())
}

#[test]
fn a_closed_direction_leaves_the_other_one_open() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    let answer = futures::block_on(&mut reactor, &mut (), async move {
        let server = futures::spawn_local(async move {
            let mut question = String::new();
            far.read_to_string(&mut question).await?; // until the end
            far.write_all(question.to_uppercase().as_bytes()).await
        });
        near.write_all(b"anybody there?").await?;
        near.close().await?;
        let mut answer = String::new();
        near.read_to_string(&mut answer).await?;
        server.await.map_err(io::Error::other)??;
        io::Result::Ok(answer)
    })?;
    assert_eq!(answer?, "ANYBODY THERE?");
    Ok(())
}

#[test]
fn a_short_read_before_the_end_does_not_hide_the_end() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, far) = pair()?;
    let sizes = futures::block_on(&mut reactor, &mut (), async move {
        let mut buf = [0; 16];
        let first = futures::spawn_local(async move {
            let mut sizes = Vec::new();
            for _ in 0..2 {
                sizes.push(near.read(&mut buf).await?);
            }
            io::Result::Ok(sizes)
        });
        futures::yield_now().await; // the reader waits
        let mut bare = far.get_ref();
        bare.write_all(b"last")?;
        drop(far); // the bytes and the end are one report
        first.await.map_err(io::Error::other)?
    })?;
    assert_eq!(sizes?, [4, 0]);
    Ok(())
}

#[test]
fn the_end_of_a_stream_that_was_waited_for_stays() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, far) = pair()?;
    let reads = futures::block_on(&mut reactor, &mut (), async move {
        let reader = futures::spawn_local(async move {
            let mut reads = Vec::new();
            for _ in 0..3 {
                reads.push(near.read(&mut [0; 8]).await?);
                futures::yield_now().await;
            }
            io::Result::Ok(reads)
        });
        futures::yield_now().await; // it waits
        drop(far);
        reader.await?
    })??;
    assert_eq!(reads, [0; 3]);
    Ok(())
}

#[test]
fn more_slices_than_the_kernel_takes_at_once_are_all_sent() -> Result {
    const SLICES: usize = 3000;
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    let sent = futures::block_on(&mut reactor, &mut (), async move {
        let mut buf = vec![7; MIB];
        while future::poll_once(near.write(&buf)).await.is_some() {}
        futures::yield_now().await; // it is watched
        while future::poll_once(far.read(&mut buf)).await.is_some() {}
        near.writable().await?;
        let mut slices = [IoSlice::new(b"x"); SLICES];
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written = future::poll_once(near.write_vectored(left)).await;
            // Otherwise it waits for a peer that has read everything.
            let written = written.ok_or(ErrorKind::WouldBlock)??;
            IoSlice::advance_slices(&mut left, written);
        }
        far.read_exact(&mut buf[..SLICES]).await?;
        io::Result::Ok(buf[..SLICES] == [b'x'; SLICES])
    })??;
    assert!(sent);
    Ok(())
}

#[test]
fn two_tasks_wait_for_the_two_directions_of_a_source() -> Result {
    let mut reactor = reactor::<()>();
    let (near, mut far) = pair()?;
    let near = Rc::new(near);
    let events = Rc::new(Cell::new((0, 0)));
    let (reads, writes) = (Rc::clone(&near), Rc::clone(&near));
    let seen = Rc::clone(&events);
    futures::block_on(&mut reactor, &mut (), async move {
        let full = (&*near).write(&vec![0; 16 * MIB]).await?; // as much as there is room for
        let reader = {
            let seen = Rc::clone(&seen);
            futures::spawn_local(async move {
                let size = (&*reads).read(&mut [0; 8]).await?;
                seen.set((size, seen.get().1));
                io::Result::Ok(())
            })
        };
        let writer = {
            let seen = Rc::clone(&seen);
            futures::spawn_local(async move {
                let size = (&*writes).write(b"more").await?;
                seen.set((seen.get().0, size));
                io::Result::Ok(())
            })
        };
        futures::yield_now().await;
        assert_eq!(seen.get(), (0, 0), "both wait");
        far.write_all(b"hi").await?;
        reader.await.map_err(io::Error::other)??;
        assert_eq!(seen.get(), (2, 0), "there is no room yet");
        far.read_exact(&mut vec![0; full]).await?;
        writer.await.map_err(io::Error::other)??;
        io::Result::Ok(())
    })??;
    assert_eq!(events.get(), (2, 4));
    Ok(())
}

#[test]
fn a_source_that_is_always_ready_leaves_turns_to_the_others() -> Result {
    let mut reactor = reactor::<()>();
    let zeros = Async::new(std::fs::File::open("/dev/zero")?)?;
    let polls = Rc::new(Cell::new(0_u32));
    let counted = Rc::clone(&polls);
    let read = futures::block_on(&mut reactor, &mut (), async move {
        let other = futures::spawn_local(async move {
            for _ in 0..10 {
                counted.set(counted.get() + 1);
                let mut is_first = true;
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut is_first, false) {
                        std::task::Poll::Pending
                    } else {
                        std::task::Poll::Ready(())
                    }
                })
                .await;
            }
        });
        let mut zeros = &zeros;
        let mut reads = 0;
        while !other.is_finished() {
            zeros.read_exact(&mut [0; 8]).await?;
            reads += 1;
        }
        io::Result::Ok(reads)
    })?;
    assert_eq!(polls.get(), 10);
    assert_eq!(read?, 11 * 64 + 1, "64 reads in each poll but the last");
    Ok(())
}

#[test]
fn a_wait_for_a_source_that_stays_ready_leaves_turns_to_the_others() -> Result {
    const MANY: u32 = 1_000_000;
    for reads in [true, false] {
        let mut reactor = reactor::<()>();
        let (near, mut far) = UnixStream::pair()?;
        far.write_all(b"unread")?;
        let near = Async::new(near)?;
        let waits = futures::block_on(&mut reactor, &mut (), async move {
            near.readable().await?; // from now on it is known to be ready
            near.writable().await?;
            let other = futures::spawn_local(futures::yield_now());
            let mut waits = 0;
            while !other.is_finished() && waits < MANY {
                if reads {
                    near.readable().await?;
                } else {
                    near.writable().await?;
                }
                waits += 1;
            }
            io::Result::Ok(waits)
        })?;
        assert!(waits? < MANY, "reads: {reads}");
        drop(far);
    }
    Ok(())
}

#[test]
fn a_regular_file_is_read_and_never_registered() -> Result {
    let mut reactor = reactor::<()>();
    let mut file = tempfile::tempfile()?;
    file.write_all(b"written before")?;
    io::Seek::rewind(&mut file)?;
    let mut file = Async::new(file)?;
    let text = futures::block_on(&mut reactor, &mut (), async move {
        let mut text = String::new();
        file.read_to_string(&mut text).await?;
        file.write_all(b", and after").await?;
        file.close().await?; // a file has no write side to close
        io::Result::Ok(text)
    })?;
    assert_eq!(text?, "written before");
    assert_eq!(reactor.metrics().kernel_updates, 0);
    Ok(())
}

#[test]
fn a_regular_file_is_always_reported_as_readable() -> Result {
    let mut reactor = reactor::<()>();
    let file = Async::new(tempfile::tempfile()?)?;
    let would_block = futures::block_on(&mut reactor, &mut (), async move {
        file.readable().await?;
        file.writable().await?;
        let refuses = |_: &std::fs::File| io::Result::<()>::Err(ErrorKind::WouldBlock.into());
        let refused = file.read_with(refuses).await;
        io::Result::Ok(refused.map_err(|error| error.kind()))
    })?;
    assert_eq!(
        would_block?,
        Err(ErrorKind::WouldBlock),
        "it would wait for ever"
    );
    Ok(())
}
