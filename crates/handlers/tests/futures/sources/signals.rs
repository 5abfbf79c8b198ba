//! Signals within futures.

use futures_lite::StreamExt;
use handlers::futures;
use handlers::signal::Signal;
use reactor::Reactor;

use super::Result;

#[test]
fn a_stream_returns_the_signals_that_arrive() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let mut stream = futures::signals(&mut reactor, [Signal::real_time(3).ok_or("no signal")?])?;
    let own = rustix::process::getpid();
    let number = Signal::real_time(3)
        .map(|signal| signal.as_raw())
        .ok_or("no signal")?;
    let kill = move || {
        std::process::Command::new("kill")
            .args([format!("-{number}"), own.as_raw_nonzero().to_string()])
            .status()
    };
    let arrived = futures::block_on(&mut reactor, &mut (), async move {
        let mut arrived = Vec::new();
        for _ in 0..2 {
            kill()?;
            arrived.extend(stream.next().await.map(|arrival| arrival.signal));
        }
        std::io::Result::Ok(arrived)
    })??;
    assert_eq!(arrived.len(), 2);
    reactor.run(&mut ())?;
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    Ok(())
}
