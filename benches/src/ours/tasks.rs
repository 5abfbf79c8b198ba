//! W8, tasks: spawned by a task or by callbacks.

use std::future::Future;
use std::time::Instant;

use handlers::futures::{block_on, sleep_until, spawn, spawn_local};
use reactor::{Context, Reactor};
use workloads::Result;
use workloads::tasks::{self, BATCH, Form, Op, Options, report_since, wake_oneself};

struct Executor;

impl tasks::Executor for Executor {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        drop(spawn_local(future));
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + 'static {
        sleep_until(deadline)
    }
}

pub(crate) fn run(options: &Options) -> Result {
    match (options.form, options.op) {
        (Form::Usual, _) => {
            let first = tasks::run(options.clone(), Executor);
            block_on(&mut Reactor::<()>::new()?, &mut (), first)?
        }
        (Form::Callbacks, Op::Spawn | Op::Twice) => by_callbacks(options),
        _ => Err("handlers has only the form usual, and callbacks to spawn tasks".into()),
    }
}

/// The tasks that have not ended, and the batches that have.
struct State {
    left: usize,
    batches: usize,
    goal: usize,
    is_woken: bool,
    began: Instant,
}

fn by_callbacks(options: &Options) -> Result {
    let mut state = State {
        left: 0,
        batches: 0,
        goal: options.batches(),
        is_woken: options.op == Op::Twice,
        began: Instant::now(),
    };
    let mut reactor = Reactor::<State>::new()?;
    reactor.defer(spawn_batch);
    reactor.run(&mut state)?;
    if state.batches <= state.goal {
        return Err("a task could not be spawned".into());
    }
    report_since(state.began, state.goal * BATCH);
    Ok(())
}

fn spawn_batch(cx: &mut Context<'_, State>) {
    if cx.state.batches == 1 {
        cx.state.began = Instant::now(); // the first batch is the warm-up
    }
    cx.state.left = BATCH;
    let is_woken = cx.state.is_woken;
    for _ in 0..BATCH {
        let task = async move {
            if is_woken {
                wake_oneself().await;
            }
        };
        let spawned = spawn(cx.registry, task, |(), cx: &mut Context<'_, State>| {
            ended(cx)
        });
        if spawned.is_err() {
            return; // the loop ends, and too few batches are reported
        }
    }
}

fn ended(cx: &mut Context<'_, State>) {
    cx.state.left -= 1;
    if cx.state.left == 0 {
        cx.state.batches += 1;
        if cx.state.batches <= cx.state.goal {
            spawn_batch(cx);
        }
    }
}
