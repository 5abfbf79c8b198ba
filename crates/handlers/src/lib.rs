//! Ready-made callbacks on top of [`reactor`], by its public interface alone: whatever they need, a handler of your own
//! can have too.
//!
//! | to | see |
//! | --- | --- |
//! | accept connections, with limits, from sockets of any family | [`ListenOptions`], [`Listener`] |
//! | read and write a stream with buffers, back-pressure and timeouts | [`ConnectionHandler`], [`open`] |
//! | connect to one of several addresses | [`connect`] |
//! | write to a connection from elsewhere | [`ConnectionKey`] |
//! | pipe two connections into each other | [`Relay`] |
//! | do what blocks or takes long without holding up the loop | [`WorkerPool`] |
//! | find the messages in the bytes of a stream | [`Framing`], and [`Framing::frames`] for all of them |
//! | speak in lines, with either end | [`Lines`] |
//! | speak in messages that end with a delimiter, or that follow their length | [`Delimited`], [`LengthPrefixed`] |
//! | read lines from standard input, whatever that is | [`Console`] |
//! | be told of signals, end gently on them | [`signal`] |
//! | start children, be told of their end, end them, start them again | [`child`] |
//! | be told when a file changes, or what is in a folder | [`files::watch`], [`files::watch_folder`] |
//! | read and write files without holding up the loop | [`files::read`], [`files::write_atomically`] |
//! | send and receive datagrams, many at a time | [`udp`] |

mod answer;
pub mod child;
mod connection;
mod console;
pub mod files;
mod framing;
mod listener;
mod pool;
pub mod signal;
pub mod udp;

pub use crate::connection::{
    CloseReason, Connecting, Connection, ConnectionHandler, ConnectionKey, ConnectionOptions, Counters, Flow, OnData,
    RateLimit, Relay, Stream, Timeout, connect, on_data, open,
};
pub use crate::console::{Console, ConsoleInput};
pub use crate::framing::{Delimited, Frame, FrameError, Frames, Framing, LengthPrefix, LengthPrefixed, Lines};
pub use crate::listener::{Accepted, Address, ConnectionLimit, ListenOptions, Listener, Peer, Permit, ServerKey};
pub use crate::pool::{Job, JobPanic, Pool, PoolBuilder, Refusal, Refused, WorkerPool};

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
