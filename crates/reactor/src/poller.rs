//! The kernel's side: which fds epoll watches, and what it has reported.
//!
//! mio owns the epoll fd and speaks `epoll_ctl`, always edge-triggered. The wait goes to the same fd through rustix,
//! which hands out the event bits as the kernel gives them: mio's accessors fold priority into readable, and take six
//! tests where none is needed (docs/decisions/0001).

use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Poll, Token};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::error::Error;
use crate::readiness::{Interest, Readiness};
use crate::slots::Key;

// A key travels through the kernel in mio's `Token`, which is a `usize`.
const _: () = assert!(usize::BITS == 64, "the reactor packs a key into a 64-bit token");

/// The longest single wait, 24.8 days: `epoll_wait(2)` counts milliseconds, rounded up, in a C `int`.
const WAIT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
}

/// How the kernel took a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It reports changes.
    Armed,
    /// It refuses, since the source is always ready.
    Refused,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Error> {
        match Poll::new() {
            Ok(poll) => Ok(Self { poll }),
            Err(source) => Err(Error::Loop { call: "epoll_create1", source }),
        }
    }

    /// Begins to watch `fd`. `EPOLL_CTL_ADD` reports at once what is ready already.
    pub(crate) fn add(&self, fd: RawFd, key: Key, interest: Interest) -> Result<Watch, Error> {
        let Some(interest) = to_mio(interest) else { return Ok(Watch::Armed) };
        match self.poll.registry().register(&mut SourceFd(&fd), to_mio_token(key), interest) {
            Ok(()) => Ok(Watch::Armed),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Watch::Refused),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::AlreadyRegistered { fd }),
            Err(source) => Err(Error::Os { call: "epoll_ctl(ADD)", fd, source }),
        }
    }

    /// Changes what is watched of `fd`, from `armed` to `interest`. The kernel reports anew what is ready.
    pub(crate) fn rearm(&self, fd: RawFd, key: Key, armed: Interest, interest: Interest) -> Result<(), Error> {
        if armed.is_none() {
            return self.add(fd, key, interest).map(drop);
        }
        let Some(interest) = to_mio(interest) else { return self.remove(fd) };
        self.poll.registry().reregister(&mut SourceFd(&fd), to_mio_token(key), interest).map_err(|source| Error::Os {
            call: "epoll_ctl(MOD)",
            fd,
            source,
        })
    }

    /// Ends the watch of `fd`, which must still be open: a duplicate of it would go on reporting otherwise.
    pub(crate) fn remove(&self, fd: RawFd) -> Result<(), Error> {
        self.poll.registry().deregister(&mut SourceFd(&fd)).map_err(|source| Error::Os {
            call: "epoll_ctl(DEL)",
            fd,
            source,
        })
    }

    /// Waits until a source reports, a signal interrupts or `timeout` has passed; fills `events`, which are read out.
    #[inline]
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> Result<(), Error> {
        events.clear();
        let timeout = timeout.map(|timeout| {
            let timeout = timeout.min(WAIT_MAX);
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) }
        });
        match epoll::wait(self.poll.registry(), spare_capacity(&mut events.list), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(wait_failed(errno)),
        }
    }
}

#[cold]
fn wait_failed(errno: Errno) -> Error {
    Error::Loop { call: "epoll_wait", source: errno.into() }
}

/// The kernel's last list of events, read out one by one.
pub(crate) struct Events {
    list: Vec<epoll::Event>,
    next: usize,
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { list: Vec::with_capacity(capacity), next: 0 }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(Key, Readiness)> {
        let event = self.list.get(self.next)?;
        self.next += 1;
        Some((Key::from_token(event.data.u64()), Readiness::from_kernel(event.flags)))
    }

    /// Whether events are left, because a panic came between.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.next == self.list.len()
    }

    /// How many the kernel brought.
    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }

    fn clear(&mut self) {
        self.list.clear();
        self.next = 0;
    }
}

fn to_mio_token(key: Key) -> Token {
    Token(key.to_token() as usize)
}

/// mio has no empty interest: `None` is not watched at all.
fn to_mio(interest: Interest) -> Option<mio::Interest> {
    // Whoever reads must hear of urgent data: at its mark a read stops short (see io.rs).
    let readable = mio::Interest::READABLE | mio::Interest::PRIORITY;
    [
        (Interest::READABLE, readable),
        (Interest::WRITABLE, mio::Interest::WRITABLE),
        (Interest::PRIORITY, mio::Interest::PRIORITY),
    ]
    .into_iter()
    .filter(|(ours, _)| interest.contains(*ours))
    .map(|(_, theirs)| theirs)
    .reduce(|all, more| all | more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_without_an_end_takes_any_duration() {
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(8);
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        assert_eq!(poller.add(fd, Key::from_token(7), Interest::READABLE).unwrap(), Watch::Armed);
        drop(writer);
        poller.wait(&mut events, Some(Duration::MAX)).unwrap();
        let (key, readiness) = events.pop().unwrap();
        assert_eq!(key, Key::from_token(7));
        assert!(readiness.is_read_closed());
        assert!(events.is_empty());
    }
}
