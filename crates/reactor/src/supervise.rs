//! Supervision: what happens to a callback that panics, and to one that takes too long.
//!
//! Both cost nothing while they are off: one test of a flag a call. A slow callback is looked for in two steps, so that
//! the search costs one clock read more a turn as long as all is well, at its end: a turn that took longer than the
//! threshold makes the loop time each callback for the next [`TIMED_TURNS`] turns.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use crate::context::Context;
use crate::registry::Registry;

/// What a panic in a callback does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicPolicy {
    /// It unwinds through [`Reactor::run`](crate::Reactor::run): right for tests, and for programs that a supervisor
    /// restarts. The registration that panicked is gone; the reactor is whole, and may be run again.
    #[default]
    Propagate,
    /// The registration is removed, the panic logged with its name, and the loop goes on. The state is left as the
    /// panic left it: a daemon that chooses this keeps its state consistent at every point where it can panic.
    ///
    /// The same holds for destructors: one that panics, of a source, of what a callback has captured, or of a value that is
    /// still queued, is logged and counted, and what is left is dropped. Two panics at once abort the process, as
    /// everywhere in Rust: a destructor that panics while a panic unwinds through the callback that owns the value.
    RemoveHandler,
}

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// For so many turns after a slow one, each callback is timed.
const TIMED_TURNS: u32 = 128;

/// The two policies, and whether any callback needs to be watched now.
#[derive(Debug)]
pub(crate) struct Supervision {
    policy: PanicPolicy,
    slow_after: Option<Duration>,
    timed_turns_left: u32,
    active: bool,
}

impl Supervision {
    pub(crate) const fn new(policy: PanicPolicy, slow_after: Option<Duration>) -> Self {
        Self { policy, slow_after, timed_turns_left: 0, active: matches!(policy, PanicPolicy::RemoveHandler) }
    }

    /// Whether callbacks go through [`supervise`].
    #[inline]
    pub(crate) const fn is_active(&self) -> bool {
        self.active
    }

    /// Whether each callback is timed. If not, those that go through [`supervise`] do so for their panics alone.
    #[inline]
    pub(crate) const fn is_timing(&self) -> bool {
        self.timed_turns_left > 0
    }

    /// Whether panics end at the loop.
    #[inline]
    pub(crate) const fn catches(&self) -> bool {
        matches!(self.policy, PanicPolicy::RemoveHandler)
    }

    /// Whether turns are timed.
    #[inline]
    pub(crate) const fn times_turns(&self) -> bool {
        self.slow_after.is_some()
    }

    /// A turn has taken so long, the wait apart.
    pub(crate) fn note_turn(&mut self, took: Duration) {
        self.timed_turns_left = match self.slow_after {
            Some(slow_after) if took >= slow_after => TIMED_TURNS,
            _ => self.timed_turns_left.saturating_sub(1),
        };
        self.active = self.policy == PanicPolicy::RemoveHandler || self.timed_turns_left > 0;
    }
}

/// Names a callback in logs: the name it was given or its type, and where it was registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    pub(crate) name: &'a str,
    pub(crate) origin: Option<&'static Location<'static>>,
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.origin.map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}

/// How a callback has fared under supervision.
#[derive(Debug)]
pub(crate) struct Verdict<R> {
    /// What it gave, or the message of its panic.
    pub(crate) result: Result<R, String>,
    /// How long it took, if that was too long.
    slow: Option<Duration>,
}

impl<R> Verdict<R> {
    pub(crate) const fn panicked(message: String) -> Self {
        Self { result: Err(message), slow: None }
    }

    /// Logs and counts what there is to say. The label is made only then.
    pub(crate) fn report<S>(&self, registry: &mut Registry<S>, label: impl Fn(&Registry<S>) -> Label<'_>) {
        if let Err(message) = &self.result {
            log_panic(label(registry), message);
            registry.metrics.panics += 1;
        }
        if let Some(took) = self.slow {
            log_slow(label(registry), took);
            registry.metrics.slow_calls += 1;
        }
    }
}

// Apart from `report`, which is compiled for each state: what a log takes is compiled once.
#[cold]
fn log_panic(callback: Label<'_>, message: &str) {
    tracing::error!(%callback, message, "callback panicked");
}

#[cold]
fn log_slow(callback: Label<'_>, took: Duration) {
    tracing::warn!(%callback, took_ms = took.as_millis(), "slow callback holds up the loop");
}

/// Runs a callback under the policies.
///
/// # Panics
/// As the callback does, under [`PanicPolicy::Propagate`].
#[cold]
pub(crate) fn supervise<S, R>(cx: &mut Context<'_, S>, callback: impl FnOnce(&mut Context<'_, S>) -> R) -> Verdict<R> {
    let began = cx.registry.supervision.is_timing().then(|| cx.registry.clock.read());
    let result = match cx.registry.supervision.policy {
        PanicPolicy::Propagate => Ok(callback(cx)),
        PanicPolicy::RemoveHandler => catch_panic(|| callback(cx)),
    };
    let took = began.map(|began| cx.registry.clock.read() - began);
    let slow = took.zip(cx.registry.supervision.slow_after).and_then(|(took, slow)| (took >= slow).then_some(took));
    Verdict { result, slow }
}

/// What a callback gives, or what its panic says.
///
/// What the callback leaves half done is its own state and S, which the policy's user has answered for; the registry is only
/// ever changed by whole operations that do not panic.
#[inline]
pub(crate) fn catch_panic<R>(callback: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(callback)).map_err(into_message)
}

/// Returns the message of a panic, and drops its payload.
#[cold]
pub(crate) fn into_message(payload: Payload) -> String {
    let message = panic_message(&*payload);
    discard(payload);
    message
}

/// Drops the payload of a panic. Its destructor may panic in turn: the payload of that panic is leaked.
#[cold]
fn discard(payload: Payload) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// What a panic says.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text").to_owned()
}

/// Drops values of the user's, each on its own: all of them go, however many of their destructors panic. Hand it to
/// [`Registry::conclude`] once the books are right.
#[derive(Default)]
pub(crate) struct Disposal {
    first: Option<Payload>,
    panics: u64,
}

impl Disposal {
    /// Drops one value.
    #[inline]
    pub(crate) fn drop_one<V>(&mut self, value: V) {
        self.run(|| drop(value));
    }

    /// Runs what drops values of the user's.
    #[inline]
    pub(crate) fn run(&mut self, dropping: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(dropping)) {
            self.note(payload);
        }
    }

    /// Drops values one by one, as long as `drop_next` says that there was one.
    pub(crate) fn drop_each(&mut self, mut drop_next: impl FnMut() -> bool) {
        let mut more = true;
        while more {
            self.run(|| more = drop_next());
        }
    }

    #[cold]
    fn note(&mut self, payload: Payload) {
        self.panics += 1;
        match &self.first {
            None => self.first = Some(payload),
            Some(_) => {
                let message = into_message(payload); // whether or not anything listens to the log
                tracing::error!(message, "another destructor panicked");
            }
        }
    }

    /// Lets the first panic go on, unless one is on its way already: that would abort the process.
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

/// A callback that is out of its place while it runs. Where a panic unwinds through it, its own destructor adds none.
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

impl<S> Registry<S> {
    /// Drops a value of the user's once the books are right.
    ///
    /// # Panics
    /// As its destructor does, under [`PanicPolicy::Propagate`].
    #[inline]
    pub(crate) fn dispose<V>(&mut self, value: V, label: Label<'_>) {
        if self.supervision.catches() {
            self.dispose_caught(value, label);
        }
    }

    #[cold]
    #[inline(never)]
    fn dispose_caught<V>(&mut self, value: V, label: Label<'_>) {
        let mut disposal = Disposal::default();
        disposal.drop_one(value);
        self.conclude(disposal, label);
    }

    /// Does with the panics of destructors what the policy says.
    ///
    /// # Panics
    /// As the first of them did, under [`PanicPolicy::Propagate`].
    #[inline]
    pub(crate) fn conclude(&mut self, disposal: Disposal, label: Label<'_>) {
        if disposal.first.is_some() {
            self.conclude_panicked(disposal, label);
        }
    }

    #[cold]
    #[inline(never)]
    fn conclude_panicked(&mut self, disposal: Disposal, label: Label<'_>) {
        match disposal.first {
            Some(payload) if self.supervision.catches() => {
                self.metrics.panics += disposal.panics;
                log_drop_panic(label, &into_message(payload));
            }
            first => Disposal { first, ..disposal }.resume(),
        }
    }
}

#[cold]
fn log_drop_panic(callback: Label<'_>, message: &str) {
    tracing::error!(%callback, message, "a destructor of what a callback has captured panicked");
}
