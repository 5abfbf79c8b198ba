//! The jobs of a pool: on a worker, and their completion on the loop.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use handlers::{PoolHandle, WorkerPool, files};
use reactor::{Reactor, RequestContext};
use support::{Result, run_out};

use crate::{App, Seen, check, current, note, request, within};

/// Returns a pool with one worker.
fn pool(reactor: &mut Reactor<App>) -> Result<WorkerPool<App>> {
    Ok(WorkerPool::builder().workers(1).build(reactor)?)
}

/// Submits a job that runs until the sender is dropped.
fn occupy(pool: &PoolHandle<App>) -> Result<Sender<()>> {
    let (end, ended) = channel::<()>();
    let (begin, begun) = channel();
    let job = move || {
        let _ = begin.send(());
        let _ = ended.recv();
    };
    pool.submit(job, |_, _| ())
        .map_err(|refused| refused.reason)?;
    begun.recv()?;
    Ok(end)
}

#[test]
fn a_job_and_its_completion_run_in_the_request_that_submits() {
    check(&["job", "done"], |reactor| {
        let pool = pool(reactor)?;
        pool.submit(current, |job, cx| {
            cx.state.seen.push(("job", job.unwrap()));
            note("done", cx);
        })
        .map_err(|refused| refused.reason)?;
        pool.drain(); // the worker has ended, so it keeps nothing
        Ok(())
    });
}

#[test]
fn a_job_that_panics_completes_in_its_request() {
    check(&["panicked"], |reactor| {
        let pool = pool(reactor)?;
        pool.submit(
            || -> () { panic!("on purpose") },
            |job, cx| {
                assert!(job.is_err());
                note("panicked", cx);
            },
        )
        .map_err(|refused| refused.reason)?;
        pool.drain();
        Ok(())
    });
}

#[test]
fn a_worker_forgets_the_request_of_the_job_before() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let pool = pool(&mut reactor)?;
    for number in [Some(1), None, Some(2)] {
        let submit = || {
            let panics = || -> () { panic!("in {:?}", current()) };
            let _ = pool.submit(panics, |_, cx| note("panicked", cx));
            let _ = pool.submit(current, |job, cx| {
                cx.state.seen.push(("job", job.unwrap()));
            });
        };
        match number {
            Some(number) => within(number, submit),
            None => submit(),
        }
    }
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    let expected: Seen = [Some(1), None, Some(2)]
        .into_iter()
        .flat_map(|number| [("panicked", number), ("job", number)])
        .collect();
    assert_eq!(app.seen, expected);
    Ok(())
}

#[test]
fn the_state_of_a_worker_is_made_for_no_request() -> Result {
    let made = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&made);
    let make = move || {
        log.lock().unwrap().push(current());
        Ok(())
    };
    let mut reactor = Reactor::<App>::new()?;
    let builder = WorkerPool::builder().workers(1).worker_state(make);
    let pool = builder.build(&mut reactor)?;
    let (context, kept) = request(7);
    let submitted = context.scope(|| {
        pool.submit_with(
            |(): &mut ()| current(),
            |job, cx| {
                cx.state.seen.push(("job", job.unwrap()));
                note("done", cx);
            },
        )
    });
    assert!(submitted.is_ok());
    drop(context);
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    pool.drain();
    assert_eq!(app.seen, [("job", Some(7)), ("done", Some(7))]);
    assert_eq!(*made.lock().unwrap(), [None]);
    kept.expect_dropped("after the job");
    Ok(())
}

#[test]
fn a_job_that_does_not_run_keeps_no_request() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let pool = WorkerPool::builder()
        .workers(1)
        .max_queued_jobs(2)
        .build(&mut reactor)?;
    let busy = occupy(&pool)?;
    let (context, kept) = request(7);
    let submit = || pool.submit(|| (), |_, cx| note("done", cx));
    let cancelled = context.scope(submit).map_err(|refused| refused.reason)?;
    let dropped = context.scope(submit).map_err(|refused| refused.reason)?;
    let refused = context.scope(submit);
    assert!(refused.is_err());
    drop(context);
    kept.expect_kept();
    let _ = cancelled.cancel();
    kept.expect_kept(); // by the other one
    drop(busy);
    pool.shutdown_now();
    run_out(&mut reactor, &mut App::default())?;
    kept.expect_dropped("although the handles of both jobs exist");
    drop((cancelled, dropped, refused));
    Ok(())
}

#[test]
fn an_abandoned_job_keeps_its_request_until_it_returns() -> Result {
    let mut reactor = Reactor::<App>::new()?;
    let pool = pool(&mut reactor)?;
    let (context, kept) = request(7);
    let (end, ended) = channel::<()>();
    let (begin, begun) = channel();
    let job = context.scope(|| {
        let job = move || {
            begin.send(current()).unwrap();
            let _ = ended.recv();
        };
        pool.submit(job, |_, cx| note("done", cx))
    });
    let job = job.map_err(|refused| refused.reason)?;
    assert_eq!(begun.recv()?, Some(7));
    drop(context);
    let _ = job.abandon();
    kept.expect_kept();
    drop(end);
    pool.drain();
    let mut app = App::default();
    run_out(&mut reactor, &mut app)?;
    assert_eq!(app.seen, []);
    kept.expect_dropped("after the job");
    Ok(())
}

#[test]
fn a_job_of_a_file_completes_in_its_request() {
    check(&["read", "written"], |reactor| {
        let folder = tempfile::tempdir()?;
        let pool = pool(reactor)?;
        files::read(&pool, "Cargo.toml", 1 << 20, |read, cx| {
            assert!(read.is_ok());
            note("read", cx);
        })
        .map_err(|refused| refused.reason)?;
        files::write_atomically(&pool, folder.path().join("file"), "bytes", |written, cx| {
            assert!(written.is_ok());
            note("written", cx);
        })
        .map_err(|refused| refused.reason)?;
        pool.drain();
        Ok(())
    });
}

/// Returns how often this thread allocates for ten jobs of `context`, from submission to
/// completion.
fn allocations(context: &RequestContext) -> Result<u64> {
    let mut reactor = Reactor::<App>::new()?;
    let mut app = App::default();
    app.seen.reserve(100);
    let mut counts = Vec::new();
    for _ in 0..2 {
        let pool = pool(&mut reactor)?;
        let busy = occupy(&pool)?;
        let submit = || pool.submit(|| (), |_, cx| note("done", cx));
        let submits = || (0..10).for_each(|_| assert!(context.scope(submit).is_ok()));
        let submitted = allocation_counter::measure(submits);
        drop(busy);
        pool.drain(); // so that all complete in one turn
        let mut ran = Ok(());
        let completed = allocation_counter::measure(|| ran = reactor.run(&mut app).map(drop));
        ran?;
        counts.push(submitted.count_total + completed.count_total);
    }
    Ok(counts[1]) // the first jobs make the memory that all share
}

#[test]
fn a_request_costs_a_job_no_allocation_on_the_loop() -> Result {
    let without = allocations(&RequestContext::NONE)?;
    assert_eq!(allocations(&request(7).0)?, without);
    assert!(without > 0);
    Ok(())
}
