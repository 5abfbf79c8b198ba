//! Several loops on one thread: nested, and by turns.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, Async};
use reactor::{Reactor, Then};

use super::Result;
use crate::{reactor, turn};

#[test]
fn a_loop_may_run_to_its_end_within_a_task_of_another() -> Result {
    let mut outer = reactor::<u32>();
    let result = futures::block_on(&mut outer, &mut 0, async {
        let mut inner = reactor::<Vec<u32>>();
        let mut state = Vec::new();
        let answer = futures::block_on(&mut inner, &mut state, async {
            let one = futures::spawn_local(async {
                futures::sleep(Duration::from_secs(1)).await;
                1
            });
            futures::with_context(|cx: &mut reactor::Context<'_, Vec<u32>>| cx.state.push(7)).await;
            one.await.unwrap_or(0)
        });
        drop(inner);
        // The outer loop is the current one again.
        futures::with_context(|cx: &mut reactor::Context<'_, u32>| *cx.state += 1).await;
        let two = futures::spawn_local(async { 2 }).await.unwrap_or(0);
        futures::sleep(Duration::from_secs(1)).await;
        (answer.unwrap_or(0), two, state)
    })?;
    assert_eq!(result, (1, 2, vec![7]));
    Ok(())
}

#[test]
fn a_loop_that_panics_within_a_task_leaves_the_outer_one_current() -> Result {
    let mut outer = reactor::<u32>();
    let mut state = 0;
    futures::block_on(&mut outer, &mut state, async {
        let mut inner = reactor::<()>();
        let run = std::panic::AssertUnwindSafe(|| {
            futures::block_on(&mut inner, &mut (), async { panic!("a bug") })
        });
        assert!(std::panic::catch_unwind(run).is_err());
        drop(inner);
        futures::with_context(|cx: &mut reactor::Context<'_, u32>| *cx.state += 1).await;
    })?;
    assert_eq!(state, 1);
    Ok(())
}

/// Lets two loops take turns until a condition holds.
fn alternate(
    first: &mut Reactor<()>,
    second: &mut Reactor<()>,
    is_done: impl Fn() -> bool,
) -> Result {
    for _ in 0..100 {
        if is_done() {
            return Ok(());
        }
        first.turn(&mut (), Some(Duration::from_millis(10)))?;
        second.turn(&mut (), Some(Duration::from_millis(10)))?;
    }
    Err("it is not done".into())
}

#[test]
fn a_task_may_await_a_task_of_another_loop_of_its_thread() -> Result {
    let (mut first, mut second) = (reactor::<()>(), reactor::<()>());
    let done = Rc::new(RefCell::new(Vec::new()));
    let signal = crate::Signal::default();
    let waits = signal.wait();
    let of_first = futures::spawn_joinable(&mut first, async move {
        waits.await;
        1
    })?;
    let log = Rc::clone(&done);
    let of_second = futures::spawn_joinable(&mut second, async move {
        let one = of_first.await.unwrap_or(0);
        log.borrow_mut().push("second");
        one + 1
    })?;
    let log = Rc::clone(&done);
    let ends = async move {
        assert_eq!(of_second.await, Ok(2));
        log.borrow_mut().push("first");
    };
    futures::spawn(&mut first, ends, |(), _cx| ())?;
    turn(&mut first, &mut ());
    turn(&mut second, &mut ());
    signal.set();
    alternate(&mut first, &mut second, || done.borrow().len() == 2)?;
    assert_eq!(*done.borrow(), ["second", "first"]);
    Ok(())
}

#[test]
fn a_future_of_one_loop_may_be_awaited_in_a_task_of_another() -> Result {
    // Loops by the system's clock, so that each waits for its own timers.
    let (mut first, mut second) = (Reactor::<()>::new()?, Reactor::<()>::new()?);
    let (near, mut far) = UnixStream::pair()?;
    let near = Rc::new(Async::new(near)?);
    let sleep = Rc::new(RefCell::new(futures::sleep(Duration::from_millis(5))));
    let (queue, receiver) = reactor::notification_queue(reactor::Capacity::Unbounded);
    let stream = Rc::new(RefCell::new(futures::receive(&mut first, receiver)?));
    let done = Rc::new(Cell::new(0));
    // All of them wait on the first loop at first.
    let (source, slept, received) = (Rc::clone(&near), Rc::clone(&sleep), Rc::clone(&stream));
    let begins = std::future::poll_fn(move |cx| {
        assert!(source.poll_readable(cx).is_pending());
        assert!(Future::poll(Pin::new(&mut *slept.borrow_mut()), cx).is_pending());
        let next = futures_core::Stream::poll_next(Pin::new(&mut *received.borrow_mut()), cx);
        assert!(next.is_pending());
        std::task::Poll::Ready(())
    });
    futures::spawn(&mut first, begins, |(), _cx| ())?;
    turn(&mut first, &mut ());
    let counts = Rc::clone(&done);
    let reads = async move {
        let mut bytes = [0; 3];
        (&*near).read_exact(&mut bytes).await?;
        counts.set(counts.get() + 1);
        io::Result::Ok(())
    };
    let counts = Rc::clone(&done);
    let sleeps = async move {
        let slept =
            |cx: &mut std::task::Context<'_>| Future::poll(Pin::new(&mut *sleep.borrow_mut()), cx);
        std::future::poll_fn(slept).await;
        counts.set(counts.get() + 10);
    };
    let counts = Rc::clone(&done);
    let receives = async move {
        let next = |cx: &mut std::task::Context<'_>| {
            futures_core::Stream::poll_next(Pin::new(&mut *stream.borrow_mut()), cx)
        };
        assert_eq!(std::future::poll_fn(next).await, Some(5));
        counts.set(counts.get() + 100);
    };
    futures::spawn(&mut second, reads, |_, _cx| ())?;
    futures::spawn(&mut second, sleeps, |(), _cx| ())?;
    futures::spawn(&mut second, receives, |(), _cx| ())?;
    turn(&mut second, &mut ());
    io::Write::write_all(&mut far, b"abc")?;
    queue.try_send(5)?;
    alternate(&mut first, &mut second, || done.get() == 111)?;
    Ok(())
}

#[test]
fn an_async_written_by_one_loop_and_read_by_another_passes_all_bytes() -> Result {
    let (mut first, mut second) = (Reactor::<()>::new()?, Reactor::<()>::new()?);
    let (near, far) = UnixStream::pair()?;
    let (mut near, mut far) = (Async::new(near)?, Async::new(far)?);
    let received = Rc::new(Cell::new(0));
    let writes = async move { near.write_all(&vec![1; 1 << 20]).await };
    futures::spawn(&mut first, writes, |written, _cx| assert!(written.is_ok()))?;
    let counts = Rc::clone(&received);
    let reads = async move {
        let mut bytes = Vec::new();
        assert!(far.read_to_end(&mut bytes).await.is_ok());
        counts.set(bytes.len());
    };
    futures::spawn(&mut second, reads, |(), _cx| ())?;
    alternate(&mut first, &mut second, || received.get() == 1 << 20)?;
    Ok(())
}

#[test]
fn a_sleep_moves_its_timer_in_the_loop_that_it_belongs_to() -> Result {
    let (mut first, mut second) = (reactor::<()>(), reactor::<()>());
    let sleep = Rc::new(RefCell::new(futures::sleep(Duration::from_secs(10))));
    let slept = Rc::clone(&sleep);
    let begins = std::future::poll_fn(move |cx| {
        assert!(Future::poll(Pin::new(&mut *slept.borrow_mut()), cx).is_pending());
        std::task::Poll::Ready(())
    });
    futures::spawn(&mut first, begins, |(), _cx| ())?;
    turn(&mut first, &mut ());
    assert_eq!(first.timers().count(), 1);
    let slept = Rc::clone(&sleep);
    second.after(Duration::from_secs(1), move |_cx| {
        let deadline = slept.borrow().deadline();
        slept
            .borrow_mut()
            .reset(deadline.unwrap() + Duration::from_secs(10));
        Ok::<_, io::Error>(Then::Done)
    });
    second.run(&mut ())?;
    turn(&mut first, &mut ());
    turn(&mut first, &mut ());
    assert_eq!((first.timers().count(), second.timers().count()), (1, 0));
    drop(sleep);
    turn(&mut first, &mut ());
    turn(&mut first, &mut ());
    assert_eq!(first.timers().count(), 0);
    Ok(())
}
