//! The handle of a submitted job.

use std::fmt;
use std::sync::Arc;

use super::completion::PendingCompletion;
use super::queue::Queued;

/// A submitted job. It can be cancelled, abandoned, or put into the background. Dropping the `Job`
/// changes nothing.
///
/// ```
/// use handlers::{Cancellation, WorkerPool};
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut reactor = Reactor::<()>::new()?;
/// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
/// # let (end, ended) = std::sync::mpsc::channel::<()>();
/// # pool.submit(move || ended.recv(), |_, _| ())?;
/// let job = pool.submit(|| (), |_done, _cx| ())?; // waits: the only worker is busy
/// assert_eq!(job.cancel(), Cancellation::InTime);
/// assert_eq!(job.cancel(), Cancellation::TooLate);
/// # drop(end);
/// # Ok(())
/// # }
/// ```
pub struct Job {
    pub(super) slot: Arc<dyn Queued>,
    pub(super) pending: Arc<dyn PendingCompletion>,
}

/// The result of cancelling or abandoning a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The call was in time: the job, or the callback, will not run.
    InTime,
    /// The call was too late: the job, or the callback, has begun, or was cancelled before.
    TooLate,
}

impl Cancellation {
    const fn of(was_in_time: bool) -> Self {
        if was_in_time {
            Self::InTime
        } else {
            Self::TooLate
        }
    }
}

impl Job {
    /// Cancels the job if it has not started. The job and its completion callback are then dropped
    /// on this thread, before this returns. Returns [`Cancellation::TooLate`] if the job has
    /// started, or was cancelled before. Any thread.
    #[doc(alias("uv_cancel"))]
    pub fn cancel(&self) -> Cancellation {
        Cancellation::of(self.slot.cancel())
    }

    /// Puts the job into the background: [`Reactor::run`](reactor::Reactor::run) may return while
    /// the job is queued or running. Any thread.
    ///
    /// The completion callback still runs if the loop runs when the job is done. Use this for work
    /// that need not be waited for, such as filling a cache.
    ///
    /// ```
    /// use handlers::WorkerPool;
    /// use reactor::Reactor;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    /// # let (end, ended) = std::sync::mpsc::channel::<()>();
    /// # let fill_the_cache = move || ended.recv();
    /// let job = pool.submit(fill_the_cache, |_filled, _cx| ()).map_err(|refused| refused.reason)?;
    /// job.set_background();
    /// reactor.run(&mut ())?; // returns although the job runs
    /// # drop(end);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_background(&self) {
        self.pending.release_loop();
    }

    /// Abandons the job, even while it runs: drops its completion callback on this thread, before
    /// this returns, and no longer keeps [`Reactor::run`](reactor::Reactor::run) alive. A job that
    /// has not started is [cancelled](Self::cancel). Returns [`Cancellation::TooLate`] if the
    /// callback has begun to run, or was dropped before. Any thread.
    ///
    /// Use this for a job that may hang, such as a name lookup; to limit the time of a job, call it
    /// from a timer. A thread cannot be ended from outside, so the worker is busy until the job
    /// returns, and the result is dropped there. Dropping the pool does not wait for such a job;
    /// [`WorkerPool::drain`](super::WorkerPool::drain) and
    /// [`WorkerPool::shutdown_now`](super::WorkerPool::shutdown_now) do.
    ///
    /// ```
    /// use std::time::Duration;
    /// use handlers::{Cancellation, WorkerPool};
    /// use reactor::{Reactor, Then};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = Reactor::<()>::new()?;
    /// let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    /// # let (end, ended) = std::sync::mpsc::channel::<()>();
    /// # let lookup = move || ended.recv();
    /// let job = pool.submit(lookup, |_found, _cx| ()).map_err(|refused| refused.reason)?;
    /// reactor.after(Duration::from_millis(1), move |_cx| {
    ///     if job.abandon() == Cancellation::InTime {
    ///         eprintln!("no answer in time");
    ///     }
    ///     Ok(Then::Done)
    /// });
    /// reactor.run(&mut ())?; // returns although the lookup hangs
    /// # drop(end);
    /// # Ok(())
    /// # }
    /// ```
    pub fn abandon(&self) -> Cancellation {
        let was_pending = self.pending.abandon();
        self.cancel();
        Cancellation::of(was_pending)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("is_queued", &self.slot.is_queued())
            .field("is_pending", &self.pending.is_pending())
            .finish()
    }
}
