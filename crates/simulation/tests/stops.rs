//! A process that is stopped while it waits.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Next, Reactor, Then};
use simulation::{Faults, Seeds, now};

#[test]
fn a_wait_that_is_stopped_ends_when_the_process_goes_on() {
    Seeds::new(0..20).faults(Faults::none()).check(|| {
        let began = now();
        let turns = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&turns);
        let daemon = simulation::process("daemon", move || {
            let mut reactor = Reactor::<()>::new().unwrap();
            reactor.after(Duration::from_secs(60), |_cx| Ok(Then::Done));
            reactor.after_wait(move |_cx| {
                seen.borrow_mut().push((now() - began).as_secs());
                Ok(Next::Keep)
            });
            reactor.run(&mut ()).unwrap();
        });
        simulation::sleep(Duration::from_secs(10));
        daemon.stop(Duration::from_secs(5));
        daemon.join();
        assert_eq!(*turns.borrow(), [15, 60]);
    });
}
