//! Exact counts: system calls, allocations, registrations.

use std::cell::Cell;
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::rc::Rc;

use allocation_counter::measure;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, Async};
use reactor::{Metrics, Reactor};

use super::{Result, pair};
use crate::reactor;

/// Sends back what arrives.
async fn echo(mut from: Async<PipeReader>, mut to: Async<PipeWriter>) -> io::Result<()> {
    let mut buf = [0; 512];
    loop {
        match from.read(&mut buf).await? {
            0 => return Ok(()),
            size => to.write_all(&buf[..size]).await?,
        }
    }
}

/// Returns a loop with an echo task, and the ends of the other side.
fn echo_bench() -> Result<(Reactor<()>, PipeWriter, PipeReader)> {
    let mut reactor = reactor::<()>();
    let (from, near) = io::pipe()?;
    let (far, to) = io::pipe()?;
    let task = echo(Async::new(from)?, Async::new(to)?);
    futures::spawn(&mut reactor, task, |ended, _cx| ended.expect("an echo"))?;
    reactor.turn(&mut (), Some(std::time::Duration::ZERO))?;
    Ok((reactor, near, far))
}

/// Returns the number of `read` and of `write` calls that this thread has made.
fn transfers() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/thread-self/io")?;
    let find = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.ok_or("no such line")?.trim().parse()?)
    };
    Ok((find("syscr:")?, find("syscw:")?))
}

fn round(reactor: &mut Reactor<()>, near: &PipeWriter, far: &PipeReader) -> io::Result<()> {
    io::Write::write_all(&mut &*near, b"a message")?;
    reactor.turn(&mut (), None)?;
    io::Read::read_exact(&mut &*far, &mut [0; 9])
}

#[test]
fn a_message_costs_one_wait_one_read_and_one_write() -> Result {
    let (mut reactor, near, far) = echo_bench()?;
    for _ in 0..3 {
        round(&mut reactor, &near, &far)?;
    }
    let before = reactor.metrics();
    let (began, none) = (transfers()?, transfers()?);
    for _ in 0..100 {
        round(&mut reactor, &near, &far)?;
    }
    let ended = transfers()?;
    let looking = none.0 - began.0; // what the count itself reads
    assert_eq!(
        ended.0 - none.0 - looking,
        200,
        "one read by the task, one here"
    );
    assert_eq!(ended.1 - none.1, 200, "one write by the task, one here");
    let after = reactor.metrics();
    let counts = |m: &Metrics| {
        [
            m.turns,
            m.events,
            m.calls,
            m.deferred,
            m.kernel_updates,
            m.wakeups,
        ]
    };
    let (before, after) = (counts(&before), counts(&after));
    let differences: Vec<_> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(
        differences,
        [100, 100, 100, 100, 0, 0],
        "turns, events, calls, passes"
    );
    Ok(())
}

#[test]
fn a_message_allocates_nothing() -> Result {
    let (mut reactor, near, far) = echo_bench()?;
    for _ in 0..100 {
        round(&mut reactor, &near, &far)?;
    }
    let mut result = Ok(());
    let counted = measure(|| result = (0..100).try_for_each(|_| round(&mut reactor, &near, &far)));
    result?;
    assert_eq!(counted.count_total, 0);
    Ok(())
}

#[test]
fn a_source_that_never_blocks_is_not_registered() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    futures::block_on(&mut reactor, &mut (), async move {
        near.write_all(b"here already").await?;
        far.read_exact(&mut [0; 12]).await
    })??;
    assert_eq!(reactor.metrics().kernel_updates, 0);
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}

#[test]
fn each_direction_is_watched_from_its_first_wait_on() -> Result {
    let mut reactor = reactor::<()>();
    let (mut near, mut far) = pair()?;
    let updates = Rc::new(Cell::new(Vec::new()));
    let seen = Rc::clone(&updates);
    futures::block_on(&mut reactor, &mut (), async move {
        let look = async || {
            let count = futures::with_context(|cx: &mut reactor::Context<'_, ()>| {
                cx.registry.metrics().kernel_updates
            });
            let mut counts = seen.take();
            counts.push(count.await);
            seen.set(counts);
        };
        let full = near.write(&vec![0; 16 << 20]).await?;
        let waiting = futures::spawn_local(async move {
            near.read_exact(&mut [0; 2]).await?;
            near.read_exact(&mut [0; 2]).await?;
            near.write_all(&[0; 3]).await?; // there is no room
            near.write_all(&vec![0; 1 << 20]).await?;
            io::Result::Ok(near)
        });
        futures::yield_now().await; // it waits
        look().await;
        for _ in 0..2 {
            far.write_all(b"hi").await?;
            futures::sleep(std::time::Duration::from_millis(1)).await;
            look().await;
        }
        far.read_exact(&mut vec![0; full + 3 + (1 << 20)]).await?;
        let _near = waiting.await.map_err(io::Error::other)??;
        look().await;
        io::Result::Ok(())
    })??;
    let mut counts = updates.take();
    let last = counts.pop();
    assert_eq!(counts, [1, 1, 2], "for the reader, and for the writer");
    assert_eq!(last, Some(3), "for the reader of the other end");
    Ok(())
}

#[test]
fn a_source_allocates_once_and_twice_more_when_it_waits() -> Result {
    let mut reactor = reactor::<()>();
    let counts = futures::block_on(&mut reactor, &mut (), async move {
        let mut counts = Vec::new();
        for _ in 0..4 {
            let (near, _far) = std::os::unix::net::UnixStream::pair()?;
            let mut source = None;
            let made = measure(|| source = Some(Async::new(near)));
            let source = source.transpose()?;
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let begun = measure(|| {
                let waits = source.as_ref().map(|source| source.poll_readable(&mut cx));
                assert!(waits.is_some_and(|waits| waits.is_pending()));
            });
            futures::yield_now().await; // the loop has registered it
            counts.push((made.count_total, begun.count_total));
        }
        io::Result::Ok(counts)
    })??;
    assert_eq!(
        counts.last(),
        Some(&(1, 1)),
        "its own, and one for the loop"
    );
    Ok(())
}

#[test]
fn a_registration_of_a_source_allocates_once() -> Result {
    let mut reactor = reactor::<()>();
    let mut kept = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..12 {
        let (near, far) = std::os::unix::net::UnixStream::pair()?;
        let source = Rc::new(Async::new(near)?);
        let waits = Rc::clone(&source);
        futures::spawn(
            &mut reactor,
            async move { waits.readable().await },
            |_, _| (),
        )?;
        let turn = measure(|| {
            let _ = reactor.turn(&mut (), Some(std::time::Duration::ZERO));
        });
        counts.push(turn.count_total);
        kept.push((source, far));
    }
    // One for the loop and one for the registration; a table grows now and then.
    assert_eq!(counts.iter().min(), Some(&2), "{counts:?}");
    Ok(())
}
