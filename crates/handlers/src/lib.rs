//! Ready-made callbacks on top of [`reactor`]. The callbacks use only the public interface of
//! `reactor`, so a handler of your own can do everything that they do.
//!
//! | to | see |
//! | --- | --- |
//! | accept connections, with limits, from sockets of any family | [`ListenOptions`], [`Listener`] |
//! | use the sockets that a service manager passes | [`InheritedSockets`] |
//! | answer clients that connect while the limit is reached | [`WhenFull`] |
//! | limit bytes, requests, logins or accepts a second | [`RateLimit`] |
//! | learn the addresses of clients that connect through a proxy | [`proxy_protocol`] |
//! | read and write a stream with buffers, back-pressure and timeouts | [`ConnectionHandler`], [`Connection::open`] |
//! | set a deadline for each request | [`Connection::set_deadline`] |
//! | know when the kernel has taken what was written | [`Connection::notify_sent`] |
//! | connect to one of several addresses | [`Connection::connect`] |
//! | connect to a name such as `db.example:5432`, or to a Unix socket | [`Connection::connect_to`], [`Target`] |
//! | look up the addresses of a host | [`Resolver`] |
//! | send and receive file descriptors | [`FdStream`] |
//! | know the process and the user of a peer on a Unix socket | [`PeerCredentials`] |
//! | try again after growing delays | [`Backoff`] |
//! | keep a link to another server up, with a queue for the messages that wait | [`Upstream`] |
//! | write to a connection from other callbacks | [`ConnectionKey`] |
//! | pipe two connections into each other | [`Relay`] |
//! | run blocking or long work without holding up the loop | [`WorkerPool`] |
//! | find the messages in the bytes of a stream | [`Framing`]; [`Framing::frames`] returns all of them |
//! | call a closure with each message of a connection | [`on_frames`] |
//! | exchange lines of text, which end with `\n` or `\r\n` | [`Lines`] |
//! | exchange messages that end with a delimiter | [`Delimited`] |
//! | exchange messages that begin with their length | [`LengthPrefixed`] |
//! | test a framing of your own, with the stream cut at every byte | [`check_framing`] |
//! | test a stream of your own, with a network that stalls, cuts and resets | [`StreamCheck`] |
//! | read lines from standard input of any kind | [`Console`] |
//! | be notified of signals, and shut down gracefully on a signal | [`signal`] |
//! | start child processes, be notified of their end, stop and restart them | [`child`] |
//! | be notified when a file or the content of a folder changes | [`files::watch`], [`files::watch_folder`] |
//! | read and write files without holding up the loop | [`files::read`], [`files::write_atomically`] |
//! | send and receive datagrams, many at a time | [`udp`] |
//! | run futures on the loop, and so any `async` crate | [`futures`] |
//! | serve and open connections whose protocol is a future | [`futures::protocol`] |
//! | encrypt a stream, and know the peer by its certificate | [`tls`] |
//!
//! # Terms
//!
//! These terms are used on many pages:
//!
//! - A *turn* is one iteration of the loop: see [`Reactor::turn`](reactor::Reactor::turn).
//! - The *deferred callbacks* run once a turn, after the callbacks of the sources: see
//!   [`Registry::defer`](reactor::Registry::defer).
//! - A registration or a job *keeps [`Reactor::run`](reactor::Reactor::run) alive* if `run` does
//!   not return by itself before the registration or the job has ended.
//! - The *interest* of a registration is the set of events that it waits for: see
//!   [`Interest`](reactor::Interest).
//! - *Our write side* is the direction of a connection in which this process sends. The *write
//!   side of the peer* is the direction in which the peer sends.
//! - The *write queue* of a connection holds the bytes that were written and that the socket has
//!   not taken yet.
//!
//! # Contexts of requests
//!
//! A daemon handles a request in many callbacks. With the feature `request-context`, the
//! [`RequestContext`] that is current when work is handed to this crate is current again in the
//! callbacks of this work, on whatever thread. After a callback, what was current before it is
//! restored, even if the callback panics.
//!
//! | handed on | runs in the context of the caller |
//! | --- | --- |
//! | a job of a [`WorkerPool`] or of [`files`] | the job on its worker, and its completion on the loop; not the function that makes the state of a worker |
//! | a connection that is opened, or that a listener or another loop opens | all callbacks of its handler |
//! | a connect | the closures that prepare the socket and make the stream, all callbacks of the handler, also if the connect fails or is cancelled |
//! | a [`Listener`] | its callbacks. A connection that such a callback opens inherits the context of the listener |
//! | [`on_listener_end`], [`Upstream::on_room`], [`Upstream::on_end`], [`Connection::take_after_flush`] | the callback |
//! | a lookup of a [`Resolver`] | the callback; not the function that looks up |
//! | an [`Upstream`] | all callbacks of its handler, on each of its connections. A message has no context |
//! | a task of [`futures`] | each poll, the closures of `with_context`, and the callback at its end |
//! | a watcher of [`signal`], a child or a supervisor of [`child`], a watcher of [`files`], a [`Console`], a socket of [`udp`] | all their callbacks |
//!
//! A closure that accesses something by a key, such as that of [`ConnectionKey::with`], runs in the
//! context of its caller. The callbacks that it causes, such as
//! [`on_drain`](ConnectionHandler::on_drain), run in the context of the connection.
//!
//! To give each request on a connection a context of its own, see
//! [`ConnectionHandler`](ConnectionHandler#contexts-of-requests).
//!
//! A context is dropped when its work has ended, even if a handle of the work still exists. Work
//! that serves all users of a part, such as the threads of a resolver, has no context.
//!
//! # Features
//!
//! By default everything except `futures`, `hyper`, `proxy-protocol`, `request-context`,
//! `simulation`, `stream-check` and `tls` is compiled. Connections, listeners and relays are always
//! included. To compile less, set `default-features = false` and name the features that you need:
//!
//! | feature | adds | also enables | compiles these crates |
//! | --- | --- | --- | --- |
//! | `child` | [`child`] | `framing`, `signal` | wait4 |
//! | `console` | [`Console`] | `framing` | |
//! | `files` | [`files`] | `pool` | signal-hook (needs a C compiler) |
//! | `framing` | [`Framing`], its implementations, [`on_frames`] and [`check_framing`] | | memchr |
//! | `futures` | [`futures`] | | boxcar, futures-core, futures-io, futures-sink; pin-project-lite, which `tracing` compiles anyway |
//! | `hyper` | the traits of hyper for [`futures`]: its servers and clients run on the loop | `futures` | hyper, http, http-body, itoa, tokio (only its types: hyper enables no feature of it) |
//! | `inherited` | [`InheritedSockets`] | | listenfd, sd-notify |
//! | `names` | [`Resolver`]; targets with a name for [`Connection::connect_to`] | | dns-lookup |
//! | `pool` | [`WorkerPool`] | | |
//! | `proxy-protocol` | [`proxy_protocol`] | | |
//! | `request-context` | [contexts of requests](#contexts-of-requests) | | |
//! | `signal` | [`signal`] | | signal-hook (needs a C compiler) |
//! | `simulation` | [`simulation`]: tests over a simulated network | | |
//! | `stream-check` | [`StreamCheck`]: tests of a stream of your own | | |
//! | `tls` | [`tls`] | | rustls, ring (needs a C compiler), rustls-native-certs |
//! | `udp` | [`udp`] | | quinn-udp |
//! | `unix` | [`FdStream`] and [`PeerCredentials`] | | nix |
//!
// A link to an item that is not compiled leads to the table above, which names the feature.
#![cfg_attr(not(feature = "child"), doc = "[`child`]: #features")]
#![cfg_attr(not(feature = "console"), doc = "[`Console`]: #features")]
#![cfg_attr(not(feature = "files"), doc = "[`files`]: #features")]
#![cfg_attr(not(feature = "files"), doc = "[`files::watch`]: #features")]
#![cfg_attr(not(feature = "files"), doc = "[`files::watch_folder`]: #features")]
#![cfg_attr(not(feature = "files"), doc = "[`files::read`]: #features")]
#![cfg_attr(not(feature = "files"), doc = "[`files::write_atomically`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`Framing`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`Framing::frames`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`Lines`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`check_framing`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`Delimited`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`LengthPrefixed`]: #features")]
#![cfg_attr(not(feature = "framing"), doc = "[`on_frames`]: #features")]
#![cfg_attr(not(feature = "inherited"), doc = "[`InheritedSockets`]: #features")]
#![cfg_attr(not(feature = "names"), doc = "[`Resolver`]: #features")]
#![cfg_attr(not(feature = "futures"), doc = "[`futures`]: #features")]
#![cfg_attr(not(feature = "futures"), doc = "[`futures::protocol`]: #features")]
#![cfg_attr(not(feature = "pool"), doc = "[`WorkerPool`]: #features")]
#![cfg_attr(not(feature = "proxy-protocol"), doc = "[`proxy_protocol`]: #features")]
#![cfg_attr(
    feature = "request-context",
    doc = "[`RequestContext`]: reactor::RequestContext"
)]
#![cfg_attr(
    not(feature = "request-context"),
    doc = "[`RequestContext`]: #features"
)]
#![cfg_attr(not(feature = "signal"), doc = "[`signal`]: #features")]
#![cfg_attr(not(feature = "simulation"), doc = "[`simulation`]: #features")]
#![cfg_attr(not(feature = "stream-check"), doc = "[`StreamCheck`]: #features")]
#![cfg_attr(not(feature = "tls"), doc = "[`tls`]: #features")]
#![cfg_attr(not(feature = "udp"), doc = "[`udp`]: #features")]
#![cfg_attr(not(feature = "unix"), doc = "[`FdStream`]: #features")]
#![cfg_attr(not(feature = "unix"), doc = "[`PeerCredentials`]: #features")]
// docs.rs builds with a nightly Rust and shows which feature each item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod carried;
#[cfg(feature = "child")]
pub mod child;
mod connection;
#[cfg(feature = "console")]
mod console;
mod error;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "framing")]
mod framing;
#[cfg(feature = "futures")]
pub mod futures;
#[cfg(feature = "inherited")]
mod inherited;
mod limit;
mod listener;
mod names;
#[cfg(feature = "pool")]
mod pool;
#[cfg(feature = "proxy-protocol")]
pub mod proxy_protocol;
mod server;
#[cfg(feature = "signal")]
pub mod signal;
#[cfg(feature = "simulation")]
pub mod simulation;
mod sockets;
mod splitmix;
#[cfg(feature = "stream-check")]
mod stream_check;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "udp")]
pub mod udp;
mod upstream;

pub use crate::backoff::{Backoff, Jitter};
#[cfg(feature = "unix")]
pub use crate::connection::FdStream;
pub use crate::connection::{
    BoxedHandler, CloseReason, Connecting, Connection, ConnectionHandler, ConnectionKey,
    ConnectionMetrics, ConnectionOptions, Flow, OnData, RateLimit, Relay, Shutdown, Stream, Taken,
    TakenParts, Timeout, on_data,
};
#[cfg(feature = "framing")]
pub use crate::connection::{OnFrames, on_frames};
#[cfg(feature = "console")]
pub use crate::console::{Console, ConsoleInput};
pub use crate::error::SystemError;
#[cfg(feature = "framing")]
pub use crate::framing::{
    Delimited, Frame, FrameError, Frames, FramesFound, Framing, FramingFault, LengthPrefix,
    LengthPrefixed, Lines, check_framing,
};
#[cfg(feature = "inherited")]
pub use crate::inherited::{InheritedSocket, InheritedSockets, SocketKind};
pub use crate::limit::{ConnectionLimit, Permit};
pub use crate::listener::{
    Accepted, ListenOptions, Listener, Peer, ServerKey, WhenFull, on_listener_end,
};
pub use crate::names::Target;
#[cfg(feature = "names")]
pub use crate::names::{Lookup, Resolver, ResolverBuilder};
#[cfg(feature = "pool")]
pub use crate::pool::{
    Cancellation, Job, JobError, JobPanic, PoolBuilder, PoolHandle, Refusal, Refused, WorkerPool,
};
#[cfg(feature = "unix")]
pub use crate::sockets::PeerCredentials;
pub use crate::sockets::{Address, AddressParseError, SocketStream, TcpKeepalive};
#[cfg(feature = "stream-check")]
pub use crate::stream_check::{StreamCheck, StreamFault, StreamRule};
pub use crate::upstream::{
    Overflow, Proof, TargetOrder, Upstream, UpstreamMetrics, UpstreamOptions, UpstreamRefusal,
    UpstreamRefused, UpstreamState,
};
pub use reactor::errno;

/// Compiles the programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles the recipes.
#[cfg(all(doctest, feature = "unix"))]
#[doc = include_str!("../../../docs/recipes.md")]
struct Recipes;

/// Compiles the programs about the context of a request.
#[cfg(all(doctest, feature = "request-context"))]
#[doc = include_str!("../../../docs/request-context.md")]
struct RequestContextRecipes;

/// Compiles the recipes of TLS.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../../../docs/tls.md")]
struct TlsRecipes;

/// Compiles and runs the programs of the page on futures.
#[cfg(all(doctest, feature = "hyper"))]
#[doc = include_str!("../../../docs/futures.md")]
struct FuturesPage;
