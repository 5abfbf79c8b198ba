//! Lookups within futures.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures_lite::future;
use handlers::{Resolver, futures};
use reactor::Reactor;

use super::Result;

#[test]
fn a_task_awaits_the_addresses_of_a_name() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let resolver = Resolver::builder().lookup(|host, _service| match host {
        "db.example" => Ok(vec![([192, 0, 2, 1], 5432).into()]),
        _ => Err(io::Error::from(ErrorKind::NotFound)),
    });
    let resolver = resolver.build();
    let (found, missing) = futures::block_on(&mut reactor, &mut (), async move {
        let found = futures::resolve(&resolver, "db.example:5432".parse()?).await;
        let missing = futures::resolve(&resolver, "other.example:1".parse()?).await;
        Ok::<_, handlers::AddressParseError>((found, missing))
    })??;
    assert_eq!(found?, [([192, 0, 2, 1], 5432).into()]);
    assert_eq!(
        missing.map_err(|error| error.kind()),
        Err(ErrorKind::NotFound)
    );
    Ok(())
}

#[test]
fn a_lookup_that_is_dropped_before_its_request_does_not_begin() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (begins, begun) = mpsc::channel::<()>();
    let begins = Mutex::new(begins);
    let resolver = Resolver::builder().lookup(move |_host, _service| {
        let _ = begins.lock().map(|begins| begins.send(()));
        Ok(Vec::new())
    });
    let resolver = resolver.build();
    let target = "db.example:1".parse()?;
    futures::block_on(&mut reactor, &mut (), async move {
        let lookup = futures::resolve(&resolver, target);
        assert!(future::poll_once(lookup).await.is_none());
    })?;
    assert_eq!(reactor.len(), 1, "the queue of the executor");
    assert!(begun.recv().is_err(), "nothing was looked up");
    Ok(())
}

#[test]
fn a_lookup_whose_future_is_dropped_is_cancelled() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let (end, ended) = mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let resolver = Resolver::builder().lookup(move |_host, _service| {
        let _ = ended.lock().map(|ended| ended.recv());
        Ok(Vec::new())
    });
    let resolver = resolver.build();
    let registered = Cell::new(0);
    let registered = futures::block_on(&mut reactor, &mut (), async move {
        let hangs = futures::resolve(&resolver, "slow.example:1".parse()?);
        let goes_on = async {
            futures::yield_now().await;
            let count =
                futures::with_context(|cx: &mut reactor::Context<'_, ()>| cx.registry.len());
            registered.set(count.await);
            Ok(Vec::new())
        };
        let first = future::or(hangs, goes_on).await;
        assert!(first.is_ok_and(|found| found.is_empty()));
        Ok::<_, handlers::AddressParseError>(registered.get())
    })??;
    assert_eq!(registered, 2, "the executor, the lookup");
    assert_eq!(
        reactor.len(),
        1,
        "the thread hangs, and the loop does not wait for it"
    );
    drop(end);
    Ok(())
}

#[test]
fn ten_thousand_lookups_end_although_the_only_thread_hangs() -> Result {
    for ends_with_loop in [false, true] {
        let mut reactor = Reactor::<()>::new()?;
        let (end, ended) = mpsc::channel::<()>();
        let ended = Mutex::new(ended);
        let resolver = Resolver::builder().max_threads(1).max_waiting(usize::MAX);
        let resolver = resolver
            .timeout(Duration::from_millis(50))
            .lookup(move |_, _| {
                let _ = ended.lock().map(|ended| ended.recv());
                Ok(vec![([192, 0, 2, 1], 1).into()])
            });
        let resolver = resolver.build();
        for number in 0..10_000 {
            let looks_up = futures::resolve(&resolver, format!("n{number}.example:1").parse()?);
            let task = async move {
                if number % 2 == 0 {
                    let found = looks_up.await.map_err(|error| error.kind());
                    assert_eq!(found, Err(ErrorKind::TimedOut));
                } else {
                    future::or(async { drop(looks_up.await) }, futures::yield_now()).await;
                }
            };
            futures::spawn(&mut reactor, task, |(), _cx| ())?;
        }
        if ends_with_loop {
            reactor.turn(&mut (), Some(Duration::ZERO))?;
        } else {
            reactor.run(&mut ())?;
            assert_eq!((reactor.len(), reactor.timers().count()), (1, 0));
        }
        drop(reactor);
        drop(end);
        // The thread goes on, and finds none of the others.
        let found = futures::resolve(&resolver, "later.example:1".parse()?);
        let found = futures::block_on(&mut Reactor::<()>::new()?, &mut (), found)?;
        assert_eq!(found?.len(), 1);
    }
    Ok(())
}
