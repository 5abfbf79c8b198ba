//! A loop on a thread of its own, and a pool of such loops.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::builder::Builder;
use crate::context::Context;
use crate::notify::post_error::LoopGone;
use crate::notify::remote::Remote;
use crate::notify::waker::KeepAlive;
use crate::reactor::Reactor;
use crate::registry::Registry;
use crate::request_context::Carried;
use crate::sys::thread::{JoinHandle, receive, spawn};
use crate::turn::disposal::{PanicPayload, into_message};

/// A loop on a thread of its own. It runs until it is stopped, or until it is
/// [`join`](Self::join)ed and nothing is left to wait for.
///
/// Dropping a `LoopThread` stops the loop and waits for its thread. An error or a panic of the loop
/// is then only logged. A drop on the thread of the loop itself does not wait.
///
/// ```
/// use reactor::{LoopThread, Then};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let ticking = LoopThread::spawn("ticker", |registry| {
///     registry.after(Duration::from_millis(1), |cx| {
///         *cx.state += 1;
///         Ok(Then::Done)
///     });
///     Ok(0_u32) // the state
/// })?;
/// let doubled = ticking.remote().call(|cx| *cx.state * 2).expect("it runs");
/// assert!(doubled <= 2);
/// assert_eq!(ticking.join()?, 1);
/// # Ok(())
/// # }
/// ```
#[doc(alias("ScopedEventBaseThread", "EventBaseThread"))]
pub struct LoopThread<S: 'static> {
    remote: Remote<S>,
    alive: Option<KeepAlive>,
    thread: Option<JoinHandle<io::Result<S>>>,
}

impl<S: Send + 'static> LoopThread<S> {
    /// Starts a loop with the defaults of [`Builder`] on a new thread named `name`, and waits until
    /// the loop has started. Before the loop runs, the thread calls `set_up`, which registers the
    /// first sources and returns the state of the loop.
    ///
    /// # Errors
    /// - The error of `set_up`.
    /// - [`Error::Loop`](crate::Error::Loop) of [`Reactor::new`], or if the [`Remote`] gets no
    ///   eventfd: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Os`](crate::Error::Os) if epoll refuses the eventfd.
    /// - The error of starting the thread: `EAGAIN` at a limit of threads, `ENOMEM`.
    /// - The message of a panic of `set_up`, as an error.
    pub fn spawn<F>(name: impl Into<String>, set_up: F) -> io::Result<Self>
    where
        F: FnOnce(&mut Registry<S>) -> io::Result<S> + Send + 'static,
    {
        Self::spawn_with(name, Reactor::builder, set_up)
    }

    /// Starts a loop as [`spawn`](Self::spawn) does, with limits and policies of your own.
    /// `builder` is called on the new thread, and returns the [`Builder`] of the loop.
    ///
    /// # Errors
    /// - The error of `set_up`.
    /// - [`Error::Loop`](crate::Error::Loop) of [`Builder::build`], or if the [`Remote`] gets no
    ///   eventfd: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - [`Error::Full`](crate::Error::Full) if [`Builder::max_registrations`] leaves no place for
    ///   the [queue](Registry::remote_key) of the [`Remote`].
    /// - [`Error::Os`](crate::Error::Os) of [`Builder::build`], or if epoll refuses the eventfd.
    /// - The error of starting the thread: `EAGAIN` at a limit of threads, `ENOMEM`.
    /// - The message of a panic of `builder` or `set_up`, as an error.
    pub fn spawn_with<B, F>(name: impl Into<String>, builder: B, set_up: F) -> io::Result<Self>
    where
        B: FnOnce() -> Builder<S> + Send + 'static,
        F: FnOnce(&mut Registry<S>) -> io::Result<S> + Send + 'static,
    {
        let (started, starts) = sync_channel(1);
        let context = Carried::current();
        let thread = spawn(name.into(), move || {
            // Declared first, so that it is dropped after the reactor in any case: a state may join
            // threads that wait for an answer of this loop.
            let mut state;
            let mut reactor = builder().build()?;
            state = in_context(context, || set_up(&mut reactor))?;
            let remote = reactor.remote()?;
            let alive = remote.keep_alive();
            let _ = started.send((remote, alive));
            reactor.run(&mut state)?;
            drop(reactor);
            Ok(state)
        })?;
        match receive(&starts) {
            Ok((remote, alive)) => Ok(Self {
                remote,
                alive: Some(alive),
                thread: Some(thread),
            }),
            // The thread ended before it could report its start: its outcome is the reason.
            Err(_) => Err(outcome(thread)
                .err()
                .unwrap_or_else(|| io::Error::other("the loop did not start"))),
        }
    }

    /// Returns a [`Remote`] of the loop.
    pub const fn remote(&self) -> &Remote<S> {
        &self.remote
    }

    /// Waits until the loop has [nothing left](crate::Exit::NothingLeft) to wait for, and returns
    /// its state.
    ///
    /// # Errors
    /// - The error of [`Reactor::run`], for example because an [essential](Registry::set_essential)
    ///   callback has failed.
    /// - An error with the panic message, if the loop has panicked.
    /// - [`io::ErrorKind::Deadlock`] if called on the thread of the loop itself. The call then does
    ///   not wait for the thread.
    pub fn join(mut self) -> io::Result<S> {
        self.alive = None;
        match self.thread.take() {
            Some(thread) => outcome(thread),
            None => Err(io::Error::other("the loop has been joined")),
        }
    }

    /// Stops the loop, waits for it, and returns its state.
    ///
    /// # Errors
    /// - The error of [`Reactor::run`], for example because an [essential](Registry::set_essential)
    ///   callback has failed.
    /// - An error with the panic message, if the loop has panicked.
    /// - [`io::ErrorKind::Deadlock`] if called on the thread of the loop itself. The call then does
    ///   not wait for the thread.
    #[track_caller]
    pub fn stop(self) -> io::Result<S> {
        let _ = self.remote.stop(); // a loop that is gone has stopped
        self.join()
    }
}

impl<S: 'static> Drop for LoopThread<S> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let _ = self.remote.stop(); // a loop that is gone has stopped
        self.alive = None;
        if thread.is_current() {
            return; // it cannot wait for itself
        }
        let name = thread.name().to_owned();
        match thread.join() {
            Ok(Ok(_state)) => {}
            Ok(Err(error)) => tracing::error!(name, %error, "a loop ended with an error"),
            Err(panic) => {
                let message = into_message(panic); // made even if no subscriber listens
                tracing::error!(name, message, "a loop panicked");
            }
        }
    }
}

impl<S> Registry<S> {
    /// Starts a thread named `name` that works for this loop, and returns the handle of the thread.
    /// Use it in a library of handlers with threads of its own, for example a worker pool.
    ///
    /// The thread reaches the loop through a [`Remote`] or a [`Sender`](crate::Sender) that `body`
    /// has captured. The loop does not join the thread. Ask the thread to end, then join it through
    /// the returned handle.
    ///
    /// # Errors
    /// `EAGAIN` at a limit of threads, or `ENOMEM`. The [`io::Error`] contains an
    /// [`Error::Call`](crate::Error::Call). On an error `body` is dropped.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = reactor::Reactor::<u32>::new()?;
    /// let remote = reactor.remote()?;
    /// let alive = remote.keep_alive();
    /// let worker = reactor.spawn_worker("adder", move || {
    ///     let sum = (1..=10).sum::<u32>();
    ///     let _ = remote.post(move |cx| *cx.state = sum); // the loop may be gone
    ///     drop(alive);
    /// })?;
    /// let mut sum = 0;
    /// reactor.run(&mut sum)?;
    /// let _ = worker.join();
    /// assert_eq!(sum, 55);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_worker(
        &self,
        name: impl Into<String>,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<WorkerThread> {
        spawn(name.into(), body).map(WorkerThread)
    }
}

/// The handle of a thread that works for a loop: see [`Registry::spawn_worker`]. Dropping it leaves
/// the thread running.
#[derive(Debug)]
pub struct WorkerThread(JoinHandle<()>);

impl WorkerThread {
    /// Blocks until the thread has ended.
    ///
    /// # Errors
    /// The panic of the thread.
    pub fn join(self) -> thread::Result<()> {
        self.0.join()
    }

    /// Returns `true` on the thread itself, which must not call [`join`](Self::join).
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }

    /// Returns the name that the thread was started with.
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

/// Runs `set_up` in the context of the thread that has started this one. The context ends with it.
fn in_context<R>(context: Carried, set_up: impl FnOnce() -> R) -> R {
    context.scope(set_up)
}

/// Waits for the thread of a loop, and returns its outcome.
fn outcome<S: 'static>(thread: JoinHandle<io::Result<S>>) -> io::Result<S> {
    if thread.is_current() {
        return Err(io::Error::new(
            io::ErrorKind::Deadlock,
            "the loop cannot wait for its own thread",
        ));
    }
    let name = thread.name().to_owned();
    let panicked = |panic: PanicPayload| {
        io::Error::other(format!(
            "the loop of thread {name:?} panicked: {}",
            into_message(panic)
        ))
    };
    thread.join().map_err(panicked)?
}

impl<S: 'static> fmt::Debug for LoopThread<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopThread")
            .field("thread", &self.thread.as_ref().map(JoinHandle::name))
            .finish_non_exhaustive()
    }
}

/// Loops on threads of their own, for work that is spread over cores.
///
/// Dropping a pool stops all loops and waits for their threads.
///
/// To let the kernel spread connections over the loops, open a listener for each loop in `set_up`.
/// All listeners use the same address, with `SO_REUSEPORT`.
///
/// ```
/// use reactor::LoopPool;
///
/// # fn main() -> std::io::Result<()> {
/// let pool = LoopPool::spawn(2, "worker", |number, _registry| Ok(number))?; // the state
/// pool.broadcast(|cx| *cx.state += 10).expect("both loops run");
/// assert_eq!(pool.join()?, [10, 11]);
/// # Ok(())
/// # }
/// ```
#[doc(alias("IOThreadPoolExecutor"))]
pub struct LoopPool<S: 'static> {
    threads: Vec<LoopThread<S>>,
    next: AtomicUsize,
}

impl<S: Send + 'static> LoopPool<S> {
    /// Starts `loops` loops, each on a thread of its own. The loops are numbered from 0, and the
    /// name of a thread is `name` followed by the number of its loop. `set_up` runs on each thread
    /// and receives this number.
    ///
    /// # Errors
    /// The first error of a loop, as [`LoopThread::spawn`] returns it. Loops that have already
    /// started are stopped.
    ///
    /// - The error of `set_up`.
    /// - An error of building the reactor: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - An error of starting the thread: `EAGAIN`, `ENOMEM`.
    /// - The message of a panic of `set_up`, as an error.
    pub fn spawn<F>(loops: usize, name: &str, set_up: F) -> io::Result<Self>
    where
        F: Fn(usize, &mut Registry<S>) -> io::Result<S> + Clone + Send + 'static,
    {
        Self::spawn_with(loops, name, Reactor::builder, set_up)
    }

    /// Starts loops as [`spawn`](Self::spawn) does, with limits and policies of your own. `builder`
    /// is called on each thread, and returns the [`Builder`] of its loop.
    ///
    /// # Errors
    /// The first error of a loop, as [`LoopThread::spawn_with`] returns it. Loops that have already
    /// started are stopped.
    ///
    /// - The error of `set_up`.
    /// - An error of building the reactor: `EMFILE`, `ENFILE`, `ENOMEM`.
    /// - An error of starting the thread: `EAGAIN`, `ENOMEM`.
    /// - The message of a panic of `builder` or `set_up`, as an error.
    pub fn spawn_with<B, F>(loops: usize, name: &str, builder: B, set_up: F) -> io::Result<Self>
    where
        B: Fn() -> Builder<S> + Clone + Send + 'static,
        F: Fn(usize, &mut Registry<S>) -> io::Result<S> + Clone + Send + 'static,
    {
        let start = |number: usize| {
            let (builder, set_up) = (builder.clone(), set_up.clone());
            LoopThread::spawn_with(format!("{name}{number}"), builder, move |registry| {
                set_up(number, registry)
            })
        };
        let mut pool = Self {
            threads: Vec::with_capacity(loops),
            next: AtomicUsize::new(0),
        };
        for number in 0..loops {
            pool.threads.push(start(number)?);
        }
        Ok(pool)
    }

    /// Returns the number of loops.
    pub const fn len(&self) -> usize {
        self.threads.len()
    }

    /// Returns `true` if the pool has no loops.
    pub const fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Returns the [`Remote`] of the loop with this number, counted from 0, or `None` if there is
    /// no such loop.
    pub fn get(&self, number: usize) -> Option<&Remote<S>> {
        self.threads.get(number).map(LoopThread::remote)
    }

    /// Returns the [`Remote`] of the next loop in round-robin order. Loops that have ended are not
    /// skipped. Returns `None` if the pool is empty.
    pub fn round_robin(&self) -> Option<&Remote<S>> {
        let number = self
            .next
            .fetch_add(1, Ordering::Relaxed)
            .checked_rem(self.len())?;
        self.get(number)
    }

    /// Returns the [`Remote`] of the running loop with the fewest [pending](Remote::pending)
    /// closures. If several loops have equally few, returns the one with the lowest number. Returns
    /// `None` if no loop runs.
    ///
    /// # Cost
    /// O(number of loops), two locks for each loop.
    pub fn least_loaded(&self) -> Option<&Remote<S>> {
        let alive = self
            .threads
            .iter()
            .map(LoopThread::remote)
            .filter(|remote| !remote.is_gone());
        alive.min_by_key(|remote| remote.pending())
    }

    /// Runs a clone of `callback` on each loop.
    ///
    /// # Errors
    /// [`LoopGone`] if any of the loops has ended. The clones for the other loops still run.
    #[track_caller]
    pub fn broadcast<F>(&self, callback: F) -> Result<(), LoopGone>
    where
        F: FnOnce(&mut Context<'_, S>) + Clone + Send + 'static,
    {
        let mut posted = Ok(());
        for thread in &self.threads {
            posted = posted.and(thread.remote.post(callback.clone()));
        }
        posted
    }

    /// Waits until the loops have [nothing left](crate::Exit::NothingLeft) to wait for. Returns
    /// their states in the order of the numbers of the loops.
    ///
    /// # Errors
    /// Waits until all loops have ended, and then returns the error of the lowest-numbered loop
    /// that has one:
    ///
    /// - The error of [`Reactor::run`], for example because an [essential](Registry::set_essential)
    ///   callback has failed.
    /// - The message of a panic of a loop, as an error.
    /// - [`io::ErrorKind::Deadlock`] if called on the thread of one of these loops. The call then
    ///   does not wait for this thread.
    pub fn join(mut self) -> io::Result<Vec<S>> {
        // All tokens are dropped before the first join: one loop may wait for something that
        // another holds.
        self.threads
            .iter_mut()
            .for_each(|thread| thread.alive = None);
        let ended: Vec<_> = self.threads.drain(..).map(LoopThread::join).collect();
        ended.into_iter().collect()
    }

    /// Stops the loops and waits for their threads. Returns their states in the order of the
    /// numbers of the loops.
    ///
    /// # Errors
    /// Waits until all loops have ended, and then returns the error of the lowest-numbered loop
    /// that has one:
    ///
    /// - The error of [`Reactor::run`], for example because an [essential](Registry::set_essential)
    ///   callback has failed.
    /// - The message of a panic of a loop, as an error.
    /// - [`io::ErrorKind::Deadlock`] if called on the thread of one of these loops. The call then
    ///   does not wait for this thread.
    #[track_caller]
    pub fn stop(self) -> io::Result<Vec<S>> {
        self.stop_all();
        self.join()
    }
}

impl<S: 'static> LoopPool<S> {
    #[track_caller]
    fn stop_all(&self) {
        for thread in &self.threads {
            let _ = thread.remote.stop(); // a loop that is gone has stopped
        }
    }
}

impl<S: 'static> Drop for LoopPool<S> {
    fn drop(&mut self) {
        self.stop_all(); // all of them before the first join
    }
}

impl<S: 'static> fmt::Debug for LoopPool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.threads).finish()
    }
}
