//! The woken tasks of a loop, in the order of their wakes. Pure data.

use std::collections::VecDeque;

use super::tasks::TaskKey;

/// A queue of tasks, each of them at most once.
#[derive(Debug, Default)]
pub(super) struct Woken {
    queue: VecDeque<TaskKey>,
    /// For each place of the table: the generation of its task, and whether the task is woken.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    generation: u32,
    is_woken: bool,
}

impl Woken {
    /// Adds a new task, which is woken.
    pub(super) fn add(&mut self, key: TaskKey) {
        let place = key.place as usize;
        let mark = Mark {
            generation: key.generation,
            is_woken: true,
        };
        match self.marks.get_mut(place) {
            Some(old) => *old = mark,
            // A new place follows the last one.
            None => self.marks.push(mark),
        }
        self.queue.push_back(key);
    }

    /// Wakes a task, unless it is woken already or was replaced. Returns `true` if it was added.
    pub(super) fn wake(&mut self, key: TaskKey) -> bool {
        match self.marks.get_mut(key.place as usize) {
            Some(mark) if mark.generation == key.generation && !mark.is_woken => {
                mark.is_woken = true;
                self.queue.push_back(key);
                true
            }
            _ => false,
        }
    }

    /// Ends a task: from now on its wakers have no effect.
    pub(super) fn end(&mut self, key: TaskKey) {
        if let Some(mark) = self.marks.get_mut(key.place as usize)
            && mark.generation == key.generation
        {
            mark.generation = TaskKey::NONE.generation;
        }
    }

    /// Takes the task that was woken first. From now on it may be woken again.
    pub(super) fn next(&mut self) -> Option<TaskKey> {
        let key = self.queue.pop_front()?;
        if let Some(mark) = self.marks.get_mut(key.place as usize)
            && mark.generation == key.generation
        {
            mark.is_woken = false;
        }
        Some(key)
    }

    pub(super) fn is_woken(&self, key: TaskKey) -> bool {
        self.marks
            .get(key.place as usize)
            .is_some_and(|mark| mark.generation == key.generation && mark.is_woken)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
