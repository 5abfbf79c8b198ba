//! Waits of other threads for readable descriptors.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

#[cfg(feature = "simulation")]
use super::simulated;
use super::thread::now;
use super::timerfd::timespec;
use crate::error::Error;

/// Converts descriptors to the argument of the other functions.
pub(crate) fn to_poll<'fd>(fds: impl Iterator<Item = BorrowedFd<'fd>>) -> Vec<PollFd<'fd>> {
    fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect()
}

/// Waits by `poll` until one of `polled` is readable or the time is over. Returns how many are
/// readable.
pub(crate) fn poll_until(
    polled: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<usize> {
    #[cfg(feature = "simulation")]
    {
        let mut polls = Ok(None);
        let is_over = || {
            polls = poll_for(polled, Some(Duration::ZERO));
            !matches!(polls, Ok(None | Some(0)))
        };
        if simulated::block_until(deadline, is_over).is_some() {
            return polls.map(Option::unwrap_or_default);
        }
    }
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now()));
        if let Some(readable) = poll_for(polled, left)? {
            return Ok(readable);
        }
    }
}

/// Calls `poll` once. Returns how many of `polled` are readable, or `None` if a signal came first.
fn poll_for(polled: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<Option<usize>> {
    match poll(polled, timeout.map(timespec).as_ref()) {
        Ok(readable) => Ok(Some(readable)),
        Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(Error::Call {
            call: "poll",
            source: errno.into(),
        }
        .into()),
    }
}

/// Polls `polled` without waiting. Returns `true` if all of them are readable at this moment.
pub(crate) fn are_all_readable(polled: &mut [PollFd<'_>]) -> io::Result<bool> {
    Ok(polled.is_empty() || poll_until(polled, Some(now()))? == polled.len())
}

/// Waits until one poll finds all of `polled` readable. Returns `true` if it did so before
/// `deadline`.
pub(crate) fn wait_until_all_readable(
    polled: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    while !are_all_readable(polled)? {
        let mut missing: Vec<_> = polled
            .iter()
            .filter(|fd| fd.revents().is_empty())
            .cloned()
            .collect();
        if poll_until(&mut missing, deadline)? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
