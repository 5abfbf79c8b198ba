//! event-manager: a subscriber for each source, called by `process`.

use std::cell::RefCell;
use std::io::PipeReader;
use std::mem::swap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use workloads::chain::{self, Chain};
use workloads::registration;
use workloads::{Result, Workload};

const EVENTS: usize = 1024;

pub(crate) fn run(workload: &Workload) -> Result {
    match workload {
        Workload::Chain(options) => chain(options),
        Workload::Registration(options) => registration(options),
        _ => crate::absent(),
    }
}

/// A pipe of the chain. Subscribers get no state as an argument, so they share it.
struct Link {
    reader: PipeReader,
    next: usize,
    chain: Rc<RefCell<Chain>>,
}

impl MutEventSubscriber for Link {
    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        self.chain
            .borrow_mut()
            .pass_on(&mut self.reader, self.next)
            .expect("pipes take a byte");
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        ops.add(Events::new(&self.reader, EventSet::IN))
            .expect("pipes can be watched");
    }
}

fn chain(options: &chain::Options) -> Result {
    let (readers, chain) = Chain::new(options)?;
    let mut manager = EventManager::new_with_capacity(EVENTS)?;
    let shared = Rc::new(RefCell::new(Chain::default()));
    for (place, reader) in readers.into_iter().enumerate() {
        manager.add_subscriber(Link {
            reader,
            next: chain.after(place),
            chain: shared.clone(),
        });
    }
    chain.measure(options, |chain| -> Result {
        swap(chain, &mut shared.borrow_mut());
        while !shared.borrow().is_done() {
            manager.run()?;
        }
        swap(chain, &mut shared.borrow_mut());
        Ok(())
    })
}

/// A source that is never readable.
struct Adder {
    source: OwnedFd,
    sum: Rc<RefCell<u64>>,
}

impl MutEventSubscriber for Adder {
    fn process(&mut self, _: Events, _: &mut EventOps<'_>) {
        *self.sum.borrow_mut() += 1;
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        ops.add(Events::new(&self.source, EventSet::IN))
            .expect("eventfds can be watched");
    }
}

fn registration(options: &registration::Options) -> Result {
    let mut manager = EventManager::new_with_capacity(EVENTS)?;
    registration::measure(options, |sources| {
        let sum = Rc::new(RefCell::new(0));
        for source in sources {
            manager.add_subscriber(Adder {
                source,
                sum: sum.clone(),
            });
        }
        Ok(manager)
    })
}
