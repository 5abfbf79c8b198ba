//! W7, the costs of the loop itself.

use std::time::Duration;

use reactor::{Context, Reactor, Registry};
use workloads::Result;
use workloads::deferred::{CALLBACKS_A_TURN, Op, Options, measure};

/// The number of callbacks that ran, and the number at which they end.
struct State {
    ran: u64,
    goal: u64,
}

pub(crate) fn run(options: &Options) -> Result {
    let goal = options.operations();
    let mut state = State { ran: 0, goal };
    let mut reactor = Reactor::<State>::new()?;
    match options.op {
        Op::Deferred => {
            (0..CALLBACKS_A_TURN).for_each(|_| _ = reactor.defer(again));
            measure(|| {
                reactor.run(&mut state)?;
                Ok(state.ran)
            })
        }
        Op::Captured => {
            (0..CALLBACKS_A_TURN).for_each(|_| defer_adding(&mut reactor, 1, goal));
            measure(|| {
                reactor.run(&mut state)?;
                Ok(state.ran)
            })
        }
        Op::Empty => measure(|| {
            for _ in 0..goal {
                reactor.turn(&mut state, Some(Duration::ZERO))?;
            }
            Ok(goal)
        }),
    }
}

fn again(cx: &mut Context<'_, State>) {
    cx.state.ran += 1;
    if cx.state.ran < cx.state.goal {
        cx.registry.defer(again);
    }
}

fn defer_adding(registry: &mut Registry<State>, step: u64, goal: u64) {
    registry.defer(move |cx| {
        cx.state.ran += step;
        if cx.state.ran < goal {
            defer_adding(cx.registry, step, goal);
        }
    });
}
