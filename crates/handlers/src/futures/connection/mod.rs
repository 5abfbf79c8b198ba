//! Connections whose protocol is a future.
//!
//! The connection is one of the loop's, with a handler of this module. The handler and the future
//! share a [`Link`](link::Link):
//!
//! ```text
//! event ─▶ connection ─▶ handler.rs ─▶ link.rs: input  ─▶ async_connection.rs ─▶ the future
//!                                                wake ─▶ the executor polls it later this turn
//! socket ◀─ connection ◀─ port.rs   ◀─ link.rs: output ◀─ async_connection.rs ◀─ the future
//!                           ▲ a request, which the executor carries out right after the poll
//! ```
//!
//! So limits, timeouts, layers, rates and the graceful end are those of
//! [`Connection`](crate::Connection).
//!
//! Ground rule: a stream ends cleanly only if its future has closed it or has returned `Ok`. Until
//! then the connection has a pending response, so any other end resets it.

mod async_connection;
mod buffers;
mod connect;
mod handler;
mod link;
mod port;
mod serve;
mod stopping;
mod wakers;

pub use self::async_connection::AsyncConnection;
pub use self::connect::Connect;
pub use self::handler::protocol;
pub use self::stopping::Stopping;
