//! Servers: echo over TCP and over a Unix socket, frames, a relay, idle connections, datagrams.

use std::any::Any;
use std::io;
use std::net::SocketAddr;

use handlers::udp::{Datagram, Sending};
use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionOptions, Framing, Lines,
    ListenOptions, Relay, ServerKey, Timeout, on_data, on_frames,
};
use reactor::{Next, Registry};
use serde_json::Value;

use super::{Cx, Daemon};
use crate::process::{IDLE_TIMEOUT, LINE_MAX};

type Servers = Vec<ServerKey<Daemon>>;

/// Registers all servers. Returns their keys, and the address of each by its name.
pub(super) fn register(
    registry: &mut Registry<Daemon>,
) -> io::Result<(Servers, Vec<(String, Value)>)> {
    let (mut servers, mut addresses) = (Vec::new(), Vec::new());
    let options = ConnectionOptions::new();
    let mut add = |name: &str, server: ServerKey<Daemon>, address: &Address| {
        servers.push(server);
        addresses.push((name.to_owned(), address.to_string().into()));
    };

    let (listener, echo) = bind("127.0.0.1:0")?;
    let server = listener.serve(registry, &options, |_peer, cx| {
        Ok(Tracked::new(echo_all(), cx))
    })?;
    add("echo", server, &echo);

    let (listener, address) = bind(&format!("unix:@soak-{}", std::process::id()))?;
    let server = listener.serve(registry, &options, |_peer, cx| {
        Ok(Tracked::new(echo_all(), cx))
    })?;
    add("unix", server, &address);

    let (listener, address) = bind("127.0.0.1:0")?;
    let server = listener.serve(registry, &options, |_peer, cx| {
        Ok(Tracked::new(frames(), cx))
    })?;
    add("frames", server, &address);

    let Address::Tcp(upstream) = echo else {
        return Err(io::Error::other("the echo server has no TCP address"));
    };
    let (listener, address) = bind("127.0.0.1:0")?;
    let relayed = options.clone();
    let server = listener.serve(registry, &options, move |_peer, cx| {
        Ok(relay(upstream, &relayed, cx))
    })?;
    add("relay", server, &address);

    let (listener, address) = bind("127.0.0.1:0")?;
    let server = listener.serve(
        registry,
        &options.idle_timeout(IDLE_TIMEOUT),
        |_peer, cx| Ok(Tracked::new(echo_all(), cx)),
    )?;
    add("idle", server, &address);
    Ok((servers, addresses))
}

fn bind(address: &str) -> io::Result<(handlers::Listener, Address)> {
    let address = address.parse().map_err(io::Error::other)?;
    let listener = ListenOptions::new().bind(&address)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn echo_all() -> impl ConnectionHandler<Daemon> {
    on_data(|data, connection, cx: &mut Cx<'_>| {
        cx.state.counts.bytes += data.len() as u64;
        // While the queue is full, the connection does not read.
        connection.write(data).map(|_flow| data.len())
    })
}

/// Answers each line with its reverse. A line that begins with `j` is reversed by a worker.
fn frames() -> impl ConnectionHandler<Daemon> {
    on_frames(Lines::new(LINE_MAX), |line, connection, cx: &mut Cx<'_>| {
        cx.state.counts.frames += 1;
        if !line.starts_with(b"j") {
            return connection.write(&reversed(line)?).map(|_flow| ());
        }
        connection.begin_response();
        let (key, line) = (connection.key(), line.to_owned());
        cx.state.pool.submit(
            move || reversed(&line),
            move |reply, cx| {
                cx.state.counts.jobs += 1;
                let reply = reply.unwrap_or_else(|panic| Err(panic.into()));
                let sent = key.with(cx, |connection, _cx| {
                    connection.end_response();
                    connection.write(&reply?)
                });
                // A client that has gone needs no answer.
                if let Ok(Err(error)) = sent {
                    cx.state.failed("the answer of a job", &error);
                }
            },
        )?;
        Ok(())
    })
}

fn reversed(line: &[u8]) -> io::Result<Vec<u8>> {
    let reversed: Vec<u8> = line.iter().rev().copied().collect();
    let mut reply = Vec::new();
    Lines::new(LINE_MAX).encode(&reversed, &mut reply)?;
    Ok(reply)
}

fn relay(
    upstream: SocketAddr,
    options: &ConnectionOptions,
    cx: &mut Cx<'_>,
) -> Tracked<Relay<Daemon>> {
    let (client_side, server_side) = Relay::pair();
    let server_side = Tracked::new(server_side, cx);
    client_side.gives_up(Connection::connect(
        cx.registry,
        [upstream],
        options,
        server_side,
    ));
    Tracked::new(client_side, cx)
}

pub(super) fn on_datagram(
    datagram: &Datagram<'_>,
    socket: &mut Sending<'_>,
    cx: &mut Cx<'_>,
) -> io::Result<Next> {
    cx.state.counts.datagrams += 1;
    // Dropped if the queue is full: the client counts it as lost.
    let _ = socket.reply(datagram, datagram.bytes);
    Ok(Next::Keep)
}

/// Counts the connections that have a handler and have not been closed.
struct Tracked<H>(H);

impl<H> Tracked<H> {
    fn new(handler: H, cx: &mut Cx<'_>) -> Self {
        cx.state.counts.open += 1;
        cx.state.counts.connections += 1;
        Self(handler)
    }
}

impl<H: ConnectionHandler<Daemon>> ConnectionHandler<Daemon> for Tracked<H> {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.0.on_open(connection, cx)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<usize> {
        self.0.on_data(data, connection, cx)
    }

    fn on_drain(
        &mut self,
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.0.on_drain(connection, cx)
    }

    fn on_end(
        &mut self,
        rest: &[u8],
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.0.on_end(rest, connection, cx)
    }

    fn on_graceful_close(
        &mut self,
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.0.on_graceful_close(connection, cx)
    }

    fn on_failure(
        &mut self,
        error: &io::Error,
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.0.on_failure(error, connection, cx)
    }

    fn on_timeout(
        &mut self,
        timeout: Timeout,
        connection: &mut Connection<'_, Daemon>,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        self.0.on_timeout(timeout, connection, cx)
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Cx<'_>) {
        match cx.state.counts.open.checked_sub(1) {
            Some(open) => cx.state.counts.open = open,
            None => cx.state.deviate("a connection was closed twice"),
        }
        self.0.on_close(reason, cx);
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self.0.as_any_mut()
    }
}
