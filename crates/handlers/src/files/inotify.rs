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

/// The number of bytes per read: about 250 events with names of usual length, 30 with the longest
/// ones.
const BUFFER_LEN: usize = 8192;

/// The maximum number of reads in a call. The rest of the queue is read next turn.
const READS_PER_CALL_MAX: usize = 4;

/// The source of a watcher.
#[derive(Debug)]
pub(super) struct Inotify {
    fd: OwnedFd,
}

/// The number of a watch. The kernel counts up to 2^31 and does not reuse a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchDescriptor(i32);

/// The result of adding a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    By(WatchDescriptor),
    /// The object that was to be watched is no longer at the path.
    Vanished,
    /// The object may not be read by this process, which the kernel requires for a watch.
    Unreadable,
}

/// An event in the kernel's queue.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// The watch of the event. It is not a valid watch if the event is an overflow of the queue.
    pub(super) watch: WatchDescriptor,
    pub(super) flags: EventFlags,
    /// A number shared by the two ends of a rename.
    pub(super) cookie: u32,
    /// The name of the entry in the watched folder. `None` if the event concerns the watched object
    /// itself.
    pub(super) name: Option<&'a OsStr>,
}

/// The state of the kernel's queue after a read.
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

    /// Watches the object at `path`, which is not a symbolic link, for `flags`. An existing watch
    /// keeps its number, and the flags are added.
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

    /// Ends a watch. It is not an error if the watch ended with its object.
    pub(super) fn forget(&self, watch: WatchDescriptor) {
        if let Err(error) = inotify::remove_watch(&self.fd, watch.0) {
            tracing::trace!(watch = watch.0, %error, "inotify_rm_watch failed");
        }
    }

    /// Calls `handle` with the queued events in their order, up to a limit.
    pub(super) fn read(&self, mut handle: impl FnMut(&Event<'_>)) -> io::Result<Queue> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        let mut reads = 0;
        loop {
            // Events in the buffer have left the kernel's queue, so all of them must be handled.
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

/// Returns an error with its call. If a limit was reached, the error names the limit, since the
/// kernel's text is misleading.
fn explained(call: &str, errno: Errno) -> io::Error {
    let limit = match errno {
        Errno::NOSPC => ": fs.inotify.max_user_watches of this user is reached",
        Errno::MFILE => ": the limit of open files, or fs.inotify.max_user_instances, is reached",
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
