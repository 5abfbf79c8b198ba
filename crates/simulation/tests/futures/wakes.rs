//! Tasks that are woken by other threads.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use handlers::futures;
use simulation::{Daemon, Faults, Seeds, Simulation};

const THREADS: u64 = 3;
const NUMBERS: u64 = 20;

/// A sum that threads add to, and the task that waits for it.
#[derive(Default)]
struct Sum {
    sum: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Sum {
    fn add(&self, number: u64) {
        self.sum.fetch_add(number, Ordering::AcqRel);
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn reaches(&self, goal: u64) -> u64 {
        poll_fn(|cx| {
            self.waker.lock().unwrap().replace(cx.waker().clone());
            match self.sum.load(Ordering::Acquire) {
                sum if sum < goal => Poll::Pending,
                sum => Poll::Ready(sum),
            }
        })
        .await
    }
}

/// A daemon whose task waits for other threads, beside one that sleeps.
fn adds_up() {
    let (sum, goal) = (Arc::new(Sum::default()), THREADS * NUMBERS);
    let awaited = Arc::clone(&sum);
    let daemon = Daemon::start("adder", move |reactor| {
        let waits = async move { awaited.reaches(goal).await };
        futures::spawn(reactor, waits, |sum, cx: &mut reactor::Context<'_, u64>| {
            *cx.state += sum;
            simulation::note(&format!("reached {sum}"));
        })?;
        let sleeps = async {
            for _ in 0..10 {
                futures::sleep(Duration::from_millis(7)).await;
            }
        };
        futures::spawn(reactor, sleeps, |(), cx| *cx.state += 1000)?;
        Ok((0, ()))
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let sum = Arc::clone(&sum);
            simulation::process(&format!("thread {number}"), move || {
                for _ in 0..NUMBERS {
                    simulation::sleep(Duration::from_millis(simulation::random(10)));
                    sum.add(1);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(simulation::Handle::join);
    let (sum, _reactor) = daemon.join();
    assert_eq!(sum, 1000 + goal);
}

#[test]
fn a_task_sees_every_wake_whatever_the_timing() {
    Seeds::new(0..100).check(adds_up);
    Seeds::new(0..50).faults(Faults::all()).check(adds_up);
}

#[test]
fn a_run_with_tasks_is_the_same_for_the_same_seed() {
    for seed in 0..20 {
        let run = || {
            let simulation = Simulation::new(seed).faults(Faults::all());
            simulation.run(adds_up).hash
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
