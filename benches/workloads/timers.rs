//! W4: timers armed, cancelled, run, and put off: idle timeouts of connections that keep talking.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use reactor::{Context, Reactor, Then, TimerKey};

use crate::{Peer, Result, random, resident_bytes};

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value_t = Peer::Reactor)]
    peer: Peer,
    #[arg(value_enum)]
    op: Op,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Op {
    /// 1 000 000 timers, within a minute, are cancelled in the order of their arming
    Cancel,
    /// 1 000 000 timers, within 100 ms, are due at once
    Fire,
    /// 100 000 timers of 30 s are put off 10 000 000 times, at random
    PutOff,
}

impl Op {
    const fn timers(self) -> usize {
        if matches!(self, Self::PutOff) { 100_000 } else { 1_000_000 }
    }

    fn delay(self, seed: &mut u64) -> Duration {
        Duration::from_millis(match self {
            Self::Cancel => 1 + random(seed) % 60_000,
            Self::Fire => 1 + random(seed) % 100,
            Self::PutOff => 30_000,
        })
    }
}

struct State {
    timers: Vec<TimerKey>,
    ran: usize,
    seed: u64,
}

const SEED: u64 = 88_172_645_463_325_252;
const PUT_OFF: usize = 10_000_000;
const PUT_OFF_A_TURN: usize = 1000;

pub(crate) fn run(options: &Options) -> Result {
    match options.peer {
        Peer::Reactor => run_reactor(options.op),
        Peer::Tokio => run_tokio(options.op),
        Peer::Mio => Err("mio has no timers".into()),
    }
}

fn run_reactor(op: Op) -> Result {
    let n = op.timers();
    let mut state = State { timers: Vec::with_capacity(n), ran: 0, seed: SEED };
    let mut reactor = Reactor::<State>::new()?;

    let (resident, began) = (resident_bytes()?, Instant::now());
    reactor.defer(move |cx| arm(cx, op));
    reactor.turn(&mut state, Some(Duration::ZERO))?;
    let armed = began.elapsed();
    let resident = resident_bytes()? - resident;

    let (took, operations) = match op {
        Op::Cancel => {
            let began = Instant::now();
            for timer in &state.timers {
                reactor.cancel(*timer)?;
            }
            (began.elapsed(), n)
        }
        Op::Fire => {
            sleep(Duration::from_millis(120));
            let began = Instant::now();
            while state.ran < n {
                reactor.turn(&mut state, Some(Duration::ZERO))?;
            }
            (began.elapsed(), n)
        }
        Op::PutOff => {
            let began = Instant::now();
            for _ in 0..PUT_OFF / PUT_OFF_A_TURN {
                reactor.defer(put_off);
                reactor.turn(&mut state, Some(Duration::ZERO))?;
            }
            (began.elapsed(), PUT_OFF)
        }
    };
    report(took, operations, armed, n);
    eprintln!("{:.1} bytes a timer", resident as f64 / n as f64);
    Ok(())
}

fn report(took: Duration, operations: usize, armed: Duration, timers: usize) {
    let (ns_per_op, ns_arm) = (took.as_nanos() as f64 / operations as f64, armed.as_nanos() as f64 / timers as f64);
    println!("{{\"ns_per_op\": {ns_per_op:.1}, \"ns_arm\": {ns_arm:.1}}}");
}

fn arm(cx: &mut Context<'_, State>, op: Op) {
    for _ in 0..op.timers() {
        let timer = cx.registry.after(op.delay(&mut cx.state.seed), |cx| {
            cx.state.ran += 1;
            Ok(Then::Done)
        });
        cx.state.timers.push(timer);
    }
}

fn put_off(cx: &mut Context<'_, State>) {
    for _ in 0..PUT_OFF_A_TURN {
        let place = random(&mut cx.state.seed) as usize % cx.state.timers.len();
        // Each of them is there until the end.
        let _ = cx.registry.reset(cx.state.timers[place], Duration::from_secs(30));
    }
}

/// A `Sleep` for each timer, polled once so that it is armed, and reset in place: the cheapest use there is.
fn run_tokio(op: Op) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let (n, mut seed) = (op.timers(), SEED);
        let (began, now) = (Instant::now(), tokio::time::Instant::now());
        let mut timers: Vec<Pin<Box<tokio::time::Sleep>>> = Vec::with_capacity(n);
        while timers.len() < n {
            // In batches, since each poll takes of the budget of the task.
            std::future::poll_fn(|cx| {
                for _ in 0..64.min(n - timers.len()) {
                    let mut timer = Box::pin(tokio::time::sleep_until(now + op.delay(&mut seed)));
                    let _ = timer.as_mut().poll(cx);
                    timers.push(timer);
                }
                Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
        }
        let armed = began.elapsed();
        let began = Instant::now();
        let operations = match op {
            Op::Cancel => {
                timers.clear();
                n
            }
            Op::Fire => return Err("a task for each timer is another workload".into()),
            Op::PutOff => {
                for _ in 0..PUT_OFF / PUT_OFF_A_TURN {
                    let now = tokio::time::Instant::now();
                    for _ in 0..PUT_OFF_A_TURN {
                        let place = random(&mut seed) as usize % n;
                        timers[place].as_mut().reset(now + Duration::from_secs(30));
                    }
                    tokio::task::yield_now().await;
                }
                PUT_OFF
            }
        };
        report(began.elapsed(), operations, armed, n);
        Ok(())
    })
}
