//! Other threads: how they are started, how they wait, and the clock for their waits.
//!
//! In a simulation the threads are simulated too, and take turns.

use std::io;
use std::sync::mpsc::{Receiver, RecvError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::primitives::{Condvar, Mutex, MutexGuard, PoisonError, ThreadId, thread};
#[cfg(feature = "simulation")]
use crate::sys::simulated;

/// The handle of a started thread, whose body returns an `R`.
#[derive(Debug)]
pub(crate) enum JoinHandle<R> {
    Real(thread::JoinHandle<R>),
    #[cfg(feature = "simulation")]
    Simulated(simulated::JoinHandle<R>),
}

impl<R> JoinHandle<R> {
    /// Waits until the thread has ended. Returns what its body returned, or its panic.
    pub(crate) fn join(self) -> thread::Result<R>
    where
        R: 'static,
    {
        match self {
            Self::Real(thread) => thread.join(),
            #[cfg(feature = "simulation")]
            Self::Simulated(thread) => thread.join(),
        }
    }

    /// Returns `true` on the thread itself, which cannot wait for its own end.
    pub(crate) fn is_current(&self) -> bool {
        match self {
            Self::Real(thread) => thread.thread().id() == thread::current().id(),
            #[cfg(feature = "simulation")]
            Self::Simulated(thread) => thread.is_current(),
        }
    }

    /// Returns the name that the thread was started with.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Real(thread) => thread.thread().name().unwrap_or_default(),
            #[cfg(feature = "simulation")]
            Self::Simulated(thread) => thread.name(),
        }
    }
}

/// Starts a thread named `name`, which runs `body`.
///
/// # Errors
/// `EAGAIN` at a limit of threads, `ENOMEM`. The error names the call. `body` is dropped then.
pub(crate) fn spawn<R, F>(name: String, body: F) -> io::Result<JoinHandle<R>>
where
    R: Send + 'static,
    F: FnOnce() -> R + Send + 'static,
{
    let failed = |source| {
        io::Error::from(Error::Call {
            call: "clone",
            source,
        })
    };
    #[cfg(feature = "simulation")]
    if let Some(system) = simulated::threads() {
        let spawned = simulated::JoinHandle::spawn(&*system, name, body);
        return spawned.map(JoinHandle::Simulated).map_err(failed);
    }
    let spawned = thread::Builder::new().name(name).spawn(body);
    spawned.map(JoinHandle::Real).map_err(failed)
}

/// Returns the time of the system, by which a thread waits for a loop or for other threads.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(feature = "simulation")]
    if let Some(system) = simulated::installed() {
        return system.now();
    }
    Instant::now()
}

/// A thread, to be compared with the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    id: ThreadId,
    #[cfg(feature = "simulation")]
    simulated: Option<simulated::ThreadNumber>,
}

impl Identity {
    /// Returns the identity of the current thread.
    pub(crate) fn current() -> Self {
        Self {
            id: thread::current().id(),
            #[cfg(feature = "simulation")]
            simulated: simulated::threads().map(|system| system.thread()),
        }
    }

    /// Returns the id that the standard library has for the thread.
    pub(crate) const fn id(self) -> ThreadId {
        self.id
    }
}

/// Blocks until `is_over` returns `true`, or until `deadline`. Returns `false` after the deadline.
/// The thread that makes `is_over` true unparks this one.
pub(crate) fn park_while_not(deadline: Option<Instant>, is_over: impl Fn() -> bool) -> bool {
    #[cfg(feature = "simulation")]
    if let Some(is_over) = simulated::block_until(deadline, &is_over) {
        return is_over;
    }
    while !is_over() {
        match deadline.map(|deadline| deadline.saturating_duration_since(now())) {
            None => thread::park(),
            Some(Duration::ZERO) => return false,
            Some(left) => thread::park_timeout(left),
        }
    }
    true
}

/// Locks `mutex`, and blocks while `is_pending` returns `true`. The thread that makes it false
/// notifies `changed`.
pub(crate) fn wait_while<'a, T>(
    mutex: &'a Mutex<T>,
    changed: &Condvar,
    #[cfg_attr(not(feature = "simulation"), expect(unused_mut))] mut is_pending: impl FnMut(
        &mut T,
    ) -> bool,
) -> MutexGuard<'a, T> {
    let lock = || mutex.lock().unwrap_or_else(PoisonError::into_inner);
    #[cfg(feature = "simulation")]
    if simulated::block_until(None, || !is_pending(&mut lock())).is_some() {
        return lock();
    }
    changed
        .wait_while(lock(), is_pending)
        .unwrap_or_else(PoisonError::into_inner)
}

/// Blocks until a value is received.
///
/// # Errors
/// If all senders are gone.
pub(crate) fn receive<T>(values: &Receiver<T>) -> Result<T, RecvError> {
    #[cfg(feature = "simulation")]
    {
        use std::sync::mpsc::TryRecvError;

        let mut received = None;
        let is_over = || {
            received = match values.try_recv() {
                Ok(value) => Some(Ok(value)),
                Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
                Err(TryRecvError::Empty) => None,
            };
            received.is_some()
        };
        if simulated::block_until(None, is_over).is_some() {
            return received.unwrap_or(Err(RecvError));
        }
    }
    values.recv()
}
