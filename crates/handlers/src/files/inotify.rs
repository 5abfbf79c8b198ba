//! An inotify instance: watches by number, and the queue of their events.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::advised;
use rustix::fs::inotify::{self, CreateFlags, Reader};
pub(super) use rustix::fs::inotify::{ReadFlags as EventFlags, WatchFlags};
use rustix::io::Errno;

/// Bytes of one read: some 250 events with names of usual length, 30 with the longest ones.
const BUFFER_LEN: usize = 8192;

/// The maximum number of reads in a call; the rest of the queue is read next turn.
const READS_PER_CALL_MAX: usize = 4;

/// The source of a watcher.
#[derive(Debug)]
pub(super) struct Inotify {
    fd: OwnedFd,
}

/// The number of a watch, which is not used again: the kernel counts up, to 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchDescriptor(i32);

/// The result of adding a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    By(WatchDescriptor),
    /// There is nothing of that sort at the path any more.
    Vanished,
    /// We may not read what is there, which is what the kernel wants of who watches.
    Unreadable,
}

/// An event in the kernel's queue.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// Of no watch where the queue has overflowed.
    pub(super) watch: WatchDescriptor,
    pub(super) flags: EventFlags,
    /// What the two ends of a rename have in common.
    pub(super) cookie: u32,
    /// Of what is in the folder watched; `None` where it happened to what is watched itself.
    pub(super) name: Option<&'a OsStr>,
}

/// What is left in the kernel's queue after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Empty,
    More,
}

impl Inotify {
    pub(super) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| explained("inotify_init1()", errno))?;
        Ok(Self { fd })
    }

    /// Watches what is at `path`, which is not a symbolic link, for `flags`. A watch that exists keeps its number, and
    /// its flags are added to.
    pub(super) fn watch(&self, path: &Path, flags: WatchFlags) -> io::Result<Watched> {
        match inotify::add_watch(
            &self.fd,
            path,
            flags | WatchFlags::MASK_ADD | WatchFlags::DONT_FOLLOW,
        ) {
            Ok(number) => Ok(Watched::By(WatchDescriptor(number))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => Ok(Watched::Vanished),
            Err(Errno::ACCESS) => Ok(Watched::Unreadable),
            Err(errno) => Err(explained(
                &format!("inotify_add_watch({})", path.display()),
                errno,
            )),
        }
    }

    /// Ends a watch. One that ended with what it watched is no error.
    pub(super) fn forget(&self, watch: WatchDescriptor) {
        if let Err(error) = inotify::remove_watch(&self.fd, watch.0) {
            tracing::trace!(watch = watch.0, %error, "the end of a watch");
        }
    }

    /// Calls `handle` with the events in the queue, in their order, up to a limit.
    pub(super) fn read(&self, mut handle: impl FnMut(&Event<'_>)) -> io::Result<Queue> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut reads = 0;
        loop {
            // Events in the buffer have left the queue, so all of them are handled.
            if reader.is_buffer_empty() {
                if reads == READS_PER_CALL_MAX {
                    return Ok(Queue::More);
                }
                reads += 1;
            }
            match reader.next() {
                Ok(event) => handle(&Event {
                    watch: WatchDescriptor(event.wd()),
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes())),
                }),
                Err(Errno::AGAIN) => return Ok(Queue::Empty),
                Err(errno) => return Err(explained("read(inotify)", errno)),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An error with the call that gave it, and the limit that was met if it was one: the kernel's words for it mislead.
fn explained(call: &str, errno: Errno) -> io::Error {
    let limit = match errno {
        Errno::NOSPC => ": as many watches as fs.inotify.max_user_watches allows this user",
        Errno::MFILE => {
            ": as many open files as the process may have, or watchers as fs.inotify.max_user_instances allows"
        }
        _ => "",
    };
    let error = advised(call, errno.into(), limit);
    if errno == Errno::NOSPC {
        io::Error::new(ErrorKind::QuotaExceeded, error)
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_at_a_limit_names_the_limit() {
        let watches = explained("inotify_add_watch(/etc)", Errno::NOSPC);
        assert_eq!(watches.kind(), ErrorKind::QuotaExceeded);
        assert!(
            watches
                .to_string()
                .starts_with("inotify_add_watch(/etc): No space left on device (os error 28): ")
        );
        assert!(watches.to_string().contains("fs.inotify.max_user_watches"));
        assert!(
            explained("inotify_init1()", Errno::MFILE)
                .to_string()
                .contains("fs.inotify.max_user_instances")
        );
        assert_eq!(
            explained("read", Errno::IO).to_string(),
            "read: Input/output error (os error 5)"
        );
    }
}
