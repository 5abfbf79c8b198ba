//! The kernel's side: which fds epoll watches, and what it has reported.
//!
//! mio owns the epoll fd and speaks `epoll_ctl`, always edge-triggered. The wait goes to the same fd through rustix,
//! which hands out the event bits as the kernel gives them: mio's accessors fold priority into readable, and take six
//! tests where none is needed (docs/decisions/0001).

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Poll, Token};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

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
    alarm: Option<Alarm>,
}

/// A timerfd, for waits that are to end to the nanosecond (docs/decisions/0005). It is never read: edge-triggered, it
/// reports anew each time it expires.
#[derive(Debug)]
struct Alarm {
    timer: OwnedFd,
    set_for: Option<Instant>,
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
            Ok(poll) => Ok(Self { poll, alarm: None }),
            Err(source) => Err(Error::Loop { call: "epoll_create1", source }),
        }
    }

    /// From now on [`wait_until`](Self::wait_until) ends to the nanosecond.
    pub(crate) fn add_alarm(&mut self) -> Result<(), Error> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .map_err(|errno| Error::Loop { call: "timerfd_create", source: errno.into() })?;
        self.add(timer.as_raw_fd(), Key::NULL, Interest::READABLE)?;
        self.alarm = Some(Alarm { timer, set_for: None });
        Ok(())
    }

    /// Watches what other threads end the wait by. Like the alarm it is never read, and belongs to no registration.
    pub(crate) fn add_signal(&self, signal: &impl AsRawFd) -> Result<(), Error> {
        self.add(signal.as_raw_fd(), Key::NULL, Interest::READABLE).map(drop)
    }

    /// Watches what tells that the wall clock has been set; its events have the key [`Key::WALL_CLOCK`]. Not read either:
    /// each time the clock is set is an event.
    pub(crate) fn add_wall_clock(&self, timer: &impl AsRawFd) -> Result<(), Error> {
        self.add(timer.as_raw_fd(), Key::WALL_CLOCK, Interest::READABLE).map(drop)
    }

    #[cfg(test)]
    pub(crate) const fn has_alarm(&self) -> bool {
        self.alarm.is_some()
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
        let timeout = timeout.map(|timeout| timespec(timeout.min(WAIT_MAX)));
        match epoll::wait(self.poll.registry(), spare_capacity(&mut events.list), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(wait_failed(errno)),
        }
    }
}

/// The epoll instance, which is readable while there is something to report.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl Poller {
    /// Waits until a source reports, a signal interrupts or `deadline` comes, which is `left` away.
    #[inline]
    pub(crate) fn wait_until(&mut self, events: &mut Events, deadline: Instant, left: Duration) -> Result<(), Error> {
        match &mut self.alarm {
            Some(alarm) if !left.is_zero() => {
                alarm.set(deadline, left)?;
                self.wait(events, None)
            }
            _ => self.wait(events, Some(left)),
        }
    }
}

impl Alarm {
    fn set(&mut self, deadline: Instant, left: Duration) -> Result<(), Error> {
        if self.set_for == Some(deadline) {
            return Ok(());
        }
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(left) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .map_err(|errno| Error::Loop { call: "timerfd_settime", source: errno.into() })?;
        self.set_for = Some(deadline);
        Ok(())
    }
}

fn timespec(time: Duration) -> Timespec {
    // What does not fit is longer than the age of the universe.
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::from(time.subsec_nanos()) }
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

    /// As if the kernel had brought `events`.
    #[cfg(test)]
    pub(crate) fn of(events: &[(Key, Readiness)]) -> Self {
        let event = |(key, facts): &(Key, Readiness)| epoll::Event {
            flags: facts.to_kernel(),
            data: epoll::EventData::new_u64(key.to_token()),
        };
        Self { list: events.iter().map(event).collect(), next: 0 }
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
    [
        (Interest::READABLE, mio::Interest::READABLE),
        (Interest::WRITABLE, mio::Interest::WRITABLE),
        (Interest::PRIORITY, mio::Interest::PRIORITY),
    ]
    .into_iter()
    .filter(|(ours, _)| interest.watched().contains(*ours))
    .map(|(_, theirs)| theirs)
    .reduce(|all, more| all | more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_is_set_once_for_a_deadline_and_ends_the_wait() {
        let mut poller = Poller::new().unwrap();
        poller.add_alarm().unwrap();
        let mut events = Events::with_capacity(8);
        let deadline = Instant::now() + Duration::from_secs(3600);
        let remaining = |poller: &Poller| {
            let alarm = poller.alarm.as_ref().unwrap();
            Duration::from_secs(rustix::time::timerfd_gettime(&alarm.timer).unwrap().it_value.tv_sec as u64)
        };
        let (reader, _writer) = std::io::pipe().unwrap();
        drop(_writer);
        let readable = || poller.add(reader.as_raw_fd(), Key::from_token(1), Interest::READABLE);
        assert_eq!(readable().unwrap(), Watch::Armed); // so that the wait ends at once
        poller.wait_until(&mut events, deadline, Duration::from_secs(1000)).unwrap();
        assert!(remaining(&poller).abs_diff(Duration::from_secs(1000)) <= Duration::from_secs(60));
        poller.remove(reader.as_raw_fd()).unwrap();
        poller.add(reader.as_raw_fd(), Key::from_token(1), Interest::READABLE).unwrap();
        poller.wait_until(&mut events, deadline, Duration::from_secs(5000)).unwrap();
        assert!(remaining(&poller) <= Duration::from_secs(1000), "set again for the same deadline");
        poller.remove(reader.as_raw_fd()).unwrap();
        poller.wait_until(&mut events, Instant::now(), Duration::from_nanos(1)).unwrap();
        assert_eq!(events.pop().map(|(key, _)| key), Some(Key::NULL));
        assert!(events.is_empty());
    }

    #[test]
    fn a_wait_without_an_end_takes_any_duration() {
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(8);
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = reader.as_raw_fd();
        assert_eq!(poller.add(fd, Key::from_token(7), Interest::READABLE).unwrap(), Watch::Armed);
        drop(writer);
        poller.wait(&mut events, Some(Duration::MAX)).unwrap();
        let (key, readiness) = events.pop().unwrap();
        assert_eq!(key, Key::from_token(7));
        assert!(readiness.is_read_closed());
        assert!(events.is_empty());
    }
}
