//! Whole daemons in the simulation: the examples as they are, and servers with handlers of all
//! kinds. `laws` says what holds for all of them, and docs/reliability.md how to run many seeds.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]
#![allow(clippy::duplicate_mod, reason = "the examples share `examples/tls`")]

mod laws;
mod peers;
mod trial;

mod async_echo;
mod behind_proxy;
mod connecting;
mod datagrams;
mod echo;
mod http;
mod kv;
mod loops;
mod overload;
mod pool;
mod proxy;
mod queues;
mod recipe;
mod relay;
mod restarts;
mod streams;
mod timeouts;
mod tls;
mod upstream;
