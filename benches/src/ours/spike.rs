//! W1, the spike: numbers through a queue, or closures that are posted.

use reactor::{Capacity, Next, Reactor, notification_queue};
use workloads::Result;
use workloads::spike::{Form, Options, Tally, measure};

pub(crate) fn run(options: &Options) -> Result {
    let mut reactor = Reactor::<Tally>::new()?;
    // The loop ends by itself: when the sender is dropped, or the token that keeps the loop alive.
    match options.form {
        Form::Value => {
            let (sender, receiver) = notification_queue(Capacity::Unbounded);
            reactor.consume(receiver, |value, cx| {
                if let Some(value) = value {
                    cx.state.add(value);
                }
                Ok(Next::Keep)
            })?;
            let send = move |value| {
                let _ = sender.try_send(value);
            };
            measure(options, send, |tally| run_until_done(&mut reactor, tally))
        }
        Form::Closure => {
            let remote = reactor.remote()?;
            let alive = remote.keep_alive();
            let send = move |value| {
                let _ = &alive;
                let _ = remote.post(move |cx| cx.state.add(value));
            };
            measure(options, send, |tally| run_until_done(&mut reactor, tally))
        }
    }
}

/// Returns the number of writes to the eventfd.
fn run_until_done(reactor: &mut Reactor<Tally>, tally: &mut Tally) -> Result<Option<u64>> {
    reactor.run(tally)?;
    Ok(Some(reactor.metrics().wakeups))
}
