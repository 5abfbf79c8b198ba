//! The client of one echo server: a process of its own, which holds its connections open and loads
//! the server when it is told to.
//!
//! It says in a line of JSON that all connections are open, and then answers each line `go` by the
//! figures of a slice. In between nothing is on its way, so that client and server sleep, and cost
//! those nothing who are measured meanwhile.

mod client;
mod measured;

use std::io::BufRead;
use std::time::Duration;

use workloads::{Result, raise_open_files_limit, report, resident_bytes};

use self::client::Client;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the server listens, on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Connections, each with one message on its way
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    message: u32,
    #[command(flatten)]
    length: Length,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Length {
    /// The server's process, for its processor time and its memory: it is loaded for a slice at
    /// each line that says `go`
    #[arg(long)]
    slices_of: Option<u32>,
    /// Exactly so many messages instead, beside the first of each connection
    #[arg(long)]
    messages: Option<u64>,
}

/// What a client is told when it is its turn.
pub(crate) const GO: &str = "go";
/// How long a server is loaded at a time, before it sends back what is still on its way. For as
/// much time in all, shorter slices tell more than longer ones, up to where starting and ending one
/// takes as long as the slice.
const SLICE: Duration = Duration::from_millis(25);
/// The same before it counts: a server that has slept, and its connections, are in no cache.
const WARM_UP: Duration = Duration::from_millis(3);
/// By so many connections: there is no cache for more of them.
const WARM: usize = 1000;

pub(crate) fn run(options: &Options) -> Result {
    raise_open_files_limit()?;
    let open = || {
        Client::open(
            options.port,
            options.connections as usize,
            options.message as usize,
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
    answer(std::io::stdin().lock(), || {
        client.load(WARM_UP, WARM, pid)?;
        report(&client.load(SLICE, usize::MAX, pid)?.figures()?);
        Ok(())
    })
}

/// Does something at each line that says `go`, until there are no more lines.
///
/// # Errors
/// That of what it does, and a line that says something else.
fn answer(lines: impl BufRead, mut slice: impl FnMut() -> Result) -> Result {
    for line in lines.lines() {
        match line?.as_str() {
            GO => slice()?,
            other => return Err(format!("it was told {other:?}, and not {GO:?}").into()),
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
                    Err("the server has closed it".into())
                } else {
                    Ok(())
                }
            })
        };
        assert_eq!(
            told("go\nstop\ngo\n", false).unwrap_err().to_string(),
            "it was told \"stop\", and not \"go\""
        );
        assert!(told("\n", false).is_err());
        assert_eq!(
            told("go\ngo\n", true).unwrap_err().to_string(),
            "the server has closed it"
        );
        assert_eq!(slices, 2);
    }
}
