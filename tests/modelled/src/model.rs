//! One model: its threads, run by loom in every order.

use std::rc::Rc;
use std::sync::Arc;

use loom::thread::{Builder, JoinHandle};

use crate::kernel::Kernel;
use crate::simulation::install;

/// The stack of a thread, in words: 1 MiB, since a turn in a debug build takes more than what loom
/// provides. The kernel provides only the part that is used.
const STACK_WORDS: usize = (1 << 20) / size_of::<usize>();

/// Runs `scenario`, on a thread that may have a loop, in every order in which no thread is
/// interrupted more than `preemptions` times. Two find nearly all errors. A wait is no
/// interruption.
///
/// # Panics
/// If an order of the threads fails: by a panic, a deadlock, or a thread that never ends.
pub fn model(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    let scenario = Arc::new(scenario);
    model.check(move || {
        let _installed = install(Rc::new(Kernel::new()));
        let scenario = Arc::clone(&scenario);
        join(spawn_loop(move || scenario()));
    });
}

/// Starts a thread of a model that may have a loop.
pub fn spawn_loop<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let spawned = Builder::new().stack_size(STACK_WORDS).spawn(body);
    #[expect(
        clippy::expect_used,
        reason = "a model without its thread has no meaning"
    )]
    spawned.expect("loom starts each thread")
}

/// Waits for the end of a thread. A panic of it has ended the model before.
pub fn join<R>(thread: JoinHandle<R>) -> R {
    #[expect(
        clippy::expect_used,
        reason = "loom ends the model with the first panic"
    )]
    thread.join().expect("the thread has not panicked")
}
