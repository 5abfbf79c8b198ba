//! `EventFd`: a counter that the kernel keeps, and that any process or the kernel itself can add to.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::Error;

/// A counter of the kernel's, of 64 bits, with an fd: `eventfd(2)`.
///
/// For signals from C code, other processes or the kernel. Threads of this process reach a loop at less cost by a
/// [`Sender`](crate::Sender) or a [`Remote`](crate::Remote), which make no system call while the loop is awake.
///
/// A handler that reads it once a call is called twice for each time that it was added to: the second call finds it at zero, and
/// its `WouldBlock` is what the loop waits by. A read says only what the counter was, and not that it is zero now.
///
/// Readable while the counter is greater than zero. It blocks until it is registered or
/// [`set_nonblocking`](Self::set_nonblocking). Close-on-exec. Any thread may use it by reference.
///
/// ```
/// use reactor::{EventFd, Interest, Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let event = EventFd::counter(0)?;
/// let other = event.try_clone()?; // for a thread, or as `OwnedFd` for another process or C
/// let mut reactor = Reactor::<u64>::new()?;
/// reactor.add(event, Interest::READABLE, |event, cx| {
///     *cx.state += event.try_io(Interest::READABLE, |event| event.read())?; // `WouldBlock` when it is zero
///     cx.registry.stop();
///     Ok(Next::Keep)
/// })?;
/// other.add(2)?;
/// other.add(3)?;
/// let mut count = 0;
/// reactor.run(&mut count)?;
/// assert_eq!(count, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// The greatest count: one less than what 64 bits hold.
    pub const MAX: u64 = u64::MAX - 1;

    /// A counter that a [`read`](Self::read) takes whole.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn counter(initial: u32) -> io::Result<Self> {
        Ok(
            Self::open(initial, EventfdFlags::CLOEXEC).map_err(|source| Error::Call {
                call: "eventfd",
                source,
            })?,
        )
    }

    /// A counter that each [`read`](Self::read) takes one from (`EFD_SEMAPHORE`).
    ///
    /// # Errors
    /// As [`counter`](Self::counter).
    pub fn semaphore(initial: u32) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE;
        Ok(Self::open(initial, flags).map_err(|source| Error::Call {
            call: "eventfd",
            source,
        })?)
    }

    /// An eventfd of a loop, whose error names the call.
    pub(crate) fn for_loop() -> Result<Self, Error> {
        Self::open(0, EventfdFlags::CLOEXEC).map_err(|source| Error::Loop {
            call: "eventfd",
            source,
        })
    }

    fn open(initial: u32, flags: EventfdFlags) -> io::Result<Self> {
        Ok(Self {
            fd: eventfd(initial, flags)?,
        })
    }

    /// Adds to the counter. One system call.
    ///
    /// # Errors
    /// `EINVAL` for 2^64 - 1. Where the sum would be more than [`MAX`](Self::MAX) it waits until somebody reads, or gives
    /// `WouldBlock` if it does not block.
    pub fn add(&self, count: u64) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &count.to_ne_bytes()))?;
        Ok(())
    }

    /// Takes the count, or one of it from a semaphore. One system call.
    ///
    /// # Errors
    /// While the count is zero it waits until somebody adds, or gives `WouldBlock` if it does not block. `InvalidData` from an
    /// fd that is no eventfd.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut count))? {
            8 => Ok(u64::from_ne_bytes(count)),
            _ => Err(io::Error::new(
                ErrorKind::InvalidData,
                "what was read is no count: the fd is no eventfd",
            )),
        }
    }

    /// Whether `add` and `read` give `WouldBlock` instead of waiting. Shared by all duplicates, also in other processes.
    ///
    /// # Errors
    /// What `ioctl(2)` gives for `FIONBIO`, which for an eventfd is none.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Another fd of the same counter.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Self> {
        let failed = |source| Error::Os {
            call: "fcntl(F_DUPFD_CLOEXEC)",
            fd: self.fd.as_raw_fd(),
            source,
        };
        Ok(Self {
            fd: self.fd.try_clone().map_err(failed)?,
        })
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// For an eventfd that was made elsewhere, or inherited. What else it may be shows when it is used.
impl From<OwnedFd> for EventFd {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<EventFd> for OwnedFd {
    fn from(event: EventFd) -> Self {
        event.fd
    }
}
