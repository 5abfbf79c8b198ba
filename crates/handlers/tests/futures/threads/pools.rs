//! Tasks on loops that have threads of their own.

use std::future::pending;
use std::sync::Arc;
use std::thread;

use handlers::futures::{self, Spawner};
use reactor::{Context, LoopPool, LoopThread};
use support::in_time;
use tokio::sync::oneshot;

use super::Result;

/// Returns a spawner for each loop of a pool.
fn spawners(pool: &LoopPool<u64>) -> Vec<Spawner<u64>> {
    let of_loop = |number| {
        let remote = pool.get(number).expect("a loop");
        let spawner = remote.call(|cx| Spawner::new(cx.registry));
        spawner.expect("it runs").expect("a spawner")
    };
    (0..pool.len()).map(of_loop).collect()
}

/// Spawns a task that asks another loop, until the loop of the task is gone. Each future and each
/// callback holds a clone of `held`.
fn spawn_until_gone(here: &Spawner<u64>, there: &Spawner<u64>, held: &Arc<()>) {
    for number in 0.. {
        let (there, own, of_answer) = (there.clone(), Arc::clone(held), Arc::clone(held));
        let (asked, answered) = oneshot::channel();
        let make = move |_cx: &mut Context<'_, u64>| async move {
            let (_own, asks) = (own, async move { asked.send(1) });
            let spawned = there.spawn(|_cx| asks, |_sent, _cx| ());
            if number % 7 == 0 {
                pending::<()>().await;
            }
            // An error: the other loop has ended, and so its task was dropped.
            let answer = answered.await.unwrap_or(0);
            answer * u64::from(spawned.is_ok())
        };
        let then = move |answer, cx: &mut Context<'_, u64>| {
            let _of_answer = of_answer;
            *cx.state += answer;
        };
        if here.spawn(make, then).is_err() {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn every_task_ends_with_its_pool_while_other_threads_spawn() {
    in_time("the end of the pool", || {
        for round in 0..30 {
            let held = Arc::new(());
            let pool = LoopPool::spawn(3, "pool-", |_, _| Ok(0_u64)).expect("a pool");
            let spawners = spawners(&pool);
            thread::scope(|scope| {
                for number in 0..3 {
                    let (here, there) = (&spawners[number], &spawners[(number + 1) % 3]);
                    let held = &held;
                    scope.spawn(move || spawn_until_gone(here, there, held));
                }
                match round % 2 {
                    0 => drop(pool),
                    _ => drop(pool.stop().expect("no loop fails")),
                }
            });
            assert_eq!(Arc::strong_count(&held), 1, "round {round}");
        }
    });
}

#[test]
fn tasks_may_own_the_pool_whose_loops_they_run_on() {
    in_time("the end of the pool", || {
        for ends in 0..4 {
            let pool = LoopPool::<()>::spawn(3, "pool-", |_, _| Ok(())).expect("a pool");
            let pool = Arc::new(pool);
            let remotes: Vec<_> = (0..3).filter_map(|n| pool.get(n).cloned()).collect();
            for (number, remote) in remotes.iter().enumerate() {
                let own = Arc::clone(&pool);
                let owns = async move {
                    let _own = own;
                    if number != ends {
                        pending::<()>().await;
                    }
                };
                let spawned = remote.call(move |cx| futures::spawn(cx.registry, owns, |(), _| ()));
                spawned.expect("it runs").expect("a task");
            }
            drop(pool);
            for remote in &remotes {
                let _ = remote.stop(); // the drop of the pool may have stopped it
            }
            while !remotes.iter().all(reactor::Remote::is_gone) {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn tasks_that_the_set_up_of_a_loop_spawns_are_dropped_if_it_fails() -> Result {
    let held = Arc::new(());
    for panics in [false, true] {
        let held_by_task = Arc::clone(&held);
        let failed = LoopThread::<()>::spawn("fails", move |registry| {
            let task = async move {
                let _held = held_by_task;
                pending::<()>().await;
            };
            futures::spawn(registry, task, |(), _cx| ())?;
            assert!(!panics, "as the test wants");
            Err(std::io::Error::other("no socket"))
        });
        assert!(failed.is_err());
        assert_eq!(Arc::strong_count(&held), 1);
    }
    Ok(())
}
