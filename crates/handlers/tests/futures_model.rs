//! The wake of a task by other threads, run by loom through every order of the threads.
//!
//! The file of the flag is compiled again here, with the atomics of loom. The queue of the loop is
//! a list under a lock: the models of `reactor` show that the queue itself loses nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Mutex};
use loom::thread;

use primitives::Ordering;

#[path = "../src/futures/sent.rs"]
mod sent;

mod primitives {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
}

/// A task with a value for each thread that wakes it.
#[derive(Default)]
struct Task {
    sent: sent::Sent,
    queue: Mutex<usize>,
    values: [AtomicUsize; 2],
}

impl Task {
    /// Writes a value, and wakes the task.
    fn wake(&self, thread: usize, value: usize) {
        self.values[thread].store(value, Ordering::Relaxed);
        if self.sent.mark() {
            *self.queue.lock().unwrap() += 1;
        }
    }

    /// Polls the task if its key lies in the queue. Returns the values that the poll has seen.
    fn poll(&self) -> Option<[usize; 2]> {
        let mut keys = self.queue.lock().unwrap();
        if *keys == 0 {
            return None;
        }
        assert_eq!(*keys, 1, "the key was sent twice");
        *keys = 0;
        drop(keys);
        self.sent.clear();
        Some([0, 1].map(|thread| self.values[thread].load(Ordering::Relaxed)))
    }
}

#[test]
fn each_wake_is_followed_by_a_poll_that_sees_what_was_written_before() {
    let mut orders = loom::model::Builder::new();
    orders.preemption_bound = Some(2); // without a bound it takes minutes
    orders.check(|| {
        let task = Arc::new(Task::default());
        task.sent.reset(); // as for a task that gets the waker of another one
        let threads = [0, 1].map(|thread| {
            let task = Arc::clone(&task);
            thread::spawn(move || {
                task.wake(thread, 1);
                if thread == 0 {
                    task.wake(thread, 2);
                }
            })
        });
        let mut seen = [0, 0];
        seen = task.poll().unwrap_or(seen);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        // Nothing is written any more. A key that is left brings a poll that sees all; if none is
        // left, the last poll has seen all.
        seen = task.poll().unwrap_or(seen);
        assert_eq!(seen, [2, 1]);
    });
}
