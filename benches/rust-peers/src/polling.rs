//! polling. It registers sources by an unsafe function, and no code here may call one. So it takes
//! part only where no source is needed.

use std::num::NonZero;
use std::time::Duration;

use polling::{Events, Poller};
use workloads::deferred::{self, Op};
use workloads::{Result, Workload};

const EVENTS: NonZero<usize> = NonZero::new(1024).expect("not zero");

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Deferred(options) if options.op == Op::Empty => empty_turns(options),
        _ => crate::absent(),
    }
}

fn empty_turns(options: &deferred::Options) -> Result {
    let (poller, mut events) = (Poller::new()?, Events::with_capacity(EVENTS));
    deferred::measure(|| {
        for _ in 0..options.operations() {
            events.clear();
            poller.wait(&mut events, Some(Duration::ZERO))?;
        }
        Ok(options.operations())
    })
}
