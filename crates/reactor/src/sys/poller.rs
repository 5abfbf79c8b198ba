//! The kernel's side: which fds epoll watches, and which events it has reported.
//!
//! mio owns the epoll fd and calls `epoll_ctl`, always edge-triggered. The wait goes to the same fd
//! through rustix, which returns the event bits of the kernel unchanged. mio's accessors report
//! priority as readable, and make six tests where none is needed (docs/decisions/0001).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Poll, Token};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;

#[cfg(feature = "simulation")]
use super::simulated;
use super::timerfd::{Alarm, WallWatch, timespec};
use crate::error::Error;
use crate::slots::Key;
use crate::source::readiness::{Interest, Readiness};

// A key travels through the kernel in mio's `Token`, which is a `usize`.
const _: () = assert!(
    usize::BITS == 64,
    "the reactor packs a key into a 64-bit token"
);

/// The longest single wait, 24.8 days: `epoll_wait(2)` counts milliseconds, rounded up, in a C
/// `int`.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
    alarm: Option<Alarm>,
    wall_watch: Option<WallWatch>,
    /// The number of watched descriptors that belong to the system itself.
    own: usize,
    owners: Owners,
    #[cfg(feature = "simulation")]
    simulated: Option<simulated::Epoll>,
}

/// Descriptors with this number or a greater one are not checked: the table would be larger than
/// the sources.
const NUMBERED_MAX: usize = 1 << 20;

/// The slot that watches a descriptor, by the number of the descriptor. If a source was replaced
/// unnoticed, its number may belong to another source by now. The table shows this, and no call is
/// made to the kernel for the old source.
///
/// INVARIANT (owners): the table holds the slot of the last `add` of a number that the kernel
/// accepted, until its `remove`. Kept by `add` and `remove`. Every other call to the kernel relies
/// on it.
#[derive(Debug, Default)]
struct Owners {
    slots: Vec<u32>,
}

impl Owners {
    /// Marks a descriptor that no slot watches.
    const NO_OWNER: u32 = Key::NULL.index();

    fn set(&mut self, fd: RawFd, slot: u32) {
        let Some(number) = usize::try_from(fd)
            .ok()
            .filter(|number| *number < NUMBERED_MAX)
        else {
            return;
        };
        if number >= self.slots.len() {
            self.slots.resize(number + 1, Self::NO_OWNER);
        }
        self.slots[number] = slot;
    }

    /// Returns `true` if `fd` is watched for `key`, as far as is known.
    fn is_of(&self, fd: RawFd, key: Key) -> bool {
        let slot = usize::try_from(fd)
            .ok()
            .and_then(|number| self.slots.get(number));
        slot.map_or(
            usize::try_from(fd).is_ok_and(|number| number >= NUMBERED_MAX),
            |slot| *slot == key.index(),
        )
    }
}

/// The reason why a wait has neither reported anything nor reached its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A signal came first. The kernel has reported nothing about the sources.
    Interrupted,
    Failed(Error),
}

/// The answer of the kernel to the watch of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The kernel reports changes of the source.
    Armed,
    /// The kernel refuses to watch the source, since it is always ready.
    Refused,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Error> {
        match Poll::new() {
            Ok(poll) => Ok(Self {
                poll,
                alarm: None,
                wall_watch: None,
                own: 0,
                owners: Owners::default(),
                #[cfg(feature = "simulation")]
                simulated: simulated::Epoll::open(),
            }),
            Err(source) => Err(Error::Loop {
                call: "epoll_create1",
                source,
            }),
        }
    }

    /// Makes [`wait_until`](Self::wait_until) end to the nanosecond from now on.
    pub(super) fn add_alarm(&mut self) -> Result<(), Error> {
        let alarm = Alarm::new()?;
        self.watch_own(&alarm, Key::ALARM)?;
        self.alarm = Some(alarm);
        Ok(())
    }

    /// Makes events with the key [`Key::WALL_CLOCK`] report that the wall clock has been set,
    /// unless they do already.
    pub(super) fn watch_wall_clock(&mut self) -> Result<(), Error> {
        if self.wall_watch.is_none() {
            let watch = WallWatch::new()?;
            self.watch_own(&watch, Key::WALL_CLOCK)?;
            self.wall_watch = Some(watch);
        }
        Ok(())
    }

    /// Watches a descriptor that belongs to no registration, and is never read.
    pub(super) fn watch_own(&mut self, own: &impl AsRawFd, key: Key) -> Result<(), Error> {
        self.add(own.as_raw_fd(), key, Interest::READABLE)?;
        self.own += 1;
        Ok(())
    }

    /// Returns how many watched descriptors belong to no registration.
    pub(crate) const fn own(&self) -> usize {
        self.own
    }

    /// Returns `true` if waits end to the nanosecond.
    #[cfg(test)]
    pub(crate) const fn has_alarm(&self) -> bool {
        self.alarm.is_some()
    }

    /// Returns the descriptor that reports that the wall clock has been set.
    #[cfg(test)]
    pub(crate) fn wall_watch(&self) -> Option<RawFd> {
        self.wall_watch.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Begins to watch `fd`. If the fd is ready already, `EPOLL_CTL_ADD` makes the next wait report
    /// it.
    pub(crate) fn add(&mut self, fd: RawFd, key: Key, interest: Interest) -> Result<Watch, Error> {
        match self.register(fd, key, interest) {
            Ok(()) => {
                self.owners.set(fd, key.index());
                Ok(Watch::Armed)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Watch::Refused),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::AlreadyRegistered { fd })
            }
            Err(source) => Err(Error::Os {
                call: "epoll_ctl(ADD)",
                fd,
                source,
            }),
        }
    }

    /// Changes the interest of the watch of `fd` for `key`. The next wait reports again what is
    /// ready.
    pub(crate) fn rearm(&self, fd: RawFd, key: Key, interest: Interest) -> Result<(), Error> {
        self.expect_own(fd, key)
            .and_then(|()| self.reregister(fd, key, interest))
            .map_err(|source| Error::Os {
                call: "epoll_ctl(MOD)",
                fd,
                source,
            })
    }

    /// Ends the watch of `fd` for `key`. The fd must still be open: otherwise the watch would go on
    /// for its duplicates.
    pub(crate) fn remove(&mut self, fd: RawFd, key: Key) -> Result<(), Error> {
        let removed = self.expect_own(fd, key).and_then(|()| {
            self.owners.set(fd, Owners::NO_OWNER);
            self.deregister(fd)
        });
        removed.map_err(|source| Error::Os {
            call: "epoll_ctl(DEL)",
            fd,
            source,
        })
    }

    fn register(&self, fd: RawFd, key: Key, interest: Interest) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if let Some(epoll) = &self.simulated
            && let Some(watched) = epoll.watch(fd, simulated::flags(interest), key.to_token())
        {
            return watched;
        }
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), to_mio_token(key), to_mio(interest))
    }

    fn reregister(&self, fd: RawFd, key: Key, interest: Interest) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if let Some(epoll) = &self.simulated
            && let Some(watched) = epoll.rewatch(fd, simulated::flags(interest), key.to_token())
        {
            return watched;
        }
        self.poll
            .registry()
            .reregister(&mut SourceFd(&fd), to_mio_token(key), to_mio(interest))
    }

    fn deregister(&self, fd: RawFd) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if let Some(ended) = self.simulated.as_ref().and_then(|epoll| epoll.unwatch(fd)) {
            return ended;
        }
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    /// Returns the number of the simulated epoll instance.
    #[cfg(feature = "simulation")]
    pub(super) fn simulated_number(&self) -> Option<u64> {
        self.simulated.as_ref().map(simulated::Epoll::number)
    }

    /// Returns the error of the kernel for a descriptor that is not watched, if another slot
    /// watches that number now.
    fn expect_own(&self, fd: RawFd, key: Key) -> io::Result<()> {
        if self.owners.is_of(fd, key) {
            Ok(())
        } else {
            Err(Errno::NOENT.into())
        }
    }

    /// Waits until a source reports, a signal interrupts or `timeout` has elapsed. Fills `events`,
    /// whose events have all been read.
    #[inline]
    pub(crate) fn wait(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> Result<(), Broken> {
        events.clear();
        let timeout = timeout.map(|timeout| timeout.min(WAIT_MAX));
        #[cfg(feature = "simulation")]
        if let Some(epoll) = &self.simulated {
            let waited = epoll.wait(&mut events.list, self.as_fd(), timeout);
            return waited.map_err(broken);
        }
        let timeout = timeout.map(timespec);
        match epoll::wait(
            self.poll.registry(),
            spare_capacity(&mut events.list),
            timeout.as_ref(),
        ) {
            Ok(_) => Ok(()),
            Err(errno) => Err(broken(errno)),
        }
    }
}

/// Returns the epoll instance, which is readable while there is something to report.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

impl Poller {
    /// Waits until a source reports, a signal interrupts or `deadline` comes, which is `left` away.
    #[inline]
    pub(crate) fn wait_until(
        &mut self,
        events: &mut Events,
        deadline: Instant,
        left: Duration,
    ) -> Result<(), Broken> {
        match &mut self.alarm {
            Some(alarm) if !left.is_zero() => {
                alarm.set(deadline, left).map_err(Broken::Failed)?;
                self.wait(events, None)
            }
            _ => self.wait(events, Some(left)),
        }
    }
}

#[cold]
fn broken(errno: Errno) -> Broken {
    match errno {
        Errno::INTR => Broken::Interrupted,
        errno => Broken::Failed(Error::Loop {
            call: "epoll_wait",
            source: errno.into(),
        }),
    }
}

/// The kernel's last list of events, read one by one.
pub(crate) struct Events {
    list: Vec<epoll::Event>,
    next: usize,
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            list: Vec::with_capacity(capacity),
            next: 0,
        }
    }

    /// Makes a list as if the kernel had reported `events`.
    #[cfg(test)]
    pub(crate) fn of(events: &[(Key, Readiness)]) -> Self {
        let event = |(key, facts): &(Key, Readiness)| epoll::Event {
            flags: facts.to_kernel(),
            data: epoll::EventData::new_u64(key.to_token()),
        };
        Self {
            list: events.iter().map(event).collect(),
            next: 0,
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(Key, Readiness)> {
        let event = self.list.get(self.next)?;
        self.next += 1;
        Some((
            Key::from_token(event.data.u64()),
            Readiness::from_kernel(event.flags),
        ))
    }

    /// Returns `true` if all events have been read. Events are left after a panic.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.next == self.list.len()
    }

    /// Returns how many events the kernel reported.
    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns `true` if the kernel reported as many events as there is room for. It may have more
    /// then.
    #[inline]
    pub(crate) const fn is_full(&self) -> bool {
        self.list.len() == self.list.capacity()
    }

    /// Returns `true` if no source has reported: there is no event, or only the event of the alarm.
    #[inline]
    pub(crate) fn is_silence(&self) -> bool {
        self.list
            .iter()
            .all(|event| event.data.u64() == Key::ALARM.to_token())
    }

    fn clear(&mut self) {
        self.list.clear();
        self.next = 0;
    }
}

fn to_mio_token(key: Key) -> Token {
    Token(key.to_token() as usize)
}

/// Converts an interest. mio has no empty interest. A registration stays in the kernel's list even
/// if nothing is wanted, so that it cannot be registered a second time.
fn to_mio(interest: Interest) -> mio::Interest {
    [
        (Interest::READABLE, mio::Interest::READABLE),
        (Interest::WRITABLE, mio::Interest::WRITABLE),
        (Interest::PRIORITY, mio::Interest::PRIORITY),
    ]
    .into_iter()
    .filter(|(ours, _)| interest.watched().contains(*ours))
    .map(|(_, theirs)| theirs)
    .reduce(|all, more| all | more)
    .unwrap_or(mio::Interest::PRIORITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn the_alarm_is_set_once_for_a_deadline_and_ends_the_wait() {
        let mut poller = Poller::new().unwrap();
        poller.add_alarm().unwrap();
        let mut events = Events::with_capacity(8);
        let deadline = Instant::now() + Duration::from_secs(3600);
        let remaining = |poller: &Poller| {
            let alarm = poller.alarm.as_ref().unwrap();
            Duration::from_secs(
                rustix::time::timerfd_gettime(&alarm.timer)
                    .unwrap()
                    .it_value
                    .tv_sec as u64,
            )
        };
        let (reader, _writer) = io::pipe().unwrap();
        drop(_writer);
        let (fd, key) = (reader.as_raw_fd(), Key::from_token(1));
        assert_eq!(
            poller.add(fd, key, Interest::READABLE).unwrap(),
            Watch::Armed
        ); // ready, so that the wait ends at once
        poller
            .wait_until(&mut events, deadline, Duration::from_secs(1000))
            .unwrap();
        assert!(remaining(&poller).abs_diff(Duration::from_secs(1000)) <= Duration::from_secs(60));
        poller.remove(fd, key).unwrap();
        poller.add(fd, key, Interest::READABLE).unwrap();
        poller
            .wait_until(&mut events, deadline, Duration::from_secs(5000))
            .unwrap();
        assert!(
            remaining(&poller) <= Duration::from_secs(1000),
            "set again for the same deadline"
        );
        poller.remove(fd, key).unwrap();
        poller
            .wait_until(&mut events, Instant::now(), Duration::from_nanos(1))
            .unwrap();
        assert_eq!(events.pop().map(|(key, _)| key), Some(Key::ALARM));
        assert!(events.is_empty());
    }

    #[test]
    fn a_wait_without_an_end_takes_any_duration() {
        let mut poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(8);
        let (reader, writer) = io::pipe().unwrap();
        let fd = reader.as_raw_fd();
        assert_eq!(
            poller
                .add(fd, Key::from_token(7), Interest::READABLE)
                .unwrap(),
            Watch::Armed
        );
        drop(writer);
        poller.wait(&mut events, Some(Duration::MAX)).unwrap();
        let (key, readiness) = events.pop().unwrap();
        assert_eq!(key, Key::from_token(7));
        assert!(readiness.is_read_closed());
        assert!(events.is_empty());
    }

    #[test]
    fn an_fd_that_another_key_watches_is_not_changed_in_the_kernel() {
        let mut poller = Poller::new().unwrap();
        let (first, second) = (Key::from_token(1), Key::from_token(2));
        let (mut reader, _writer) = io::pipe()
            .map(|(reader, writer)| (OwnedFd::from(reader), writer))
            .unwrap();
        let fd = reader.as_raw_fd();
        poller.add(fd, first, Interest::READABLE).unwrap();
        let (other, _other_writer) = io::pipe().unwrap();
        rustix::io::dup2(&other, &mut reader).unwrap(); // ends the watch, unnoticed
        assert!(
            poller.rearm(fd, first, Interest::READABLE).is_err(),
            "the kernel does not know it"
        );
        poller.add(fd, second, Interest::READABLE).unwrap();
        assert!(poller.rearm(fd, first, Interest::READABLE).is_err());
        assert!(poller.remove(fd, first).is_err());
        poller.rearm(fd, second, Interest::READABLE).unwrap();
        poller.remove(fd, second).unwrap();
    }
}
