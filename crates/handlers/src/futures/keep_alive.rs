//! The tasks that keep `run` alive, and the line that the list of reasons shows for them.

use std::cell::Cell;
use std::panic::Location;

use reactor::Registry;

use super::executor::Executor;
use super::tasks::TaskKey;

/// The number of tasks that are looked at to find one in the foreground, whose line is shown.
const LOOKED_AT_FOR_A_NAME: usize = 64;

/// The tasks that keep `run` alive.
#[derive(Default)]
pub(super) struct Foreground {
    tasks: Cell<usize>,
    /// `true` if the queue is in the foreground.
    keeps_alive: Cell<bool>,
    /// The task whose line is that of the queue. It is alive, and in the foreground.
    named: Cell<Option<TaskKey>>,
}

impl Foreground {
    pub(super) fn add(&self, tasks: usize) {
        self.tasks.set(self.tasks.get() + tasks);
    }

    /// Forgets a task that ends, or that goes into the background.
    #[inline]
    pub(super) fn forget(&self, key: TaskKey, is_background: bool) {
        self.tasks
            .set(self.tasks.get() - usize::from(!is_background));
        if self.named.get() == Some(key) {
            self.named.set(None);
        }
    }
}

impl<S: 'static> Executor<S> {
    /// Moves a task into the background or the foreground. Returns `false` if the key is stale. The
    /// caller calls [`keep_alive_if_needed`](Self::keep_alive_if_needed), or a pass does.
    pub(super) fn set_background(&self, key: TaskKey, is_background: bool) -> bool {
        let before = match self.tasks.get(key) {
            Some(slot) => slot.is_background.replace(is_background),
            None => return false,
        };
        match (before, is_background) {
            (true, false) => self.foreground.add(1),
            (false, true) => self.foreground.forget(key, false),
            _ => (),
        }
        true
    }

    /// Keeps `run` alive while a task is in the foreground. The list of reasons shows the line of
    /// such a task. `new` is one that was just spawned.
    #[inline]
    pub(super) fn keep_alive_if_needed(
        &self,
        registry: &mut Registry<S>,
        new: Option<(TaskKey, &'static Location<'static>)>,
    ) {
        let is_needed = self.foreground.tasks.get() > 0;
        let is_named = self.foreground.named.get().is_some();
        if is_needed != self.foreground.keeps_alive.get() || is_needed != is_named {
            self.keep_alive(is_needed, registry, new);
        }
    }

    #[inline(never)]
    fn keep_alive(
        &self,
        is_needed: bool,
        registry: &mut Registry<S>,
        new: Option<(TaskKey, &'static Location<'static>)>,
    ) {
        // Each call fails only if the user has removed the queue.
        if is_needed != self.foreground.keeps_alive.replace(is_needed) {
            let _ = match is_needed {
                true => registry.set_foreground(self.queue),
                false => registry.set_background(self.queue),
            };
        }
        if is_needed {
            let named = new.or_else(|| self.find_a_name());
            self.foreground.named.set(named.map(|(key, _)| key));
            if let Some((_, origin)) = named {
                let _ = registry.set_origin(self.queue, origin);
            }
        }
    }

    fn find_a_name(&self) -> Option<(TaskKey, &'static Location<'static>)> {
        let mut looked_at = self.tasks.iter_places(LOOKED_AT_FOR_A_NAME);
        let first = looked_at.find(|(_, task)| !task.is_background.get());
        first.map(|(key, task)| (key, task.origin.get()))
    }
}
