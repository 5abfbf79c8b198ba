//! Calls: callers that wait for a closure on the loop, each of which is answered, whatever becomes of loop and closure.
//!
//! Ground rule: a loop that ends answers all that wait before it drops anything of the user's. A destructor may join the
//! thread of a caller, and the closure of that call may lie behind the very value that is being dropped.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::remote::CallError;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of the user's runs while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls of a loop that have no answer yet.
#[derive(Default)]
pub(crate) struct Calls {
    waiting: Mutex<Vec<Arc<dyn Lose>>>,
}

trait Lose: Send + Sync {
    /// Answers that the closure will not run, unless it is running or has run.
    fn lose(&self);
}

impl Calls {
    /// A new call: the caller's end, and the one that goes to the loop.
    pub(super) fn begin<R: Send + 'static>(&self) -> (Asked<'_, R>, Answering<R>) {
        let call = Arc::new(Call { progress: Mutex::new(Progress::Waiting), over: Condvar::new() });
        lock(&self.waiting).push(Arc::clone(&call) as Arc<dyn Lose>);
        (Asked { calls: self, call: Arc::clone(&call) }, Answering { call })
    }

    /// Answers all that wait for a closure that has not begun: it does not run any more.
    pub(crate) fn lose(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.iter().for_each(|call| call.lose());
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
    /// Ends the call, if `ends` says how from what it is now.
    fn end(&self, ends: impl FnOnce(&Progress<R>) -> Option<Result<R, CallError>>) {
        let mut progress = lock(&self.progress);
        if let Some(result) = ends(&progress) {
            *progress = Progress::Over(result);
            self.over.notify_one();
        }
    }
}

impl<R: Send> Lose for Call<R> {
    fn lose(&self) {
        self.end(|progress| matches!(progress, Progress::Waiting).then_some(Err(CallError::Lost)));
    }
}

/// The caller's end.
pub(super) struct Asked<'a, R> {
    calls: &'a Calls,
    call: Arc<Call<R>>,
}

impl<R> Asked<'_, R> {
    /// Waits for the answer.
    pub(super) fn wait(self) -> Result<R, CallError> {
        let is_pending = |progress: &mut Progress<R>| !matches!(progress, Progress::Over(_));
        let progress = lock(&self.call.progress);
        let mut progress = self.call.over.wait_while(progress, is_pending).unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *progress, Progress::Over(Err(CallError::Lost))) {
            Progress::Over(result) => result,
            Progress::Waiting | Progress::Running => Err(CallError::Lost),
        }
    }
}

impl<R> Drop for Asked<'_, R> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.calls.waiting);
        let own = Arc::as_ptr(&self.call).addr();
        if let Some(place) = waiting.iter().position(|call| Arc::as_ptr(call).addr() == own) {
            waiting.swap_remove(place);
        }
    }
}

/// The loop's end: answers when it is dropped, if nothing else has.
pub(super) struct Answering<R> {
    call: Arc<Call<R>>,
}

impl<R> Answering<R> {
    /// Whether the closure is to run: whoever asked still waits.
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

impl<R> Drop for Answering<R> {
    fn drop(&mut self) {
        self.call.end(|progress| match progress {
            Progress::Waiting => Some(Err(CallError::Lost)),
            Progress::Running => Some(Err(CallError::Panicked)),
            Progress::Over(_) => None,
        });
    }
}
