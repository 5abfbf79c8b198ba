//! `EventFd`: a counter in the kernel that any process, or the kernel itself, can add to.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::Error;

/// A 64-bit counter of the kernel with an fd: `eventfd(2)`.
///
/// Use it for signals from C code, from other processes or from the kernel. Threads of this process
/// reach a loop at less cost through a [`Sender`](crate::Sender) or a [`Remote`](crate::Remote),
/// which make no system call while the loop is awake.
///
/// A handler that reads once per call is called twice for each addition. After the first read the
/// loop does not know whether the counter is zero, and calls the handler again. The second read
/// finds the counter at zero and returns `WouldBlock`. The handler is then called again only after
/// the next addition.
///
/// The fd is readable while the counter is greater than zero. It is in blocking mode until it is
/// registered or until [`set_nonblocking`](Self::set_nonblocking) is called. It is close-on-exec.
/// Any thread may use an `EventFd` by reference.
///
/// ```
/// use reactor::{EventFd, Interest, Next, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let event = EventFd::counter(0)?;
/// let other = event.try_clone()?; // for a thread, or as `OwnedFd` for another process or C
/// let mut reactor = Reactor::<u64>::new()?;
/// reactor.add(event, Interest::READABLE, |event, cx| {
///     // `WouldBlock` when it is zero
///     *cx.state += event.try_io(Interest::READABLE, |event| event.read())?;
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
    /// The greatest count, 2^64 - 2.
    pub const MAX: u64 = u64::MAX - 1;

    /// Creates a counter that starts at `initial`. A [`read`](Self::read) returns the whole count
    /// and sets it to zero.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    ///
    /// ```
    /// use reactor::EventFd;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event = EventFd::counter(1)?;
    /// event.add(2)?;
    /// assert_eq!(event.read()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn counter(initial: u32) -> io::Result<Self> {
        Ok(
            Self::open(initial, EventfdFlags::CLOEXEC).map_err(|source| Error::Call {
                call: "eventfd",
                source,
            })?,
        )
    }

    /// Creates a counter that starts at `initial`. Each [`read`](Self::read) takes one from the
    /// count (`EFD_SEMAPHORE`).
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    ///
    /// ```
    /// use reactor::EventFd;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event = EventFd::semaphore(3)?;
    /// assert_eq!(event.read()?, 1);
    /// assert_eq!(event.read()?, 1); // one is left
    /// # Ok(())
    /// # }
    /// ```
    pub fn semaphore(initial: u32) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE;
        Ok(Self::open(initial, flags).map_err(|source| Error::Call {
            call: "eventfd",
            source,
        })?)
    }

    /// Creates an eventfd for a loop. Its error names the call.
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

    /// Adds `count` to the counter.
    ///
    /// # Cost
    /// One system call.
    ///
    /// # Errors
    /// - `EINVAL` if `count` is 2^64 - 1.
    /// - `WouldBlock` if the sum would be more than [`MAX`](Self::MAX) and the fd is non-blocking.
    ///   If the fd is blocking, the call waits until another thread or process reads.
    pub fn add(&self, count: u64) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &count.to_ne_bytes()))?;
        Ok(())
    }

    /// Takes the whole count and returns it. If the fd is a [`semaphore`](Self::semaphore), takes
    /// one from the count and returns 1.
    ///
    /// # Cost
    /// One system call.
    ///
    /// # Errors
    /// - `WouldBlock` if the count is zero and the fd is non-blocking. If the fd is blocking, the
    ///   call waits until another thread or process adds.
    /// - `InvalidData` if the fd is not an eventfd.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut count))? {
            8 => Ok(u64::from_ne_bytes(count)),
            _ => Err(io::Error::new(
                ErrorKind::InvalidData,
                "short read: the fd is not an eventfd",
            )),
        }
    }

    /// Sets whether [`add`](Self::add) and [`read`](Self::read) return `WouldBlock` instead of
    /// waiting. All duplicates of the fd share the setting, even duplicates in other processes.
    ///
    /// # Errors
    /// The errors of `ioctl(2)` for `FIONBIO`. None of them occurs for an eventfd.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Duplicates the fd. Both fds belong to the same counter.
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

/// Wraps an eventfd that was made elsewhere, or inherited. The fd is not checked here. If it is not
/// an eventfd, [`add`](EventFd::add) and [`read`](EventFd::read) may fail.
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
