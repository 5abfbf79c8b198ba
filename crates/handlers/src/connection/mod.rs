//! Connections: a buffered stream of bytes, in and out, on a loop.
//!
//! A handler is called with the bytes as they arrive, and returns how many of them it has consumed.
//! Unconsumed bytes are passed in again, with more after them. Writes are tried at once, and queued
//! if the peer does not take them. A connection with a long queue stops reading, so a peer that
//! sends and never reads costs a bounded amount of memory.
//!
//! One message, from the kernel and back:
//!
//! ```text
//! event ─▶ loop ─▶  registration.rs  Registration::ready   takes the buffers of the loop
//!                         │
//!                   dispatch.rs      Dispatch::on_event    steady? no → before_reading: open,
//!                         │                                timeouts, write queue, unconsumed bytes
//!                   read.rs          read_once             one read into the buffer of the loop
//!                         │          deliver               after unconsumed bytes, if any
//!                         ▼
//!     of the user:  handler.rs       on_data
//!                         │          Connection::write     write/mod.rs: copies into the buffer
//!                         ▼
//!                   dispatch.rs      apply_commands        commands.rs: made meanwhile by key
//!                         │          flush_after_callback  one write; the rest into write/queue.rs
//!                         │          replace_handler       replace_handler.rs: if asked for
//!                   read.rs          read_on               if the socket may have more
//!                         │
//!                   update.rs        update_registration   steady? no → close/, interest, timeout
//! ```
//!
//! Between two messages everything is in [`State`](state::State), which depends neither on the type
//! of the stream nor on the type of the handler. A caller from outside comes in through its
//! [`ConnectionKey`] and `Registration::access`, and ends at the same update.
//!
//! Ground rules:
//! - An idle connection holds no buffer. Reading and writing use two buffers of the loop
//!   (`buffers.rs`).
//! - Small pieces written [from outside](ConnectionKey::with) are queued. They are sent with the
//!   deferred callbacks, all by one system call.
//! - The handler of a connection is notified once of its end, by
//!   [`on_close`](ConnectionHandler::on_close), when the source is closed.
//! - Data is below behaviour: `state/`, `write/queue.rs`, `write/buffer.rs`, `times.rs` and
//!   `rate.rs` use no stream and no handler. No file uses a file above it, with two exceptions.
//!   First, the types of the interface refer to each other (`connection.rs`, `key.rs`,
//!   `handler.rs`). Second, an attempt to connect is a registration, and the winner becomes the
//!   connection (`connect/`, `registration.rs`).
//!
//! Sources: watermarks and the single handler object come from libevent's bufferevent and folly's
//! AsyncSocket. In those, a user owns the object of a connection. Here a connection belongs to the
//! loop and is reached by a key.

mod buffers;
mod close;
mod commands;
mod connect;
mod connection;
mod dispatch;
#[cfg(feature = "unix")]
mod fd_stream;
mod handler;
mod handshakes;
mod key;
mod later;
mod layer;
mod of_server;
#[cfg(feature = "framing")]
mod on_frames;
mod open;
mod options;
mod rate;
mod read;
mod reason;
mod registration;
mod relay;
mod replace_handler;
mod socket_options;
mod state;
mod stream;
mod take;
mod times;
mod update;
mod write;

pub use self::connect::Connecting;
pub(crate) use self::connect::{connect_next, connect_next_as};
pub use self::connection::Connection;
#[cfg(feature = "unix")]
pub use self::fd_stream::FdStream;
pub use self::handler::{ConnectionHandler, OnData, on_data};
pub use self::key::ConnectionKey;
pub(crate) use self::of_server::{close_accepted, pause_accepted};
#[cfg(feature = "framing")]
pub use self::on_frames::{OnFrames, on_frames};
pub(crate) use self::open::{OpenedBy, open_by};
pub use self::options::ConnectionOptions;
pub use self::rate::RateLimit;
pub use self::reason::CloseReason;
pub use self::relay::Relay;
pub use self::replace_handler::BoxedHandler;
pub use self::state::ConnectionMetrics;
pub use self::stream::{Shutdown, Stream};
pub use self::take::{Taken, TakenParts};
pub use self::times::Timeout;
pub use self::write::Flow;
