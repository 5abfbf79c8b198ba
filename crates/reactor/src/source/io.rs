//! `Io<T>`: a source together with the known facts about its readiness, as its handler gets it.
//!
//! The facts are in [`IoState`], apart from the source, so that a source that is a layer around
//! another one can use them.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use crate::context::Context;
use crate::outcome::{CloseReason, Next};
use crate::source::io_state::{IoState, Registered};
use crate::source::kind::{Kind, TypeFacts};
use crate::source::readiness::{Interest, Readiness};
use crate::sys::fd;

/// An owned source and its readiness, passed to its handler at each call.
///
/// Reads and writes through an `Io` update its readiness, without additional system calls. If it is
/// known that a read or write would block, the operation is not attempted, and returns
/// [`ErrorKind::WouldBlock`] at once. A handler that reads until `WouldBlock` therefore needs no
/// system call to find the end of the data.
#[repr(C)] // the address of the state is that of the `Io`, so a call has to keep one pointer less
pub struct Io<T> {
    state: IoState,
    source: T,
}

impl<T> Io<T> {
    pub(crate) fn new(source: T, always_ready: bool) -> Self
    where
        T: AsFd + 'static,
    {
        let state = IoState::new(&source, always_ready);
        Self { state, source }
    }

    /// Gives the source up.
    pub(crate) fn into_source(self) -> T {
        self.source
    }

    /// Returns the source itself.
    ///
    /// This `Io` does not see reads and writes through the reference. If such an operation returns
    /// `WouldBlock`, the result of the handler decides:
    ///
    /// - If the handler returns this `WouldBlock`, the loop makes one `epoll_ctl` to ask the kernel
    ///   whether the source is ready.
    /// - If the handler returns anything else, the source still counts as ready, and the handler is
    ///   called again next [turn](crate::Reactor::turn).
    ///
    /// Use [`try_io`](Self::try_io) to avoid both.
    #[inline]
    pub const fn get_ref(&self) -> &T {
        &self.source
    }

    /// Returns the source itself, mutably.
    ///
    /// Do not replace the source through this reference. epoll watches the fd that was registered:
    /// it stops watching when this fd closes, and it never watches the new fd. Remove the
    /// registration and add the new source instead. If another registered source gets the number of
    /// the old fd, the registration of that other source is not affected. A `dup2` onto the fd of
    /// the source cannot be detected: the handler then reads and writes the new file, which epoll
    /// does not watch.
    #[inline]
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.source
    }

    /// Returns the source and its readiness. Use it for a source that is a layer around another
    /// one: see [`IoState`].
    #[inline]
    pub const fn parts_mut(&mut self) -> (&mut T, &mut IoState) {
        (&mut self.source, &mut self.state)
    }

    /// Returns the readiness of the source at this moment, after the reads and writes that the
    /// handler has made so far.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.state.readiness()
    }

    /// Returns the kind of the source.
    ///
    /// # Cost
    /// No system call if the Rust type determines the kind. Otherwise up to two `getsockopt`, or
    /// one `getsockopt` and a look into `/proc`.
    pub fn kind(&self) -> Kind
    where
        T: AsFd,
    {
        self.state.kind(self.source.as_fd())
    }

    /// Returns `true` if the kernel refuses to report the readiness of this source because it is
    /// always ready (`EPERM` of `epoll_ctl(2)`: regular files, folders, `/dev/null`).
    ///
    /// Reads and writes of such a source never return `WouldBlock`, and the kernel never reports a
    /// change of its readiness. If the handler returns `WouldBlock` nevertheless, it is called
    /// again. After 8 such calls the loop pauses before each further call: see
    /// [`Handler::ready`](crate::Handler::ready).
    #[inline]
    pub const fn is_always_ready(&self) -> bool {
        self.state.is_always_ready()
    }

    /// Performs an operation that is not a plain read or write, such as `accept`, `recv_from` or
    /// `sendmsg`.
    ///
    /// `interest` is the direction that the operation depends on. If the operation returns
    /// `WouldBlock`, this direction counts as not ready from then on. If the direction is known not
    /// to be ready, the operation is not attempted, and `WouldBlock` is returned at once.
    ///
    /// For an operation that can block in one of several directions, pass all of these directions.
    /// After a `WouldBlock` the loop asks the kernel which of the
    /// directions are still ready, by one `epoll_ctl`. For an operation whose `WouldBlock` does not
    /// depend on readiness, such as `recvmsg` with `MSG_ERRQUEUE`, pass [`Interest::NONE`]. The
    /// operation is then always attempted, and its `WouldBlock` leaves the readiness unchanged.
    ///
    /// # Errors
    /// The errors of the operation, and `WouldBlock` if the operation was not attempted.
    ///
    /// ```
    /// # use reactor::{Interest, Next, Reactor};
    /// # fn main() -> std::io::Result<()> {
    /// # let mut reactor = Reactor::<()>::new()?;
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// reactor.add(listener, Interest::READABLE, |listener, _cx| {
    ///     let (stream, peer) = listener.try_io(Interest::READABLE, |l| l.accept())?;
    ///     println!("{peer} on {stream:?}");
    ///     Ok(Next::Keep) // called again next turn if there is another one
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_io<R>(
        &mut self,
        interest: Interest,
        operation: impl FnOnce(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.state.try_io(interest, || operation(&mut self.source))
    }

    /// Begins a call of the handler: copies the facts that the reactor knows into this `Io`.
    #[inline]
    pub(crate) fn begin(&mut self, readiness: Readiness, armed: Interest) {
        self.state.begin(readiness, armed);
    }

    /// Returns the facts for the next call: the levels that have not been disproved.
    #[inline]
    pub(crate) const fn left(&self) -> Readiness {
        self.state.readiness.without_bits(Readiness::OF_ONE_CALL)
    }

    /// Returns the facts that are left after a call with any result other than [`Next::Keep`], or
    /// why the registration ends.
    ///
    /// - `Interrupted`: all facts are as before the call.
    /// - `WouldBlock`: there is nothing more to do for now. If this `Io` has not met a
    ///   `WouldBlock`, the operation bypassed the `Io`, and the facts of this call are forgotten.
    #[cold]
    #[inline(never)]
    pub(crate) fn end<S>(
        &mut self,
        result: io::Result<Next>,
        cx: &mut Context<'_, S>,
    ) -> Readiness {
        match result {
            Ok(Next::Keep) => {}
            Ok(Next::Remove) => return cx.registry.turn.end_running(CloseReason::ByHandler),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => return Readiness::AS_BEFORE,
                // The kernel reports no change of this source. So it is called again, and backs off
                // if it returns `WouldBlock` each time.
                ErrorKind::WouldBlock if self.is_always_ready() => {
                    self.state.readiness |= Readiness::RECHECK
                }
                ErrorKind::WouldBlock
                    if self.state.readiness.intersects(Readiness::MET_WOULD_BLOCK) => {}
                ErrorKind::WouldBlock => self.state.readiness = Readiness::RECHECK,
                _ => return cx.registry.turn.end_running(CloseReason::Failed(error)),
            },
        }
        self.left()
    }

    /// Checks before a call whether the source is hung up, and which announcements it has. Returns
    /// all facts of this call.
    #[cold]
    pub(crate) fn check_before_call(&mut self) -> Readiness
    where
        T: AsFd + 'static,
    {
        if self.state.readiness.is_only_hang_up() {
            self.verify_hang_up();
        }
        self.apply_announcements()
    }

    /// Applies the consequences of an announcement for the source. Returns all facts of this call.
    #[cold]
    pub(crate) fn apply_announcements(&mut self) -> Readiness
    where
        T: AsFd,
    {
        let may_be_unread =
            self.state.readiness.is_error() && !self.state.readiness.is_write_closed();
        if may_be_unread && self.kind().is_unread_by_error() {
            // epoll_ctl(2): EPOLLERR "is also reported for the write end of a pipe when the read
            // end has been closed".
            self.state.readiness |= Readiness::WRITE_CLOSED;
        }
        if self.state.readiness.is_priority() {
            self.state.saw_urgent_data();
        }
        self.state.readiness
    }

    /// Checks a hang-up. The kernel reports a stream socket that is not connected as hung up and
    /// writable, and neither holds once it is connected.
    ///
    /// tcp_poll and unix_poll of the kernel: a socket that was connected and has ended is shut down
    /// for reading too.
    fn verify_hang_up(&mut self)
    where
        T: AsFd + 'static,
    {
        let kind = self.kind();
        self.state.kind = kind;
        if kind != Kind::Stream {
            return;
        }
        let Ok(is) = fd::readiness_now(self.source.as_fd(), Interest::READABLE) else {
            return;
        };
        let hung_up = Readiness::READ_CLOSED_BITS | Readiness::WRITE_CLOSED_BITS;
        if is.is_only_hang_up() {
            // A source of another type may be a listener that was shut down. A listener has a name.
            if TypeFacts::of::<T>().kind == Kind::Stream || fd::was_never_named(self.source.as_fd())
            {
                self.state.readiness = self
                    .state
                    .readiness
                    .without_bits(hung_up | Readiness::WRITABLE)
                    | Readiness::RECHECK;
            }
        } else if is.is_read_closed() {
            self.state.readiness |= Readiness::READ_CLOSED_BITS; // not asked again
        } else {
            self.state.readiness = self.state.readiness.without_bits(hung_up);
        }
    }

    /// Returns `true` if the kernel has only reported that the source is not connected yet.
    pub(crate) fn is_unconnected(&self) -> bool {
        self.state.readiness.intersects(Readiness::RECHECK) && self.state.readiness.is_empty()
    }
}

impl<T: Read + AsFd> Read for Io<T> {
    #[inline(always)]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.state.read_as::<Registered, _>(&mut self.source, buf)
    }

    #[inline]
    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.state
            .read_vectored_as::<Registered, _>(&mut self.source, bufs)
    }
}

impl<T: Write + AsFd> Write for Io<T> {
    #[inline(always)]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.state.write_as::<Registered, _>(&mut self.source, buf)
    }

    #[inline]
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.state
            .write_vectored_as::<Registered, _>(&mut self.source, bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.source.flush();
        if let Err(error) = &result {
            self.state.after_error(Interest::WRITABLE, error);
        }
        result
    }
}

impl<T: AsFd> AsFd for Io<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Io<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("source", &self.source)
            .field("state", &self.state)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    #[test]
    fn the_kind_of_a_source_is_probed_at_its_first_would_block() {
        let (reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut io = Io::new(File::from(OwnedFd::from(reader)), false);
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"four").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 4);
        assert!(
            io.state.kind == Kind::Unknown && io.readiness().is_readable(),
            "no proof yet"
        );
        assert_eq!(
            io.read(&mut [0; 64]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert!(io.state.kind == Kind::Pipe && !io.readiness().is_readable());
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"four").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 4);
        assert!(!io.readiness().is_readable(), "a short read is proof now");
    }

    #[test]
    fn a_write_without_known_room_is_attempted_only_if_unwatched() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut io = Io::new(writer, false);
        io.begin(Readiness::EMPTY, Interest::READABLE);
        assert_eq!(io.write(b"room").unwrap(), 4);
        io.begin(Readiness::EMPTY, Interest::READABLE | Interest::WRITABLE);
        let refused = io.write(b"room").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn an_error_beside_a_hang_up_does_not_ask_for_the_kind() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut io = Io::new(File::from(OwnedFd::from(writer)), false);
        let hang_up = Readiness::READ_CLOSED_BITS;
        for (beside, is_asked) in [(Readiness::EMPTY, true), (hang_up, false)] {
            io.begin(Readiness::ERROR | beside, Interest::WRITABLE);
            let facts = io.apply_announcements();
            assert!(facts.is_write_closed());
            let is_inferred = facts.without_bits(hang_up).is_write_closed();
            assert_eq!(is_inferred, is_asked, "a pipe is known to be unread");
        }
    }

    #[test]
    fn a_source_with_its_own_buffer_is_never_probed() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut io = Io::new(Buffered(reader), false);
        io.begin(Readiness::READABLE, Interest::READABLE);
        writer.write_all(b"short").unwrap();
        assert_eq!(io.read(&mut [0; 64]).unwrap(), 5);
        assert!(io.state.kind == Kind::Unknown && io.readiness().is_readable());
        assert_eq!(io.kind(), Kind::Pipe, "a direct question is answered");
    }

    #[test]
    fn a_short_read_of_a_source_in_a_layer_proves_that_it_is_drained() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut io = Io::new(Buffered(reader), false);
        for (is_urgent, is_readable) in [(false, false), (true, true)] {
            io.begin(Readiness::READABLE, Interest::READABLE);
            if is_urgent {
                io.state.saw_urgent_data();
            }
            writer.write_all(b"short").unwrap();
            let (layer, state) = io.parts_mut();
            assert_eq!(state.read(&mut layer.0, &mut [0; 64]).unwrap(), 5);
            assert_eq!(io.readiness().is_readable(), is_readable);
        }
    }

    struct Buffered(io::PipeReader);

    impl Read for Buffered {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl AsFd for Buffered {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}
