//! Calls: callers that wait for a closure on the loop. Each caller is answered, whatever happens to
//! the loop and the closure.
//!
//! Ground rule: a loop that ends answers all waiting callers before it drops any value of the user.
//! A destructor may join the thread of a caller, and the closure of that call may be queued after
//! the very value that is being dropped.

use std::fmt;
use std::io;

use slab::Slab;

use crate::primitives::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use crate::sys::thread::wait_while;

/// The reason why [`Remote::call`](crate::Remote::call) returned no result of its closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The call came from the thread of the loop, which would wait for itself forever.
    OnLoopThread,
    /// The loop was [gone](crate::LoopGone) before the call, or ended before the closure ran. The
    /// closure has not run, and will not run.
    Lost,
    /// The closure panicked. It may have done a part of its work.
    Panicked,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnLoopThread => {
                "a call into the loop from its own thread would deadlock: use defer"
            }
            Self::Lost => "the loop is gone: the call has no answer",
            Self::Panicked => "the closure panicked on the loop: the call has no answer",
        })
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// Returns the kind of the [`io::Error`] that `?` converts this error to.
    pub const fn kind(&self) -> io::ErrorKind {
        match self {
            Self::OnLoopThread => io::ErrorKind::Deadlock,
            Self::Lost => io::ErrorKind::BrokenPipe,
            Self::Panicked => io::ErrorKind::Other,
        }
    }
}

/// Lets `?` pass the error on from a handler.
impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        Self::new(error.kind(), error)
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code of the user runs while the lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls of a loop that have no answer yet.
#[derive(Default)]
pub(crate) struct Calls {
    /// INVARIANT (waiting): each [`Caller`] has one entry, which only that caller removes. So the
    /// index of a caller names no other call while the caller exists, and needs no generation.
    waiting: Mutex<Slab<Arc<dyn Cancel>>>,
}

trait Cancel: Send + Sync {
    /// Answers that the closure will not run, unless it is running or has run.
    fn cancel(&self);
}

impl Calls {
    /// Begins a call. Returns the caller's end, and the end that goes to the loop.
    pub(super) fn begin<R: Send + 'static>(&self) -> (Caller<'_, R>, Responder<R>) {
        let call = Arc::new(Call {
            progress: Mutex::new(Progress::Waiting),
            over: Condvar::new(),
        });
        let index = lock(&self.waiting).insert(Arc::clone(&call) as Arc<dyn Cancel>);
        (
            Caller {
                calls: self,
                index,
                call: Arc::clone(&call),
            },
            Responder { call },
        )
    }

    /// Answers all callers whose closure has not begun. Those closures do not run any more.
    pub(crate) fn cancel_all(&self) {
        let waiting: Vec<_> = lock(&self.waiting)
            .iter()
            .map(|(_, call)| Arc::clone(call))
            .collect();
        waiting.iter().for_each(|call| call.cancel());
    }
}

struct Call<R> {
    progress: Mutex<Progress<R>>,
    over: Condvar,
}

enum Progress<R> {
    Waiting,
    Running,
    Over(Result<R, CallError>),
}

impl<R> Call<R> {
    /// Ends the call if `ends` returns a result for its present progress.
    fn end(&self, ends: impl FnOnce(&Progress<R>) -> Option<Result<R, CallError>>) {
        let mut progress = lock(&self.progress);
        if let Some(result) = ends(&progress) {
            *progress = Progress::Over(result);
            self.over.notify_one();
        }
    }
}

impl<R: Send> Cancel for Call<R> {
    fn cancel(&self) {
        self.end(|progress| matches!(progress, Progress::Waiting).then_some(Err(CallError::Lost)));
    }
}

/// The caller's end of a call.
pub(super) struct Caller<'a, R> {
    calls: &'a Calls,
    /// The index of the entry of this caller in `Calls::waiting`.
    index: usize,
    call: Arc<Call<R>>,
}

impl<R> Caller<'_, R> {
    /// Waits for the answer.
    pub(super) fn wait(self) -> Result<R, CallError> {
        let is_pending = |progress: &mut Progress<R>| !matches!(progress, Progress::Over(_));
        let mut progress = wait_while(&self.call.progress, &self.call.over, is_pending);
        match std::mem::replace(&mut *progress, Progress::Over(Err(CallError::Lost))) {
            Progress::Over(result) => result,
            Progress::Waiting | Progress::Running => Err(CallError::Lost),
        }
    }
}

impl<R> Drop for Caller<'_, R> {
    fn drop(&mut self) {
        let entry = lock(&self.calls.waiting).try_remove(self.index);
        drop(entry);
    }
}

/// The loop's end of a call. If it is dropped without an answer, it answers with an error.
pub(super) struct Responder<R> {
    call: Arc<Call<R>>,
}

impl<R> Responder<R> {
    /// Begins the closure. Returns `true` if the closure is to run: the caller still waits.
    pub(super) fn begin(&self) -> bool {
        let mut progress = lock(&self.call.progress);
        let waits = matches!(*progress, Progress::Waiting);
        if waits {
            *progress = Progress::Running;
        }
        waits
    }

    pub(super) fn answer(self, result: R) {
        self.call.end(|_| Some(Ok(result)));
    }
}

impl<R> Drop for Responder<R> {
    fn drop(&mut self) {
        self.call.end(|progress| match progress {
            Progress::Waiting => Some(Err(CallError::Lost)),
            Progress::Running => Some(Err(CallError::Panicked)),
            Progress::Over(_) => None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost(caller: &Caller<'_, u32>) -> bool {
        matches!(
            *lock(&caller.call.progress),
            Progress::Over(Err(CallError::Lost))
        )
    }

    #[test]
    fn each_caller_removes_its_own_call_and_no_other() {
        let calls = Calls::default();
        let (first, _first) = calls.begin();
        let (second, _second) = calls.begin();
        calls.cancel_all();
        assert!(is_lost(&first) && is_lost(&second));
        let (third, _third) = calls.begin();
        drop(first);
        let (fourth, _fourth) = calls.begin();
        drop(second);
        calls.cancel_all();
        assert!(is_lost(&third) && is_lost(&fourth));
        drop((third, fourth));
        assert!(lock(&calls.waiting).is_empty());
    }
}
