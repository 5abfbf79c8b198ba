//! Where lifetimes meet: several loops on a thread, loops that end, futures that are dropped while
//! they wait, and wakers and destructors of the user.

mod cancelled_waits;
mod cases;
mod ended_loops;
mod foreign_wakers;
mod several_loops;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;
