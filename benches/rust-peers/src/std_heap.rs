//! Timers in the `BinaryHeap` of the standard library, by hand. Entries of cancelled or re-armed
//! timers stay in the heap until they are the majority. This is the best that a loop with a heap
//! could reach.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use workloads::timers::{Op, Options, PUT_OFF_A_TURN, PUT_OFF_BY, Trial};
use workloads::{Result, Workload};

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Timers(options) => timers(options),
        _ => crate::absent(),
    }
}

/// The deadline, the number of the timer, and the number of its arming.
type Entry = Reverse<(Duration, u32, u32)>;

struct Timer {
    arming: u32,
    callback: fn(&mut usize),
}

struct Timers {
    heap: BinaryHeap<Entry>,
    timers: Vec<Timer>,
    /// The number of entries that belong to no timer any more.
    stale: usize,
}

impl Timers {
    fn with_capacity(timers: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(timers),
            timers: Vec::with_capacity(timers),
            stale: 0,
        }
    }

    #[inline]
    fn arm(&mut self, deadline: Duration) {
        self.heap
            .push(Reverse((deadline, self.timers.len() as u32, 0)));
        self.timers.push(Timer {
            arming: 0,
            callback: |ran| *ran += 1,
        });
    }

    #[inline]
    fn cancel(&mut self, timer: usize) {
        self.timers[timer].arming += 1;
        self.stale += 1;
        if self.stale > self.heap.len() / 2 {
            let timers = &self.timers;
            self.heap
                .retain(|Reverse((_, timer, arming))| timers[*timer as usize].arming == *arming);
            self.stale = 0;
        }
    }

    /// Arms a timer that was cancelled.
    #[inline]
    fn arm_anew(&mut self, timer: usize, deadline: Duration) {
        self.heap
            .push(Reverse((deadline, timer as u32, self.timers[timer].arming)));
    }

    #[inline]
    fn put_off(&mut self, timer: usize, deadline: Duration) {
        self.cancel(timer);
        self.arm_anew(timer, deadline);
    }

    fn run_due(&mut self, now: Duration, ran: &mut usize) {
        while let Some(Reverse((deadline, timer, arming))) = self.heap.peek().copied()
            && deadline <= now
        {
            self.heap.pop();
            let timer = &mut self.timers[timer as usize];
            if timer.arming == arming {
                timer.arming += 1;
                (timer.callback)(ran);
            }
        }
    }
}

fn timers(options: &Options) -> Result {
    let mut trial = Trial::begin(options)?;
    let (mut timers, mut ran, start) = (Timers::with_capacity(trial.timers), 0, Instant::now());
    for _ in 0..trial.timers {
        timers.arm(trial.delay());
    }
    trial.armed()?;
    match trial.op {
        Op::Cancel => (0..trial.operations).for_each(|timer| timers.cancel(timer)),
        Op::Anew => {
            (0..trial.timers).for_each(|timer| timers.cancel(timer));
            trial.cancelled();
            (0..trial.timers).for_each(|timer| timers.arm_anew(timer, trial.delay()));
        }
        Op::Fire => {
            while ran < trial.timers {
                timers.run_due(start.elapsed(), &mut ran);
            }
        }
        Op::PutOff => {
            for _ in 0..trial.operations / PUT_OFF_A_TURN {
                let now = start.elapsed();
                trial
                    .places()
                    .for_each(|place| timers.put_off(place, now + PUT_OFF_BY));
                timers.run_due(now, &mut ran);
            }
        }
    }
    trial.report();
    Ok(())
}
