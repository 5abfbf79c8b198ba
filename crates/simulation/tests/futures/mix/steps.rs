//! The life of a task: one step after the other, as the seed says.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::{or, poll_once};
use futures_sink::Sink;
use handlers::futures::{self, Async, JoinHandle};
use handlers::{Resolver, Target};
use reactor::{Context, Missed, Registry};
use simulation::{Peer, random};

use super::model::{Alive, Id, Place, Sent, State};

/// How late a timer may be in a calm world. Other tasks compute for at most a part of it.
const SLACK: Duration = Duration::from_millis(200);

/// Draws a time, short ones as likely as long ones.
pub(super) fn draw_time() -> Duration {
    Duration::from_micros(random(1 << random(24)))
}

fn now() -> std::time::Instant {
    futures::now().unwrap()
}

/// The future of a task with `depth` generations below it. Returns its number.
pub(super) fn work(alive: Alive, place: Place, depth: u64) -> Pin<Box<dyn Future<Output = Id>>> {
    Box::pin(async move {
        for _ in 0..random(6) {
            step(&alive, &place, depth).await;
        }
        alive.id
    })
}

async fn step(alive: &Alive, place: &Place, depth: u64) {
    match random(16) {
        0 => sleeps(place).await,
        1 => times_out(place).await,
        2 => yields(place).await,
        3 | 4 if depth > 0 => joins(place, depth).await,
        5 if depth > 0 => aborts(place, depth).await,
        6 => sends(alive.id, place).await,
        7 => waits_for_the_event(place).await,
        8 => place.shared.set_event(),
        9 => calls(place).await,
        10 => is_woken_by_a_thread().await,
        11 => leaves_a_sleep_to_a_thread(place).await,
        12 => ticks(place).await,
        13 => waits_for_a_job(place).await,
        14 => asks(alive, place).await,
        _ => simulation::compute(Duration::from_micros(random(2000))),
    }
}

async fn sleeps(place: &Place) {
    let (before, delay) = (now(), draw_time());
    futures::sleep(delay).await;
    let took = now() - before;
    assert!(took >= delay, "a sleep of {delay:?} took {took:?}");
    assert!(
        !place.is_calm || took <= delay + SLACK,
        "a sleep of {delay:?} took {took:?}"
    );
}

async fn times_out(place: &Place) {
    let (before, limit, delay) = (now(), draw_time(), draw_time());
    let outcome = futures::timeout(limit, futures::sleep(delay)).await;
    let took = now() - before;
    match outcome {
        Ok(()) => assert!(took >= delay, "a sleep of {delay:?} took {took:?}"),
        Err(_elapsed) => assert!(delay > limit && took >= limit, "{limit:?} was {took:?}"),
    }
    let due = limit.min(delay);
    assert!(
        !place.is_calm || took <= due + SLACK,
        "{due:?} took {took:?}"
    );
}

async fn yields(place: &Place) {
    let before = place.turn.get();
    futures::yield_now().await;
    assert!(
        place.turn.get() > before,
        "a task that gave way went on in its turn"
    );
}

/// Spawns a task, which others may cancel, and which may panic.
fn spawn_child(place: &Place, depth: u64) -> (Id, JoinHandle<Id>) {
    let alive = place.shared.begin();
    let id = alive.id;
    let panics = random(8) == 0;
    let working = work(alive, place.clone(), depth - 1);
    let shared = place.shared.clone();
    let child = futures::spawn_local(async move {
        let id = working.await;
        if panics {
            shared.panics(id);
            std::panic::resume_unwind(Box::new("as the seed wants"));
        }
        id
    });
    if random(2) == 0 {
        place.keys.borrow_mut().push((id, child.key()));
    }
    (id, child)
}

async fn joins(place: &Place, depth: u64) {
    let (id, child) = spawn_child(place, depth);
    if random(4) == 0 {
        return; // the task goes on by itself
    }
    place.shared.expect_end(id, &child.await);
}

async fn aborts(place: &Place, depth: u64) {
    let (id, child) = spawn_child(place, depth);
    futures::sleep(draw_time()).await;
    if !child.is_finished() {
        place.shared.cancels(id);
        child.abort();
    }
    place.shared.expect_end(id, &child.await);
}

async fn sends(from: Id, place: &Place) {
    let to = random(place.queues.len() as u64) as usize;
    let sender = place.queues[to].clone();
    let sink = futures::with_context(move |cx: &mut Context<'_, State>| {
        futures::sink(cx.registry, sender)
    });
    let mut sink = sink.await.unwrap();
    for _ in 0..random(20) {
        poll_fn(|cx| Pin::new(&mut sink).poll_ready(cx))
            .await
            .unwrap();
        let number = place.shared.next_number(from, to);
        // Nothing waits in the sink, so it waits in there at most until the next flush.
        Pin::new(&mut sink)
            .start_send(Sent { from, number })
            .unwrap();
        let unsent = Unsent {
            from,
            to,
            place,
            is_sent: false,
        };
        unsent.flush(&mut sink).await;
    }
    poll_fn(|cx| Pin::new(&mut sink).poll_close(cx))
        .await
        .unwrap();
}

/// A number on its way into a queue. If the task is cancelled meanwhile, the loop may have sent it.
struct Unsent<'a> {
    from: Id,
    to: usize,
    place: &'a Place,
    is_sent: bool,
}

impl Unsent<'_> {
    async fn flush(mut self, sink: &mut futures::QueueSink<Sent>) {
        poll_fn(|cx| Pin::new(&mut *sink).poll_flush(cx))
            .await
            .unwrap();
        self.is_sent = true;
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        let shared = &self.place.shared;
        if self.is_sent {
            shared.has_sent(self.from, self.to);
        } else {
            shared.may_have_sent(self.from, self.to);
        }
    }
}

async fn waits_for_the_event(place: &Place) {
    let shared = &place.shared;
    let waiting = async {
        futures::wait_event(&shared.event).await.unwrap();
        shared.passes.set(shared.passes.get() + 1);
    };
    let _ = futures::timeout(draw_time(), waiting).await;
}

async fn calls(place: &Place) {
    let turn = place.turn.clone();
    let called = futures::with_context(move |cx: &mut Context<'_, State>| {
        cx.state.calls += 1;
        (cx.state.calls, turn.get())
    });
    if random(4) == 0 {
        let _ = futures::timeout(draw_time(), called).await;
        return;
    }
    let (count, _turn) = called.await;
    let again = futures::with_context(|cx: &mut Context<'_, State>| cx.state.calls).await;
    assert!(again >= count);
}

/// A message of a thread to a task.
#[derive(Default)]
struct Told {
    value: Option<u64>,
    waker: Option<Waker>,
}

async fn is_woken_by_a_thread() {
    let (told, value) = (Arc::<Mutex<Told>>::default(), random(1000));
    let tells = Arc::clone(&told);
    simulation::thread("wakes", move || {
        for number in 0..1 + random(4) {
            simulation::sleep(draw_time());
            let mut told = tells.lock().unwrap();
            told.value = Some(value + number);
            // Kept and woken again, also after the end of its task.
            let waker = told.waker.clone();
            drop(told);
            waker.into_iter().for_each(Waker::wake);
        }
    });
    let first = poll_fn(|cx| {
        let mut told = told.lock().unwrap();
        told.waker = Some(cx.waker().clone());
        told.value.map_or(Poll::Pending, Poll::Ready)
    });
    assert!(first.await >= value);
}

async fn leaves_a_sleep_to_a_thread(place: &Place) {
    let mut sleep = futures::sleep(draw_time());
    let _ = poll_once(&mut sleep).await;
    let (until, alive) = (now() + draw_time(), place.remote.keep_alive());
    simulation::thread("sleeps", move || {
        simulation::sleep(draw_time());
        if random(2) == 0 {
            sleep.reset(until);
            simulation::sleep(draw_time());
        }
        drop((sleep, alive));
    });
}

async fn ticks(place: &Place) {
    let missed = [Missed::Skip, Missed::Burst, Missed::Delay][random(3) as usize];
    let (begin, period) = (now(), Duration::from_micros(1 + random(100_000)));
    let mut interval = futures::interval(period).missed(missed);
    for number in 1..=1 + random(5) {
        let due = interval.tick().await;
        let (since, at) = (due - begin, now());
        assert!(at >= due, "a tick is early");
        match missed {
            Missed::Burst => assert_eq!(since, period * number as u32),
            Missed::Skip => assert_eq!(since.as_nanos() % period.as_nanos(), 0),
            _ => assert!(since >= period * number as u32),
        }
        assert!(!place.is_calm || at - due <= SLACK, "a tick is late");
        simulation::compute(Duration::from_micros(random(3000)));
    }
}

async fn waits_for_a_job(place: &Place) {
    let value = random(1000);
    let job = futures::submit(&place.pool, move || value * 2);
    if let Ok(result) = futures::timeout(draw_time(), job).await {
        assert_eq!(result, Ok(value * 2));
    }
}

/// Asks something that takes a while, and may give up.
async fn asks(alive: &Alive, place: &Place) {
    match random(4) {
        0 => {
            let target: Target = "a.test:80".parse().unwrap();
            let lookup = futures::resolve(&Resolver::default(), target);
            let patience = async {
                futures::sleep(draw_time()).await;
                Ok(Vec::new())
            };
            let _ = or(lookup, patience).await;
        }
        1 => spawns_by_a_thread(place).await,
        2 => receives_from_a_peer(place).await,
        _ => {
            // Yields to its own child, whose key nobody else has.
            let id = alive.id;
            assert_eq!(futures::spawn_local(async move { id }).await, Ok(id));
        }
    }
}

async fn spawns_by_a_thread(place: &Place) {
    let event = reactor::Event::manual_reset();
    let (spawner, sets) = (place.spawner.clone(), event.clone());
    simulation::thread("spawns", move || {
        simulation::sleep(draw_time());
        let delay = draw_time();
        let make = move |_cx: &mut Context<'_, State>| futures::sleep(delay);
        let then = move |(), cx: &mut Context<'_, State>| {
            cx.state.finished += 1;
            sets.set();
        };
        let _ = spawner.spawn(make, then); // refused if the loop has ended
    });
    futures::wait_event(&event).await.unwrap();
}

/// Reads what a peer sends, with a limit of time, and then drops the stream here or elsewhere.
async fn receives_from_a_peer(place: &Place) {
    let Ok((stream, mut peer)) = Peer::pair() else {
        return;
    };
    simulation::thread("peer", move || {
        simulation::sleep(draw_time());
        let _ = std::io::Write::write_all(&mut peer, b"hello"); // the stream may be closed
        simulation::sleep(draw_time());
    });
    let mut stream = Async::new(stream).unwrap();
    let mut buf = [0; 5];
    let reading = futures_lite::AsyncReadExt::read_exact(&mut stream, &mut buf);
    if let Ok(Ok(())) = futures::timeout(draw_time(), reading).await {
        assert_eq!(&buf, b"hello");
    }
    if random(2) == 0 {
        let alive = place.remote.keep_alive();
        simulation::thread("drops", move || drop((stream, alive)));
    }
}

/// Cancels a task that may be cancelled.
pub(super) fn cancel_one(state: &State, registry: &mut Registry<State>) {
    let State { shared, keys, .. } = state;
    let drawn = random(keys.borrow().len() as u64) as usize;
    if drawn >= keys.borrow().len() {
        return;
    }
    let (id, key) = keys.borrow_mut().swap_remove(drawn);
    let was_alive = key.is_alive(registry);
    if was_alive {
        shared.cancels(id);
    }
    assert_eq!(key.cancel(registry).is_ok(), was_alive);
    assert!(!shared.is_alive(id), "task {id} outlives its cancellation");
}
