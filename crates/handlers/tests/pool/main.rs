//! The worker pool.

#![allow(clippy::panic, reason = "helpers of tests")]

mod state;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use handlers::Cancellation::{InTime, TooLate};
use handlers::{JobPanic, Refusal, WorkerPool};
use reactor::{PanicPolicy, Reactor, ReasonToRun, Then};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// Submits a job that runs when this returns, and ends when the sender is used or dropped.
fn occupy(
    pool: &WorkerPool<Vec<usize>>,
) -> std::result::Result<Sender<()>, Box<dyn std::error::Error>> {
    let (end, ended) = channel::<()>();
    let (begin, begun) = channel();
    pool.submit(
        move || {
            let _ = begin.send(());
            let _ = ended.recv();
        },
        |_, _| (),
    )?;
    begun.recv()?;
    Ok(end)
}

#[test]
fn jobs_run_on_workers_and_completions_on_the_loop() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder()
        .workers(3)
        .name("hard-")
        .build(&mut reactor)?;
    let own = std::thread::current().id();
    for number in 0..100 {
        pool.submit(
            move || {
                assert!(
                    std::thread::current()
                        .name()
                        .is_some_and(|name| name.starts_with("hard-"))
                );
                number
            },
            move |number, cx| {
                assert_eq!(std::thread::current().id(), own);
                cx.state.extend(number);
            },
        )?;
    }
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?; // returns with the last of them
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    pool.drain();
    Ok(())
}

#[test]
fn one_worker_does_jobs_in_the_order_of_submission() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    for number in 0..1000 {
        pool.submit(move || number, |number, cx| cx.state.extend(number))?;
    }
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_panic_of_a_job_is_reported_and_its_worker_goes_on() -> Result {
    let mut reactor = Reactor::<Vec<JobPanic>>::builder()
        .on_panic(PanicPolicy::RemoveHandler)
        .build()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    pool.submit(
        || panic!("number {}", 7),
        |result: std::result::Result<(), _>, cx| cx.state.extend(result.err()),
    )?;
    pool.submit(|| 1, |_, _| panic!("what follows may panic too"))?;
    pool.submit(|| 2, |result, _| assert_eq!(result, Ok(2)))?;
    let mut panics = Vec::new();
    reactor.run(&mut panics)?;
    assert_eq!(
        panics
            .iter()
            .map(|panic| panic.message.as_str())
            .collect::<Vec<_>>(),
        ["number 7"]
    );
    let error = std::io::Error::from(panics.remove(0)); // as `?` would pass it on
    assert!(
        error.kind() == std::io::ErrorKind::Other && error.get_ref().is_some(),
        "{error}"
    );
    assert_eq!(reactor.metrics().panics, 1);
    Ok(())
}

#[test]
fn the_queue_is_bounded_and_returns_jobs_that_it_refuses() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder()
        .workers(1)
        .max_queued_jobs(2)
        .build(&mut reactor)?;
    let end = occupy(&pool)?;
    let first = pool.submit(|| 1, |number, cx| cx.state.extend(number))?;
    pool.submit(|| 2, |number, cx| cx.state.extend(number))?;
    let refused = pool.submit(|| 3, |_, _| ()).err().ok_or("there was room")?;
    assert_eq!((refused.reason, (refused.job)()), (Refusal::Full, 3));
    assert_eq!((pool.handle().queued(), pool.handle().running()), (2, 1));
    assert_eq!(first.cancel(), InTime, "it had not begun");
    assert_eq!(first.cancel(), TooLate, "it is gone");
    pool.submit(|| 4, |number, cx| cx.state.extend(number))?;
    drop(end);
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, [2, 4]);
    Ok(())
}

#[test]
fn a_running_job_cannot_be_cancelled_and_a_cancelled_one_drops_at_once() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = channel::<()>();
    let (begin, begun) = channel();
    let running = pool.submit(
        move || {
            let _ = begin.send(());
            let _ = ended.recv();
        },
        |_, cx| cx.state.push(1),
    )?;
    begun.recv()?;
    assert_eq!(running.cancel(), TooLate);
    let held = Arc::new(());
    for _ in 0..10_000 {
        let captured = Arc::clone(&held);
        let job = pool.submit(move || drop(captured), |_, cx| cx.state.push(2))?;
        assert_eq!(job.cancel(), InTime);
        assert_eq!(Arc::strong_count(&held), 1);
    }
    drop(end);
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?; // a cancelled job keeps nothing alive
    assert_eq!(numbers, [1]);
    Ok(())
}

#[test]
fn draining_finishes_queued_jobs_and_abandoning_drops_them() -> Result {
    for drains in [true, false] {
        let mut reactor = Reactor::<Vec<usize>>::new()?;
        let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
        let handle = pool.handle();
        let end = occupy(&pool)?;
        let held = Arc::new(());
        for number in 0..3 {
            let captured = Arc::clone(&held);
            pool.submit(
                move || {
                    let _captured = captured;
                    number
                },
                |number, cx| cx.state.extend(number),
            )?;
        }
        let ends = std::thread::spawn(move || {
            if drains {
                pool.drain()
            } else {
                pool.shutdown_now()
            }
        });
        while !handle
            .submit(|| (), |_, _| ())
            .is_err_and(|refused| refused.reason == Refusal::Closed)
        {
            std::thread::yield_now();
        }
        drop(end);
        ends.join().map_err(|_| "it panicked")?;
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(
            handle
                .submit(|| (), |_, _| ())
                .is_err_and(|refused| refused.reason == Refusal::Closed)
        );
        let mut numbers = Vec::new();
        reactor.run(&mut numbers)?;
        assert_eq!(numbers, if drains { vec![0, 1, 2] } else { vec![] });
    }
    Ok(())
}

#[test]
fn a_dropped_pool_ends_its_workers_and_does_not_wait_for_them() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder()
        .workers(2)
        .name("dropped-")
        .build(&mut reactor)?;
    let end = occupy(&pool)?;
    let handle = pool.handle();
    drop(pool);
    assert_eq!(handle.running(), 1, "the drop has not waited for it");
    assert!(
        handle
            .submit(|| (), |_, _| ())
            .is_err_and(|refused| refused.reason == Refusal::Closed)
    );
    drop(end);
    reactor.run(&mut Vec::new())?; // returns with the job
    let alive = || -> std::io::Result<bool> {
        let names = std::fs::read_dir("/proc/self/task")?
            .map(|task| std::fs::read_to_string(task?.path().join("comm")));
        Ok(names.flatten().any(|name| name.starts_with("dropped-")))
    };
    while alive()? {
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn cancelling_while_the_pool_is_dropped_keeps_its_counts_right() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    for _ in 0..20 {
        let pool = WorkerPool::builder()
            .workers(1)
            .max_queued_jobs(usize::MAX)
            .build(&mut reactor)?;
        let end = occupy(&pool)?;
        let jobs = (0..2000)
            .map(|_| pool.submit(|| (), |_, _| ()))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let handle = pool.handle();
        let cancels = std::thread::spawn(move || {
            jobs.iter()
                .rev()
                .filter(|job| job.cancel() == InTime)
                .count()
        });
        drop(pool);
        assert!(cancels.join().map_err(|_| "it panicked")? <= 2000);
        assert_eq!(handle.queued(), 0);
        drop(end);
    }
    reactor.run(&mut Vec::new())?;
    Ok(())
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

#[test]
fn destructors_that_panic_end_no_worker() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    pool.submit(
        || std::panic::panic_any(Bomb),
        |result: std::result::Result<(), _>, cx| cx.state.push(usize::from(result.is_err())),
    )?;
    pool.submit(|| 2, |number, cx| cx.state.extend(number))?;
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, [1, 2]);
    let end = occupy(&pool)?;
    let bomb = std::mem::ManuallyDrop::new(Bomb);
    pool.submit(
        || (),
        move |_, _| drop(std::mem::ManuallyDrop::into_inner(bomb)),
    )?;
    let handle = pool.handle();
    let (tell, told) = channel();
    pool.submit(move || tell.send(3), |_, _| ())?;
    drop(reactor);
    drop(end);
    assert_eq!(told.recv(), Ok(3));
    pool.drain();
    assert_eq!((handle.queued(), handle.running()), (0, 0));
    Ok(())
}

#[test]
fn idle_workers_are_room_too() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder()
        .workers(1)
        .max_queued_jobs(0)
        .build(&mut reactor)?;
    while format!("{pool:?}").contains("asleep: 0") {
        std::thread::yield_now();
    }
    let end = occupy(&pool)?;
    assert!(
        pool.submit(|| (), |_, _| ())
            .is_err_and(|refused| refused.reason == Refusal::Full)
    );
    drop(end);
    reactor.run(&mut Vec::new())?;
    Ok(())
}

#[test]
fn a_job_whose_loop_is_gone_still_runs() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let end = occupy(&pool)?;
    let (tell, told) = channel();
    pool.submit(move || tell.send(1), |_, _| ())?;
    drop(reactor);
    drop(end);
    assert_eq!(told.recv(), Ok(1));
    pool.drain();
    Ok(())
}

#[test]
fn jobs_submit_jobs_and_the_loop_goes_on_meanwhile() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(2).build(&mut reactor)?;
    let handle = pool.handle();
    let met = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let met = Arc::clone(&met);
        let handle = handle.clone();
        // Two jobs that wait for each other: both workers run.
        pool.submit(
            move || met.wait(),
            move |_, cx| {
                cx.state.push(1);
                let again = handle.submit(|| 10, |number, cx| cx.state.extend(number));
                assert!(again.is_ok());
            },
        )?;
    }
    reactor.after(Duration::from_millis(1), |cx| {
        cx.state.push(100);
        Ok(Then::Done)
    });
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers.iter().sum::<usize>(), 122);
    Ok(())
}

#[test]
fn no_job_waits_for_ever_while_many_threads_submit_and_cancel() -> Result {
    const JOBS: usize = 20_000;
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder()
        .workers(3)
        .max_queued_jobs(usize::MAX)
        .build(&mut reactor)?;
    let (ran, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let done: Vec<Receiver<()>> = (0..4)
        .map(|thread| {
            let (handle, ran, cancelled) =
                (pool.handle(), Arc::clone(&ran), Arc::clone(&cancelled));
            let (tell, told) = channel();
            std::thread::spawn(move || {
                for number in 0..JOBS / 4 {
                    let ran = Arc::clone(&ran);
                    let job = handle.submit(move || ran.fetch_add(1, Ordering::Relaxed), |_, _| ());
                    if number % 7 == thread && job.is_ok_and(|job| job.cancel() == InTime) {
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                    if number % 64 == 0 {
                        std::thread::yield_now(); // so that workers fall asleep now and then
                    }
                }
                drop(tell);
            });
            told
        })
        .collect();
    for told in done {
        assert!(told.recv().is_err());
    }
    reactor.run(&mut Vec::new())?;
    pool.drain();
    assert_eq!(
        ran.load(Ordering::Relaxed) + cancelled.load(Ordering::Relaxed),
        JOBS
    );
    Ok(())
}

#[test]
fn abandoned_jobs_all_go_though_dropping_their_captures_panics() -> Result {
    struct Bomb(Arc<AtomicUsize>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("as the test wants");
        }
    }
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let end = occupy(&pool)?;
    let dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let bomb = Bomb(Arc::clone(&dropped));
        assert!(pool.submit(move || drop(bomb), |_, _| ()).is_ok());
    }
    let cancelled = Bomb(Arc::clone(&dropped));
    let job = pool
        .submit(move || drop(cancelled), |_, _| ())
        .map_err(|_| "there is room")?;
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.cancel())).is_err());
    assert_eq!(pool.queued(), 3);
    drop(end);
    pool.shutdown_now();
    assert_eq!(dropped.load(Ordering::SeqCst), 4);
    reactor.run(&mut Vec::new())?; // nothing keeps the loop alive
    Ok(())
}

#[test]
fn a_background_job_lets_the_loop_end_and_completes_while_it_runs() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = channel::<usize>();
    let job = pool.submit(
        move || ended.recv(),
        |number, cx| cx.state.extend(number.ok().and_then(|sent| sent.ok())),
    )?;
    let held = |reactor: &Reactor<_>| {
        reactor
            .reasons_to_run()
            .filter(|reason| matches!(reason, ReasonToRun::KeepAlive { .. }))
            .count()
    };
    assert_eq!(held(&reactor), 1);
    job.set_background();
    job.set_background();
    assert_eq!(held(&reactor), 0);
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, [], "it has not been waited for");
    end.send(7)?;
    pool.drain();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, [7], "the loop ran when it was done");
    Ok(())
}

#[test]
fn a_job_that_hangs_is_abandoned_and_its_completion_dropped_at_once() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let (end, ended) = channel::<()>();
    let (begin, begun) = channel();
    let captured = Arc::new(());
    let follows = Arc::clone(&captured);
    let hangs = pool.submit(
        move || {
            let _ = begin.send(());
            let _ = ended.recv();
        },
        move |_, cx| {
            cx.state.push(Arc::strong_count(&follows));
        },
    )?;
    let queued = pool.submit(|| 1, |number, cx| cx.state.extend(number))?;
    begun.recv()?;
    assert_eq!((queued.abandon(), hangs.abandon()), (InTime, InTime));
    assert_eq!(
        Arc::strong_count(&captured),
        1,
        "dropped here and now, while its job runs"
    );
    assert_eq!(
        (queued.abandon(), hangs.abandon(), queued.cancel()),
        (TooLate, TooLate, TooLate)
    );
    assert_eq!((pool.queued(), pool.running()), (0, 1));
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?; // returns at once: a graceful stop does not wait for it
    drop(end);
    pool.drain();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, []);
    Ok(())
}

#[test]
fn a_finished_job_can_be_abandoned_until_its_completion_begins() -> Result {
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let given_up = pool.submit(|| 1, |number, cx| cx.state.extend(number))?;
    let told = pool.submit(|| 2, |number, cx| cx.state.extend(number))?;
    pool.drain(); // both have been posted
    assert_eq!(given_up.abandon(), InTime);
    let mut numbers = Vec::new();
    reactor.run(&mut numbers)?;
    assert_eq!(numbers, [2]);
    assert_eq!(told.abandon(), TooLate, "it has run");
    Ok(())
}

#[test]
fn keeping_a_job_handle_keeps_nothing_that_the_job_captured() -> Result {
    let captured = Arc::new(());
    let mut reactor = Reactor::<Vec<usize>>::new()?;
    let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let end = occupy(&pool)?;
    let submit = |pool: &WorkerPool<Vec<usize>>| {
        let follows = Arc::clone(&captured);
        pool.submit(|| (), move |_, _| drop(follows))
    };
    let cancelled = submit(&pool)?;
    assert_eq!(cancelled.cancel(), InTime);
    assert_eq!(Arc::strong_count(&captured), 1, "cancelled");
    let _posted = submit(&pool)?;
    drop(end);
    pool.drain();
    let other = WorkerPool::builder().workers(1).build(&mut reactor)?;
    let _end = occupy(&other)?;
    let _queued = submit(&other)?;
    drop(other);
    assert_eq!(Arc::strong_count(&captured), 2, "its pool is gone");
    drop(reactor);
    assert_eq!(Arc::strong_count(&captured), 1, "its loop is gone");
    Ok(())
}

/// A thread that waits for itself would wait for ever.
#[test]
fn a_pool_may_be_ended_by_a_job_of_its_own() -> Result {
    for drains in [true, false] {
        let mut reactor = Reactor::<Vec<bool>>::new()?;
        let pool = WorkerPool::builder().workers(1).build(&mut reactor)?;
        let (handle, own) = (pool.handle(), Arc::new(Mutex::new(Some(pool))));
        handle.submit(
            move || {
                let pool = own.lock().unwrap().take().unwrap();
                if drains {
                    pool.drain();
                } else {
                    pool.shutdown_now();
                }
            },
            |ended, cx| cx.state.push(ended.is_ok()),
        )?;
        let mut ended = Vec::new();
        reactor.run(&mut ended)?;
        assert_eq!(ended, [true], "drains: {drains}");
    }
    Ok(())
}
