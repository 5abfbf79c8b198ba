//! The threads of a resolver, and the requests that wait for one of them. This module knows the
//! callback of no lookup.
//!
//! A thread is started when a request finds no idle one, up to the limit. It ends after some time
//! without a request. A thread whose lookup hangs counts until the lookup returns.
//!
//! INVARIANT (idle): `idle` is the number of threads, started ones included, that run no lookup.
//! Such a thread takes a waiting request before it ends. Kept under the lock by `submit`,
//! `not_started` and `next`. `submit` relies on it: if `idle` were too great, a request would wait
//! for a thread that does not exist.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reactor::{Registry, Sender};

use crate::carried::for_no_request;
use crate::error::{copy_error, discard, named, panic_message};

/// The time after which an idle thread ends.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The addresses of a name, or the reason why there are none.
pub(super) type Answer = io::Result<Vec<SocketAddr>>;

/// The function that looks up.
pub(super) type LookupFunction = dyn Fn(&str, &str) -> Answer + Send + Sync;

/// A name to look up, and the way back to its loop.
pub(super) struct Request {
    pub(super) host: String,
    pub(super) service: String,
    /// Set when a thread begins with the lookup.
    pub(super) begun: Arc<AtomicBool>,
    pub(super) answer: Sender<Answer>,
}

pub(super) struct Threads {
    pub(super) max_threads: usize,
    pub(super) max_waiting: usize,
    pub(super) lookup: Box<LookupFunction>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    threads: usize,
    idle: usize,
}

impl Threads {
    pub(super) fn new(
        max_threads: usize,
        max_waiting: usize,
        lookup: Box<LookupFunction>,
    ) -> Arc<Self> {
        Arc::new(Self {
            max_threads,
            max_waiting,
            lookup,
            state: Mutex::default(),
            wake: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Code that holds the lock does not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request to a thread, or lets it wait for one.
    ///
    /// # Errors
    /// `QuotaExceeded` if too many requests wait.
    pub(super) fn submit<S>(
        self: &Arc<Self>,
        registry: &Registry<S>,
        request: Request,
    ) -> io::Result<()> {
        let mut state = self.lock();
        if !self.has_room(&state) {
            state
                .waiting
                .retain(|request| !request.answer.is_disconnected());
        }
        if !self.has_room(&state) {
            return Err(self.full());
        }
        state.waiting.push_back(request);
        if state.waiting.len() <= state.idle || state.threads >= self.max_threads {
            drop(state);
            self.wake.notify_one();
            return Ok(());
        }
        state.threads += 1;
        state.idle += 1;
        drop(state); // in a simulation, a start lets other threads run
        let threads = Arc::clone(self);
        if let Err(error) = registry.spawn_worker("resolver", move || threads.work()) {
            self.not_started(&error);
        }
        Ok(())
    }

    /// Returns `true` if one more request may wait. The requests that threads are about to take do
    /// not count as waiting.
    fn has_room(&self, state: &State) -> bool {
        let at_once = state.idle.saturating_add(self.max_threads - state.threads);
        state.waiting.len() < self.max_waiting.saturating_add(at_once)
    }

    #[cold]
    fn full(&self) -> io::Error {
        let text = format!(
            "too many lookups: {} run and {} wait (the limits)",
            self.max_threads, self.max_waiting
        );
        io::Error::new(ErrorKind::QuotaExceeded, text)
    }

    /// Uncounts a thread that could not be started. If there is no other thread, nothing would ever
    /// answer the requests that wait.
    #[cold]
    fn not_started(&self, error: &io::Error) {
        let mut state = self.lock();
        state.threads -= 1;
        state.idle -= 1;
        if state.threads > 0 {
            tracing::warn!(%error, "could not start a thread to look up names");
            return;
        }
        let unanswered = std::mem::take(&mut state.waiting);
        drop(state);
        for request in unanswered {
            let error = named("start a thread", copy_error(error));
            // Each answer is handled in the context of its own lookup. An error means that it has
            // ended.
            let _ = for_no_request(|| request.answer.try_send(Err(error)));
        }
    }

    /// Serves requests until there was none for some time.
    fn work(&self) {
        while let Some(request) = self.next() {
            request.begun.store(true, Ordering::Relaxed);
            let answer = self.answer(&request);
            // The lookup may have ended, and its loop too. The destructor of the user's error may
            // panic.
            if let Err(unwanted) = request.answer.try_send(answer) {
                discard(Box::new(unwanted));
            }
            self.lock().idle += 1;
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let look_up = || (self.lookup)(&request.host, &request.service);
        let mut addresses = catch_unwind(AssertUnwindSafe(look_up)).unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            discard(panic);
            let text = format!("the function that looks up panicked: {message}");
            Err(io::Error::other(text))
        })?;
        // A name can be in /etc/hosts twice. A second attempt at an address would be in vain.
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        if addresses.is_empty() {
            let text = "the function that looks up returned no address";
            return Err(io::Error::new(ErrorKind::AddrNotAvailable, text));
        }
        Ok(addresses)
    }

    /// Returns the next request. Returns `None` if the thread is to end, and uncounts it.
    fn next(&self) -> Option<Request> {
        let mut state = self.lock();
        loop {
            while let Some(request) = state.waiting.pop_front() {
                if !request.answer.is_disconnected() {
                    state.idle -= 1;
                    return Some(request);
                }
            }
            let is_woken;
            (state, is_woken) = self.wait(state);
            if !is_woken && state.waiting.is_empty() {
                state.threads -= 1;
                state.idle -= 1;
                return None;
            }
        }
    }

    /// Releases the lock until a request may wait. Returns `false` after the idle time.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        #[cfg(feature = "simulation")]
        if let Some(system) = reactor::simulation::installed() {
            drop(state);
            let until = system.now().checked_add(IDLE_TIME);
            let is_woken =
                reactor::simulation::block_until(until, || !self.lock().waiting.is_empty());
            return (self.lock(), is_woken == Some(true));
        }
        let (state, waited) = self
            .wake
            .wait_timeout(state, IDLE_TIME)
            .unwrap_or_else(PoisonError::into_inner);
        (state, !waited.timed_out())
    }

    /// Formats the counters, for the `Debug` output of a resolver.
    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (threads, idle, waiting) = {
            let state = self.lock();
            (state.threads, state.idle, state.waiting.len())
        };
        f.debug_struct("Resolver")
            .field("threads", &threads)
            .field("running", &(threads - idle))
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
