//! What is read from, and how, so that no read blocks and no flag changes that others share.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::errno;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{FileType, Mode, OFlags, Stat, fcntl_getfl, fstat, major, minor, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, retry_on_intr};
use rustix::net::{RecvFlags, recv};

/// Looks, and does not wait.
const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Fds from here on: those below have a meaning for children, and for whoever reopens a standard stream.
const FIRST_FREE_FD: i32 = 3;

/// Something that lines are read from.
#[derive(Debug)]
pub(super) struct Input {
    /// What the loop watches, and puts into non-blocking mode: nobody else has this description.
    watched: OwnedFd,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// From `watched`, which is the input opened once more.
    Own,
    /// From this socket, by `recv(2)`: it knows a flag for one call.
    Socket(OwnedFd),
    /// From this, after a look whether there is something.
    Shared(OwnedFd),
    /// From this, which epoll refuses because it never blocks.
    AlwaysReady(OwnedFd),
    /// From nothing: the input is closed, or not for reading.
    Closed,
}

impl Input {
    /// Finds out how to read `fd`.
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
        // An epoll is readable while anything in it is, and has flags of its own.
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

    /// Appends what there is to `buf`, up to its capacity: how many bytes. 0 is an end. `WouldBlock` if there is
    /// nothing now.
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

    /// Whether a read that fails so says that there is nothing more to come. `EIO` is what a terminal says that is
    /// gone; a file says so of a disk that has lost what is in it.
    pub(super) fn is_over(&self, error: &io::Error) -> bool {
        match errno(error) {
            Some(Errno::BADF) => true,
            Some(Errno::IO) => !matches!(self.reading, Reading::AlwaysReady(_)),
            _ => false,
        }
    }

    /// Whether it is a terminal that is still there: one that was hung up knows no modes any more.
    pub(super) fn is_terminal(&self) -> bool {
        match &self.reading {
            Reading::Own => self.watched.is_terminal(),
            Reading::Shared(fd) => fd.is_terminal(),
            Reading::Socket(_) | Reading::AlwaysReady(_) | Reading::Closed => false,
        }
    }
}

/// A description of our own of a terminal or a pipe. `None` if there is none, or if it would not be the same.
///
/// Not of a file, which would be read from its beginning; sockets cannot be opened (`ENXIO`); other devices may take
/// that for somebody new, as `/dev/ptmx` does, which makes a terminal each time.
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
    // Who opens a FIFO without writers is not told that they have gone, until there has been another: pipe_poll in the
    // kernel. Asked after the opening, so a writer who goes later is told of.
    if is_pipe && is_hung_up(fd) {
        None
    } else {
        Some(own)
    }
}

/// `/dev/ptmx`, by its number in Documentation/admin-guide/devices.txt.
fn is_terminal_multiplexer(stat: &Stat) -> bool {
    (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
}

fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    retry_on_intr(|| poll(&mut polled, Some(&NO_TIME))).is_ok()
        && polled[0].revents().contains(PollFlags::HUP)
}

/// `EAGAIN` unless a read of `fd` gives something, an end or an error.
fn ask(fd: &OwnedFd) -> Result<(), Errno> {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    match retry_on_intr(|| poll(&mut polled, Some(&NO_TIME)))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// What stands for an input that is always ready: its own flags are nobody else's.
fn always_readable() -> io::Result<OwnedFd> {
    Ok(eventfd(1, EventfdFlags::CLOEXEC)?)
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}
