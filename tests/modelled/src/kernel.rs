//! The kernel of the models: what a loop waits for, made of loom's primitives.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use std::sync::{LazyLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::Kind;
use crate::simulation::{Reports, System, ThreadNumber};

/// The time at which each run of a model begins. loom needs all of them to be the same.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A loop that does not sleep this often, without a report, lets other threads go on: it finds a
/// lock held, perhaps. loom would explore its turns without end.
const IDLE_WAITS_MAX: usize = 3;

/// The kernel of one run of a model.
///
/// - A wake ends the present wait of a loop, or the next one, as a write to an edge-triggered
///   eventfd does.
/// - All descriptors are real. A loop of a model does not ask for them.
/// - Time passes only in a wait with an end, which it takes to its end if there is nothing to
///   report.
#[derive(Debug)]
pub(crate) struct Kernel {
    epolls: Mutex<Vec<Epoll>>,
    woken: Condvar,
    passed: Cell<Duration>,
}

#[derive(Debug, Default)]
struct Epoll {
    /// The token of a wake that no wait has reported.
    woken_by: Option<u64>,
    /// The waits since the last report that did not sleep.
    idle_waits: usize,
}

impl Kernel {
    pub(crate) fn new() -> Self {
        Self {
            epolls: Mutex::default(),
            woken: Condvar::new(),
            passed: Cell::new(Duration::ZERO),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Epoll>> {
        self.epolls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for Kernel {
    fn now(&self) -> Instant {
        *BEGINNING + self.passed.get()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.passed.get()
    }

    fn owns(&self, _fd: RawFd) -> bool {
        false
    }

    fn open_epoll(&self) -> u64 {
        let mut epolls = self.lock();
        epolls.push(Epoll::default());
        epolls.len() as u64 - 1
    }

    fn close_epoll(&self, _epoll: u64) {}

    fn watch(&self, _epoll: u64, _fd: RawFd, _flags: u32, _token: u64) -> io::Result<()> {
        Err(Errno::BADF.into())
    }

    fn rewatch(&self, _epoll: u64, _fd: RawFd, _flags: u32, _token: u64) -> io::Result<()> {
        Err(Errno::BADF.into())
    }

    fn unwatch(&self, _epoll: u64, _fd: RawFd) -> io::Result<()> {
        Err(Errno::BADF.into())
    }

    fn wait(
        &self,
        epoll: u64,
        deadline: Option<Instant>,
        reports: &mut Reports<'_>,
    ) -> io::Result<()> {
        let mut epolls = self.lock();
        loop {
            let epoll = epolls.get_mut(epoll as usize).ok_or(Errno::BADF)?;
            if let Some(token) = epoll.woken_by.take() {
                epoll.idle_waits = 0;
                reports.push(EventFlags::IN.bits(), token);
                return Ok(());
            }
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(self.now());
                self.passed.set(self.passed.get() + left);
                epoll.idle_waits += 1;
                let looks_again = epoll.idle_waits > IDLE_WAITS_MAX;
                drop(epolls);
                if looks_again {
                    thread::yield_now();
                }
                return Ok(());
            }
            epolls = self
                .woken
                .wait(epolls)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self, epoll: u64, token: u64) {
        let mut epolls = self.lock();
        if let Some(epoll) = epolls.get_mut(epoll as usize) {
            epoll.woken_by = Some(token);
        }
        drop(epolls);
        self.woken.notify_all();
    }

    fn readiness(&self, _fd: RawFd, _flags: u32) -> u32 {
        0
    }

    fn kind(&self, _fd: RawFd) -> Kind {
        Kind::Unknown
    }

    fn is_unnamed(&self, _fd: RawFd) -> bool {
        false
    }

    fn read(&self, _fd: RawFd, _bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Err(Errno::BADF.into())
    }

    fn write(&self, _fd: RawFd, _bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(Errno::BADF.into())
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn spawn(&self, _name: &str, _body: Box<dyn FnOnce()>) -> io::Result<ThreadNumber> {
        Err(Errno::AGAIN.into())
    }

    fn begin_job(&self) {}

    fn thread(&self) -> ThreadNumber {
        0
    }

    fn block(&self, _deadline: Option<Instant>, _again: bool) -> bool {
        false
    }
}
