//! Each simulated thread has its own current context, although all share one real thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Capacity, Next, Reactor, Remote, RequestContext, Sender, notification_queue};
use simulation::{Daemon, Seeds, Simulation};

use crate::draw::duration;
use crate::mark::{context_of, expect_current, listen_to_spans};

/// A loop with a queue for one value, which asserts that nothing is current between callbacks.
fn loop_with_queue() -> (Daemon<(), ()>, Sender<RequestContext>) {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    let daemon = Daemon::start("loop", move |reactor: &mut Reactor<()>| {
        reactor.before_wait(|_cx| {
            expect_current(&RequestContext::NONE, "a hook");
            Ok(Next::Keep)
        });
        reactor.consume(receiver, |context: Option<RequestContext>, _cx| {
            simulation::sleep(duration(Duration::from_millis(20)));
            let context = context.unwrap_or_default(); // the end has no context
            expect_current(&context, "the handler of a queue");
            Ok(Next::Keep)
        })?;
        Ok(((), ()))
    });
    (daemon, sender)
}

/// Blocks in every way within the context of request `number`.
fn block(number: u64, remote: &Remote<()>, sender: &Sender<RequestContext>) {
    let context = context_of(number);
    context.scope(|| {
        for _ in 0..5 {
            simulation::sleep(duration(Duration::from_millis(20)));
            expect_current(&context, "a thread that slept");
            let (sent, called) = (context.clone(), context.clone());
            sender
                .send_within(sent, Duration::from_secs(60))
                .expect("the loop takes it");
            expect_current(&context, "a thread that waited for room");
            let call = move |_: &mut reactor::Context<'_, ()>| {
                simulation::sleep(duration(Duration::from_millis(20)));
                expect_current(&called, "a closure of another thread");
            };
            remote.call(call).expect("the loop answers");
            expect_current(&context, "a thread that waited for an answer");
        }
    });
    expect_current(&RequestContext::NONE, "a thread after its scope");
}

#[test]
fn each_simulated_thread_has_its_own_context_while_it_blocks() {
    listen_to_spans();
    Seeds::new(0..100).check(|| {
        let (daemon, sender) = loop_with_queue();
        let threads = [1, 2].map(|number| {
            let (remote, sender) = (daemon.remote().clone(), sender.clone());
            simulation::thread("caller", move || block(number, &remote, &sender))
        });
        threads.into_iter().for_each(simulation::Handle::join);
        drop(sender);
        daemon.join();
    });
}

#[test]
fn a_thread_that_is_killed_unwinds_in_its_own_context() {
    listen_to_spans();

    struct SeesContext(RequestContext, Rc<Cell<u32>>);
    impl Drop for SeesContext {
        fn drop(&mut self) {
            let current = RequestContext::current();
            let is_own = current.get::<&str>() == self.0.get::<&str>()
                && current.span().and_then(tracing::Span::id)
                    == self.0.span().and_then(tracing::Span::id);
            self.1.set(self.1.get() + u32::from(is_own));
        }
    }

    Seeds::new(0..20).check(|| {
        let seen = Rc::new(Cell::new(0));
        let kept = Rc::clone(&seen);
        let victim = simulation::process("victim", move || {
            let context = context_of(1).with("victim");
            context.scope(|| {
                let _sees = SeesContext(context.clone(), kept);
                simulation::sleep(Duration::from_secs(60));
            });
        });
        simulation::sleep(Duration::from_secs(1)); // the victim is in its scope
        let context = context_of(2);
        context.scope(|| {
            victim.kill();
            simulation::sleep(Duration::from_secs(1));
            expect_current(&context, "the killer");
        });
        assert_eq!(seen.get(), 1);
    });
}

#[test]
fn the_context_around_a_simulation_stays_outside_of_it() {
    listen_to_spans();
    let outside = context_of(1);
    outside.scope(|| {
        let report = Simulation::new(1).run(|| {
            expect_current(&RequestContext::NONE, "the first thread");
            let inside = Rc::new(RefCell::new(Vec::new()));
            let seen = Rc::clone(&inside);
            context_of(2).scope(|| {
                simulation::thread("other", move || {
                    seen.borrow_mut().push(crate::mark::current_number());
                })
                .join();
            });
            assert_eq!(*inside.borrow(), [None]);
        });
        assert!(report.outcome.is_ok(), "{:?}", report.outcome);
        expect_current(&outside, "the caller");
    });
}
