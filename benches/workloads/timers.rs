//! W4: timers armed, cancelled, run, and put off: idle timeouts of connections that keep talking.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use reactor::{Context, ManualClock, Reactor, Then, TimerKey};

use crate::{Result, resident_bytes};

#[derive(Args)]
pub(crate) struct Options {
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

struct State {
    timers: Vec<TimerKey>,
    ran: usize,
    seed: u64,
}

impl State {
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

const PUT_OFF: usize = 10_000_000;
const PUT_OFF_A_TURN: usize = 1000;

pub(crate) fn run(options: &Options) -> Result {
    let n = if options.op == Op::PutOff { 100_000 } else { 1_000_000 };
    let clock = ManualClock::new();
    let mut state = State { timers: Vec::with_capacity(n), ran: 0, seed: 88_172_645_463_325_252 };
    let mut reactor = Reactor::<State>::builder().clock(clock.clone()).build()?;

    let (resident, began) = (resident_bytes()?, Instant::now());
    let op = options.op;
    reactor.defer(move |cx| arm(cx, op, n));
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
            clock.advance(Duration::from_millis(120));
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
    println!(
        "{{\"ns_per_op\": {:.1}, \"ns_arm\": {:.1}, \"bytes\": {:.1}}}",
        took.as_nanos() as f64 / operations as f64,
        armed.as_nanos() as f64 / n as f64,
        resident as f64 / n as f64,
    );
    Ok(())
}

fn arm(cx: &mut Context<'_, State>, op: Op, n: usize) {
    for _ in 0..n {
        let delay_ms = match op {
            Op::Cancel => 1 + cx.state.random() % 60_000,
            Op::Fire => 1 + cx.state.random() % 100,
            Op::PutOff => 30_000,
        };
        let timer = cx.registry.after(Duration::from_millis(delay_ms), |cx| {
            cx.state.ran += 1;
            Ok(Then::Done)
        });
        cx.state.timers.push(timer);
    }
}

fn put_off(cx: &mut Context<'_, State>) {
    for _ in 0..PUT_OFF_A_TURN {
        let place = cx.state.random() as usize % cx.state.timers.len();
        // Each of them is there until the end.
        let _ = cx.registry.reset(cx.state.timers[place], Duration::from_secs(30));
    }
}
