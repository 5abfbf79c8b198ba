//! A job that has been submitted, as its user holds it.

use std::fmt;
use std::sync::Arc;

use super::completion::PendingCompletion;
use super::queue::Queued;

/// A job that has been submitted: to cancel it, to give it up, or to let the loop end before it. Dropping this changes
/// nothing.
pub struct Job {
    pub(super) slot: Arc<dyn Queued>,
    pub(super) pending: Arc<dyn PendingCompletion>,
}

/// Whether a job was cancelled, or given up, in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// It was in time: what was to come will not.
    InTime,
    /// It was too late: what was to be prevented has begun, or was prevented before.
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
    /// Cancels the job, if no worker has begun it. The job and its completion callback are then dropped on this thread,
    /// before this returns. Any thread.
    #[doc(alias("uv_cancel"))]
    pub fn cancel(&self) -> Cancellation {
        Cancellation::of(self.slot.cancel())
    }

    /// Lets [`Reactor::run`](reactor::Reactor::run) end although this job is queued or running.
    ///
    /// Its completion callback still runs if the loop runs when the job is done. For work that need not be waited for,
    /// such as filling a cache. Any thread.
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
    /// reactor.run(&mut ())?; // ends although the job runs
    /// # drop(end);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_background(&self) {
        self.pending.release_loop();
    }

    /// Gives the job up, also while it runs: drops its completion callback on this thread, before this returns, and
    /// lets [`Reactor::run`](reactor::Reactor::run) end. It is too late once the callback has begun to run, or was
    /// dropped before.
    ///
    /// For a job that may hang, such as the lookup of a name: no thread can be ended from outside, so its worker is
    /// busy until the job returns, and its result is dropped there. To drop the pool does not wait for it;
    /// [`WorkerPool::drain`](super::WorkerPool::drain) and [`WorkerPool::shutdown_now`](super::WorkerPool::shutdown_now) do. A
    /// job that has not begun is [cancelled](Self::cancel). To bound a job in time, call this from a timer. Any thread.
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
    /// reactor.run(&mut ())?; // ends although the lookup hangs
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
