//! Cache server that speaks enough RESP2 for `redis-cli` and `redis-benchmark`. Shows: a protocol of one's own, pipelining,
//! a timer for each key that expires, messages from one client to others. Leaves out: persistence, eviction.
//!
//! Run: cargo run --release --example kv_server -- --listen 127.0.0.1:6400     Try: redis-cli -p 6400

mod commands;
mod protocol;
mod store;

use std::io::{self, Write};
use std::mem::take;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::signal::{self, Signal};
use handlers::{
    Address, CloseReason, Connection, ConnectionHandler, ConnectionKey, ConnectionLimit, ConnectionOptions, Flow,
    ListenOptions,
};
use reactor::{Context, PanicPolicy, Reactor, Spin};
use tracing_subscriber::EnvFilter;

use self::commands::{Next, REPLY_MAX, Server, Session};
use self::protocol::Limits;

/// A client that is to go gets so long to read its last reply.
const GRACE: Duration = Duration::from_secs(5);
/// Room for replies and messages is given back beyond this.
const BUFFER_KEPT: usize = 1 << 20;
/// The longest command: a client that sends a longer one is closed.
const COMMAND_MAX: usize = 64 << 20;

/// Serves keys and values to clients of Redis. SIGINT or SIGTERM ends it in order, a second one at once.
#[derive(Parser)]
struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6400")]
    listen: Address,
    /// How many connections may be open at once; more wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_connections: usize,
    /// Look for work for up to so long before sleeping, where that pays; 0 is not at all
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50)]
    spin: u64,
    #[command(flatten)]
    limits: Limits,
}

/// A client, as others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(ConnectionKey<Server<Self>>);

type Client<'a> = Connection<'a, Server<Key>>;
type Cx<'a> = Context<'a, Server<Key>>;

impl ConnectionHandler<Server<Key>> for Session<Key> {
    fn on_open(&mut self, client: &mut Client<'_>, cx: &mut Cx<'_>) -> io::Result<()> {
        self.begin(Key(client.key()), cx.state);
        Ok(())
    }

    fn on_data(&mut self, data: &[u8], client: &mut Client<'_>, cx: &mut Cx<'_>) -> io::Result<usize> {
        let mut done = 0;
        loop {
            let (length, next) = self.execute(&data[done..], cx.state, cx.registry);
            done += length;
            let written = client.write(&cx.state.replies.0);
            cx.state.replies.0.clear(); // also what could not be written: it is for nobody else
            cx.state.replies.0.shrink_to(BUFFER_KEPT);
            deliver(cx);
            let flow = written?;
            match next {
                Next::Room if flow == Flow::Open => {}
                Next::Room | Next::Data => return Ok(done), // what is left comes again, when there is room or more of it
                Next::End => client.close_after_flush(GRACE),
            }
            if next == Next::End {
                return Ok(data.len());
            }
        }
    }

    fn on_close(&mut self, _: CloseReason, cx: &mut Cx<'_>) {
        self.end(cx.state);
    }
}

/// Hands over what a client has published. One that has gone gets nothing; one that does not read, and for which too much
/// is queued, is closed.
fn deliver(cx: &mut Cx<'_>) {
    let (mut letters, mut messages) = (take(&mut cx.state.letters), take(&mut cx.state.messages));
    for (key, range) in letters.drain(..) {
        let _ = key.0.with(cx, |client, _| client.write(&messages.0[range]).map_err(|_| client.abort()));
    }
    messages.0.clear();
    messages.0.shrink_to(BUFFER_KEPT);
    (cx.state.letters, cx.state.messages) = (letters, messages);
}

fn run(options: Options) -> io::Result<()> {
    // Who sends to a loop that sleeps pays for waking it: clients that do little else lose a tenth of their speed by that.
    let spin = Spin::Adaptive(Duration::from_micros(options.spin));
    let mut reactor = Reactor::<Server<Key>>::builder().on_panic(PanicPolicy::RemoveHandler).spin(spin).build()?;
    let limit = ConnectionLimit::new(options.max_connections);
    let listener = ListenOptions::new().limit(limit).bind(&options.listen)?;
    let address = listener.local_address()?;
    let connections = ConnectionOptions::new().unconsumed_max(COMMAND_MAX).queue_max(2 * REPLY_MAX);
    let server = listener.serve(&mut reactor, &connections, |_peer, _cx| Ok(Session::default()))?;
    signal::shutdown_on(&mut reactor, [Signal::INT, Signal::TERM], move |_arrival, cx| {
        server.stop(cx, GRACE);
    })?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush())?;
    Ok(reactor.run(&mut Server::new(options.limits))?)
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    if let Err(error) = run(options) {
        eprintln!("kv_server: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
