//! A future in its task: it runs, and then its result lies in the same memory.

use std::any::{Any, type_name};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::join::{JoinError, Joined};
use super::task::Pollable;

pin_project! {
    /// A future, or its result. It is the whole task if a handle may ask for the result.
    #[project = StageProjected]
    #[project_replace = StageReplaced]
    pub(super) enum Stage<F: Future> {
        Running { #[pin] future: F },
        Ended { result: Result<F::Output, JoinError> },
        Taken,
    }
}

impl<F: Future> Stage<F> {
    pub(super) const fn new(future: F) -> Self {
        Self::Running { future }
    }

    /// Takes the result of a future that has ended.
    pub(super) fn take(self: Pin<&mut Self>) -> Option<Result<F::Output, JoinError>> {
        match self.project_replace(Self::Taken) {
            StageReplaced::Ended { result } => Some(result),
            _ => None,
        }
    }
}

impl<F: Future> Pollable for Stage<F> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let StageProjected::Running { future } = self.as_mut().project() else {
            return Poll::Ready(());
        };
        let Poll::Ready(output) = future.poll(cx) else {
            return Poll::Pending;
        };
        let result = Ok(output);
        self.set(Self::Ended { result }); // drops the future
        Poll::Ready(())
    }

    fn type_name(&self) -> &'static str {
        type_name::<F>()
    }
}

impl<F: Future<Output: 'static>> Joined for Stage<F> {
    fn fail(mut self: Pin<&mut Self>, error: JoinError) {
        self.set(Self::Ended { result: Err(error) });
    }

    fn take_result(self: Pin<&mut Self>, result: &mut dyn Any) {
        if let Some(result) = result.downcast_mut() {
            *result = self.take();
        }
    }
}
