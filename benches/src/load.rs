//! The client of one echo server: a separate process, which holds its connections open and loads
//! the server on request.
//!
//! When all connections are open, the client prints a line of JSON. It then answers each input line
//! `go` with the figures of a slice. Between slices no message is in flight. Client and server
//! sleep then, so they take no time from the servers that are measured meanwhile.

mod bursts;
mod client;
mod connection;
mod measured;
mod records;
mod security;
mod session;
mod talker;

use std::io::BufRead;
use std::time::Duration;

use workloads::tls::Exchange;
use workloads::{Result, raise_open_files_limit, report, resident_bytes};

use self::bursts::Bursts;
use self::client::Client;
pub(crate) use self::measured::processor_time;
use self::security::Security;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Port of the server on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Connections, each with one message in flight
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Length of a message in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    message: u32,
    /// Use TLS, with this exchange
    #[arg(long, value_enum)]
    tls: Option<Exchange>,
    /// In a slice, open all connections anew in bursts, and measure the messages of another one
    #[arg(long, requires = "tls", conflicts_with = "messages")]
    bursts: bool,
    #[command(flatten)]
    length: Length,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Length {
    /// Process id of the server, for its processor time and its memory; it is loaded for a slice at
    /// each input line `go`
    #[arg(long)]
    slices_of: Option<u32>,
    /// Exchange exactly this many messages instead, in addition to the first one of each connection
    #[arg(long)]
    messages: Option<u64>,
}

/// The input line that requests a slice.
pub(crate) const GO: &str = "go";
/// The time for which a server is loaded, before the messages in flight are awaited. In the same
/// total time, shorter slices tell more than longer ones, until start and end take as long as the
/// slice itself.
const SLICE: Duration = Duration::from_millis(25);
/// The time of the load before a slice, which does not count. After a sleep, the server and its
/// connections are in no cache.
const WARM_UP: Duration = Duration::from_millis(3);
/// The maximum number of connections in that load. The caches have no room for more.
const WARM: usize = 1000;

pub(crate) fn run(options: &Options) -> Result {
    raise_open_files_limit()?;
    let open = || {
        Client::open(
            options.port,
            options.connections as usize,
            options.message as usize,
            options.tls.map(Security::new).transpose()?,
        )
    };
    if let Some(messages) = options.length.messages {
        let mut client = open()?;
        client.exchange(messages)?;
        return client.close();
    }
    let pid = options.length.slices_of.ok_or("no server to measure")?;
    let before = resident_bytes(&pid.to_string())?;
    let mut client = open()?;
    let after = resident_bytes(&pid.to_string())?;
    report(&[("bytes", (after - before) / f64::from(options.connections))]);
    let orders = std::io::stdin().lock();
    if options.bursts {
        let mut bursts = Bursts::open(client, options.port, options.message as usize)?;
        return answer(orders, || {
            report(&bursts.slice()?);
            Ok(())
        });
    }
    answer(orders, || {
        client.load(WARM_UP, WARM, pid)?;
        report(&client.load(SLICE, usize::MAX, pid)?.figures()?);
        Ok(())
    })
}

/// Calls a function for each input line `go`, until the input ends.
///
/// # Errors
/// The errors of the function, and an error for any other input line.
fn answer(lines: impl BufRead, mut slice: impl FnMut() -> Result) -> Result {
    for line in lines.lines() {
        match line?.as_str() {
            GO => slice()?,
            other => return Err(format!("expected the line {GO:?}, got {other:?}").into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_loads_its_server_once_for_each_go_and_ends_with_the_lines() {
        let mut slices = 0;
        answer("go\ngo\n".as_bytes(), || {
            slices += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(slices, 2);
    }

    #[test]
    fn an_unexpected_line_or_a_failed_slice_ends_the_client() {
        let mut slices = 0;
        let mut told = |lines: &str, fails: bool| {
            answer(lines.as_bytes(), || {
                slices += 1;
                if fails {
                    Err("the server has closed the connection".into())
                } else {
                    Ok(())
                }
            })
        };
        assert_eq!(
            told("go\nstop\ngo\n", false).unwrap_err().to_string(),
            "expected the line \"go\", got \"stop\""
        );
        assert!(told("\n", false).is_err());
        assert_eq!(
            told("go\ngo\n", true).unwrap_err().to_string(),
            "the server has closed the connection"
        );
        assert_eq!(slices, 2);
    }
}
