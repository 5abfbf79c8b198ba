//! HTTP servers side by side, loaded by `wrk` (HTTP/1.1) and `h2load` (HTTP/2) on another core.
//!
//! The servers of a load run at the same time, and are loaded one after another in each round. The
//! others sleep meanwhile. Each round gives a ratio to the first server of the load.

use std::process::Command;

use workloads::{Result, raise_open_files_limit};

use crate::certificate::Certificate;
use crate::contestant::Contestant;
use crate::load::processor_time;
use crate::pinning::{Core, on_core};
use crate::process::succeed_soon;
use crate::server::Server;
use crate::spread::Spread;
use crate::workshop::Workshop;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Times that each server is loaded, after a warm-up
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of each load in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
}

/// A program that loads a server.
#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Wrk,
    H2load,
}

/// The load of a table, and the servers that get it.
struct Table {
    tool: Tool,
    connections: u32,
    /// Requests at the same time on each connection.
    streams: u32,
    servers: &'static [Contestant],
}

const HTTP1: &[Contestant] = &[
    Contestant::ours(&[]).form("reactor, hyper", &["--form", "http1"]),
    Contestant::rust("tokio").form("tokio, hyper", &["--form", "http1"]),
    Contestant::ours(&[]).form("reactor, hyper on Async", &["--form", "http1-source"]),
    Contestant::ours(&[]).form("reactor, callbacks", &["--form", "callbacks"]),
];
const HTTP2: &[Contestant] = &[
    Contestant::ours(&[]).form("reactor, hyper", &["--form", "http2"]),
    Contestant::rust("tokio").form("tokio, hyper", &["--form", "http2"]),
];

const TABLES: [Table; 4] = [
    Table::new(Tool::Wrk, 50, 1, HTTP1),
    Table::new(Tool::Wrk, 1000, 1, HTTP1),
    Table::new(Tool::H2load, 50, 1, HTTP2),
    Table::new(Tool::H2load, 50, 20, HTTP2),
];

/// The result of one load.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Loaded {
    requests: f64,
    per_second: f64,
}

/// The requests in a second, and the processor time of each in microseconds.
type Costs = [f64; 2];

pub(crate) fn run(options: &Options) -> Result {
    raise_open_files_limit()?;
    let mut workshop = Workshop::open(Certificate::new()?)?;
    for table in &TABLES {
        println!("{}", table.title());
        if let Err(error) = table.tool.check() {
            println!("  {error}");
            continue;
        }
        print(table, &table.measure(&mut workshop, options)?);
    }
    Ok(())
}

impl Tool {
    const fn program(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
        }
    }

    /// Returns an error that names the package, if the program is not installed.
    fn check(self) -> Result {
        let package = match self {
            Self::Wrk => "wrk",
            Self::H2load => "nghttp2-client",
        };
        // wrk knows no option that ends with success.
        match Command::new(self.program()).arg("--version").output() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("missing: not installed (in Debian: {package})").into()),
        }
    }

    /// Returns the result that the output of the program tells.
    ///
    /// # Errors
    /// A request has failed, or the output has another form.
    fn parse(self, output: &str) -> Result<Loaded> {
        let loaded = match self {
            Self::Wrk if output.contains("Non-2xx") || output.contains("Socket errors") => None,
            Self::Wrk => parse_wrk(output),
            Self::H2load => parse_h2load(output),
        };
        loaded.ok_or_else(|| format!("{}: {output}", self.program()).into())
    }
}

fn parse_wrk(output: &str) -> Option<Loaded> {
    let (before, _) = output.split_once(" requests in ")?;
    let (_, per_second) = output.split_once("Requests/sec:")?;
    Some(Loaded {
        requests: before.split_whitespace().last()?.parse().ok()?,
        per_second: per_second.split_whitespace().next()?.parse().ok()?,
    })
}

fn parse_h2load(output: &str) -> Option<Loaded> {
    let (before, after) = output.split_once(" succeeded, ")?;
    let (rate, _) = output.split_once(" req/s")?;
    after
        .starts_with("0 failed, 0 errored, 0 timeout")
        .then_some(())?;
    Some(Loaded {
        requests: before.split_whitespace().last()?.parse().ok()?,
        per_second: rate.split_whitespace().last()?.parse().ok()?,
    })
}

impl Table {
    const fn new(
        tool: Tool,
        connections: u32,
        streams: u32,
        servers: &'static [Contestant],
    ) -> Self {
        Self {
            tool,
            connections,
            streams,
            servers,
        }
    }

    fn title(&self) -> String {
        let name = self.tool.program();
        match self.streams {
            1 => format!("{name}, {} connections", self.connections),
            streams => format!(
                "{name}, {} connections, {streams} streams",
                self.connections
            ),
        }
    }

    /// Returns the command that loads a server.
    fn command(&self, port: u16, seconds: u32) -> Command {
        let mut command = Command::new(self.tool.program());
        let connections = self.connections.to_string();
        command.args(["-t", "1", "-c", &connections]);
        match self.tool {
            Tool::Wrk => command.args(["-d", &format!("{seconds}s")]),
            Tool::H2load => {
                command.args(["-D", &seconds.to_string(), "-m", &self.streams.to_string()])
            }
        };
        command.arg(format!("http://127.0.0.1:{port}/"));
        command
    }

    /// Returns the costs of each round of each server.
    fn measure(&self, workshop: &mut Workshop, options: &Options) -> Result<Vec<Vec<Costs>>> {
        let start = |server: &Contestant| -> Result<_> {
            let command = workshop.command(server, &["web"]);
            Server::start(&mut command.map_err(|absence| absence.to_string())?)
        };
        let servers = self.servers.iter().map(start).collect::<Result<Vec<_>>>()?;
        let mut costs = vec![Vec::new(); servers.len()];
        for server in &servers {
            self.load(server, 1)?;
        }
        for round in 0..options.rounds as usize {
            for place in 0..servers.len() {
                let place = (place + round) % servers.len();
                costs[place].push(self.load(&servers[place], options.seconds)?);
            }
        }
        servers.into_iter().try_for_each(Server::stop)?;
        Ok(costs)
    }

    fn load(&self, server: &Server, seconds: u32) -> Result<Costs> {
        let before = processor_time(server.id())?;
        let output = on_core(Core::Last, || {
            succeed_soon(&mut self.command(server.port(), seconds))
        })?;
        let spent = processor_time(server.id())?.saturating_sub(before);
        let loaded = self.tool.parse(&String::from_utf8_lossy(&output.stdout))?;
        let each = spent.as_secs_f64() * 1e6 / loaded.requests;
        Ok([loaded.per_second, each])
    }
}

/// Prints the medians of each server, and the medians of its ratios to the first one.
fn print(table: &Table, costs: &[Vec<Costs>]) {
    println!(
        "  {:26}{:>12}{:>18}{:>14}{:>18}",
        "", "requests/s", "ratio", "us/request", "ratio"
    );
    for (server, rounds) in table.servers.iter().zip(costs) {
        print!("  {:26}", server.name);
        for (figure, width) in [(0, 12), (1, 14)] {
            let medians = Spread::of(rounds.iter().map(|costs| costs[figure]).collect());
            let ratios = rounds.iter().zip(&costs[0]);
            let ratios = ratios.map(|(costs, first)| costs[figure] / first[figure]);
            let ratios = Spread::of(ratios.collect());
            if let (Some(median), Some(ratio)) = (medians, ratios) {
                let ratio = format!("{:.3} ±{:.3}", ratio.median, ratio.off_by());
                print!("{:>width$.1}{ratio:>18}", median.median);
            }
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_wrk_is_read_and_a_failed_request_is_an_error() {
        let output = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 5 connections\n  \
                      6270 requests in 1.10s, 654.12KB read\nRequests/sec:   5700.25\n\
                      Transfer/sec:    594.6KB\n";
        let loaded = Tool::Wrk.parse(output).unwrap();
        assert_eq!((loaded.requests, loaded.per_second), (6270.0, 5700.25));
        let failed = format!("{output}  Non-2xx or 3xx responses: 3\n");
        assert!(Tool::Wrk.parse(&failed).is_err());
        assert!(Tool::Wrk.parse("").is_err());
    }

    #[test]
    fn the_result_of_h2load_is_read_and_a_failed_request_is_an_error() {
        let output = |failed| {
            format!(
                "finished in 1.00s, 61234.50 req/s, 2.10MB/s\nrequests: 61234 total, 61250 \
                 started, 61234 done, 61234 succeeded, {failed} failed, 0 errored, 0 timeout\n"
            )
        };
        let loaded = Tool::H2load.parse(&output(0)).unwrap();
        assert_eq!((loaded.requests, loaded.per_second), (61234.0, 61234.5));
        assert!(Tool::H2load.parse(&output(1)).is_err());
    }
}
