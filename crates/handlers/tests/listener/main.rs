//! Listeners with real sockets. Cases that concern a whole process run in a process of their own.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod accepting;
mod address;
mod backlog;
#[allow(dead_code, reason = "the tests of proxies use more of it")]
mod echoing;
mod ends;
mod full;
mod limit;
mod opening;
mod process;
mod server;
mod stop;
mod unix;

use std::net::SocketAddr;

use handlers::{ConnectionOptions, ListenOptions, ServerKey};
use reactor::Reactor;
use support::{PATIENCE, Result, run_out, turn_until, turn_until_quiet};

use self::echoing::{Echo, Inverted, Seen, any_port, client, expect_echo, tcp};

/// Returns the address of a listener at a free port whose connections echo, and its key.
fn serve(
    reactor: &mut Reactor<Seen>,
    options: ListenOptions,
) -> Result<(SocketAddr, ServerKey<Seen>)> {
    let listener = options.bind(&any_port())?;
    let address = tcp(&listener)?;
    Ok((
        address,
        listener.serve(reactor, &ConnectionOptions::new(), |_peer, _cx| Ok(Echo))?,
    ))
}
