//! `FdSet`: several descriptors as one source.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::error::Error;
use crate::source::readiness::{Interest, Readiness};

/// Several descriptors that are one source. Use it for a library, such as ZeroMQ or libcurl with
/// its multi interface, that has sockets of its own and must be told which of them are ready.
///
/// An `FdSet` is an epoll instance. Store the set and the owner of the descriptors in one struct,
/// whose [`AsFd`] returns the fd of the set, and register this struct as a source. In the handler,
/// call [`ready`](Self::ready) to see which descriptors are ready. Descriptors may be added and
/// removed at any time, even while the handler runs. The other library keeps owning its
/// descriptors: the set never closes one.
///
/// The set is level-triggered: a descriptor that is still ready is reported by the next `ready`
/// too.
///
/// # Cost
/// One fd. One system call for each method.
///
/// ```
/// use std::io::{Read, Write, pipe, PipeReader};
/// use std::os::fd::{AsFd, BorrowedFd};
/// use reactor::{FdSet, Interest, Next, Reactor};
///
/// /// Stands for a library with two sockets.
/// struct Both {
///     pipes: [PipeReader; 2],
///     set: FdSet,
/// }
///
/// impl AsFd for Both {
///     fn as_fd(&self) -> BorrowedFd<'_> {
///         self.set.as_fd()
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let ((left, mut to_left), (right, mut to_right)) = (pipe()?, pipe()?);
/// let set = FdSet::new()?;
/// set.add(&left, Interest::READABLE, 0)?;
/// set.add(&right, Interest::READABLE, 1)?;
/// let mut reactor = Reactor::<Vec<(u64, u8)>>::new()?;
/// reactor.add(Both { pipes: [left, right], set }, Interest::READABLE, |both, cx| {
///     // `WouldBlock`: none of them is ready
///     let ready = both.try_io(Interest::READABLE, |both| both.set.ready(8))?;
///     for (token, _readiness) in ready {
///         let mut byte = [0];
///         both.get_mut().pipes[token as usize].read_exact(&mut byte)?;
///         cx.state.push((token, byte[0]));
///     }
///     Ok(if cx.state.len() == 2 { Next::Remove } else { Next::Keep })
/// })?;
/// to_right.write_all(b"r")?;
/// to_left.write_all(b"l")?;
/// let mut bytes = Vec::new();
/// reactor.run(&mut bytes)?;
/// bytes.sort();
/// assert_eq!(bytes, [(0, b'l'), (1, b'r')]);
/// # Ok(())
/// # }
/// ```
pub struct FdSet {
    epoll: OwnedFd,
}

impl FdSet {
    /// Creates a set without descriptors.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|errno| Error::Call {
            call: "epoll_create1",
            source: errno.into(),
        })?;
        Ok(Self { epoll })
    }

    /// Adds a descriptor. [`ready`](Self::ready) returns `token` for it. The descriptor must stay
    /// open while it is in the set: close it after [`remove`](Self::remove).
    ///
    /// # Errors
    /// - `EEXIST` if the descriptor is in the set already.
    /// - `EPERM` if the descriptor is a regular file or a directory. These are always ready.
    /// - `ENOSPC` at `/proc/sys/fs/epoll/max_user_watches`.
    /// - `ELOOP` if the descriptor is a set that contains this set.
    pub fn add(&self, fd: impl AsFd, interest: Interest, token: u64) -> io::Result<()> {
        let added = epoll::add(
            &self.epoll,
            fd.as_fd(),
            EventData::new_u64(token),
            flags(interest),
        );
        added.map_err(|errno| failed("epoll_ctl(ADD)", &fd, errno))
    }

    /// Changes the interest and the token of a descriptor.
    ///
    /// # Errors
    /// `ENOENT` if the descriptor is not in the set.
    pub fn set_interest(&self, fd: impl AsFd, interest: Interest, token: u64) -> io::Result<()> {
        let changed = epoll::modify(
            &self.epoll,
            fd.as_fd(),
            EventData::new_u64(token),
            flags(interest),
        );
        changed.map_err(|errno| failed("epoll_ctl(MOD)", &fd, errno))
    }

    /// Removes a descriptor from the set.
    ///
    /// # Errors
    /// `ENOENT` if the descriptor is not in the set.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, fd.as_fd()).map_err(|errno| failed("epoll_ctl(DEL)", &fd, errno))
    }

    /// Returns the tokens of descriptors that are ready, with their readiness. Does not wait.
    /// Returns at most `max` tokens. If more descriptors are ready, the next calls return the
    /// others. `max` is clamped to the range from 1 to 65,536.
    ///
    /// # Cost
    /// One system call, one allocation.
    ///
    /// # Errors
    /// `WouldBlock` if no descriptor is ready. In a handler, call `ready` through
    /// [`Io::try_io`](crate::Io::try_io): the loop then waits until a descriptor of the set becomes
    /// ready.
    pub fn ready(&self, max: usize) -> io::Result<Vec<(u64, Readiness)>> {
        let mut events = Vec::with_capacity(max.clamp(1, 1 << 16));
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&at_once),
        )
        .map_err(|errno| failed("epoll_wait", &self.epoll, errno))?;
        if events.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let fact = |event: epoll::Event| (event.data.u64(), Readiness::from_kernel(event.flags));
        Ok(events.into_iter().map(fact).collect())
    }
}

fn flags(interest: Interest) -> EventFlags {
    let parts = [
        (Interest::READABLE, EventFlags::IN | EventFlags::RDHUP),
        (Interest::WRITABLE, EventFlags::OUT),
        (Interest::PRIORITY, EventFlags::PRI),
    ];
    parts
        .into_iter()
        .filter(|(part, _)| interest.contains(*part))
        .map(|(_, flags)| flags)
        .collect()
}

fn failed(call: &'static str, fd: &impl AsFd, errno: rustix::io::Errno) -> io::Error {
    Error::Os {
        call,
        fd: fd.as_fd().as_raw_fd(),
        source: errno.into(),
    }
    .into()
}

impl AsFd for FdSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for FdSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FdSet").field("epoll", &self.epoll).finish()
    }
}
