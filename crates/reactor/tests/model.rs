//! The protocol of wakeups, run by loom through every order of its threads.
//!
//! The files of the library are compiled again here, with the atomics and locks of loom under their
//! names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "what the library uses and the model does not")]

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use hub::{Hub, Signal};
use mailbox::{Mailbox, Refused, Taken};
use room::Position;

#[path = "../src/notify/gate.rs"]
mod gate;
#[path = "../src/notify/holders.rs"]
mod holders;
#[path = "../src/notify/hub.rs"]
mod hub;
#[path = "../src/notify/mailbox.rs"]
mod mailbox;
#[path = "../src/notify/room.rs"]
mod room;

mod primitives {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    pub(crate) use loom::thread::ThreadId;
    pub(crate) use std::sync::{PoisonError, TryLockError};
}

mod sys {
    pub(crate) mod thread {
        use loom::thread::{self, ThreadId};

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct Identity(ThreadId);

        impl Identity {
            pub(crate) fn current() -> Self {
                Self(thread::current().id())
            }

            pub(crate) const fn id(self) -> ThreadId {
                self.0
            }
        }
    }
}

/// Stands for the edge-triggered eventfd: each write ends a wait that has not seen it.
#[derive(Debug)]
struct Bell {
    rung: Mutex<u64>,
    ringing: Condvar,
}

impl Signal for Bell {
    fn signal(&self) {
        *self.rung.lock().unwrap() += 1;
        self.ringing.notify_one();
    }
}

type TestHub = Hub<u32, Arc<Bell>>;

impl Signal for Arc<Bell> {
    fn signal(&self) {
        (**self).signal();
    }
}

/// The thread of the loop, as senders see it.
struct Loop {
    hub: Arc<TestHub>,
    bell: Arc<Bell>,
    heard: u64,
    /// The number of times that it was ready to sleep, whether it slept or not.
    lay_down: u64,
}

impl Loop {
    fn new() -> Self {
        let bell = Arc::new(Bell {
            rung: Mutex::new(0),
            ringing: Condvar::new(),
        });
        Self {
            hub: Arc::new(Hub::new(Arc::clone(&bell))),
            bell,
            heard: 0,
            lay_down: 0,
        }
    }

    /// Does what `Reactor::wait` does without hooks before it: a turn that a wakeup keeps from
    /// sleeping answers the wakeup.
    fn sleep(&mut self) {
        if !self.sleep_behind_hooks() {
            self.hub.take_wake();
        }
    }

    /// Does the same after hooks: a wakeup that came after the hooks began is left for the next
    /// turn. Returns `true` if it slept.
    fn sleep_behind_hooks(&mut self) -> bool {
        self.lay_down += 1;
        let may_sleep = self.hub.fall_asleep();
        if may_sleep {
            let mut rung = self.bell.rung.lock().unwrap();
            while *rung == self.heard {
                rung = self.bell.ringing.wait(rung).unwrap();
            }
            self.heard = *rung;
        }
        self.hub.wake_up();
        assert!(
            self.hub.signals() <= self.lay_down,
            "more than one write a sleep"
        );
        may_sleep
    }

    fn collect(&self) -> VecDeque<u32> {
        let mut announced = VecDeque::new();
        self.hub.collect(&mut announced);
        announced
    }

    /// Handles values until no sender is left.
    fn consume(&mut self, mailbox: &Mailbox<VecDeque<u32>, TestHub>, mut told: bool) -> Vec<u32> {
        let mut values = Vec::new();
        loop {
            let mut batch = VecDeque::new();
            match if told {
                mailbox.take(&mut batch)
            } else {
                Taken::Nothing
            } {
                Taken::Values => {
                    values.extend(batch);
                    mailbox.set_taken(0);
                }
                Taken::Busy => thread::yield_now(),
                Taken::Ended => return values,
                Taken::Nothing => {
                    self.sleep();
                    told = !self.collect().is_empty();
                }
            }
        }
    }
}

fn send(mailbox: &Mailbox<VecDeque<u32>, TestHub>, value: u32) -> bool {
    match mailbox.push(value) {
        Ok(told) => told.into_iter().for_each(|hub| hub.notify(7)),
        Err(_) => return false,
    }
    true
}

fn leave(mailbox: &Mailbox<VecDeque<u32>, TestHub>) {
    mailbox
        .remove_sender()
        .into_iter()
        .for_each(|hub| hub.notify(7));
}

/// Runs every order in which no thread is interrupted more than three times. This finds nearly all
/// errors.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(scenario);
}

/// Each sleep costs one write.
#[test]
fn no_wakeup_is_lost_between_a_send_and_a_sleep() {
    model(|| {
        let mut reactor = Loop::new();
        let mailbox = Arc::new(Mailbox::new(usize::MAX));
        let told = mailbox.attach(Arc::clone(&reactor.hub));
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                assert!(send(&mailbox, 1) && send(&mailbox, 2));
                leave(&mailbox);
            }
        });
        assert_eq!(reactor.consume(&mailbox, told), [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_lose_nothing_and_the_last_to_leave_is_noticed() {
    model(|| {
        let mut reactor = Loop::new();
        let mailbox = Arc::new(Mailbox::new(usize::MAX));
        mailbox.add_sender();
        let told = mailbox.attach(Arc::clone(&reactor.hub));
        let senders = [1, 2].map(|value| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                assert!(send(&mailbox, value));
                leave(&mailbox);
            })
        });
        let mut values = reactor.consume(&mailbox, told);
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_send_that_races_with_the_attachment_is_not_lost() {
    model(|| {
        let mut reactor = Loop::new();
        let mailbox = Arc::new(Mailbox::new(usize::MAX));
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                assert!(send(&mailbox, 1));
                leave(&mailbox);
            }
        });
        let told = mailbox.attach(Arc::clone(&reactor.hub));
        assert_eq!(reactor.consume(&mailbox, told), [1]);
        sender.join().unwrap();
    });
}

#[test]
fn a_send_that_races_with_the_consumers_end_is_refused_or_left_to_it() {
    model(|| {
        let reactor = Loop::new();
        let mailbox = Arc::new(Mailbox::new(usize::MAX));
        mailbox.attach(Arc::clone(&reactor.hub));
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || usize::from(send(&mailbox, 1)) + usize::from(send(&mailbox, 2))
        });
        let left = mailbox.close();
        assert_eq!(sender.join().unwrap(), left.len());
    });
}

#[test]
fn a_bounded_mailbox_is_never_more_than_full() {
    model(|| {
        let mailbox: Arc<Mailbox<VecDeque<u32>, TestHub>> = Arc::new(Mailbox::new(2));
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || (0..3).filter(|value| send(&mailbox, *value)).count()
        });
        let mut batch = VecDeque::new();
        let mut handled = 0;
        if mailbox.take(&mut batch) == Taken::Values {
            assert!(mailbox.len() <= 2);
            handled = batch.len();
            mailbox.set_taken(0);
        }
        let sent = sender.join().unwrap();
        assert!(sent - handled <= 2 && mailbox.len() == sent - handled);
    });
}

#[test]
fn a_wake_makes_the_loop_see_changes_made_before_it() {
    model(|| {
        let mut reactor = Loop::new();
        let flag = Arc::new(AtomicBool::new(false));
        let waker = thread::spawn({
            let (flag, hub) = (Arc::clone(&flag), Arc::clone(&reactor.hub));
            move || {
                flag.store(true, Ordering::Relaxed);
                hub.wake();
            }
        });
        while !flag.load(Ordering::Relaxed) {
            reactor.sleep();
            reactor.collect();
        }
        waker.join().unwrap();
    });
}

/// Runs a loop whose hook looks for a change that a thread makes before it wakes the loop, and
/// looks nowhere else. `turn` says whether it may sleep each turn.
fn look_in_hooks(turn: impl Fn(&mut Loop, &AtomicBool) -> bool + Send + Sync + 'static) {
    model(move || {
        let mut reactor = Loop::new();
        let flag = Arc::new(AtomicBool::new(false));
        let waker = thread::spawn({
            let (flag, hub) = (Arc::clone(&flag), Arc::clone(&reactor.hub));
            move || {
                flag.store(true, Ordering::Relaxed);
                hub.wake();
            }
        });
        while !turn(&mut reactor, &flag) {}
        waker.join().unwrap();
    });
}

#[test]
fn a_wake_after_the_hook_that_follows_the_wait_ends_the_next_sleep() {
    look_in_hooks(|reactor, flag| {
        reactor.sleep();
        let seen = flag.load(Ordering::Relaxed);
        reactor.collect();
        seen
    });
}

#[test]
fn a_wake_after_the_hook_before_the_wait_is_seen_by_it_next_turn() {
    look_in_hooks(|reactor, flag| {
        let is_woken = reactor.hub.take_wake();
        let seen = flag.load(Ordering::Relaxed);
        if !is_woken {
            reactor.sleep_behind_hooks();
        }
        reactor.collect();
        seen
    });
}

#[test]
fn notifications_before_the_last_keep_alive_is_dropped_are_collected() {
    model(|| {
        let reactor = Loop::new();
        reactor.hub.keep_alive();
        let senders = [true, false].map(|keeps_alive| {
            let hub = Arc::clone(&reactor.hub);
            thread::spawn(move || {
                hub.notify(u32::from(keeps_alive));
                if keeps_alive {
                    hub.release();
                }
            })
        });
        let mut collected = VecDeque::new();
        while reactor.hub.must_stay_alive() {
            reactor.hub.take_wake();
            collected.extend(reactor.collect());
            thread::yield_now();
        }
        assert!(collected.contains(&1), "the loop ends without it");
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn dropping_the_last_keep_alive_lets_the_loop_end() {
    model(|| {
        let mut reactor = Loop::new();
        let let_go = Arc::new(AtomicUsize::new(0));
        let holders = [(), ()].map(|()| {
            reactor.hub.keep_alive();
            let (let_go, hub) = (Arc::clone(&let_go), Arc::clone(&reactor.hub));
            thread::spawn(move || {
                let_go.fetch_add(1, Ordering::Relaxed);
                hub.release();
            })
        });
        while reactor.hub.must_stay_alive() {
            reactor.sleep();
            reactor.collect();
        }
        holders
            .into_iter()
            .for_each(|holder| holder.join().unwrap());
        assert_eq!(let_go.load(Ordering::Relaxed), 2);
    });
}

type TestMailbox = Mailbox<VecDeque<u32>, TestHub>;

/// Notifies one sender that waits for room, as `thread::park` does.
#[derive(Default)]
struct Parked {
    has_turn: Mutex<bool>,
    woken: Condvar,
}

impl Parked {
    /// Waits for room in `mailbox`.
    fn wait(mailbox: &TestMailbox, position: Position) {
        let parked = Arc::new(Self::default());
        let notified = Arc::clone(&parked);
        mailbox.notify_of_room(
            position,
            Box::new(move || {
                *notified.has_turn.lock().unwrap() = true;
                notified.woken.notify_one();
                None
            }),
        );
        let mut has_turn = parked.has_turn.lock().unwrap();
        while !*has_turn {
            has_turn = parked.woken.wait(has_turn).unwrap();
        }
    }
}

/// Does what `Sender::send_within` does without a timeout. Returns `true` if the value was sent.
fn send_within(mailbox: &TestMailbox, value: u32) -> bool {
    let mut sent = mailbox.push(value).map_err(|(_, refused)| refused);
    let mut position = Position::Last;
    while matches!(sent, Err(Refused::Full)) {
        Parked::wait(mailbox, position);
        sent = mailbox.push(value).map_err(|(_, refused)| refused);
        mailbox.end_turn();
        position = Position::First;
    }
    match sent {
        Ok(told) => told.into_iter().for_each(|hub| hub.notify(7)),
        Err(_) => return false,
    }
    true
}

fn bounded(capacity: usize) -> Arc<TestMailbox> {
    let mailbox = Arc::new(Mailbox::new(capacity));
    assert!(send(&mailbox, 0));
    mailbox
}

#[test]
fn a_sender_that_waits_for_room_is_notified_when_a_value_is_handled() {
    model(|| {
        let mut reactor = Loop::new();
        let mailbox = bounded(1);
        let told = mailbox.attach(Arc::clone(&reactor.hub));
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                assert!(send_within(&mailbox, 1));
                leave(&mailbox);
            }
        });
        assert_eq!(reactor.consume(&mailbox, told), [0, 1]);
        sender.join().unwrap();
    });
}

#[test]
fn a_sender_that_waits_sees_the_room_of_values_handled_from_a_batch() {
    model(|| {
        let mailbox = bounded(2);
        assert!(send(&mailbox, 1));
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || Parked::wait(&mailbox, Position::Last)
        });
        let mut batch = VecDeque::new();
        while mailbox.take(&mut batch) == Taken::Busy {
            thread::yield_now();
        }
        assert_eq!(batch.pop_front(), Some(0));
        mailbox.set_taken(batch.len()); // the other value stays
        mailbox.offer_room();
        sender.join().unwrap();
    });
}

#[test]
fn a_turn_that_is_not_used_is_passed_on() {
    model(|| {
        let mailbox = bounded(1);
        let waits = [(), ()].map(|()| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                Parked::wait(&mailbox, Position::Last);
                mailbox.end_turn();
            })
        });
        let mut batch = VecDeque::new();
        while mailbox.take(&mut batch) == Taken::Busy {
            thread::yield_now();
        }
        mailbox.set_taken(0);
        mailbox.offer_room();
        waits.into_iter().for_each(|wait| wait.join().unwrap());
    });
}

#[test]
fn the_end_of_the_consumer_wakes_the_senders_that_wait() {
    model(|| {
        let mailbox = bounded(1);
        let sender = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || send_within(&mailbox, 1)
        });
        assert_eq!(mailbox.close(), [0]);
        assert!(!sender.join().unwrap());
    });
}
