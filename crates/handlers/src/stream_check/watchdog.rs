//! A thread that ends a call of a stream that blocks, by shutting down the sockets of the wire.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sockets::pair;

/// A call blocks if it lasts for [`PERIODS`] of these. They are counted, so that a stop of the
/// whole process counts as one.
const PERIOD: Duration = Duration::from_millis(100);
const PERIODS: u32 = 30;

#[derive(Debug, Default)]
struct Shared {
    /// Odd during a call of the loop.
    calls: AtomicU64,
    has_blocked: AtomicBool,
    sockets: Mutex<Vec<Weak<UnixStream>>>,
}

pub(super) struct Watchdog {
    shared: Arc<Shared>,
    /// Ends the thread when it is dropped.
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the thread. In a simulation there is none: other simulated threads run during a call,
    /// and no call blocks in real time.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        if pair::is_simulated() {
            return Ok(Self {
                shared,
                alive: None,
                thread: None,
            });
        }
        let (alive, is_alive) = mpsc::channel::<()>();
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("stream check".to_owned())
            .spawn(move || {
                let mut same = (0, 0);
                while is_alive.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    same = watched.look(same);
                }
            })?;
        Ok(Self {
            shared,
            alive: Some(alive),
            thread: Some(thread),
        })
    }

    /// Sets the sockets to shut down.
    pub(super) fn guard(&self, sockets: Vec<Weak<UnixStream>>) {
        *self.shared.lock() = sockets;
    }

    /// Makes a call of the loop. Returns `None` if it has blocked.
    pub(super) fn watch<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let result = call();
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let has_blocked = self.shared.has_blocked.load(Ordering::Relaxed);
        (!has_blocked).then_some(result)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<UnixStream>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the running call. Returns it, and for how many periods it has run.
    fn look(&self, (before, periods): (u64, u32)) -> (u64, u32) {
        let call = self.calls.load(Ordering::Relaxed);
        if call.is_multiple_of(2) || call != before {
            return (call, 0);
        }
        if periods >= PERIODS {
            self.has_blocked.store(true, Ordering::Relaxed);
            for socket in self.lock().iter().filter_map(Weak::upgrade) {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        (call, periods + 1)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
