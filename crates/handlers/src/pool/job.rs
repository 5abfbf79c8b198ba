//! The handle of a submitted job.

use std::fmt;
use std::sync::Arc;

use super::completion::PendingCompletion;
use super::queue::Queued;

/// A submitted job. You can cancel it, abandon it, or put it into the background. If you drop the
/// `Job`, the submitted job still runs.
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

/// The result of [`Job::cancel`] or [`Job::abandon`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The call was in time. After [`Job::cancel`] this means that the job will not run. After
    /// [`Job::abandon`] it means that the completion callback will not run.
    InTime,
    /// The call was too late. After [`Job::cancel`] this means that the job has already begun, or
    /// was already dropped. After [`Job::abandon`] it means that the completion callback has
    /// already begun, or was already dropped.
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
    /// on this thread, before this method returns. Returns [`Cancellation::TooLate`] if the job has
    /// already started, or was already cancelled. You can call this method on any thread.
    #[doc(alias("uv_cancel"))]
    pub fn cancel(&self) -> Cancellation {
        Cancellation::of(self.slot.cancel())
    }

    /// Puts the job into the background: [`Reactor::run`](reactor::Reactor::run) may return while
    /// the job is queued or running. You can call this method on any thread.
    ///
    /// If the loop still runs when the job is done, the completion callback runs as usual. Use this
    /// for work that the program need not wait for, for example to fill a cache.
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

    /// Abandons the job, even while it runs. Its completion callback is dropped on this thread,
    /// before this method returns. The job no longer keeps [`Reactor::run`](reactor::Reactor::run)
    /// alive. If the job has not started, it is also [cancelled](Self::cancel). Returns
    /// [`Cancellation::TooLate`] if the callback has already begun to run, or was already dropped.
    /// You can call this method on any thread.
    ///
    /// Use this for a job that may hang, such as a call of a library without a time limit. To limit
    /// the time of a job, call this method in the callback of a timer. The worker is busy until an
    /// abandoned job returns, since a thread cannot be ended from outside. When the job returns,
    /// its result is dropped on the worker's thread. Dropping the pool does not wait for an
    /// abandoned job, but [`WorkerPool::drain`](super::WorkerPool::drain) and
    /// [`WorkerPool::shutdown_now`](super::WorkerPool::shutdown_now) wait for it.
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
    /// # let hangs = move || ended.recv();
    /// let job = pool.submit(hangs, |_done, _cx| ()).map_err(|refused| refused.reason)?;
    /// reactor.after(Duration::from_millis(1), move |_cx| {
    ///     if job.abandon() == Cancellation::InTime {
    ///         eprintln!("no answer in time");
    ///     }
    ///     Ok(Then::Done)
    /// });
    /// reactor.run(&mut ())?; // returns although the job hangs
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
