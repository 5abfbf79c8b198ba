//! W8, tasks: the executor and the timers of calloop. Also echo, with a task for each connection.

use std::cell::Cell;
use std::future::Future;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Instant;

use calloop::futures::{Scheduler, executor};
use calloop::timer::TimeoutFuture;
use calloop::{EventLoop, LoopHandle};
use workloads::Result;
use workloads::echo::listen;
use workloads::tasks::{self, Form, Options};

use super::told;
use crate::smol::by_small_buffer;

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

fn with_executor() -> Result<(EventLoop<'static, ()>, Scheduler<()>)> {
    let event_loop = EventLoop::try_new()?;
    let (source, scheduler) = executor()?;
    event_loop
        .handle()
        .insert_source(source, |(), _, (): &mut ()| ())
        .map_err(told)?;
    Ok((event_loop, scheduler))
}

pub(super) fn run(options: &Options) -> Result {
    if options.form != Form::Usual {
        return Err("calloop has only the form usual".into());
    }
    let (event_loop, scheduler) = with_executor()?;
    let handle = event_loop.handle();
    let tasks = Executor {
        scheduler: scheduler.clone(),
        handle,
    };
    run_until_done(event_loop, &scheduler, tasks::run(options.clone(), tasks))
}

/// Runs the loop until a future of its executor is done.
fn run_until_done(
    mut event_loop: EventLoop<'static, ()>,
    scheduler: &Scheduler<()>,
    future: impl Future<Output = Result> + 'static,
) -> Result {
    let result = Rc::new(Cell::new(None));
    let done = Rc::clone(&result);
    scheduler
        .schedule(async move { done.set(Some(future.await)) })
        .map_err(told)?;
    loop {
        event_loop.dispatch(None, &mut ())?;
        if let Some(result) = result.take() {
            return result;
        }
    }
}

pub(super) fn echo() -> Result {
    let (event_loop, scheduler) = with_executor()?;
    let (handle, spawner) = (event_loop.handle(), scheduler.clone());
    let accept = async move {
        let mut listener = handle.adapt_io(listen()?)?;
        loop {
            let (stream, _peer) = match listener.get_mut().accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.readable().await;
                    continue;
                }
                accepted => accepted?,
            };
            stream.set_nodelay(true)?;
            let stream = handle.adapt_io(stream)?;
            spawner.schedule(by_small_buffer(stream)).map_err(told)?;
        }
    };
    run_until_done(event_loop, &scheduler, accept)
}
