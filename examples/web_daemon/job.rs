//! A job of the worker pool within a future.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use handlers::PoolHandle;

/// A future of the result of a job. A panic of the job, and a full queue, are errors.
pub(crate) struct Running<R>(Arc<Mutex<Shared<R>>>);

struct Shared<R> {
    result: Option<io::Result<R>>,
    waker: Option<Waker>,
}

/// Runs `job` on a worker.
pub(crate) fn run<S: 'static, R: Send + 'static>(
    pool: &PoolHandle<S>,
    job: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> Running<R> {
    let shared = Arc::new(Mutex::new(Shared {
        result: None,
        waker: None,
    }));
    let running = Running(Arc::clone(&shared));
    let end = move |result: io::Result<R>| {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.result = Some(result);
        shared.waker.take()
    };
    let refused = pool.submit(job, {
        let end = end.clone();
        move |result, _cx| {
            let result = result.map_err(io::Error::other).and_then(|result| result);
            end(result).into_iter().for_each(Waker::wake);
        }
    });
    if let Err(refused) = refused {
        end(Err(io::Error::other(refused.reason.to_string())));
    }
    running
}

impl<R> Future for Running<R> {
    type Output = io::Result<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                shared.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
