//! W3, the chain: `n` pipes, `a` bytes on their way. Each handler reads what came and writes it to another pipe.
//!
//! Prints one line of JSON: time for an event and for a registration, resident bytes for a registered source.
//! Run: cargo bench --bench chain -- --n 1000 --a 100

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::time::Instant;

use clap::Parser;
use reactor::{Interest, Next, Reactor};

/// Workload W3: readable events that set off each other.
#[derive(Parser)]
struct Options {
    /// Pipes registered.
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// Bytes on their way at the same time.
    #[arg(long, default_value_t = 100)]
    a: usize,
    /// Events in all.
    #[arg(long, default_value_t = 100_000)]
    w: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Each event passes its byte on by so many places; a prime, so that it comes around everywhere.
const STRIDE: usize = 7919;

struct Chain {
    writers: Vec<PipeWriter>,
    events: usize,
    /// Bytes that may still be sent.
    left: usize,
    goal: usize,
    /// Where every handler reads to: one for all.
    scratch: [u8; 128],
}

impl Chain {
    fn start(&mut self, active: usize, events: usize) -> io::Result<()> {
        (self.events, self.goal, self.left) = (0, events, events - active);
        let step = (self.writers.len() / active).max(1);
        for k in 0..active {
            self.send(k * step % self.writers.len())?;
        }
        Ok(())
    }

    fn send(&self, to: usize) -> io::Result<()> {
        (&self.writers[to]).write(&[1]).map(drop)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Options { n, a, w, .. } = Options::parse();
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: nofile.maximum, maximum: nofile.maximum },
    )?;
    let (readers, writers): (Vec<PipeReader>, Vec<PipeWriter>) =
        (0..n).map(|_| io::pipe()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    let mut chain = Chain { writers, events: 0, left: 0, goal: 0, scratch: [0; 128] };
    let mut reactor = Reactor::<Chain>::new()?;

    let resident_before = resident_bytes()?;
    let began = Instant::now();
    for (place, reader) in readers.into_iter().enumerate() {
        let next = (place + STRIDE) % n;
        reactor.add(reader, Interest::READABLE, move |reader, cx| {
            let mut bytes = reader.read(&mut cx.state.scratch)?;
            cx.state.events += bytes;
            while bytes > 0 && cx.state.left > 0 {
                cx.state.left -= 1;
                cx.state.send(next)?;
                bytes -= 1;
            }
            if cx.state.events >= cx.state.goal {
                cx.registry.stop();
            }
            Ok(Next::Keep)
        })?;
    }
    let registered = began.elapsed();
    let resident = resident_bytes()? - resident_before;

    chain.start(a, w.min(1000).max(a))?; // warm up
    reactor.run(&mut chain)?;
    chain.start(a, w)?;
    let began = Instant::now();
    reactor.run(&mut chain)?;
    let took = began.elapsed();
    println!(
        "{{\"workload\":\"pipes\",\"peer\":\"reactor\",\"n\":{n},\"a\":{a},\"w\":{w},\"ns_per_op\":{:.1},\"reg_ns\":{:.1},\"rss_per_handler\":{:.1}}}",
        took.as_nanos() as f64 / chain.events as f64,
        registered.as_nanos() as f64 / n as f64,
        resident as f64 / n as f64,
    );
    Ok(())
}

fn resident_bytes() -> io::Result<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<i64>().ok());
    Ok(pages.unwrap_or(0) * rustix::param::page_size() as i64)
}
