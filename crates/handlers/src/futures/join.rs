//! Awaiting a task: the handle, and the end of the task that it reports.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::local::Local;
use super::requests::Request;
use super::task::Pollable;
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
    key: TaskKey,
    local: Rc<Local>,
    result: PhantomData<fn() -> T>,
}

impl<T> JoinHandle<T> {
    pub(super) const fn new(key: TaskKey, local: Rc<Local>) -> Self {
        Self {
            key,
            local,
            result: PhantomData,
        }
    }

    /// Returns the key of the task.
    pub const fn key(&self) -> TaskKey {
        self.key
    }

    /// Returns `true` if the task has ended.
    pub fn is_finished(&self) -> bool {
        !self.local.is_alive(self.key)
    }

    /// Puts the task into the background, or back into the foreground, as
    /// [`TaskKey::set_background`] does, but without the registry. So it can be called within a
    /// future. Without effect if the task has ended.
    pub fn set_background(&self, is_background: bool) {
        self.local.set_background(self.key, is_background);
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

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        self.local.detach(self.key);
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

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// Polled again after it has returned `Ready`, it returns [`JoinError::Cancelled`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut result: Option<Self::Output> = None;
        self.local
            .poll_result(self.key, cx.waker(), &mut result)
            .map(|()| result.unwrap_or(Err(JoinError::Cancelled)))
    }
}

/// A task with a handle. It holds its result until the handle takes it.
pub(super) trait Joined: Pollable {
    /// Drops the future, and makes `error` the result.
    fn fail(self: Pin<&mut Self>, error: JoinError);

    /// Moves the result into `result`, an `Option<Result<T, JoinError>>` of the type of its handle.
    fn take_result(self: Pin<&mut Self>, result: &mut dyn Any);
}
