//! Whole turns of real loops, in every order of the steps of their threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod ends;
mod events;
mod places;
mod queues;
mod remotes;

/// Runs a scenario in every order with at most three interruptions of threads.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    modelled::model(3, scenario);
}
