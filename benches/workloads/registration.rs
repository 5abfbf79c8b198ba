//! Registrations: whether one costs the same among 100 and among 18 000, what it takes in memory, and a churn of them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use mio::Token;
use mio::unix::SourceFd;
use reactor::{Context, Interest, Key, Next, Reactor};
use rustix::event::{EventfdFlags, eventfd};

use crate::{Result, resident_bytes};

const CHURN: u32 = 1_000_000;

#[derive(Args)]
pub(crate) struct Options {
    /// Registers so many, once; without it: several numbers, each in a process of its own, then the churn
    #[arg(long)]
    sources: Option<u32>,
    /// By mio, which keeps nothing of them
    #[arg(long)]
    mio: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    if let Some(n) = options.sources {
        return if options.mio { register_by_mio(n) } else { register(n) };
    }
    for n in ["100", "1000", "10000", "18000"] {
        // What one run leaves in the allocator would count in the next.
        let status = Command::new(std::env::current_exe()?).args(["registration", "--sources", n]).status()?;
        if !status.success() {
            return Err(format!("{n} sources: {status}").into());
        }
    }
    churn()
}

fn register(n: u32) -> Result {
    let sources = (0..n).map(|_| source()).collect::<Result<Vec<_>>>()?;
    let mut reactor = Reactor::<u64>::new()?;
    let (resident, began) = (resident_bytes()?, Instant::now());
    for source in sources {
        add(&mut reactor, source)?;
    }
    let took = began.elapsed().as_nanos() as f64 / f64::from(n);
    let resident = (resident_bytes()? - resident) as f64 / f64::from(n);
    println!("{{\"sources\": {n}, \"ns_per_op\": {took:.0}, \"bytes\": {resident:.0}}}");
    Ok(())
}

fn register_by_mio(n: u32) -> Result {
    let sources = (0..n).map(|_| source()).collect::<Result<Vec<_>>>()?;
    let poll = mio::Poll::new()?;
    let began = Instant::now();
    for (token, source) in sources.iter().enumerate() {
        poll.registry().register(&mut SourceFd(&source.as_raw_fd()), Token(token), mio::Interest::READABLE)?;
    }
    println!("{{\"ns_per_op\": {:.0}}}", began.elapsed().as_nanos() as f64 / f64::from(n));
    Ok(())
}

fn churn() -> Result {
    let mut reactor = Reactor::<u64>::new()?;
    let mut keys = (0..1000).map(|_| add(&mut reactor, source()?)).collect::<Result<Vec<_>>>()?;
    let resident = resident_bytes()?;
    let mut began = Instant::now();
    for round in 1..=CHURN {
        let place = round as usize * 7919 % keys.len();
        reactor.remove(keys[place])?;
        keys[place] = add(&mut reactor, source()?)?;
        if round % (CHURN / 4) == 0 {
            let took = began.elapsed().as_nanos() as f64 / f64::from(CHURN / 4);
            let grown = resident_bytes()? - resident;
            println!("churn, to round {round}: {took:.0} ns to open, add, remove and close one; {grown} bytes grown");
            began = Instant::now();
        }
    }
    Ok(())
}

fn source() -> Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn add(reactor: &mut Reactor<u64>, source: OwnedFd) -> Result<Key> {
    let step = 1;
    Ok(reactor.add(source, Interest::READABLE, move |_, cx: &mut Context<'_, u64>| {
        *cx.state += step;
        Ok(Next::Keep)
    })?)
}
