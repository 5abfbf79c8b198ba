//! The causes of seeds that have failed, each by itself.

use reactor::{Capacity, Next, Reactor, RequestContext, notification_queue};

use crate::mark::{Number, current_number};

/// Seed 695: the next value of the same turn was handled without it.
#[test]
fn a_context_set_in_the_handler_of_a_queue_is_that_of_the_next_value() {
    let mut reactor = Reactor::<Vec<Option<u64>>>::new().unwrap();
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let key = reactor.consume(receiver, |_value: Option<()>, cx| {
        cx.state.push(current_number());
        let context = RequestContext::NONE.with(Number(cx.state.len() as u64));
        cx.registry.set_context(cx.key(), context).unwrap();
        Ok(Next::Keep)
    });
    reactor.set_background(key.unwrap()).unwrap();
    for _ in 0..3 {
        sender.try_send(()).unwrap();
    }
    let mut numbers = Vec::new();
    reactor
        .turn(&mut numbers, Some(std::time::Duration::ZERO))
        .unwrap();
    assert_eq!(numbers, [None, Some(1), Some(2)]);
}
