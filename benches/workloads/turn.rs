//! W7: what the loop itself costs. A turn that finds nothing, and callbacks that defer themselves again.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use reactor::{Context, Reactor};

use crate::{Peer, Result};

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value_t = Peer::Reactor)]
    peer: Peer,
    #[arg(value_enum)]
    op: Op,
}

#[derive(Clone, Copy, ValueEnum)]
enum Op {
    Empty,
    Deferred,
}

const TURNS: u32 = 500_000;
const CALLBACKS: u64 = 5_000_000;
const CALLBACKS_A_TURN: u32 = 1000;

pub(crate) fn run(options: &Options) -> Result {
    let ns_per_op = match (options.op, options.peer) {
        (Op::Empty, Peer::Reactor) => {
            let mut reactor = Reactor::<()>::new()?;
            let began = Instant::now();
            for _ in 0..TURNS {
                reactor.turn(&mut (), Some(Duration::ZERO))?;
            }
            began.elapsed().as_nanos() as f64 / f64::from(TURNS)
        }
        (Op::Empty, Peer::Mio) => {
            let mut poll = mio::Poll::new()?;
            let mut events = mio::Events::with_capacity(1024);
            let began = Instant::now();
            for _ in 0..TURNS {
                poll.poll(&mut events, Some(Duration::ZERO))?;
            }
            began.elapsed().as_nanos() as f64 / f64::from(TURNS)
        }
        (Op::Deferred, Peer::Reactor) => {
            let mut reactor = Reactor::<u64>::new()?;
            (0..CALLBACKS_A_TURN).for_each(|_| reactor.defer(again));
            let mut ran = 0;
            let began = Instant::now();
            reactor.run(&mut ran)?;
            began.elapsed().as_nanos() as f64 / ran as f64
        }
        (Op::Deferred, Peer::Mio) => return Err("mio defers nothing".into()),
        (_, Peer::Tokio) => return Err("tokio has no turns to be counted".into()),
    };
    println!("{{\"ns_per_op\": {ns_per_op:.1}}}");
    Ok(())
}

fn again(cx: &mut Context<'_, u64>) {
    *cx.state += 1;
    if *cx.state < CALLBACKS {
        cx.registry.defer(again);
    }
}
