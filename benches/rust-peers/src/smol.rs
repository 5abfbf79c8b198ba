//! smol: a `LocalExecutor` on one thread, with a task for each activity.

use std::future::Future;
use std::rc::Rc;
use std::time::Instant;

use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::{Async, LocalExecutor, Timer};
use workloads::echo::{self, TASK_READ_MAX, listen};
use workloads::tasks::{self, Form};
use workloads::{Result, Workload};

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Echo(options) => echo(options),
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

fn tasks(options: &tasks::Options) -> Result {
    if options.form != Form::Usual {
        return Err("smol has only the form usual".into());
    }
    let executor = Rc::new(LocalExecutor::new());
    let first = tasks::run(options.clone(), Executor(executor.clone()));
    smol::block_on(executor.run(first))
}

fn echo(options: &echo::Options) -> Result {
    if options.form != echo::Form::Task {
        return Err("smol has only the form task".into());
    }
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener = Async::new(listen()?)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            stream.get_ref().set_nodelay(true)?;
            executor.spawn(by_small_buffer(stream)).detach();
        }
    }))
}

/// Serves a connection, also of other peers that have these traits.
pub(crate) async fn by_small_buffer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; TASK_READ_MAX];
    // A connection that fails just ends.
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
