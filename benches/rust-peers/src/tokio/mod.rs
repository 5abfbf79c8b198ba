//! tokio on one thread, with a task for each activity.
//!
//! Spawned tasks must be `Send`, though they never leave this thread. So they share their state in
//! thread-local variables.

mod chain;
mod echo;
mod tasks;
mod threads;
mod timers;
mod web;

use std::cell::Cell;
use std::future::Future;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime, Runtime};
use tokio::task::yield_now;
use workloads::deferred::{self, CALLBACKS_A_TURN, Op};
use workloads::registration;
use workloads::spike::{Form, Job};
use workloads::{Result, Workload};

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Chain(options) => chain::run(options),
        Workload::Registration(options) => registration(options),
        Workload::Spike(options) if options.form == Form::Value => threads::spike::<u64>(options),
        Workload::Spike(options) => threads::spike::<Job>(options),
        Workload::Pingpong(options) => threads::pingpong(options),
        Workload::Timers(options) => timers::run(options),
        Workload::Echo(options) => echo::run(options),
        Workload::Deferred(options) => deferred(options),
        Workload::Tasks(options) => tasks::run(options),
        Workload::Web(options) => web::run(options),
        _ => crate::absent(),
    }
}

pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Returns a runtime whose tasks need not be `Send`.
fn local_runtime() -> std::io::Result<LocalRuntime> {
    let options = LocalOptions::default();
    Builder::new_current_thread()
        .enable_all()
        .build_local(options)
}

/// Yields to the other tasks until `holds` returns `true`.
async fn others_until(holds: impl Fn() -> bool) {
    while !holds() {
        yield_now().await;
    }
}

#[expect(
    deprecated,
    reason = "sound for a source that owns its fd, and the function that replaces it is unsafe"
)]
fn registration(options: &registration::Options) -> Result {
    thread_local!(static POLLED: Cell<usize> = const { Cell::new(0) });
    thread_local!(static SUM: Cell<u64> = const { Cell::new(0) });
    let runtime = runtime()?;
    registration::measure(options, |sources| {
        runtime.block_on(async {
            let count = sources.len();
            for source in sources {
                let source = AsyncFd::with_interest(source, Interest::READABLE)?;
                tokio::spawn(async move {
                    POLLED.set(POLLED.get() + 1);
                    while source.readable().await.is_ok() {
                        SUM.set(SUM.get() + 1);
                    }
                });
            }
            // A task waits for its source only after its first poll.
            others_until(|| POLLED.get() == count).await;
            Result::Ok(())
        })?;
        Ok(runtime)
    })
}

fn deferred(options: &deferred::Options) -> Result {
    let goal = options.operations();
    let runtime = runtime()?;
    match options.op {
        // A task captures its state in both forms.
        Op::Deferred | Op::Captured => {
            deferred::measure(|| Ok(runtime.block_on(tasks_that_yield(goal))))
        }
        // The only task yields: the runtime polls its driver, and finds nothing.
        Op::Empty => deferred::measure(|| {
            runtime.block_on(async {
                for _ in 0..goal {
                    yield_now().await;
                }
            });
            Ok(goal)
        }),
    }
}

/// Runs tasks that yield in turn, `goal` times in total. Returns the number of yields.
fn tasks_that_yield(goal: u64) -> impl Future<Output = u64> {
    thread_local!(static RAN: Cell<u64> = const { Cell::new(0) });
    async move {
        let tasks: Vec<_> = (0..CALLBACKS_A_TURN)
            .map(|_| {
                tokio::spawn(async move {
                    while RAN.get() < goal {
                        RAN.set(RAN.get() + 1);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("the task does not panic");
        }
        RAN.get()
    }
}
