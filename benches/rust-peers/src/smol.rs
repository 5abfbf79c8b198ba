//! smol: a `LocalExecutor` on one thread, with a task for each activity.

use std::future::Future;
use std::rc::Rc;
use std::time::Instant;

use smol::{LocalExecutor, Timer};
use workloads::tasks::{self, Form, Options};
use workloads::{Result, Workload};

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Tasks(options) => tasks(options),
        _ => crate::absent(),
    }
}

struct Executor(Rc<LocalExecutor<'static>>);

impl tasks::Executor for Executor {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.spawn(future).detach();
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + 'static {
        let timer = Timer::at(deadline);
        async move {
            timer.await;
        }
    }
}

fn tasks(options: &Options) -> Result {
    if options.form != Form::Usual {
        return Err("smol has only the form usual".into());
    }
    let executor = Rc::new(LocalExecutor::new());
    let first = tasks::run(options.clone(), Executor(executor.clone()));
    smol::block_on(executor.run(first))
}
