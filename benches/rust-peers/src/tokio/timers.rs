//! W4, timers. A `Sleep` that is to be cancelled or re-armed is boxed, and polled once, which arms
//! it. It is then dropped, or reset in place. This is the cheapest use. Code that runs at a time is
//! a task.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};
use workloads::Result;
use workloads::timers::{Op, Options, PUT_OFF_A_TURN, PUT_OFF_BY, Trial};

use super::{others_until, runtime};

/// The number of timers that are armed in one poll. Each of them uses a part of the budget after
/// which a task must yield.
const BATCH: usize = 64;
/// The delay before the first timer. The loop that runs the tasks also runs the timers that are
/// due. So no timer may be due before all of them are armed.
const LEAD: Duration = Duration::from_secs(3);

pub(crate) fn run(options: &Options) -> Result {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut trial = Trial::begin(options)?;
        // The timers live until the figures are printed, so their end is not measured.
        let mut timers = Vec::with_capacity(trial.timers);
        if trial.op != Op::Fire {
            arm(&mut timers, &mut trial).await;
            trial.armed()?;
        }
        match trial.op {
            Op::Cancel => timers.drain(..trial.operations).for_each(drop),
            Op::Anew => {
                timers.clear();
                trial.cancelled();
                arm(&mut timers, &mut trial).await;
            }
            Op::Fire => fire(&mut trial).await?,
            Op::PutOff => put_off(&mut timers, &mut trial).await,
        }
        trial.report();
        Ok(())
    })
}

async fn arm(timers: &mut Vec<Pin<Box<Sleep>>>, trial: &mut Trial) {
    let now = Instant::now();
    while timers.len() < trial.timers {
        poll_fn(|cx| {
            for _ in 0..BATCH.min(trial.timers - timers.len()) {
                let mut timer = Box::pin(sleep_until(now + trial.delay()));
                let _ = timer.as_mut().poll(cx);
                timers.push(timer);
            }
            Poll::Ready(())
        })
        .await;
        yield_now().await;
    }
}

async fn put_off(timers: &mut [Pin<Box<Sleep>>], trial: &mut Trial) {
    for _ in 0..trial.operations / PUT_OFF_A_TURN {
        let deadline = Instant::now() + PUT_OFF_BY;
        for place in trial.places() {
            timers[place].as_mut().reset(deadline);
        }
        yield_now().await;
    }
}

async fn fire(trial: &mut Trial) -> Result {
    thread_local!(static ARMED: Cell<usize> = const { Cell::new(0) });
    thread_local!(static RAN: Cell<usize> = const { Cell::new(0) });
    trial.delay_all_by(LEAD);
    let now = Instant::now();
    for _ in 0..trial.timers {
        let deadline = now + trial.delay();
        tokio::spawn(async move {
            ARMED.set(ARMED.get() + 1);
            sleep_until(deadline).await;
            RAN.set(RAN.get() + 1);
        });
    }
    others_until(|| ARMED.get() == trial.timers).await;
    if RAN.get() > 0 {
        return Err("timers ran while others were being armed: lower --timers".into());
    }
    trial.armed()?;
    others_until(|| RAN.get() == trial.timers).await;
    Ok(())
}
