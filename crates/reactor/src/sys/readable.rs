//! Waits of other threads for readable descriptors.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::thread::now;
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
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(polled, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::Call {
                    call: "poll",
                    source: errno.into(),
                }
                .into());
            }
            Ok(readable) => return Ok(readable),
        }
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
