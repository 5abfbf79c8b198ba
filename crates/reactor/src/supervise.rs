//! Supervision: what happens to a callback that panics, and to one that takes too long.
//!
//! Both cost nothing while they are off: one test of a flag a call. A slow callback is looked for in two steps, so that
//! the search costs one clock read more a turn as long as all is well, at its end: a turn that took longer than the
//! threshold makes the loop time each callback for the next [`TIMED_TURNS`] turns.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
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
    /// It is for callbacks. A destructor that panics, of a source or of what a handler captured, unwinds through the loop
    /// under both policies.
    RemoveHandler,
}

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
    catch_unwind(AssertUnwindSafe(callback)).map_err(|payload| panic_message(&*payload))
}

/// What a panic says.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text").to_owned()
}
