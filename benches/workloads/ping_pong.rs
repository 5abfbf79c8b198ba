//! W2: a number goes to and fro between the loops of two threads.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use reactor::{Builder, Capacity, Next, Reactor, Sender, Spin, notification_queue};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Result;

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 20_000)]
    n: usize,
    /// Spin before sleeping, for as long as it pays
    #[arg(long)]
    spin: bool,
}

/// Keeps this thread on a core of its own: what is measured is the way between two.
fn pin(core: usize) -> std::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// A loop of one side.
fn side<S>(spin: bool) -> Builder<S> {
    Reactor::builder().spin(if spin { Spin::Adaptive(Duration::from_micros(100)) } else { Spin::Off })
}

pub(crate) fn run(options: &Options) -> Result {
    let (n, spin) = (options.n, options.spin);
    let (to_far, at_far) = notification_queue::<Sender<Instant>>(Capacity::Unbounded);
    let cores = thread::available_parallelism()?.get();
    pin(0)?;
    let far = thread::spawn(move || -> std::io::Result<()> {
        pin(1 % cores)?;
        let mut reactor = side::<()>(spin).build()?;
        reactor.consume(at_far, |back, _| {
            if let Some(back) = back {
                let _ = back.try_send(Instant::now());
            }
            Ok(Next::Keep)
        })?;
        Ok(reactor.run(&mut ())?)
    });
    let (back, at_near) = notification_queue::<Instant>(Capacity::Unbounded);
    let mut reactor = side::<Vec<u64>>(spin).build()?;
    let mut sent = Instant::now();
    to_far.try_send(back.clone())?;
    reactor.consume(at_near, move |_, cx| {
        cx.state.push(sent.elapsed().as_nanos() as u64);
        if cx.state.len() == n {
            return Ok(Next::Remove);
        }
        sent = Instant::now();
        let _ = to_far.try_send(back.clone());
        Ok(Next::Keep)
    })?;
    let mut took = Vec::with_capacity(n);
    reactor.run(&mut took)?;
    let metrics = reactor.metrics();
    drop(reactor);
    far.join().map_err(|_| "it panicked")??;
    took.sort_unstable();
    println!(
        "{{\"ns_per_op\": {}, \"ns_99th\": {}, \"writes_per_op\": {:.3}}}",
        took[n / 2],
        took[n * 99 / 100],
        metrics.signals as f64 / n as f64,
    );
    Ok(())
}
