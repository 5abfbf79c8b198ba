//! W8, tasks: those of a `LocalSet`, or of a `LocalRuntime`.

use std::future::Future;
use std::time::Instant;

use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep_until;
use workloads::Result;
use workloads::tasks::{self, Form, Options};

use super::{local_runtime, runtime};

struct Executor;

impl tasks::Executor for Executor {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        spawn_local(future);
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + 'static {
        sleep_until(deadline.into())
    }
}

pub(crate) fn run(options: &Options) -> Result {
    let first = tasks::run(options.clone(), Executor);
    match options.form {
        Form::Usual => LocalSet::new().block_on(&runtime()?, first),
        Form::Lean => local_runtime()?.block_on(first),
        Form::Callbacks => Err("tokio has only the forms usual and lean".into()),
    }
}
