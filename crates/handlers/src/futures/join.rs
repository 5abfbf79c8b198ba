//! Awaiting a task: the handle, and the end of the task that it reports.

use std::any::type_name;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::local::Local;
use super::requests::Request;
use super::tasks::TaskKey;

/// Why a task has ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The task was cancelled, or its loop has ended.
    Cancelled,
    /// The task has panicked, with this message.
    Panicked(String),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Panicked(message) => write!(f, "the task has panicked: {message}"),
        }
    }
}

impl std::error::Error for JoinError {}

/// Becomes an error of the kind [`io::ErrorKind::Other`], which contains the [`JoinError`].
impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}

/// A future of the result of a task, made by [`spawn_local`](super::spawn_local) and
/// [`spawn_joinable`](super::spawn_joinable).
///
/// Dropping the handle detaches the task: the task runs on, and its result is dropped.
///
/// A handle may be awaited on any loop of its thread. It is not `Send`, as the result is not.
#[must_use = "dropping the handle detaches the task"]
pub struct JoinHandle<T> {
    outcome: Rc<RefCell<Outcome<T>>>,
    key: TaskKey,
    local: Rc<Local>,
}

impl<T> JoinHandle<T> {
    /// Returns the key of the task.
    pub const fn key(&self) -> TaskKey {
        self.key
    }

    /// Returns `true` if the task has ended.
    pub fn is_finished(&self) -> bool {
        !matches!(*self.outcome.borrow(), Outcome::Awaited(_))
    }

    /// Cancels the task, unless it has ended. Within a task, the task is cancelled right after the
    /// current poll; outside of tasks, later this turn or in the next turn.
    ///
    /// To cancel a task at once, use [`TaskKey::cancel`], which needs the registry.
    pub fn abort(&self) {
        if !self.is_finished() {
            self.local.request(Request::Abort(self.key));
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("key", &self.key)
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// Polled again after it has returned `Ready`, it returns [`JoinError::Cancelled`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = cx.waker();
        let mut outcome = self.outcome.borrow_mut();
        match &mut *outcome {
            Outcome::Awaited(Some(known)) if known.will_wake(waker) => Poll::Pending,
            Outcome::Awaited(known) => {
                let old = known.replace(waker.clone());
                drop(outcome); // the destructor of a waker is the code of a user
                drop(old);
                Poll::Pending
            }
            Outcome::Ended(result) => {
                Poll::Ready(result.take().unwrap_or(Err(JoinError::Cancelled)))
            }
        }
    }
}

/// The end of a task, as its handle sees it.
enum Outcome<T> {
    /// The task has not ended. The waker is that of the task which awaits it.
    Awaited(Option<Waker>),
    Ended(Option<Result<T, JoinError>>),
}

/// The task's end of the handle. Dropped without a result, it reports that the task was cancelled.
struct Promise<T>(Rc<RefCell<Outcome<T>>>);

impl<T> Promise<T> {
    /// Reports the end of the task, once.
    fn fulfil(&self, result: Result<T, JoinError>) {
        if let Outcome::Ended(_) = *self.0.borrow() {
            return;
        }
        // A result that nobody can ask for is dropped here, like a waker outside of the borrow.
        let result = (Rc::strong_count(&self.0) > 1).then_some(result);
        let before = self.0.replace(Outcome::Ended(result));
        if let Outcome::Awaited(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.fulfil(Err(JoinError::Cancelled));
    }
}

/// A task whose type is erased, and which needs no state.
pub(super) trait LocalTask {
    /// Polls the future. Returns `Ready` once, when the future has ended and was dropped.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// Returns the type name of the future.
    fn type_name(&self) -> &'static str;

    /// Reports that the task has panicked. It is dropped right after.
    fn set_panicked(self: Pin<&mut Self>, message: &str);
}

pin_project! {
    /// A task with a handle.
    pub(super) struct Joinable<F: Future> {
        // The future is dropped before the promise reports its end.
        #[pin]
        future: Option<F>,
        promise: Promise<F::Output>,
    }
}

impl<F: Future> Joinable<F> {
    /// Returns the task, and the maker of its handle.
    pub(super) fn new(
        future: F,
    ) -> (
        Self,
        impl FnOnce(TaskKey, Rc<Local>) -> JoinHandle<F::Output>,
    ) {
        let outcome = Rc::new(RefCell::new(Outcome::Awaited(None)));
        let promise = Promise(Rc::clone(&outcome));
        let future = Some(future);
        (Self { future, promise }, |key, local| JoinHandle {
            outcome,
            key,
            local,
        })
    }
}

impl<F: Future> LocalTask for Joinable<F> {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        let Poll::Ready(output) = future.poll(cx) else {
            return Poll::Pending;
        };
        this.future.set(None);
        this.promise.fulfil(Ok(output));
        Poll::Ready(())
    }

    fn type_name(&self) -> &'static str {
        type_name::<F>()
    }

    fn set_panicked(self: Pin<&mut Self>, message: &str) {
        let panicked = JoinError::Panicked(message.to_owned());
        self.project().promise.fulfil(Err(panicked));
    }
}
