//! Panics of callbacks and destructors, caught one by one: each value of the user is dropped, even
//! if destructors panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// The payload of a panic.
pub(crate) type PanicPayload = Box<dyn Any + Send>;

/// Returns the result of a callback, or the message of its panic.
///
/// The callback may leave only its own state and `S` half changed. The user who chose the policy is
/// responsible for these. The registry is only ever changed by whole operations that do not panic.
#[inline]
pub(crate) fn catch_panic<R>(callback: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(callback)).map_err(into_message)
}

/// Returns the message of a panic, and drops its payload.
#[cold]
pub(crate) fn into_message(payload: PanicPayload) -> String {
    let message = panic_message(&*payload);
    discard(payload);
    message
}

/// Drops the payload of a panic. Its destructor may panic in turn: the payload of that panic is
/// leaked.
#[cold]
fn discard(payload: PanicPayload) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// Returns the message of a panic.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text")
        .to_owned()
}

/// Drops values of the user one by one: all of them are dropped, however many destructors panic.
/// Pass it to `Registry::handle_drop_panics` once the registry's own data is consistent.
#[derive(Default)]
pub(crate) struct Disposal {
    pub(super) first: Option<PanicPayload>,
    pub(super) panics: u64,
}

impl Disposal {
    /// Drops one value.
    #[inline]
    pub(crate) fn drop_one<V>(&mut self, value: V) {
        self.run(|| drop(value));
    }

    /// Runs a closure that drops values of the user.
    #[inline]
    pub(crate) fn run(&mut self, dropping: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(dropping)) {
            self.record_panic(payload);
        }
    }

    /// Drops values one by one, while `drop_next` returns `true`: there was one.
    pub(crate) fn drop_each(&mut self, mut drop_next: impl FnMut() -> bool) {
        let mut more = true;
        while more {
            self.run(|| more = drop_next());
        }
    }

    #[cold]
    fn record_panic(&mut self, payload: PanicPayload) {
        self.panics += 1;
        match &self.first {
            None => self.first = Some(payload),
            Some(_) => {
                let message = into_message(payload); // made even if no subscriber listens
                tracing::error!(message, "another destructor panicked");
            }
        }
    }

    /// Resumes the first panic, unless the thread is already panicking: a second panic would abort
    /// the process.
    pub(crate) fn resume(self) {
        let Some(payload) = self.first else { return };
        if thread::panicking() {
            let message = into_message(payload);
            tracing::error!(message, "a destructor panicked while a panic unwound");
        } else {
            resume_unwind(payload);
        }
    }
}

/// A callback that is out of its place while it runs. If a panic unwinds through this value, a
/// panic of the callback's destructor is caught.
pub(crate) struct OnStack<F>(pub(crate) Option<F>);

impl<F> Drop for OnStack<F> {
    #[inline]
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            drop_unwound(callback);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_unwound<V>(value: V) {
    let mut disposal = Disposal::default();
    disposal.drop_one(value);
    disposal.resume();
}
