//! The key of a task: cancelling, the background. The list of tasks.

use std::fmt;
use std::io;
use std::panic::{Location, resume_unwind};

use reactor::Registry;

use super::executor;
use super::tasks::TaskKey;

/// The task that a key names has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleTask(
    /// The key.
    pub TaskKey,
);

impl fmt::Display for StaleTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} has ended", self.0)
    }
}

impl std::error::Error for StaleTask {}

/// Becomes an error of the kind [`io::ErrorKind::NotFound`], which contains the [`StaleTask`].
impl From<StaleTask> for io::Error {
    fn from(stale: StaleTask) -> Self {
        Self::new(io::ErrorKind::NotFound, stale)
    }
}

impl TaskKey {
    /// Cancels the task: its future is dropped before this call returns, and its callback is not
    /// called.
    ///
    /// If a destructor of the future panics, the panic policy of the loop applies.
    ///
    /// # Errors
    /// [`StaleTask`] if the task has ended. A task has ended when its callback is called.
    ///
    /// # Panics
    /// If a destructor of the future panics under
    /// [`PanicPolicy::Propagate`](reactor::PanicPolicy::Propagate).
    #[doc(alias("abort"))]
    pub fn cancel<S: 'static>(self, registry: &mut Registry<S>) -> Result<(), StaleTask> {
        let executor = executor::find(registry).ok_or(StaleTask(self))?;
        let cancelled = executor.cancel(self, registry).ok_or(StaleTask(self))?;
        executor.keep_alive_if_needed(registry, None);
        if let Err(panic) = cancelled {
            resume_unwind(panic);
        }
        Ok(())
    }

    /// Puts the task into the background, or back into the foreground. Only tasks in the foreground
    /// keep [`Reactor::run`](reactor::Reactor::run) alive. A task in the background that is woken
    /// is polled before `run` returns. So one that always wakes itself keeps `run` from returning.
    /// Default: foreground.
    ///
    /// # Errors
    /// [`StaleTask`] if the task has ended.
    #[doc(alias("unref"))]
    pub fn set_background<S: 'static>(
        self,
        registry: &mut Registry<S>,
        is_background: bool,
    ) -> Result<(), StaleTask> {
        executor::find(registry)
            .filter(|executor| executor.set_background(self, is_background))
            .map(|executor| executor.keep_alive_if_needed(registry, None))
            .ok_or(StaleTask(self))
    }

    /// Returns `true` if the task has not ended.
    pub fn is_alive<S: 'static>(self, registry: &mut Registry<S>) -> bool {
        executor::find(registry).is_some_and(|executor| executor.tasks.get(self).is_some())
    }
}

/// An entry of the list of tasks: see [`tasks`].
///
/// Displays as `3v1 my::connection::{{closure}} src/my.rs:31:18, 12 polls, woken`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The key of the task.
    pub key: TaskKey,
    /// The type of the future. For an `async` block it names the function that contains it.
    pub name: &'static str,
    /// The line that spawned the task.
    pub origin: &'static Location<'static>,
    /// The number of polls of the future.
    pub polls: u64,
    /// `true` if the task was woken and waits for its poll.
    pub is_woken: bool,
    /// `true` if the task keeps [`Reactor::run`](reactor::Reactor::run) alive.
    pub keeps_alive: bool,
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            name,
            origin,
            polls,
            ..
        } = self;
        write!(f, "{key} {name} {origin}, {polls} polls")?;
        if self.is_woken {
            f.write_str(", woken")?;
        }
        if !self.keeps_alive {
            f.write_str(", background")?;
        }
        Ok(())
    }
}

/// Returns all tasks of a loop, ordered by the first number of their keys.
///
/// ```
/// use handlers::futures;
/// use reactor::Reactor;
///
/// # fn main() -> Result<(), reactor::Error> {
/// let mut reactor = Reactor::<()>::new()?;
/// let key = futures::spawn(&mut reactor, std::future::pending(), |(), _cx| ())?;
/// for task in futures::tasks(&mut reactor) {
///     // 0v0 core::future::pending::Pending<()> src/main.rs:6:11, 0 polls, woken
///     println!("{task}");
///     assert_eq!((task.key, task.polls), (key, 0));
/// }
/// # Ok(())
/// # }
/// ```
pub fn tasks<S: 'static>(registry: &mut Registry<S>) -> Vec<TaskInfo> {
    let Some(executor) = executor::find(registry) else {
        return Vec::new();
    };
    let listed = executor
        .tasks
        .iter_places(usize::MAX)
        .map(|(key, task)| TaskInfo {
            key,
            name: task.type_name(),
            origin: task.origin.get(),
            polls: task.polls.get(),
            is_woken: executor.local.with_woken(|woken| woken.is_woken(key)),
            keeps_alive: !task.is_background.get(),
        });
    listed.collect()
}
