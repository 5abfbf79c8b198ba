//! The input of a console, and the way in which it is read. No flag that other processes share is
//! changed.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::errno;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{FileType, Mode, OFlags, Stat, fcntl_getfl, fstat, major, minor, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, retry_on_intr};
use rustix::net::{RecvFlags, recv};

/// The timeout of a poll that does not wait.
const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The first fd for duplicates. Lower fds have a meaning for children, and for code that reopens a
/// standard stream.
const FIRST_FREE_FD: i32 = 3;

/// An input that lines are read from.
#[derive(Debug)]
pub(super) struct Input {
    /// The fd that the loop watches and sets to non-blocking mode. No other process shares its open
    /// file description.
    watched: OwnedFd,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// Reads from `watched`, which is the input opened a second time.
    Own,
    /// Reads from this socket, by `recv(2)`, which has a non-blocking flag for a single call.
    Socket(OwnedFd),
    /// Reads from this fd, after polling it.
    Shared(OwnedFd),
    /// Reads from this fd, which epoll refuses because it never blocks.
    AlwaysReady(OwnedFd),
    /// Reads nothing: the input is closed, or not open for reading.
    Closed,
}

impl Input {
    /// Chooses the way in which `fd` is read.
    pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        match fcntl_getfl(fd) {
            Ok(flags) if flags & OFlags::ACCMODE != OFlags::WRONLY => {}
            Ok(_) | Err(Errno::BADF) => {
                return Ok(Self {
                    watched: always_readable()?,
                    reading: Reading::Closed,
                });
            }
            Err(errno) => return Err(errno.into()),
        }
        let stat = fstat(fd)?;
        if let Some(watched) = reopen(fd, &stat) {
            return Ok(Self {
                watched,
                reading: Reading::Own,
            });
        }
        let input = fcntl_dupfd_cloexec(fd, FIRST_FREE_FD)?;
        // An epoll instance is readable while an fd in it is readable, and its flags are its own.
        let watched = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(
            match epoll::add(
                &watched,
                &input,
                epoll::EventData::new_u64(0),
                epoll::EventFlags::IN,
            ) {
                Ok(()) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => Self {
                    watched,
                    reading: Reading::Socket(input),
                },
                Ok(()) => Self {
                    watched,
                    reading: Reading::Shared(input),
                },
                Err(Errno::PERM) => Self {
                    watched: always_readable()?,
                    reading: Reading::AlwaysReady(input),
                },
                Err(errno) => return Err(errno.into()),
            },
        )
    }

    /// Appends the available bytes to `buf`, up to its capacity. Returns their number; 0 is the
    /// end. Returns `WouldBlock` if nothing is available now.
    pub(super) fn read(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let bytes = match &self.reading {
            Reading::Own => retry_on_intr(|| read(&self.watched, spare_capacity(buf))),
            Reading::Socket(socket) => {
                retry_on_intr(|| recv(socket, spare_capacity(buf), RecvFlags::DONTWAIT))
                    .map(|(bytes, _)| bytes)
            }
            Reading::Shared(fd) => {
                ask(fd).and_then(|()| retry_on_intr(|| read(fd, spare_capacity(buf))))
            }
            Reading::AlwaysReady(fd) => retry_on_intr(|| read(fd, spare_capacity(buf))),
            Reading::Closed => Ok(0),
        };
        Ok(bytes?)
    }

    /// Returns `true` if a read that fails with `error` means the end of the input. `EIO` means a
    /// closed terminal; for a file it means a disk error.
    pub(super) fn is_over(&self, error: &io::Error) -> bool {
        match errno(error) {
            Some(Errno::BADF) => true,
            Some(Errno::IO) => !matches!(self.reading, Reading::AlwaysReady(_)),
            _ => false,
        }
    }

    /// Returns `true` if the input is a terminal that is still open: a terminal that was hung up
    /// has no modes any more.
    pub(super) fn is_terminal(&self) -> bool {
        match &self.reading {
            Reading::Own => self.watched.is_terminal(),
            Reading::Shared(fd) => fd.is_terminal(),
            Reading::Socket(_) | Reading::AlwaysReady(_) | Reading::Closed => false,
        }
    }
}

/// Opens a terminal or a pipe a second time, to get an open file description of our own. Returns
/// `None` if this fails, or if the second descriptor would not read the same input.
///
/// A file is not reopened, since it would be read from its beginning. Sockets cannot be opened
/// (`ENXIO`). Other devices may treat the open as a new user, as `/dev/ptmx` does, which creates a
/// new terminal each time.
fn reopen(fd: BorrowedFd<'_>, stat: &Stat) -> Option<OwnedFd> {
    let is_pipe = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => true,
        FileType::CharacterDevice if fd.is_terminal() && !is_terminal_multiplexer(stat) => false,
        _ => return None,
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let own = open(
        format!("/proc/self/fd/{}", fd.as_raw_fd()),
        flags,
        Mode::empty(),
    )
    .ok()?;
    // If a FIFO without writers is opened, the kernel reports no hang-up until a writer has come
    // and gone (`pipe_poll` in the kernel). Such a FIFO is not reopened. The check comes after the
    // open, so that the hang-up of a writer that closes later is reported.
    if is_pipe && is_hung_up(fd) {
        None
    } else {
        Some(own)
    }
}

/// Returns `true` for `/dev/ptmx`, identified by its number in
/// Documentation/admin-guide/devices.txt.
fn is_terminal_multiplexer(stat: &Stat) -> bool {
    (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
}

fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    retry_on_intr(|| poll(&mut polled, Some(&NO_TIME))).is_ok()
        && polled[0].revents().contains(PollFlags::HUP)
}

/// Returns `EAGAIN` unless a read of `fd` would return bytes, the end or an error.
fn ask(fd: &OwnedFd) -> Result<(), Errno> {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    match retry_on_intr(|| poll(&mut polled, Some(&NO_TIME)))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// Returns an fd that is always readable. It stands for an input that is always ready. Its flags
/// are not shared.
fn always_readable() -> io::Result<OwnedFd> {
    Ok(eventfd(1, EventfdFlags::CLOEXEC)?)
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}
