//! The traits of hyper, called by hand.

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use handlers::futures::{Async, HyperTimer, block_on, now, sleep};
use hyper::rt::{self, Timer};
use reactor::{ManualClock, Reactor};
use support::Result;

const SECOND: Duration = Duration::from_secs(1);

fn jumping() -> Result<Reactor<()>> {
    Ok(Reactor::builder().clock(ManualClock::jumping()).build()?)
}

/// A sleep of another runtime.
struct Other;

impl Future for Other {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl rt::Sleep for Other {}

#[test]
fn a_timer_moves_a_sleep_and_replaces_that_of_another_runtime() -> Result {
    for is_own in [true, false] {
        let mut reactor = jumping()?;
        let began = reactor.now();
        block_on(&mut reactor, &mut (), async move {
            let mut sleep: Pin<Box<dyn rt::Sleep>> = match is_own {
                true => HyperTimer.sleep(9 * SECOND),
                false => Box::pin(Other),
            };
            HyperTimer.reset(&mut sleep, began + 3 * SECOND);
            sleep.await;
        })?;
        assert_eq!(reactor.now() - began, 3 * SECOND, "{is_own}");
    }
    Ok(())
}

#[test]
fn the_time_of_hyper_is_that_of_the_loop() -> Result {
    let times: (Instant, Option<Instant>) = block_on(&mut jumping()?, &mut (), async {
        sleep(9 * SECOND).await;
        (HyperTimer.now(), now())
    })?;
    assert_eq!(Some(times.0), times.1);
    Ok(())
}

/// A socket whose writes wait for a flush.
struct Buffered(UnixStream, std::cell::RefCell<Vec<u8>>);

impl AsFd for Buffered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Write for &Buffered {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.1.borrow_mut().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.0).write_all(&self.1.take())
    }
}

#[test]
fn a_flush_and_a_shutdown_of_hyper_are_those_of_the_source() -> Result {
    let (near, mut far) = UnixStream::pair()?;
    let mut near = Async::new(Buffered(near, std::cell::RefCell::default()))?;
    let received = block_on(&mut jumping()?, &mut (), async move {
        poll_fn(|cx| rt::Write::poll_write(Pin::new(&mut near), cx, b"hello")).await?;
        poll_fn(|cx| rt::Write::poll_flush(Pin::new(&mut near), cx)).await?;
        far.set_nonblocking(true)?;
        let mut text = [0; 9];
        let length = far.read(&mut text)?;
        poll_fn(|cx| rt::Write::poll_shutdown(Pin::new(&mut near), cx)).await?;
        assert_eq!(far.read(&mut [0])?, 0, "the end, while the source is open");
        drop(near);
        io::Result::Ok(text[..length].to_vec())
    })??;
    assert_eq!(received, b"hello");
    Ok(())
}
