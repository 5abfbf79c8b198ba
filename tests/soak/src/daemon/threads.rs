//! Other threads: senders on a bounded queue, calls and posts, and an event that goes to and fro.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::{
    Capacity, Event, Key, Next, Registry, Remote, SendTimeoutError, Sender, notification_queue,
};

use super::{Cx, Daemon};

const SENDERS: usize = 2;
const CAPACITY: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
/// Far beyond what any pause of the daemon takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Threads {
    threads: Vec<JoinHandle<()>>,
    is_ending: Arc<AtomicBool>,
    ping: Key,
    values: u64,
    events: u64,
}

impl Threads {
    pub(super) fn start(registry: &mut Registry<Daemon>) -> io::Result<Self> {
        let is_ending = Arc::new(AtomicBool::new(false));
        let remote = registry.remote()?;
        let (sender, receiver) = notification_queue(Capacity::Bounded(CAPACITY));
        let mut expected = [0; SENDERS];
        registry.consume(receiver, move |value: Option<(usize, u64)>, cx| {
            let Some((of, number)) = value else {
                return Ok(Next::Remove); // every sender has ended
            };
            cx.state.threads.values += 1;
            if number != expected[of] {
                cx.state
                    .deviate(format!("{number} was sent, {} expected", expected[of]));
            }
            expected[of] = number + 1;
            Ok(Next::Keep)
        })?;
        let (ping, pong) = (Event::auto_reset(), Event::auto_reset());
        let answer = pong.clone();
        let on_ping = registry.on_event(&ping, move |cx| {
            cx.state.threads.events += 1;
            answer.set();
            Ok(Next::Keep)
        })?;
        let mut threads = Vec::new();
        for of in 0..SENDERS {
            let (sender, remote, is_ending) = (sender.clone(), remote.clone(), is_ending.clone());
            threads.push(thread::spawn(move || {
                send(of, &sender, &remote, &is_ending)
            }));
        }
        let (caller, ends) = (remote.clone(), is_ending.clone());
        threads.push(thread::spawn(move || call(&caller, &ends)));
        let ends = is_ending.clone();
        threads.push(thread::spawn(move || {
            exchange(&ping, &pong, &remote, &ends)
        }));
        Ok(Self {
            threads,
            is_ending,
            ping: on_ping,
            values: 0,
            events: 0,
        })
    }

    pub(super) const fn values(&self) -> u64 {
        self.values
    }

    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn join(&mut self) -> io::Result<()> {
        let mut threads = self.threads.drain(..);
        threads.try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))
        })
    }
}

/// Reports a deviation to the loop. If the loop has ended, nobody needs it any more.
fn deviate(remote: &Remote<Daemon>, deviation: String) {
    let _ = remote.post(|cx| cx.state.deviate(deviation));
}

/// Sends ascending numbers, in bursts that fill the queue.
fn send(of: usize, sender: &Sender<(usize, u64)>, remote: &Remote<Daemon>, is_ending: &AtomicBool) {
    for number in 0.. {
        if is_ending.load(Ordering::Relaxed) {
            return;
        }
        match sender.send_within((of, number), PATIENCE) {
            Ok(()) => {}
            Err(SendTimeoutError::Disconnected(_)) => return,
            Err(error) => return deviate(remote, format!("a sender: {error}")),
        }
        if number % 200 == 0 {
            thread::sleep(10 * PAUSE);
        }
    }
}

/// Calls into the loop, and compares the answers.
fn call(remote: &Remote<Daemon>, is_ending: &AtomicBool) {
    for number in 0_u64.. {
        if is_ending.load(Ordering::Relaxed) {
            return;
        }
        let posted = remote.post(|cx| cx.state.threads.events += 1);
        match remote.call(move |cx| (number, cx.state.threads.events)) {
            Ok((answer, events)) if answer == number && events > number => {}
            // The loop has ended.
            Err(_) if posted.is_err() || is_ending.load(Ordering::Relaxed) => return,
            answer => return deviate(remote, format!("call {number}: {answer:?}")),
        }
        thread::sleep(PAUSE);
    }
}

/// Sets an event, and waits for the one that the loop sets in answer.
fn exchange(ping: &Event, pong: &Event, remote: &Remote<Daemon>, is_ending: &AtomicBool) {
    while !is_ending.load(Ordering::Relaxed) {
        ping.set();
        if !pong.wait(Some(PATIENCE)) && !is_ending.load(Ordering::Relaxed) {
            return deviate(remote, "an event was lost".to_owned());
        }
        thread::sleep(PAUSE);
    }
    // The loop waits for events until this one is removed.
    let _ = remote.post(|cx: &mut Cx<'_>| {
        if let Err(error) = cx.registry.remove(cx.state.threads.ping) {
            cx.state.deviate(format!("the event at the end: {error}"));
        }
    });
}

pub(super) fn end(cx: &mut Cx<'_>) {
    cx.state.threads.is_ending.store(true, Ordering::Relaxed);
}
