//! Signals within futures.

use std::time::Duration;

use futures_lite::{StreamExt, future};
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

/// Sends a signal to this process, and lets the loop handle it.
fn raise(signal: rustix::process::Signal, reactor: &mut Reactor<()>) -> Result {
    rustix::process::kill_process(rustix::process::getpid(), signal)?;
    for _ in 0..3 {
        reactor.turn(&mut (), Some(Duration::from_millis(5)))?;
    }
    Ok(())
}

#[test]
fn a_storm_of_signals_does_not_fill_a_stream() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let mut streams = [
        futures::signals(&mut reactor, [Signal::USR1, Signal::WINCH])?,
        futures::signals(&mut reactor, [Signal::WINCH])?,
    ];
    for _ in 0..20 {
        raise(rustix::process::Signal::USR1, &mut reactor)?;
        raise(rustix::process::Signal::WINCH, &mut reactor)?;
    }
    let counts = futures::block_on(&mut reactor, &mut (), async move {
        let mut counts = Vec::new();
        for stream in &mut streams {
            let mut count = 0;
            while let Some(Some(_)) = future::poll_once(stream.next()).await {
                count += 1;
            }
            counts.push(count);
        }
        // They go on after the storm.
        let pid = rustix::process::getpid();
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH)?;
        for stream in &mut streams {
            assert!(stream.next().await.is_some());
        }
        std::io::Result::Ok(counts)
    })??;
    assert_eq!(counts, [10, 5]);
    Ok(())
}

#[test]
fn streams_of_several_loops_get_a_signal() -> Result {
    let signal = Signal::real_time(5).ok_or("no signal")?;
    let mut reactor = Reactor::<()>::new()?;
    let mut own = futures::signals(&mut reactor, [signal])?;
    let (ready, is_ready) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || -> std::io::Result<bool> {
        let mut reactor = Reactor::<()>::new()?;
        let mut stream = futures::signals(&mut reactor, [signal])?;
        let _ = ready.send(());
        let arrived = async move { stream.next().await.is_some() };
        Ok(futures::block_on(&mut reactor, &mut (), arrived)?)
    });
    is_ready.recv()?;
    let raw = signal.as_raw();
    std::process::Command::new("kill")
        .args([format!("-{raw}"), std::process::id().to_string()])
        .status()?;
    let arrived = futures::block_on(&mut reactor, &mut (), async move {
        own.next().await.map(|arrival| arrival.signal)
    })?;
    assert_eq!(arrived, Some(signal));
    assert!(other.join().map_err(|_| "it panicked")??);
    Ok(())
}
