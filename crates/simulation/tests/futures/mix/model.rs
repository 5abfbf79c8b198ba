//! The record of the tasks of a run, and the laws that it must keep.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use handlers::PoolHandle;
use handlers::futures::{JoinError, Spawner, TaskKey};
use reactor::{Event, Remote, Sender};

/// The number of a task.
pub(super) type Id = u64;

/// A number of a task, sent through a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) from: Id,
    pub(super) number: u64,
}

/// The record that all loops of a run share. They run on one real thread.
pub(super) struct Shared {
    next: Cell<Id>,
    /// The tasks that have begun, and not been dropped.
    alive: RefCell<BTreeSet<Id>>,
    cancelled: RefCell<BTreeSet<Id>>,
    panicked: RefCell<BTreeSet<Id>>,
    /// Let through once for each time that it was set.
    pub(super) event: Event,
    pub(super) sets: Cell<u64>,
    pub(super) passes: Cell<u64>,
    /// The numbers that queues have taken, by their sender and the loop of the receiver.
    sent: RefCell<BTreeMap<(Id, usize), u64>>,
    /// The senders that were dropped while a number waited for room. The loop may have sent it, and
    /// the sender was not polled again to learn of it.
    unsure: RefCell<BTreeSet<(Id, usize)>>,
    received: RefCell<BTreeMap<(Id, usize), u64>>,
}

impl Shared {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            next: Cell::new(0),
            alive: RefCell::default(),
            cancelled: RefCell::default(),
            panicked: RefCell::default(),
            event: Event::semaphore(0, u32::MAX),
            sets: Cell::new(0),
            passes: Cell::new(0),
            sent: RefCell::default(),
            unsure: RefCell::default(),
            received: RefCell::default(),
        })
    }

    /// Begins a task.
    pub(super) fn begin(self: &Rc<Self>) -> Alive {
        let id = self.next.get();
        self.next.set(id + 1);
        self.alive.borrow_mut().insert(id);
        let shared = Rc::clone(self);
        Alive { id, shared }
    }

    pub(super) fn is_alive(&self, id: Id) -> bool {
        self.alive.borrow().contains(&id)
    }

    pub(super) fn cancels(&self, id: Id) {
        self.cancelled.borrow_mut().insert(id);
    }

    pub(super) fn panics(&self, id: Id) {
        self.panicked.borrow_mut().insert(id);
    }

    /// Checks the end of a task, as its handle returns it.
    pub(super) fn expect_end(&self, id: Id, end: &Result<Id, JoinError>) {
        assert!(
            !self.is_alive(id),
            "task {id} is joined before it is dropped"
        );
        let is_right = match end {
            Ok(output) => *output == id,
            Err(JoinError::Cancelled) => self.cancelled.borrow().contains(&id),
            Err(_panicked) => self.panicked.borrow().contains(&id),
        };
        assert!(is_right, "task {id} ended by {end:?}");
    }

    pub(super) fn set_event(&self) {
        self.sets.set(self.sets.get() + 1);
        self.event.set();
    }

    /// Returns the next number of a sender to a loop.
    pub(super) fn next_number(&self, from: Id, to: usize) -> u64 {
        self.sent.borrow().get(&(from, to)).copied().unwrap_or(0)
    }

    pub(super) fn has_sent(&self, from: Id, to: usize) {
        *self.sent.borrow_mut().entry((from, to)).or_default() += 1;
    }

    pub(super) fn may_have_sent(&self, from: Id, to: usize) {
        self.unsure.borrow_mut().insert((from, to));
    }

    pub(super) fn receives(&self, sent: Sent, to: usize) {
        let mut received = self.received.borrow_mut();
        let next = received.entry((sent.from, to)).or_default();
        assert_eq!(sent.number, *next, "a number of task {}", sent.from);
        *next += 1;
    }

    /// Checks what is left when all loops have ended.
    pub(super) fn check(&self) {
        assert_eq!(*self.alive.borrow(), BTreeSet::new(), "tasks are left");
        let (sent, received) = (self.sent.borrow(), self.received.borrow());
        let unsure = self.unsure.borrow();
        for way in sent.keys().chain(received.keys()) {
            let count = |counts: &BTreeMap<_, u64>| counts.get(way).copied().unwrap_or(0);
            let (sent, received) = (count(&sent), count(&received));
            let is_right = received == sent || unsure.contains(way) && received == sent + 1;
            assert!(
                is_right,
                "task {way:?} has sent {sent}, received: {received}"
            );
        }
        let mut rest = 0;
        while Event::wait_any(&[&self.event], Some(std::time::Duration::ZERO)).is_some() {
            rest += 1;
        }
        assert_eq!(self.passes.get() + rest, self.sets.get(), "passes");
    }
}

/// A task that was begun, until it is dropped.
pub(super) struct Alive {
    pub(super) id: Id,
    pub(super) shared: Rc<Shared>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        assert!(
            self.shared.alive.borrow_mut().remove(&self.id),
            "dropped twice"
        );
    }
}

/// The state of a loop.
pub(super) struct State {
    pub(super) shared: Rc<Shared>,
    /// The tasks that others may cancel.
    pub(super) keys: Keys,
    /// The calls of `with_context`.
    pub(super) calls: u64,
    pub(super) finished: u64,
}

pub(super) type Keys = Rc<RefCell<Vec<(Id, TaskKey)>>>;

/// The place of a task: its loop.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) shared: Rc<Shared>,
    /// The number of the present turn.
    pub(super) turn: Rc<Cell<u64>>,
    pub(super) remote: Remote<State>,
    pub(super) spawner: Spawner<State>,
    pub(super) pool: PoolHandle<State, ()>,
    pub(super) keys: Keys,
    /// The queues of all loops.
    pub(super) queues: Vec<Sender<Sent>>,
    /// Nothing is late.
    pub(super) is_calm: bool,
}
