//! Queues, events, jobs, lookups, signals and children within futures.

#[cfg(feature = "child")]
mod children;
mod events;
#[cfg(feature = "pool")]
mod jobs;
#[cfg(feature = "names")]
mod lookups;
mod queues;
mod registrations;
#[cfg(feature = "signal")]
mod signals;
mod sinks;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
