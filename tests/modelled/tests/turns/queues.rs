//! Values sent to a queue that is full, that ends, or that has lost its senders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use loom::thread::spawn;
use modelled::{
    Capacity, Context, Exit, Key, Next, Reactor, Receiver, SendTimeoutError, Sender, join,
    notification_queue,
};

use crate::model;

/// The values that a loop has handled. `None` says that the queue has ended.
type Handled = Vec<Option<u32>>;

fn loop_with(receiver: Receiver<u32>) -> (Reactor<Handled>, Key) {
    let mut reactor = Reactor::<Handled>::new().unwrap();
    let key = reactor.consume(receiver, |value, cx| {
        cx.state.push(value);
        Ok(Next::Keep)
    });
    (reactor, key.unwrap())
}

fn send(sender: &Sender<u32>, value: u32) {
    sender.send_within(value, Duration::MAX).unwrap();
}

/// Fails if a queue that has become empty does not notify the senders that wait.
#[test]
fn a_thread_waits_for_room_and_all_its_values_are_handled() {
    model(|| {
        let (sender, receiver) = notification_queue(Capacity::Bounded(1));
        let (mut reactor, _) = loop_with(receiver);
        let thread = spawn(move || [1, 2, 3].map(|value| send(&sender, value)));
        let mut handled = Handled::new();
        assert_eq!(reactor.run(&mut handled).unwrap(), Exit::NothingLeft);
        assert_eq!(handled, [Some(1), Some(2), Some(3), None]);
        join(thread);
    });
}

/// Fails if a queue that has become empty does not notify the senders that wait.
#[test]
fn two_threads_wait_for_the_same_room() {
    model(|| {
        let (sender, receiver) = notification_queue(Capacity::Bounded(1));
        let (mut reactor, _) = loop_with(receiver);
        let other = sender.clone();
        let threads = [
            spawn(move || send(&sender, 1)),
            spawn(move || send(&other, 2)),
        ];
        let mut handled = Handled::new();
        assert_eq!(reactor.run(&mut handled).unwrap(), Exit::NothingLeft);
        assert_eq!(handled.pop(), Some(None));
        handled.sort_unstable();
        assert_eq!(handled, [Some(1), Some(2)]);
        threads.into_iter().for_each(join);
    });
}

/// Sends a value, as soon as there is room.
fn send_on_loop(sender: Sender<u32>, value: u32, cx: &mut Context<'_, Handled>) {
    match sender.try_send(value) {
        Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        Err(TrySendError::Full(value)) => {
            let remote = cx.registry.remote().unwrap();
            let again = sender.clone();
            let on_room = sender.on_room(&remote, move |cx| send_on_loop(again, value, cx));
            on_room.unwrap();
        }
    }
}

/// Fails if a queue that has become empty does not notify the senders that wait.
#[test]
fn a_callback_and_a_thread_wait_for_the_same_room() {
    model(|| {
        let (sender, receiver) = notification_queue(Capacity::Bounded(1));
        let (mut reactor, _) = loop_with(receiver);
        let other = sender.clone();
        reactor.defer(move |cx| send_on_loop(other, 1, cx));
        let thread = spawn(move || send(&sender, 2));
        let mut handled = Handled::new();
        assert_eq!(reactor.run(&mut handled).unwrap(), Exit::NothingLeft);
        assert_eq!(handled.pop(), Some(None));
        handled.sort_unstable();
        assert_eq!(handled, [Some(1), Some(2)]);
        join(thread);
    });
}

/// Fails if the last sender leaves without a word.
#[test]
fn the_last_of_two_senders_ends_the_queue_after_all_values() {
    model(|| {
        let (sender, receiver) = notification_queue(Capacity::Unbounded);
        let (mut reactor, _) = loop_with(receiver);
        let other = sender.clone();
        let thread = spawn(move || other.try_send(1).unwrap());
        reactor.defer(move |_| drop(sender));
        let mut handled = Handled::new();
        assert_eq!(reactor.run(&mut handled).unwrap(), Exit::NothingLeft);
        assert_eq!(handled, [Some(1), None]);
        join(thread);
    });
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fails if a queue that is closed does not notify the senders that wait.
#[test]
fn the_end_of_a_queue_answers_the_sender_that_waits_for_room() {
    model(|| {
        let (sender, receiver) = notification_queue(Capacity::Bounded(1));
        let mut reactor = Reactor::<usize>::new().unwrap();
        let key = reactor.consume(receiver, |value: Option<Counted>, cx| {
            *cx.state += usize::from(value.is_some());
            Ok(Next::Keep)
        });
        let key = key.unwrap();
        // The thread may have ended the queue before.
        reactor.defer(move |cx| drop(cx.registry.remove(key)));
        let dropped = Arc::new(AtomicUsize::new(0));
        let values = [(); 2].map(|()| Counted(Arc::clone(&dropped)));
        let thread = spawn(move || {
            let mut refused = 0;
            for value in values {
                match sender.send_within(value, Duration::MAX) {
                    Ok(()) => assert_eq!(refused, 0, "accepted after the end"),
                    Err(SendTimeoutError::Disconnected(_)) => refused += 1,
                    Err(error) => unreachable!("{error}"),
                }
            }
            assert!(sender.is_disconnected() || refused == 0);
            refused
        });
        let mut handled = 0;
        assert_eq!(reactor.run(&mut handled).unwrap(), Exit::NothingLeft);
        let refused = join(thread);
        assert!(handled + refused <= 2);
        assert_eq!(
            dropped.load(Ordering::Relaxed),
            2,
            "a value is kept by nobody"
        );
    });
}
