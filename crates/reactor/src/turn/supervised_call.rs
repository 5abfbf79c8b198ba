//! Supervision: the treatment of callbacks that panic or take too long.
//!
//! Both cost nothing while they are off, except one test of a flag in each call. Slow callbacks are
//! found in two steps. While no turn is slow, only each turn is timed. A turn that took the
//! threshold or longer makes the loop time each callback for the next `TIMED_TURNS` turns.

use std::time::Duration;

use super::disposal::{Disposal, catch_panic, into_message};
use super::policies::{Label, PanicPolicy};
use crate::context::Context;
use crate::registry::Registry;

/// The outcome of a callback under supervision.
#[derive(Debug)]
pub(crate) struct Verdict<R> {
    /// The result of the callback, or the message of its panic.
    pub(crate) result: Result<R, String>,
    /// The duration of the callback, if it was slow.
    slow: Option<Duration>,
}

impl<R> Verdict<R> {
    pub(crate) const fn panicked(message: String) -> Self {
        Self {
            result: Err(message),
            slow: None,
        }
    }

    /// Logs and counts a panic or a slow call. The label is made only for these.
    pub(crate) fn report<S>(
        &self,
        registry: &mut Registry<S>,
        label: impl Fn(&Registry<S>) -> Label<'_>,
    ) {
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

// A function of its own: its code is compiled once, but `report` is compiled for each state type.
#[cold]
pub(super) fn log_panic(callback: Label<'_>, message: &str) {
    tracing::error!(%callback, message, "callback panicked");
}

#[cold]
fn log_slow(callback: Label<'_>, took: Duration) {
    tracing::warn!(%callback, took_ms = took.as_millis(), "slow callback blocks the loop");
}

/// Runs a callback under the policies of the loop.
///
/// # Panics
/// If the callback panics under [`PanicPolicy::Propagate`].
pub(crate) fn supervise<S, R>(
    cx: &mut Context<'_, S>,
    callback: impl FnOnce(&mut Context<'_, S>) -> R,
) -> Verdict<R> {
    let policy = cx.registry.turn.supervision.policy();
    supervise_under(policy, cx, callback)
}

/// Runs a callback under the panic policy `policy`.
#[cold]
pub(crate) fn supervise_under<S, R>(
    policy: PanicPolicy,
    cx: &mut Context<'_, S>,
    callback: impl FnOnce(&mut Context<'_, S>) -> R,
) -> Verdict<R> {
    let began = cx
        .registry
        .turn
        .supervision
        .is_timing()
        .then(|| cx.registry.time.read());
    let result = match policy {
        PanicPolicy::Propagate => Ok(callback(cx)),
        PanicPolicy::RemoveHandler => catch_panic(|| callback(cx)),
    };
    let took = began.map(|began| cx.registry.time.read() - began);
    let slow = took
        .zip(cx.registry.turn.supervision.slow_after())
        .and_then(|(took, slow)| (took >= slow).then_some(took));
    Verdict { result, slow }
}

impl<S> Registry<S> {
    /// Drops a value of the user, after the registry's own data is consistent.
    ///
    /// # Panics
    /// If its destructor panics under [`PanicPolicy::Propagate`].
    #[inline]
    pub(crate) fn dispose<V>(&mut self, value: V, label: Label<'_>) {
        if self.turn.supervision.catches() {
            self.dispose_caught(value, label);
        }
    }

    #[cold]
    #[inline(never)]
    fn dispose_caught<V>(&mut self, value: V, label: Label<'_>) {
        let mut disposal = Disposal::default();
        disposal.drop_one(value);
        self.handle_drop_panics(disposal, label, self.turn.supervision.policy());
    }

    /// Treats the panics of destructors according to `policy`.
    ///
    /// # Panics
    /// With the first of these panics under [`PanicPolicy::Propagate`].
    #[inline]
    pub(crate) fn handle_drop_panics(
        &mut self,
        disposal: Disposal,
        label: Label<'_>,
        policy: PanicPolicy,
    ) {
        if disposal.first.is_some() {
            self.handle_drop_panics_slow(disposal, label, policy);
        }
    }

    #[cold]
    #[inline(never)]
    fn handle_drop_panics_slow(
        &mut self,
        disposal: Disposal,
        label: Label<'_>,
        policy: PanicPolicy,
    ) {
        match disposal.first {
            Some(payload) if policy == PanicPolicy::RemoveHandler => {
                self.metrics.panics += disposal.panics;
                log_drop_panic(label, &into_message(payload));
            }
            first => Disposal { first, ..disposal }.resume(),
        }
    }
}

#[cold]
fn log_drop_panic(callback: Label<'_>, message: &str) {
    tracing::error!(%callback, message, "a destructor panicked while a callback was dropped");
}
