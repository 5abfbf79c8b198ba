//! The parts of the example `kv_server`: the promises of its parser, its store and its commands.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../examples/kv_server/handshake.rs"]
mod handshake;
#[path = "../../examples/kv_server/protocol.rs"]
mod protocol;
#[path = "../../examples/kv_server/server.rs"]
mod server;
#[path = "../../examples/kv_server/store.rs"]
mod store;

mod parsing;
mod sessions;
mod storing;
