//! W1: one thread sends, the loop of another runs what it is sent.

use std::thread;
use std::time::Instant;

use clap::{Args, ValueEnum};
use reactor::{Capacity, Next, Reactor, notification_queue};

use crate::Result;

#[derive(Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    form: Form,
    #[arg(long, default_value_t = 1_000_000)]
    n: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Numbers through a queue
    Value,
    /// Closures that capture a number
    Closure,
}

pub(crate) fn run(options: &Options) -> Result {
    let n = options.n;
    let mut reactor = Reactor::<[u64; 2]>::new()?;
    let mut counts = [0; 2];
    let began = match options.form {
        Form::Value => {
            let (sender, receiver) = notification_queue(Capacity::Unbounded);
            reactor.consume(receiver, |value, cx| {
                cx.state[0] += u64::from(value.is_some());
                cx.state[1] ^= value.unwrap_or(0);
                Ok(Next::Keep)
            })?;
            let producer = thread::spawn(move || {
                let began = Instant::now();
                for value in 0..n {
                    if sender.try_send(value).is_err() {
                        break;
                    }
                }
                began
            });
            reactor.run(&mut counts)?;
            producer.join()
        }
        Form::Closure => {
            let remote = reactor.remote()?;
            let alive = remote.keep_alive();
            let producer = thread::spawn(move || {
                let (began, _alive) = (Instant::now(), alive);
                for value in 0..n {
                    let posted = remote.post(move |cx| {
                        cx.state[0] += 1;
                        cx.state[1] ^= value;
                    });
                    if posted.is_err() {
                        break;
                    }
                }
                began
            });
            reactor.run(&mut counts)?;
            producer.join()
        }
    };
    let took = began.map_err(|_| "the producer panicked")?.elapsed();
    assert_eq!(counts[0], n, "each exactly once");
    let writes = reactor.metrics().signals as f64 / n as f64;
    println!("{{\"ns_per_op\": {:.1}, \"writes_per_op\": {writes:.6}}}", took.as_nanos() as f64 / n as f64);
    Ok(())
}
