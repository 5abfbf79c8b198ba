//! Event objects, in the manner of Win32. Any thread sets them. Threads and loops wait for one, any
//! or all of several.
//!
//! ```text
//!   Event::set ──▶ EventTable, one lock: consumes for the first waiter that can go on
//!                        ▲                        │ wakes it, unlocked
//!                        │ a look, then a waiter  ├──────────────────┬──────────────────┐
//!                        │                        ▼                  ▼                  ▼
//!   wait.rs ─────────────┤                  thread::unpark     EventFd::add      the queue of
//!   on_loop.rs ──────────┤                  (events alone)     (beside fds)      on_event, …
//!   on_loop_with_fds.rs ─┘                                                       (a loop)
//! ```
//!
//! All events of a process share one lock, and the thread that sets an event completes the waits
//! for it within `set`. So a wait for all consumes all or none, a set is never lost between two
//! waiters, and a wait that times out has consumed nothing.
//!
//! Source: `WaitForMultipleObjects` of Win32. PEvents, the usual imitation, waits for all by steps.

mod object;
mod on_loop;
mod on_loop_with_fds;
mod state;
mod table;
mod wait;

pub use self::object::{Event, SetOutcome};
pub use self::wait::Signalled;
