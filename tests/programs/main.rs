//! The examples as programs: started as a user starts them, used by real clients, and with bad
//! input.

mod console_loop;
mod echo;
mod echo_server;
mod forwarder;
mod forwarder_log;
mod http_hello;
mod kv_server;
mod proxy;
mod restarts;
mod server;
mod tls;
mod tracer;
mod web_daemon;
mod worker_pool;

use support::Result;
