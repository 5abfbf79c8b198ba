//! Relay of lines with a spool on disk. Shows: an upstream that reconnects, acknowledgements from
//! end to end, blocking disk writes on a worker, back-pressure, replay after a crash, a log with
//! the id of each request. Leaves out: TLS, a spool that is larger than memory.
//!
//! A client sends lines, and gets `+` and a line feed for each, in order. The upstream gets the
//! same lines and answers in the same way, so one forwarder can be the upstream of another. A line
//! is acknowledged when the upstream has acknowledged it, or when it is in the spool. Each
//! acknowledged line reaches the upstream at least once, even if the forwarder is killed. It may
//! arrive twice.
//!
//! Run: cargo run --release --example forwarder -- --listen 127.0.0.1:7779 --to 127.0.0.1:7780
//! Try: printf 'one\ntwo\n' | nc 127.0.0.1 7779
//! With RUST_LOG=forwarder=debug the log says what happens to each line, with the id of the line.

mod relay;
mod request;
mod spool;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handlers::signal::{self, Signal};
use handlers::{Address, Backoff, ConnectionLimit, ListenOptions, Target};
use reactor::Reactor;
use tracing_subscriber::EnvFilter;

use self::relay::{Relay, Settings};
use self::spool::SyncPolicy;

/// Forwards lines to another server, and keeps them on disk while it is away. SIGINT or SIGTERM
/// ends it gracefully, another one a second later at once.
#[derive(Parser)]
struct Options {
    /// Where to listen: IP:PORT (port 0: any that is free), unix:PATH or unix:@NAME
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7779")]
    listen: Address,
    /// Target: HOST:PORT, IP:PORT, unix:PATH or unix:@NAME; may be repeated, then the targets are
    /// tried in turn
    #[arg(long, value_name = "TARGET", required = true)]
    to: Vec<Target>,
    /// The file for the lines that wait while the target is away
    #[arg(long, value_name = "FILE", default_value = "forwarder.spool")]
    spool: PathBuf,
    /// Maximum length of the lines that wait, in memory and in the spool; at most one line for each
    /// 256 bytes of it
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_spool: usize,
    /// When the spool is written through to the disk: always, before a line is acknowledged, or
    /// never, which a crash of the machine may notice but not one of the forwarder
    #[arg(long, value_enum, default_value = "always")]
    sync: SyncPolicy,
    /// Greatest delay before the target is tried again
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5000)]
    max_delay: u64,
    /// Report a line that has not been answered for this long
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    slow: u64,
    /// Maximum number of open connections; more wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_connections: usize,
}

impl Options {
    fn settings(&self) -> Settings {
        let greatest = Duration::from_millis(self.max_delay);
        Settings {
            targets: self.to.clone(),
            backoff: Backoff::new(greatest / 64, greatest),
            spool: self.spool.clone(),
            max_spool: self.max_spool,
            sync: self.sync,
            slow_after: Duration::from_millis(self.slow),
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let mut reactor = Reactor::<Relay>::new()?;
    let mut relay = Relay::start(&mut reactor, &options.settings())?;
    let listener = ListenOptions::new()
        .limit(ConnectionLimit::new(options.max_connections))
        .bind(&options.listen)?;
    let address = listener.local_addr()?;
    let server = relay::serve(&mut reactor, listener)?;
    signal::shutdown_on(
        &mut reactor,
        [Signal::INT, Signal::TERM],
        move |_arrival, cx| relay::stop(server, cx),
    )?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")
        .and_then(|()| stdout.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))?;
    // Returns after a signal has stopped the listener, the link and the pool.
    reactor.run(&mut relay)?;
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 on bad arguments, and names them
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false) // else a panic when standard error is on a full disk
        .init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}
