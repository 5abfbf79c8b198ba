//! W1 and W2: messages between threads.

use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use workloads::Result;
use workloads::pingpong::{self, Rally, Side};
use workloads::spike::{self, Task};

use super::runtime;

/// The number of tasks that are taken from the channel at once.
const BATCH: usize = 1024;

pub(crate) fn spike<T: Task>(options: &spike::Options) -> Result {
    let runtime = runtime()?;
    let (sender, mut receiver) = unbounded_channel();
    let send = move |value| {
        sender
            .send(T::new(value))
            .map_err(drop)
            .expect("the receiver exists")
    };
    spike::measure(options, send, |tally| {
        runtime.block_on(async {
            let mut tasks = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut tasks, BATCH).await > 0 {
                tasks.drain(..).for_each(|task| T::run(task, tally));
            }
        });
        Ok(None)
    })
}

pub(crate) fn pingpong(options: &pingpong::Options) -> Result {
    let (to_far, to_near) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut rally = Rally::new(options)?;
    let round_trips = options.round_trips;
    let far = thread::spawn({
        let (to_far, to_near) = (to_far.clone(), to_near.clone());
        move || {
            Side::Far.pin().expect("there is such a core");
            runtime().expect("a second runtime").block_on(async {
                for _ in 0..round_trips {
                    to_far.notified().await;
                    to_near.notify_one();
                }
            });
        }
    });
    runtime()?.block_on(async {
        loop {
            rally.serve();
            to_far.notify_one();
            to_near.notified().await;
            if !rally.returned() {
                break;
            }
        }
    });
    far.join().map_err(|_| "the far side panicked")?;
    rally.report();
    Ok(())
}
