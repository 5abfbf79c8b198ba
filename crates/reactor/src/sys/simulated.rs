//! The system of a simulation: it answers the loops of one thread in place of the kernel, the clock
//! and real threads.
//!
//! Nothing outside of this folder asks whether a loop is simulated. A loop that is built while a
//! [`System`] is installed on its thread belongs to that system.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::source::kind::Kind;
use crate::source::readiness::Interest;

/// The number of a simulated thread.
pub type ThreadNumber = u64;

/// A simulation that takes the place of the kernel, the clock and real threads. It serves the loops
/// of the thread on which it is installed.
///
/// A descriptor is *simulated* if [`owns`](Self::owns) returns `true` for it. The loop makes all
/// calls on such a descriptor through this trait. Every other descriptor is real: the kernel
/// answers the calls on it. Your implementation of [`wait`](Self::wait) must call
/// [`Reports::collect_real`] to add the kernel's reports about the real descriptors.
///
/// An argument `flags` is a set of the bits of `epoll_ctl(2)`, for example `EPOLLIN`. All simulated
/// threads share one real thread, and all methods are called on it. A method that blocks, for
/// example [`wait`](Self::wait), must let the other simulated threads run meanwhile.
pub trait System {
    /// Returns the monotonic time.
    fn now(&self) -> Instant;

    /// Returns the wall-clock time.
    fn wall(&self) -> SystemTime;

    /// Returns `true` if `fd` is simulated.
    fn owns(&self, fd: RawFd) -> bool;

    /// Makes an epoll instance and returns its number.
    fn open_epoll(&self) -> u64;

    /// Closes an epoll instance.
    fn close_epoll(&self, epoll: u64);

    /// Watches a descriptor, edge-triggered. If it is ready already, the next [`wait`](Self::wait)
    /// reports it.
    ///
    /// # Errors
    /// `EEXIST` if the descriptor is watched already.
    fn watch(&self, epoll: u64, fd: RawFd, flags: u32, token: u64) -> io::Result<()>;

    /// Changes the flags and the token of a watched descriptor. If it is ready, the next
    /// [`wait`](Self::wait) reports it again.
    ///
    /// # Errors
    /// `ENOENT` if the descriptor is not watched.
    fn rewatch(&self, epoll: u64, fd: RawFd, flags: u32, token: u64) -> io::Result<()>;

    /// Ends the watch of a descriptor.
    ///
    /// # Errors
    /// `ENOENT` if the descriptor is not watched.
    fn unwatch(&self, epoll: u64, fd: RawFd) -> io::Result<()>;

    /// Waits until there is something to report, until a [`wake`](Self::wake), or until `deadline`.
    /// With a deadline of `None` it waits forever. Adds what there is to report to `reports`.
    ///
    /// # Errors
    /// `EINTR` if a signal came first.
    fn wait(
        &self,
        epoll: u64,
        deadline: Option<Instant>,
        reports: &mut Reports<'_>,
    ) -> io::Result<()>;

    /// Ends the present wait of an epoll instance with a report of `token`. If no wait is in
    /// progress, ends the next wait.
    fn wake(&self, epoll: u64, token: u64);

    /// Returns which of `flags` hold for a simulated descriptor.
    fn readiness(&self, fd: RawFd, flags: u32) -> u32;

    /// Returns the kind of a simulated descriptor.
    fn kind(&self, fd: RawFd) -> Kind;

    /// Returns `true` if a simulated socket has no address.
    fn is_unnamed(&self, fd: RawFd) -> bool;

    /// Reads from a simulated descriptor.
    ///
    /// # Errors
    /// The errors of `read(2)`.
    fn read(&self, fd: RawFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes to a simulated descriptor.
    ///
    /// # Errors
    /// The errors of `write(2)`.
    fn write(&self, fd: RawFd, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns `true` if the threads are simulated too. If not, they start and block as the threads
    /// of any program, and the methods below are not called.
    fn has_threads(&self) -> bool {
        true
    }

    /// Starts a simulated thread named `name`, which runs `body`. Returns its number.
    ///
    /// # Errors
    /// `EAGAIN` at a limit of threads. On an error `body` is dropped.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce()>) -> io::Result<ThreadNumber>;

    /// Blocks the present thread for the time that a job of a pool takes.
    fn begin_job(&self);

    /// Returns the number of the thread that runs now.
    fn thread(&self) -> ThreadNumber;

    /// Blocks the present thread until another thread has run, or until `deadline`. Returns `false`
    /// after the deadline.
    ///
    /// The caller waits for a condition, and checks it after each call. While the condition is not
    /// true, the caller calls `block` again, with `again` set to `true`. A call with `again` does
    /// not count as a run of the thread: otherwise two waiting threads would let each other run
    /// forever.
    fn block(&self, deadline: Option<Instant>, again: bool) -> bool;
}

/// The reports of one [`wait`](System::wait). The [`System`] adds to them.
pub struct Reports<'a> {
    list: &'a mut Vec<epoll::Event>,
    real: BorrowedFd<'a>,
}

impl Reports<'_> {
    /// Returns the number of reports for which there is room.
    pub fn room(&self) -> usize {
        self.list.capacity() - self.list.len()
    }

    /// Returns the number of reports.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns `true` if there are no reports.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a report. Does nothing if there is no [room](Self::room).
    pub fn push(&mut self, flags: u32, token: u64) {
        if self.room() > 0 {
            self.list.push(epoll::Event {
                flags: EventFlags::from_bits_retain(flags),
                data: EventData::new_u64(token),
            });
        }
    }

    /// Adds the reports of the kernel about real descriptors, as far as there is
    /// [room](Self::room). Does not wait.
    ///
    /// # Errors
    /// The errors of `epoll_wait(2)`, but not `EINTR`.
    pub fn collect_real(&mut self) -> io::Result<()> {
        if self.room() == 0 {
            return Ok(()); // the kernel refuses an empty list
        }
        match epoll::wait(
            self.real,
            spare_capacity(self.list),
            Some(&Timespec::default()),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl fmt::Debug for Reports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports")
            .field("len", &self.list.len())
            .finish_non_exhaustive()
    }
}

thread_local! {
    static INSTALLED: RefCell<Option<Rc<dyn System>>> = const { RefCell::new(None) };
}

/// Installs `system` on this thread until the returned guard is dropped. Loops, worker pools and
/// threads of this library that are made on this thread until then are simulated: they use `system`
/// in place of the kernel, the clock and real threads.
#[must_use = "dropping the guard uninstalls the system"]
pub fn install(system: Rc<dyn System>) -> Installed {
    Installed(INSTALLED.replace(Some(system)))
}

/// Returns the system that is installed on this thread, or `None`.
pub fn installed() -> Option<Rc<dyn System>> {
    // During the destruction of the thread there is none.
    INSTALLED
        .try_with(|installed| installed.borrow().clone())
        .ok()
        .flatten()
}

/// Returns the flags that the kernel is asked for: see `to_mio` in `poller.rs`.
pub(super) fn flags(interest: Interest) -> u32 {
    let watched = interest.watched().or_least();
    let asked = [
        (Interest::READABLE, EventFlags::IN | EventFlags::RDHUP),
        (Interest::WRITABLE, EventFlags::OUT),
        (Interest::PRIORITY, EventFlags::PRI),
    ];
    let flags = asked
        .into_iter()
        .filter(|(part, _)| watched.contains(*part))
        .map(|(_, flags)| flags);
    flags.collect::<EventFlags>().bits()
}

/// Returns the installed system, if `fd` is simulated.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Option<Rc<dyn System>> {
    installed().filter(|system| system.owns(fd.as_raw_fd()))
}

/// A guard that keeps a [`System`] installed. Dropping the guard restores the system that was
/// installed before, if there was one.
pub struct Installed(Option<Rc<dyn System>>);

impl Drop for Installed {
    fn drop(&mut self) {
        let _ours = INSTALLED.replace(self.0.take());
    }
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed").finish_non_exhaustive()
    }
}

/// Returns the installed system, if it simulates threads.
pub(super) fn threads() -> Option<Rc<dyn System>> {
    installed().filter(|system| system.has_threads())
}

/// Blocks the present thread of a simulation until `is_over` returns `true`, or until `deadline`.
/// Returns the last answer of `is_over`. If no system is installed that simulates threads, returns
/// `None` at once, without calling `is_over`.
pub fn block_until(deadline: Option<Instant>, mut is_over: impl FnMut() -> bool) -> Option<bool> {
    let system = threads()?;
    let mut again = false;
    loop {
        if is_over() {
            return Some(true);
        }
        if !system.block(deadline, again) {
            return Some(is_over());
        }
        again = true;
    }
}

/// The handle of a simulated thread, whose body returns an `R`.
#[derive(Debug)]
pub(crate) struct JoinHandle<R> {
    number: ThreadNumber,
    name: String,
    /// The [`thread::Result`] of the body, once it has ended.
    ended: Arc<Mutex<Option<Box<dyn Any + Send>>>>,
    body: PhantomData<fn() -> R>,
}

impl<R: Send + 'static> JoinHandle<R> {
    pub(super) fn spawn(
        system: &dyn System,
        name: String,
        body: impl FnOnce() -> R + 'static,
    ) -> io::Result<Self> {
        let ended = Arc::new(Mutex::new(None));
        let ends = Arc::clone(&ended);
        let body = Box::new(move || {
            let result: thread::Result<R> = catch_unwind(AssertUnwindSafe(body));
            *ends.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(result) as _);
        });
        Ok(Self {
            number: system.spawn(&name, body)?,
            name,
            ended,
            body: PhantomData,
        })
    }
}

impl<R> JoinHandle<R> {
    pub(super) fn join(self) -> thread::Result<R>
    where
        R: 'static,
    {
        let lock = || self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        block_until(None, || lock().is_some());
        let ended = lock().take().and_then(|result| result.downcast().ok());
        ended.map_or_else(
            || Err(Box::new("the simulation ended before the thread") as _),
            |result: Box<thread::Result<R>>| *result,
        )
    }

    pub(super) fn is_current(&self) -> bool {
        threads().is_some_and(|system| system.thread() == self.number)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The epoll instance of a simulated loop.
pub(super) struct Epoll {
    system: Rc<dyn System>,
    number: u64,
}

impl Epoll {
    /// Opens an instance, if a system is installed.
    pub(super) fn open() -> Option<Self> {
        installed().map(|system| Self {
            number: system.open_epoll(),
            system,
        })
    }

    /// Returns the system, if `fd` is simulated.
    fn of(&self, fd: RawFd) -> Option<&dyn System> {
        Some(&*self.system).filter(|system| system.owns(fd))
    }

    pub(super) fn watch(&self, fd: RawFd, flags: u32, token: u64) -> Option<io::Result<()>> {
        self.of(fd)
            .map(|system| system.watch(self.number, fd, flags, token))
    }

    pub(super) fn rewatch(&self, fd: RawFd, flags: u32, token: u64) -> Option<io::Result<()>> {
        self.of(fd)
            .map(|system| system.rewatch(self.number, fd, flags, token))
    }

    pub(super) fn unwatch(&self, fd: RawFd) -> Option<io::Result<()>> {
        self.of(fd).map(|system| system.unwatch(self.number, fd))
    }

    pub(super) fn wait(
        &self,
        list: &mut Vec<epoll::Event>,
        real: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<(), Errno> {
        let now = self.system.now();
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        self.system
            .wait(self.number, deadline, &mut Reports { list, real })
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.system.close_epoll(self.number);
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
