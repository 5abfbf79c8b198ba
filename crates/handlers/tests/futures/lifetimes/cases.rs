//! Each way in which a future can wait on a loop.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, pending, poll_fn};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncReadExt, StreamExt};
use futures_sink::Sink;
use handlers::futures::{self, Async};
use reactor::{Capacity, Event, Reactor, notification_queue};

use super::Result;

/// A wait that may be shared by tasks of several loops.
pub(super) type Wait = Pin<Box<dyn Future<Output = ()>>>;

/// A wait that does not end, and what it needs to go on.
pub(super) type Made = Result<(Wait, Box<dyn Any>)>;

/// A future that waits on a loop of the state `()`.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) make: fn(&mut Reactor<()>) -> Made,
    /// The outcome of a poll in a task of another loop, when the loop of the wait is gone.
    pub(super) afterwards: &'static str,
}

fn no_need(wait: impl Future<Output = ()> + 'static) -> Made {
    Ok((Box::pin(wait), Box::new(())))
}

pub(super) const CASES: [Case; 12] = [
    Case {
        name: "sleep",
        make: |_| no_need(futures::sleep(Duration::from_secs(3600))),
        afterwards: "panic",
    },
    Case {
        name: "interval",
        make: |_| {
            let mut interval = futures::interval(Duration::from_secs(3600));
            no_need(async move {
                let _ = interval.tick().await;
            })
        },
        afterwards: "panic",
    },
    Case {
        name: "timeout",
        make: |_| {
            let limited = futures::timeout(Duration::from_secs(3600), pending::<()>());
            no_need(async move {
                let _ = limited.await;
            })
        },
        afterwards: "panic",
    },
    Case {
        name: "read",
        make: |_| {
            let (near, far) = UnixStream::pair()?;
            let mut near = Async::new(near)?;
            let wait = async move { drop(near.read(&mut [0; 1]).await) };
            Ok((Box::pin(wait), Box::new(far)))
        },
        afterwards: "ready",
    },
    Case {
        name: "write",
        make: |_| {
            let (near, far) = UnixStream::pair()?;
            near.set_nonblocking(true)?;
            while (&near).write(&[0; 4096]).is_ok() {}
            let near = Async::new(near)?;
            let wait = async move { drop(near.writable().await) };
            Ok((Box::pin(wait), Box::new(far)))
        },
        afterwards: "ready",
    },
    Case {
        name: "accept",
        make: |_| {
            let folder = tempfile::tempdir()?;
            let listener = Async::new(UnixListener::bind(folder.path().join("s"))?)?;
            let wait = async move { drop(listener.accept().await) };
            Ok((Box::pin(wait), Box::new(folder)))
        },
        afterwards: "ready",
    },
    Case {
        name: "join",
        make: |reactor| {
            let handle = futures::spawn_joinable(reactor, pending::<()>())?;
            no_need(async move { drop(handle.await) })
        },
        afterwards: "ready",
    },
    Case {
        name: "event",
        make: |_| {
            let event = Event::auto_reset();
            let wait = futures::wait_event(&event);
            Ok((Box::pin(async { drop(wait.await) }), Box::new(event)))
        },
        afterwards: "pending", // on the other loop from then on
    },
    Case {
        name: "any event",
        make: |_| no_need(async { drop(futures::wait_any(&[]).await) }),
        afterwards: "pending",
    },
    Case {
        name: "all events",
        make: |_| {
            let events = [Event::auto_reset(), Event::manual_reset()];
            let wait = futures::wait_all(&[&events[0], &events[1]]);
            Ok((Box::pin(async { drop(wait.await) }), Box::new(events)))
        },
        afterwards: "pending",
    },
    Case {
        name: "queue",
        make: |reactor| {
            let (sender, receiver) = notification_queue::<u32>(Capacity::Unbounded);
            let mut stream = futures::receive(reactor, receiver)?;
            let wait = async move {
                let _ = stream.next().await;
            };
            Ok((Box::pin(wait), Box::new(sender)))
        },
        afterwards: "ready",
    },
    Case {
        name: "sink",
        make: |reactor| {
            let (sender, receiver) = notification_queue(Capacity::Bounded(1));
            sender.try_send(0)?;
            let mut sink = futures::sink(reactor, sender)?;
            Pin::new(&mut sink).start_send(1).map_err(|_| "refused")?;
            let wait = poll_fn(move |cx| Pin::new(&mut sink).poll_flush(cx).map(drop));
            Ok((Box::pin(wait), Box::new(receiver)))
        },
        afterwards: "pending", // until the queue has room
    },
];

/// Polls a shared wait once. Returns `None` after a panic.
pub(super) fn poll(wait: &RefCell<Wait>, cx: &mut Context<'_>) -> Option<Poll<()>> {
    catch_unwind(AssertUnwindSafe(|| wait.borrow_mut().as_mut().poll(cx))).ok()
}
