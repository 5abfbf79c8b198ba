//! W2, ping-pong: through a queue to each of the two loops.

use std::thread;
use std::time::Duration;

use reactor::{Builder, Capacity, Next, Reactor, Receiver, Sender, Spin, notification_queue};
use workloads::Result;
use workloads::pingpong::{Options, Rally, Side};

pub(crate) fn run(options: &Options) -> Result {
    let (to_far, at_far) = notification_queue(Capacity::Unbounded);
    let (to_near, at_near) = notification_queue(Capacity::Unbounded);
    let spin = options.spin;
    let mut rally = Rally::new(options)?;
    let far =
        thread::spawn(move || answer(spin, at_far, to_near).map_err(|error| error.to_string()));

    let mut reactor = builder(spin).build()?;
    rally.serve();
    to_far.try_send(())?;
    reactor.consume(at_near, move |_, cx: &mut reactor::Context<'_, Rally>| {
        if !cx.state.returned() {
            return Ok(Next::Remove); // drops the last sender to the far side
        }
        cx.state.serve();
        let _ = to_far.try_send(());
        Ok(Next::Keep)
    })?;
    reactor.run(&mut rally)?;
    drop(reactor);
    far.join().map_err(|_| "the far side panicked")??;
    rally.report();
    Ok(())
}

/// Runs the far side, which answers every message.
fn answer(spin: u64, at_far: Receiver<()>, to_near: Sender<()>) -> Result {
    Side::Far.pin()?;
    let mut reactor = builder(spin).build()?;
    reactor.consume(at_far, move |ball, _| {
        if ball.is_some() {
            let _ = to_near.try_send(());
        }
        Ok(Next::Keep)
    })?;
    reactor.run(&mut ())?;
    Ok(())
}

/// Returns the loop of either side, which may spin for this many microseconds.
pub(super) fn builder<S>(spin: u64) -> Builder<S> {
    Reactor::builder().spin(if spin == 0 {
        Spin::Off
    } else {
        Spin::Adaptive(Duration::from_micros(spin))
    })
}
