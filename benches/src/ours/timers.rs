//! W4, timers: armed and re-armed from within a callback, as a server does.

use std::time::Duration;

use reactor::{Context, Reactor, Then, TimerKey};
use workloads::Result;
use workloads::timers::{Op, Options, PUT_OFF_A_TURN, PUT_OFF_BY, Trial};

struct State {
    trial: Trial,
    timers: Vec<TimerKey>,
    ran: usize,
}

pub(crate) fn run(options: &Options) -> Result {
    let mut reactor = Reactor::<State>::new()?;
    let trial = Trial::begin(options)?;
    let mut state = State {
        timers: Vec::with_capacity(trial.timers),
        trial,
        ran: 0,
    };
    reactor.defer(arm);
    reactor.turn(&mut state, Some(Duration::ZERO))?;
    state.trial.armed()?;
    match state.trial.op {
        Op::Cancel => {
            state
                .timers
                .iter()
                .take(state.trial.operations)
                .try_for_each(|timer| reactor.cancel(*timer))?;
        }
        Op::Anew => {
            state
                .timers
                .drain(..)
                .try_for_each(|timer| reactor.cancel(timer))?;
            state.trial.cancelled();
            reactor.defer(arm);
            reactor.turn(&mut state, Some(Duration::ZERO))?;
        }
        Op::Fire => {
            while state.ran < state.trial.timers {
                reactor.turn(&mut state, Some(Duration::ZERO))?;
            }
        }
        Op::PutOff => {
            for _ in 0..state.trial.operations / PUT_OFF_A_TURN {
                reactor.defer(put_off);
                reactor.turn(&mut state, Some(Duration::ZERO))?;
            }
        }
    }
    state.trial.report();
    Ok(())
}

fn arm(cx: &mut Context<'_, State>) {
    for _ in 0..cx.state.trial.timers {
        let timer = cx.registry.after(cx.state.trial.delay(), |cx| {
            cx.state.ran += 1;
            Ok(Then::Done)
        });
        cx.state.timers.push(timer);
    }
}

fn put_off(cx: &mut Context<'_, State>) {
    for place in cx.state.trial.places() {
        // Every timer exists until the end.
        let _ = cx.registry.reset(cx.state.timers[place], PUT_OFF_BY);
    }
}
