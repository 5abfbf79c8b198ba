//! Senders of a full queue: threads that wait for room, and callbacks that run when there is room.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{
    Capacity, Context, Interest, Key, LoopGone, LoopThread, Next, Reactor, Remote, RoomWait,
    SendTimeoutError, Sender, notification_queue,
};

use super::Values;
use crate::{PATIENCE, Result, turn_now};

/// A loop with a queue of `capacity` that handles one value per turn, and the loop of a sender.
struct Loops {
    receiving: Reactor<Values>,
    queue: Key,
    sender: Sender<u32>,
    sending: Reactor<Values>,
    remote: Remote<Values>,
}

fn loops(capacity: usize) -> Result<Loops> {
    let (sender, receiver) = notification_queue(Capacity::Bounded(capacity));
    let mut receiving = Reactor::<Values>::new()?;
    let queue = receiving.consume(receiver, |value: Option<u32>, cx| {
        cx.state.extend(value);
        Ok(Next::Keep)
    })?;
    receiving.set_max_messages_per_turn(queue, 1)?;
    let mut sending = Reactor::<Values>::new()?;
    let remote = sending.remote()?;
    Ok(Loops {
        receiving,
        queue,
        sender,
        sending,
        remote,
    })
}

impl Loops {
    /// Fills the queue with zeros.
    fn fill(&self) {
        while self.sender.try_send(0).is_ok() {}
    }

    /// Handles one value.
    fn receive(&mut self) -> usize {
        turn_now(&mut self.receiving, &mut Values::new())
    }

    /// Takes turns of the sending loop until no callback runs. Returns the notes of its callbacks.
    fn sent(&mut self) -> Values {
        let mut noted = Values::new();
        while turn_now(&mut self.sending, &mut noted) > 0 {}
        noted
    }

    /// Notes `number` on the sending loop when there is room.
    fn note_room(&self, number: u32) -> std::result::Result<RoomWait<u32>, LoopGone> {
        self.sender
            .on_room(&self.remote, move |cx| cx.state.push(number))
    }

    /// Sends `number` and notes it, when there is room.
    fn send_on_room(&self, number: u32) -> std::result::Result<RoomWait<u32>, LoopGone> {
        let sender = self.sender.clone();
        self.sender
            .on_room(&self.remote, move |cx: &mut Context<'_, Values>| {
                sender.try_send(number).unwrap();
                cx.state.push(number);
            })
    }
}

#[test]
fn threads_that_wait_for_room_send_everything_in_their_order() -> Result {
    const THREADS: usize = 4;
    const VALUES: usize = 2000;
    for capacity in [1, 3] {
        let (sender, receiver) = notification_queue(Capacity::Bounded(capacity));
        let receiving = LoopThread::spawn("receiving", |registry| {
            registry.consume(
                receiver,
                |value: Option<(usize, usize)>, cx: &mut Context<'_, [usize; THREADS]>| {
                    if let Some((thread, number)) = value {
                        assert_eq!(cx.state[thread], number, "of thread {thread}");
                        cx.state[thread] += 1;
                    }
                    Ok(Next::Keep)
                },
            )?;
            Ok([0; THREADS])
        })?;
        let threads = [0, 1, 2, 3].map(|thread| {
            let sender = sender.clone();
            thread::spawn(move || {
                (0..VALUES).try_for_each(|number| sender.send_within((thread, number), PATIENCE))
            })
        });
        drop(sender);
        for thread in threads {
            thread.join().map_err(|_| "it panicked")??;
        }
        assert_eq!(receiving.join()?, [VALUES; THREADS]);
    }
    Ok(())
}

#[test]
fn a_send_that_times_out_returns_its_value() -> Result {
    let mut loops = loops(1)?;
    loops.fill();
    let sender = loops.sender.clone();
    let sends = move || {
        [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(1),
        ]
        .map(|timeout| {
            let began = Instant::now();
            (sender.send_within(9, timeout), began.elapsed() >= timeout)
        })
    };
    let results = thread::spawn(sends).join().map_err(|_| "it panicked")?;
    assert_eq!(results, [(Err(SendTimeoutError::Timeout(9)), true); 3]);
    assert_eq!(
        (loops.receive(), loops.sender.len()),
        (1, 0),
        "nothing was sent behind its back"
    );
    loops.fill();
    loops.note_room(1)?;
    assert_eq!(
        (loops.receive(), loops.sent()),
        (1, vec![1]),
        "they wait no longer"
    );
    Ok(())
}

#[test]
fn a_send_within_on_the_thread_of_the_loop_is_refused_at_once() -> Result {
    let loops = loops(1)?;
    for _ in 0..2 {
        assert_eq!(
            loops.sender.send_within(9, Duration::MAX),
            Err(SendTimeoutError::OnLoopThread(9))
        );
        loops.fill();
    }
    drop(loops.receiving);
    assert_eq!(
        loops.sender.send_within(9, Duration::MAX),
        Err(SendTimeoutError::Disconnected(9))
    );
    Ok(())
}

#[test]
fn a_loop_that_ends_wakes_all_senders_that_wait() -> Result {
    for _ in 0..20 {
        let mut loops = loops(1)?;
        loops.fill();
        let begins = Arc::new(Barrier::new(3));
        let waits = [1, 2].map(|value| {
            let (sender, begins) = (loops.sender.clone(), Arc::clone(&begins));
            thread::spawn(move || {
                begins.wait();
                sender.send_within(value, PATIENCE)
            })
        });
        loops.note_room(3)?;
        begins.wait();
        for _ in 0..100 {
            thread::yield_now(); // most often the threads wait by then
        }
        drop(std::mem::replace(&mut loops.receiving, Reactor::new()?));
        let ends = waits.map(|wait| wait.join().unwrap());
        assert_eq!(
            ends,
            [1, 2].map(|value| Err(SendTimeoutError::Disconnected(value)))
        );
        assert_eq!(loops.sent(), [3], "callbacks too");
        assert_eq!(loops.sender.try_send(3), Err(TrySendError::Disconnected(3)));
    }
    Ok(())
}

#[test]
fn a_callback_for_room_runs_on_its_loop_when_a_value_is_handled() -> Result {
    let mut loops = loops(2)?;
    loops.note_room(1)?;
    assert_eq!(loops.sent(), [1], "there is room already");
    loops.fill();
    loops.note_room(2)?;
    assert_eq!(loops.sent(), []);
    assert_eq!((loops.receive(), loops.sent()), (1, vec![2]));
    assert_eq!((loops.receive(), loops.sent()), (1, vec![]), "once");
    Ok(())
}

#[test]
fn a_value_that_is_handled_runs_one_callback_and_not_all() -> Result {
    let mut loops = loops(1)?;
    loops.fill();
    (1..=3).try_for_each(|number| loops.send_on_room(number).map(drop))?;
    for number in 1..=3 {
        assert_eq!(loops.sent(), []);
        loops.receive();
        let mut noted = Values::new();
        assert_eq!(turn_now(&mut loops.sending, &mut noted), 1);
        assert_eq!(noted, [number], "in the order of waiting");
    }
    Ok(())
}

#[test]
fn a_callback_that_sends_nothing_passes_its_turn_on() -> Result {
    let mut loops = loops(1)?;
    loops.fill();
    (1..=3).try_for_each(|number| loops.note_room(number).map(drop))?;
    loops.send_on_room(4)?;
    loops.note_room(5)?;
    loops.receive();
    assert_eq!(loops.sent(), [1, 2, 3, 4], "the fifth has no room");
    loops.receive();
    assert_eq!(loops.sent(), [5]);
    Ok(())
}

#[test]
fn a_turn_is_passed_on_by_a_loop_that_is_gone_or_panics() -> Result {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("as the test wants");
            }
        }
    }
    let mut loops = loops(1)?;
    loops.fill();
    let mut gone = Reactor::<()>::new()?;
    for _ in 0..10_000 {
        let held = PanicsWhenDropped;
        loops.sender.on_room(&gone.remote()?, move |_| drop(held))?;
    }
    loops
        .sender
        .on_room(&loops.remote, |_| panic!("as the test wants"))?;
    loops.note_room(1)?;
    drop(gone);
    loops.receive();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        turn_now(&mut loops.sending, &mut Values::new())
    }));
    assert!(unwound.is_err());
    assert_eq!(loops.sent(), [1]);
    Ok(())
}

#[test]
fn a_sender_that_stops_waiting_leaves_the_others_waiting() -> Result {
    let mut loops = loops(2)?;
    loops.fill();
    loops.note_room(1)?;
    let sender = loops.sender.clone();
    let timed_out = thread::spawn(move || sender.send_within(9, Duration::from_nanos(1)));
    assert_eq!(
        timed_out.join().map_err(|_| "it panicked")?,
        Err(SendTimeoutError::Timeout(9))
    );
    assert_eq!((loops.receive(), loops.sent()), (1, vec![1]));
    Ok(())
}

#[test]
fn the_callback_of_a_loop_that_is_gone_is_dropped_in_its_turn() -> Result {
    let mut loops = loops(1)?;
    loops.fill();
    let mut gone = Reactor::<()>::new()?;
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    loops
        .sender
        .on_room(&gone.remote()?, move |_| drop(holds))?;
    drop(gone);
    assert_eq!(Arc::strong_count(&held), 2);
    loops.receive();
    assert_eq!(Arc::strong_count(&held), 1, "although the queue goes on");
    Ok(())
}

#[test]
fn a_callback_for_room_keeps_its_loop_alive_and_is_listed() -> Result {
    let mut loops = loops(1)?;
    loops.fill();
    loops.note_room(1)?;
    let reasons: Vec<_> = loops
        .sending
        .reasons_to_run()
        .map(|reason| reason.to_string())
        .collect();
    assert!(
        matches!(reasons.as_slice(), [reason] if reason.contains("room.rs")),
        "{reasons:?}"
    );
    let mut receiving = std::mem::replace(&mut loops.receiving, Reactor::new()?);
    let mut noted = Values::new();
    loops.sending.after(Duration::ZERO, move |_| {
        turn_now(&mut receiving, &mut Values::new());
        Ok(reactor::Then::Done)
    });
    loops.sending.run(&mut noted)?;
    assert_eq!(noted, [1]);
    let mut gone = Reactor::<Values>::new()?;
    let remote = gone.remote()?;
    drop(gone);
    assert!(matches!(
        loops.sender.on_room(&remote, |_| ()),
        Err(LoopGone)
    ));
    Ok(())
}

#[test]
fn a_queue_that_pauses_itself_reports_the_room_it_has_made() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(3));
    let mut reactor = Reactor::<Values>::new()?;
    let remote = reactor.remote()?;
    reactor.consume(receiver, |_: Option<u32>, cx| {
        cx.registry.set_interest(cx.key(), Interest::NONE)?;
        Ok(Next::Keep)
    })?;
    (0..3).try_for_each(|value| sender.try_send(value))?;
    sender.on_room(&remote, |cx| cx.state.push(1))?;
    let mut noted = Values::new();
    turn_now(&mut reactor, &mut noted);
    turn_now(&mut reactor, &mut noted);
    assert_eq!((sender.len(), noted), (2, vec![1]));
    Ok(())
}

#[test]
fn a_queue_that_is_paused_from_outside_has_reported_its_room() -> Result {
    let mut loops = loops(3)?;
    loops.fill();
    loops.note_room(1)?;
    loops.receive();
    loops.receiving.set_interest(loops.queue, Interest::NONE)?;
    assert_eq!((loops.sender.len(), loops.sent()), (2, vec![1]));
    Ok(())
}

#[test]
fn a_queue_without_room_waits_for_nothing_but_its_end() -> Result {
    let mut loops = loops(0)?;
    let (sender, (answers, answer)) = (loops.sender.clone(), std::sync::mpsc::channel());
    thread::spawn(move || answers.send(sender.send_within(9, Duration::MAX)));
    assert_eq!(
        answer.recv_timeout(PATIENCE)?,
        Err(SendTimeoutError::Timeout(9))
    );
    loops.note_room(1)?;
    assert_eq!((loops.receive(), loops.sent()), (0, vec![]));
    loops.receiving.remove(loops.queue)?;
    assert_eq!(loops.sent(), [1]);
    Ok(())
}

#[test]
fn a_receiver_dropped_without_a_loop_wakes_its_senders() -> Result {
    let (sender, receiver) = notification_queue(Capacity::Bounded(1));
    sender.try_send(1)?;
    let waits = sender.clone();
    let wait = thread::spawn(move || waits.send_within(2, PATIENCE));
    drop(receiver);
    assert_eq!(
        wait.join().map_err(|_| "it panicked")?,
        Err(SendTimeoutError::Disconnected(2))
    );
    Ok(())
}

/// Threads that wait, callbacks that wait and threads that only try, all at once: each value
/// arrives, and the end is reached.
#[test]
fn no_room_is_lost_among_all_ways_to_send() -> Result {
    const VALUES: usize = 3000;
    let (sender, receiver) = notification_queue(Capacity::Bounded(2));
    let received = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&received);
    let receiving = LoopThread::spawn("receiving", |registry| {
        registry.consume(receiver, move |value: Option<usize>, _| {
            counts.fetch_add(usize::from(value.is_some()), Ordering::Relaxed);
            Ok(Next::Keep)
        })?;
        Ok(())
    })?;
    let sending = LoopThread::spawn("sending", |_| Ok(0))?;
    for _ in 0..3 {
        let sender = sender.clone();
        sending
            .remote()
            .post(move |cx| send_all(sender, VALUES, cx))?;
    }
    let waits = sender.clone();
    let waiting =
        thread::spawn(move || (0..VALUES).try_for_each(|value| waits.send_within(value, PATIENCE)));
    let trying = thread::spawn(move || {
        for value in 0..VALUES {
            while sender.try_send(value).is_err() {
                thread::yield_now();
            }
        }
    });
    waiting.join().map_err(|_| "it panicked")??;
    trying.join().map_err(|_| "it panicked")?;
    assert_eq!(sending.join()?, 3 * VALUES);
    receiving.join()?;
    assert_eq!(received.load(Ordering::Relaxed), 5 * VALUES);
    Ok(())
}

/// Sends `left` values, as many at a time as there is room for.
fn send_all(sender: Sender<usize>, mut left: usize, cx: &mut Context<'_, usize>) {
    while left > 0 && sender.try_send(left).is_ok() {
        *cx.state += 1;
        left -= 1;
    }
    if left > 0 {
        let (again, remote) = (sender.clone(), cx.registry.remote().unwrap());
        sender
            .on_room(&remote, move |cx| send_all(again, left, cx))
            .unwrap();
    }
}

/// Joins a thread when it is dropped, and notes its result.
struct JoinsWhenDropped(Option<thread::JoinHandle<bool>>, Arc<AtomicUsize>);

impl Drop for JoinsWhenDropped {
    fn drop(&mut self) {
        let was_woken = self.0.take().is_some_and(|thread| thread.join().unwrap());
        self.1
            .store(if was_woken { 1 } else { 2 }, Ordering::Relaxed);
    }
}

#[test]
fn a_loop_that_ends_wakes_senders_before_it_drops_their_callbacks() -> Result {
    let Loops {
        mut receiving,
        sender,
        sending,
        remote,
        ..
    } = loops(1)?;
    let (other, receiver) = notification_queue(Capacity::Bounded(1));
    receiving.consume(receiver, |_: Option<u32>, _| Ok(Next::Keep))?;
    sender.try_send(0)?;
    other.try_send(0)?;
    let waits = other.clone();
    let thread = thread::spawn(move || {
        waits.send_within(1, PATIENCE) == Err(SendTimeoutError::Disconnected(1))
    });
    for _ in 0..1000 {
        thread::yield_now(); // most often the thread waits by then
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let joins = JoinsWhenDropped(Some(thread), Arc::clone(&ended));
    sender.on_room(&remote, move |_| drop(joins))?;
    drop(sending); // nothing is left to run the callback
    drop(receiving);
    assert_eq!(
        ended.load(Ordering::Relaxed),
        1,
        "it was woken before it was joined"
    );
    Ok(())
}

#[test]
fn a_wait_for_room_that_is_cancelled_holds_nothing() -> Result {
    let mut loops = loops(1)?;
    loops.fill();
    let held = Arc::new(());
    let holds = Arc::clone(&held);
    let first = loops.sender.on_room(&loops.remote, move |_| drop(holds))?;
    let second = loops.note_room(2)?;
    assert!(first.cancel());
    assert_eq!(Arc::strong_count(&held), 1, "the callback was dropped");
    loops.receive();
    assert!(!second.cancel(), "it is posted");
    assert_eq!(loops.sent(), [2], "the room is for the next one");
    loops.fill();
    let third = loops.note_room(3)?;
    assert_eq!(loops.sending.reasons_to_run().count(), 1);
    assert!(third.cancel());
    loops.sending.run(&mut Values::new())?; // returns: nothing keeps it alive
    loops.receive();
    assert_eq!(loops.sent(), [0; 0]);
    Ok(())
}
