//! Whether a short read or write of a source proves that the kernel's buffer is exhausted.
//!
//! For stream sockets and pipes it does, "since this means the buffer is exhausted" (`epoll(7)`,
//! question 9). The loop does the same for the sources that it reads itself. A type of the user's
//! may hold a buffer, so a short read of it proves nothing.

use std::any::TypeId;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::{fs, io, process};

/// The properties of an fd that the type of its source guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeFacts {
    /// `read` and `write` of the type are the bare system calls.
    pub(super) is_unbuffered: bool,
    /// A short one proves that the kernel's buffer is exhausted.
    pub(super) short_means_drained: bool,
}

impl TypeFacts {
    /// The comparisons are settled when this is compiled.
    pub(super) fn of<T: 'static>() -> Self {
        let is_one_of = |types: &[TypeId]| types.contains(&TypeId::of::<T>());
        let short_means_drained = is_one_of(&[
            TypeId::of::<TcpStream>(),
            TypeId::of::<UnixStream>(),
            TypeId::of::<io::PipeReader>(),
            TypeId::of::<io::PipeWriter>(),
        ]);
        // These can be made of any fd. One more read finds out that there is no more.
        let of_any_fd = is_one_of(&[
            TypeId::of::<fs::File>(),
            TypeId::of::<process::ChildStdin>(),
        ]);
        Self {
            is_unbuffered: short_means_drained || of_any_fd,
            short_means_drained,
        }
    }
}
