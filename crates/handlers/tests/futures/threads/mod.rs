//! Where futures meet other threads: loops on threads of their own, handles that another thread
//! drops or moves, and the end of a loop whose tasks join such a thread.

#[cfg(feature = "pool")]
mod dropping;
mod ending;
mod pools;
mod sleeps;
mod waking;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
