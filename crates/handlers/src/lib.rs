//! Ready-made callbacks on top of [`reactor`], by its public interface alone: whatever they need, a handler of your own
//! can have too.
//!
//! | to | see |
//! | --- | --- |
//! | do what blocks or takes long without holding up the loop | [`WorkerPool`] |
//! | be told of signals, end gently on them | [`signal`] |

mod pool;
pub mod signal;

pub use crate::pool::{Job, JobPanic, Pool, PoolBuilder, Refusal, Refused, WorkerPool};
