//! W8, tasks: the executor and the timers of calloop.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Instant;

use calloop::futures::{Scheduler, executor};
use calloop::timer::TimeoutFuture;
use calloop::{EventLoop, LoopHandle};
use workloads::Result;
use workloads::tasks::{self, Form, Options};

use super::told;

struct Executor {
    scheduler: Scheduler<()>,
    handle: LoopHandle<'static, ()>,
}

impl tasks::Executor for Executor {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.scheduler
            .schedule(future)
            .expect("the executor exists while its tasks are polled");
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + 'static {
        TimeoutFuture::from_deadline(&self.handle, deadline)
    }
}

pub(super) fn run(options: &Options) -> Result {
    if options.form != Form::Usual {
        return Err("calloop has only the form usual".into());
    }
    let mut event_loop = EventLoop::<'static, ()>::try_new()?;
    let (source, scheduler) = executor()?;
    let handle = event_loop.handle();
    handle
        .insert_source(source, |(), _, (): &mut ()| ())
        .map_err(told)?;
    let result = Rc::new(Cell::new(None));
    let first = tasks::run(
        options.clone(),
        Executor {
            scheduler: scheduler.clone(),
            handle,
        },
    );
    let done = Rc::clone(&result);
    scheduler
        .schedule(async move { done.set(Some(first.await)) })
        .map_err(told)?;
    loop {
        event_loop.dispatch(None, &mut ())?;
        if let Some(result) = result.take() {
            return result;
        }
    }
}
