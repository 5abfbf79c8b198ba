//! Targets of connections, and the names in them: looked up on threads of their own, answered on
//! the loop.
//!
//! `getaddrinfo` blocks, for tens of seconds if a name server does not answer, and cannot be
//! interrupted. So a lookup has a thread for as long as it takes, and the loop waits for its answer
//! or for its time limit. The number of threads is limited. Nothing ever waits for one of them to
//! end: neither a loop, nor the end of a loop, nor the end of the process.
//!
//! Ground rule: the callback of a lookup never leaves the loop. A thread gets the name and the
//! sending end of a queue. The receiving end is a registration of the loop, which holds the
//! callback. So a lookup ends with its registration: the thread finds a queue without a receiver,
//! and a request that still waits is dropped.

#[cfg(feature = "names")]
mod host;
#[cfg(feature = "names")]
mod lookup;
#[cfg(feature = "names")]
mod resolver;
mod target;
#[cfg(feature = "names")]
mod threads;

#[cfg(feature = "names")]
pub use self::lookup::Lookup;
#[cfg(feature = "names")]
pub use self::resolver::{Resolver, ResolverBuilder};
pub(crate) use self::target::Step;
pub use self::target::Target;
