//! The state of each worker: when it is made, which jobs use it, where it is dropped.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use handlers::{JobError, WorkerPool, errno, files};
use reactor::Reactor;

use crate::Result;

/// The state of a worker, which cannot leave its thread. It notes the thread of its drop.
struct State {
    number: usize,
    uses: Rc<Cell<usize>>,
    thread: ThreadId,
    dropped: Sender<(usize, ThreadId)>,
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.dropped.send((self.number, thread::current().id()));
    }
}

/// Returns a maker of states, which are counted from 1, and the notes of their drops.
fn states() -> (
    impl Fn() -> io::Result<State> + Send + Sync + 'static,
    Receiver<(usize, ThreadId)>,
) {
    let (dropped, told) = channel();
    let (dropped, made) = (Mutex::new(dropped), AtomicUsize::new(0));
    let make = move || {
        let dropped = dropped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let number = made.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(State {
            number,
            uses: Rc::default(),
            thread: thread::current().id(),
            dropped,
        })
    };
    (make, told)
}

/// A job that counts its uses of a state. Returns the number of the state, and of its uses.
fn use_state(state: &mut State) -> (usize, usize) {
    assert_eq!(
        state.thread,
        thread::current().id(),
        "it never leaves its worker"
    );
    state.uses.set(state.uses.get() + 1);
    (state.number, state.uses.get())
}

/// The results of jobs.
type Uses = Vec<std::result::Result<(usize, usize), JobError>>;

#[test]
fn each_worker_makes_one_state_and_all_its_jobs_share_it() -> Result {
    let (make, dropped) = states();
    let mut reactor = Reactor::<Uses>::new()?;
    let pool = WorkerPool::builder()
        .workers(3)
        .worker_state(make)
        .build(&mut reactor)?;
    for _ in 0..2 {
        let all = Arc::new(Barrier::new(3)); // each worker has one of the jobs
        for _ in 0..3 {
            let all = Arc::clone(&all);
            let job = move |state: &mut State| {
                all.wait();
                use_state(state)
            };
            pool.submit_with(job, |used, cx| cx.state.push(used))?;
        }
        reactor.run(&mut Vec::new())?;
    }
    let mut uses = Vec::new();
    pool.submit_with(use_state, |used, cx| cx.state.push(used))?;
    reactor.run(&mut uses)?;
    assert!(matches!(uses[..], [Ok((1..=3, 3))]), "{uses:?}");
    pool.drain();
    let mut dropped: Vec<_> = dropped.try_iter().collect(); // all of them by now
    dropped.sort_by_key(|(number, _)| *number);
    assert_eq!(
        dropped
            .iter()
            .map(|(number, _)| *number)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(
        dropped
            .iter()
            .all(|(_, thread)| *thread != thread::current().id())
    );
    Ok(())
}

#[test]
fn a_state_is_made_for_the_first_job_that_takes_it() -> Result {
    let (make, dropped) = states();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let mut reactor = Reactor::<Uses>::new()?;
    let make = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        make()
    };
    let pool = WorkerPool::builder()
        .workers(1)
        .worker_state(make)
        .build(&mut reactor)?;
    pool.submit(|| (), |_, _| ())?;
    files::read(&pool, "Cargo.toml", 1 << 20, |content, _cx| {
        assert!(content.is_ok())
    })?;
    reactor.run(&mut Vec::new())?;
    assert_eq!(made.load(Ordering::SeqCst), 0, "neither of them takes it");
    for uses in 1..=2 {
        let mut seen = Vec::new();
        pool.submit_with(use_state, |used, cx| cx.state.push(used))?;
        reactor.run(&mut seen)?;
        assert!(
            matches!(seen[..], [Ok((1, used))] if used == uses),
            "{seen:?}"
        );
    }
    pool.shutdown_now();
    assert_eq!(
        (made.load(Ordering::SeqCst), dropped.try_iter().count()),
        (1, 1)
    );
    Ok(())
}

#[test]
fn a_job_that_panics_discards_the_state_and_the_next_has_a_new_one() -> Result {
    let (make, dropped) = states();
    let mut reactor = Reactor::<Uses>::new()?;
    let pool = WorkerPool::builder()
        .workers(1)
        .worker_state(make)
        .build(&mut reactor)?;
    let mut seen = Vec::new();
    pool.submit_with(use_state, |used, cx| cx.state.push(used))?;
    pool.submit_with(
        |_: &mut State| panic!("half done"),
        |used, cx| cx.state.push(used),
    )?;
    pool.submit_with(use_state, |used, cx| cx.state.push(used))?;
    reactor.run(&mut seen)?;
    assert!(
        matches!(&seen[..], [Ok((1, 1)), Err(JobError::Panicked(panic)), Ok((2, 1))] if panic.message == "half done")
    );
    pool.submit(
        || panic!("without it"),
        |_: std::result::Result<(), _>, _| (),
    )?;
    pool.submit_with(use_state, |used, cx| cx.state.push(used))?;
    reactor.run(&mut seen)?;
    assert!(
        matches!(seen.last(), Some(Ok((2, 2)))),
        "a job that did not have it spoils nothing: {seen:?}"
    );
    pool.drain();
    assert_eq!(
        dropped
            .try_iter()
            .map(|(number, _)| number)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    Ok(())
}

#[test]
fn a_state_that_cannot_be_made_is_reported_and_retried_for_the_next_job() -> Result {
    let tries = AtomicUsize::new(0);
    let make = move || match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::from_raw_os_error(111)),
        1 => panic!("no such database"),
        number => Ok(number),
    };
    let mut reactor = Reactor::<Vec<std::result::Result<usize, JobError>>>::new()?;
    let pool = WorkerPool::builder()
        .workers(1)
        .worker_state(make)
        .build(&mut reactor)?;
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let ran = Arc::clone(&ran);
        let job = move |state: &mut usize| {
            ran.fetch_add(1, Ordering::SeqCst);
            *state
        };
        pool.submit_with(job, |result, cx| cx.state.push(result))?;
    }
    let mut results = Vec::new();
    reactor.run(&mut results)?;
    assert!(matches!(results[2..], [Ok(2), Ok(2)]), "{results:?}");
    assert_eq!(ran.load(Ordering::SeqCst), 2, "without a state no job runs");
    let mut errors = results
        .into_iter()
        .filter_map(|result| result.err().map(io::Error::from));
    let refused = errors.next().ok_or("the first try fails")?;
    assert_eq!(
        (refused.kind(), errno(&refused)),
        (ErrorKind::ConnectionRefused, Some(111)),
        "{refused}"
    );
    let panicked = errors.next().ok_or("the second one panics")?;
    assert!(
        panicked.to_string().contains("no such database"),
        "{panicked}"
    );
    Ok(())
}

#[test]
fn a_state_can_be_replaced_by_the_job_that_has_it() -> Result {
    let (make, dropped) = states();
    let make = Arc::new(make);
    let again = Arc::clone(&make);
    let mut reactor = Reactor::<Uses>::new()?;
    let pool = WorkerPool::builder()
        .workers(1)
        .worker_state(move || make())
        .build(&mut reactor)?;
    let reconnect = move |state: &mut State| again().map(|new| *state = new);
    pool.submit_with(reconnect, |replaced, _cx| {
        assert!(matches!(replaced, Ok(Ok(()))))
    })?;
    pool.submit_with(use_state, |used, cx| cx.state.push(used))?;
    let mut uses = Vec::new();
    reactor.run(&mut uses)?;
    assert!(matches!(uses[..], [Ok((2, 1))]), "{uses:?}");
    assert_eq!(
        dropped
            .try_iter()
            .map(|(number, _)| number)
            .collect::<Vec<_>>(),
        [1]
    );
    Ok(())
}

/// Panics when it is dropped, after a message.
struct Bomb(Receiver<()>);

impl Drop for Bomb {
    fn drop(&mut self) {
        let _ = self.0.recv();
        panic!("as the test wants");
    }
}

#[test]
fn a_destructor_of_a_state_holds_up_no_result_and_ends_no_worker() -> Result {
    let mut reactor = Reactor::<usize>::new()?;
    let (goes, waits) = channel();
    let waits = Mutex::new(Some(waits));
    let make = move || {
        let waits = waits.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(waits.map(Bomb))
    };
    let pool = WorkerPool::builder()
        .workers(1)
        .worker_state(make)
        .build(&mut reactor)?;
    pool.submit_with(
        |_: &mut Option<Bomb>| panic!("half done"),
        |result: std::result::Result<(), _>, cx| *cx.state += usize::from(result.is_err()),
    )?;
    let mut seen = 0;
    reactor.run(&mut seen)?; // while the destructor waits
    assert_eq!(seen, 1);
    goes.send(())?;
    pool.submit_with(
        |state: &mut Option<Bomb>| state.is_none(),
        |new, cx| *cx.state += usize::from(new.is_ok_and(|new| new)),
    )?;
    reactor.run(&mut seen)?;
    assert_eq!(seen, 2, "the worker has gone on, with a new state");
    pool.drain();
    Ok(())
}
