//! The state of one worker: a value that its jobs share, one after the other.
//!
//! Ground rule: the state is made, used and dropped on the worker's own thread, so it need not be
//! `Send`.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::carried::for_no_request;
use crate::error::{discard, panic_message};

/// A function that makes the state of a worker.
pub(super) type Make<W> = dyn Fn() -> io::Result<W> + Send + Sync;

/// The state of a worker, once it is made.
pub(super) struct WorkerState<W> {
    make: Arc<Make<W>>,
    state: Option<W>,
    /// Set if a job has panicked with the state. The job may have changed only a part of the state,
    /// so no other job may use it.
    is_poisoned: bool,
}

/// The reason for which a job has no result.
pub(super) enum JobFailure {
    /// The job panicked, with this payload.
    Panic(Box<dyn Any + Send>),
    /// The state could not be made, so the job did not run.
    NoState(io::Error),
}

impl<W> WorkerState<W> {
    pub(super) const fn new(make: Arc<Make<W>>) -> Self {
        Self {
            make,
            state: None,
            is_poisoned: false,
        }
    }

    /// Runs `job` with the state. Makes the state if there is none.
    pub(super) fn run<R>(&mut self, job: impl FnOnce(&mut W) -> R) -> Result<R, JobFailure> {
        let state = match &mut self.state {
            Some(state) => state,
            none => {
                // Further jobs use the state, on behalf of other requests.
                let made = for_no_request(|| make(&*self.make));
                none.insert(made.map_err(JobFailure::NoState)?)
            }
        };
        catch_unwind(AssertUnwindSafe(|| job(state))).map_err(|panic| {
            self.is_poisoned = true;
            JobFailure::Panic(panic)
        })
    }

    /// Drops the state, if a job has panicked with it.
    pub(super) fn drop_if_poisoned(&mut self) {
        if std::mem::take(&mut self.is_poisoned) {
            self.clear();
        }
    }

    /// Drops the state. A panic of its destructor does not end the worker.
    fn clear(&mut self) {
        let state = self.state.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(state))) {
            tracing::error!(
                message = panic_message(&*panic),
                "dropping the state of a worker panicked"
            );
            discard(panic);
        }
    }
}

fn make<W>(make: &Make<W>) -> io::Result<W> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|panic| {
        let error = io::Error::other(format!(
            "its constructor panicked: {}",
            panic_message(&*panic)
        ));
        discard(panic);
        Err(error)
    })
}

impl<W> Drop for WorkerState<W> {
    fn drop(&mut self) {
        self.clear();
    }
}
