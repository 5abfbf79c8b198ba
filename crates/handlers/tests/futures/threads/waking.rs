//! Threads that wake tasks all the time: new ones, ended ones, and those of a loop that ends.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use handlers::futures;
use reactor::Reactor;
use support::in_time;

const TASKS: usize = 200;

type Waiting = Vec<(Arc<AtomicBool>, Waker)>;

/// The flags that tasks wait for, with their wakers.
#[derive(Clone, Default)]
struct Flags {
    waiting: Arc<Mutex<Waiting>>,
    is_over: Arc<AtomicBool>,
}

impl Flags {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a thread has set a new flag. Only its first poll tells the threads of it.
    async fn wait(&self) {
        let (flag, mut is_told) = (Arc::new(AtomicBool::new(false)), false);
        let poll = |cx: &mut std::task::Context<'_>| {
            if flag.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut is_told, true) {
                self.lock().push((Arc::clone(&flag), cx.waker().clone()));
            }
            Poll::Pending
        };
        poll_fn(poll).await;
    }

    /// Sets each flag, and wakes its task before and after it. Wakes tasks of earlier flags too.
    fn serve(&self) {
        let mut earlier = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            let next = self.lock().pop();
            let Some((flag, waker)) = next else {
                earlier.iter().for_each(Waker::wake_by_ref);
                earlier.truncate(64);
                thread::yield_now();
                continue;
            };
            waker.wake_by_ref();
            flag.store(true, Ordering::Relaxed);
            waker.wake_by_ref();
            earlier.insert(0, waker);
        }
        earlier.into_iter().for_each(Waker::wake);
    }
}

/// Starts the threads and the tasks.
fn begin(reactor: &mut Reactor<usize>) -> (Flags, Vec<JoinHandle<()>>) {
    let flags = Flags::default();
    let serve = |_| {
        let flags = flags.clone();
        thread::spawn(move || flags.serve())
    };
    let threads = (0..3).map(serve).collect();
    for _ in 0..TASKS {
        let flags = flags.clone();
        let task = async move {
            for round in 0..10 {
                flags.wait().await;
                let inner = flags.clone();
                let child = futures::spawn_local(async move { inner.wait().await });
                if round % 3 == 0 {
                    child.abort();
                }
                let _ = child.await;
            }
        };
        futures::spawn(reactor, task, |(), cx| *cx.state += 1).expect("a task");
    }
    (flags, threads)
}

fn end(flags: &Flags, threads: Vec<JoinHandle<()>>) {
    flags.is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no panic");
    }
}

#[test]
fn no_wake_is_lost_while_tasks_are_spawned_aborted_and_ended() {
    in_time("a task", || {
        let mut reactor = Reactor::new().expect("a loop");
        let (flags, threads) = begin(&mut reactor);
        let mut ended = 0;
        reactor.run(&mut ended).expect("no error");
        assert_eq!(ended, TASKS);
        end(&flags, threads);
    });
}

#[test]
fn threads_may_wake_the_tasks_of_a_loop_while_it_ends() {
    in_time("the end of a loop", || {
        for turns in 0..20 {
            let mut reactor = Reactor::new().expect("a loop");
            let (flags, threads) = begin(&mut reactor);
            for _ in 0..turns {
                let pause = Some(Duration::from_millis(1));
                reactor.turn(&mut 0, pause).expect("a turn");
            }
            drop(reactor);
            end(&flags, threads);
        }
    });
}
