//! The part of an executor that knows no state type: what futures, wakers and handles use of it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::fairness;
use super::io::readiness::Sources;
use super::join::Joined;
use super::of_thread;
use super::requests::{Message, Request};
use super::sleeps::Sleeps;
use super::sources::access::Access;
use super::tasks::TaskKey;
use super::waiter::{Waiter, WakerId};
use super::waker::Shared;
use super::woken::Woken;

/// Whether a pass over the woken tasks is certain to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    None,
    /// A message in the queue asks for it.
    Announced,
    /// It is among the deferred callbacks.
    Deferred,
    Running,
}

/// The operations of an executor that depend on the state type.
pub(super) trait Tasks {
    /// Spawns a task. Returns `None` if the executor has ended. The task is dropped then.
    fn spawn(
        &self,
        task: Pin<Box<dyn Joined>>,
        origin: &'static Location<'static>,
    ) -> Option<TaskKey>;

    fn is_alive(&self, key: TaskKey) -> bool;

    /// Returns `false` if the key is stale.
    fn set_background(&self, key: TaskKey, is_background: bool) -> bool;

    /// Takes the result of a task that has ended. If the task has not ended, wakes `waker` when it
    /// has.
    fn poll_result(&self, key: TaskKey, waker: &Waker, result: &mut dyn Any) -> Poll<()>;

    /// Drops the result of a task, now or when there is one.
    fn detach(&self, key: TaskKey);

    fn request(&self, request: Request);

    fn access(&self, access: Access);

    fn as_any(&self) -> &dyn Any;
}

pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    woken: RefCell<Woken>,
    /// The tasks that give way to the rest of the loop.
    yielded: RefCell<VecDeque<Waiter>>,
    pub(super) pass: Cell<Pass>,
    /// The number of passes that have begun.
    passes: Cell<u64>,
    /// The task that is being polled or dropped.
    polling: Cell<Option<TaskKey>>,
    /// The waker of the poll. It is [`WakerId::NONE`] after a drop within the poll.
    polling_by: Cell<WakerId>,
    /// The time of the pass.
    pub(super) now: Cell<Instant>,
    pub(super) sleeps: RefCell<Sleeps>,
    pub(super) sources: RefCell<Sources>,
    pub(super) tasks: Weak<dyn Tasks>,
    /// The results that handles may still ask for after the end of the loop.
    unclaimed: RefCell<HashMap<TaskKey, Pin<Box<dyn Joined>>>>,
}

impl Local {
    pub(super) fn new(shared: Arc<Shared>, now: Instant, tasks: Weak<dyn Tasks>) -> Rc<Self> {
        let local = Rc::new(Self {
            shared,
            woken: RefCell::default(),
            yielded: RefCell::new(VecDeque::new()),
            pass: Cell::new(Pass::None),
            passes: Cell::new(0),
            polling: Cell::new(None),
            polling_by: Cell::new(WakerId::NONE),
            now: Cell::new(now),
            sleeps: RefCell::default(),
            sources: RefCell::default(),
            tasks,
            unclaimed: RefCell::default(),
        });
        of_thread::add(Rc::clone(&local));
        local
    }

    /// Drops the wakers and the sources that futures have left, at the end of the loop, each of
    /// them by `drop_one`.
    pub(super) fn clear(&self, drop_one: &mut dyn FnMut(&mut dyn FnMut())) {
        let sleeps = self.sleeps.borrow_mut().take_all();
        let sources = self.sources.borrow_mut().take_all();
        let waiters = sleeps.filter_map(|sleep| sleep.waiter);
        for waiter in waiters.chain(self.yielded.take()) {
            let mut waiter = Some(waiter);
            drop_one(&mut || drop(waiter.take()));
        }
        for mut source in sources {
            for mut waiter in source.end_watch() {
                drop_one(&mut || drop(waiter.take()));
            }
            let mut source = Some(source);
            drop_one(&mut || drop(source.take()));
        }
    }

    /// Marks a task as woken, on the thread of the loop, unless it is already or has ended.
    #[inline(always)]
    pub(super) fn wake(&self, key: TaskKey) {
        if self.woken.borrow_mut().wake(key) {
            self.announce_pass();
        }
    }

    /// Gives access to the woken tasks. `use_it` must not call the user.
    pub(super) fn with_woken<R>(&self, use_it: impl FnOnce(&mut Woken) -> R) -> R {
        use_it(&mut self.woken.borrow_mut())
    }

    /// Makes sure that a pass comes.
    pub(super) fn announce_pass(&self) {
        if self.pass.get() == Pass::None {
            self.pass.set(Pass::Announced);
            self.shared.send(Message::Pass);
        }
    }

    /// Makes a request, on the thread of the loop.
    pub(super) fn request(&self, request: Request) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.request(request);
            self.announce_pass();
        }
    }

    /// Makes a request for the registry, on the thread of the loop.
    pub(super) fn access(&self, access: Access) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.access(access);
            self.announce_pass();
        }
    }

    pub(super) fn is_alive(&self, key: TaskKey) -> bool {
        self.tasks
            .upgrade()
            .is_some_and(|tasks| tasks.is_alive(key))
    }

    /// Moves a task into the background or the foreground, unless it has ended.
    pub(super) fn set_background(&self, key: TaskKey, is_background: bool) {
        if let Some(tasks) = self.tasks.upgrade()
            && tasks.set_background(key, is_background)
        {
            self.announce_pass(); // at its end, the loop learns whether a task keeps it alive
        }
    }

    /// Takes the result of a task, as [`Tasks::poll_result`] does, also after the end of the loop.
    pub(super) fn poll_result(
        &self,
        key: TaskKey,
        waker: &Waker,
        result: &mut dyn Any,
    ) -> Poll<()> {
        if let Some(tasks) = self.tasks.upgrade() {
            return tasks.poll_result(key, waker, result);
        }
        if let Some(mut task) = self.take_unclaimed(key) {
            task.as_mut().take_result(result);
        }
        Poll::Ready(())
    }

    /// Drops the result of a task, now or when there is one.
    pub(super) fn detach(&self, key: TaskKey) {
        match self.tasks.upgrade() {
            Some(tasks) => tasks.detach(key),
            None => drop(self.take_unclaimed(key)),
        }
    }

    /// Keeps a result beyond the end of the loop.
    pub(super) fn keep_unclaimed(&self, key: TaskKey, task: Pin<Box<dyn Joined>>) {
        self.unclaimed.borrow_mut().insert(key, task);
    }

    fn take_unclaimed(&self, key: TaskKey) -> Option<Pin<Box<dyn Joined>>> {
        self.unclaimed.borrow_mut().remove(&key)
    }

    /// Returns the task that is being polled.
    pub(super) const fn polling(&self) -> Option<TaskKey> {
        self.polling.get()
    }

    /// Returns the task that is being polled, if the poll was given this waker.
    #[inline]
    pub(super) fn polled_by(&self, waker: &Waker) -> Option<TaskKey> {
        (self.polling.get()).filter(|_| self.polling_by.get() == WakerId::of(waker))
    }

    /// Begins a pass, at the time `now`.
    pub(super) fn begin_pass(&self, now: Instant) {
        self.pass.set(Pass::Running);
        self.passes.set(self.passes.get() + 1);
        self.now.set(now);
    }

    /// Returns `Ready` in another pass than that of the last call. `gave_way` is the number of that
    /// pass. A task may be polled again in the same pass, since something else wakes it.
    pub(super) fn poll_give_way(&self, gave_way: &mut Option<u64>, waker: &Waker) -> Poll<()> {
        let pass = self.passes.get();
        if gave_way.replace(pass).is_some_and(|before| before != pass) {
            return Poll::Ready(());
        }
        self.wake_after_pass(waker);
        Poll::Pending
    }

    /// Wakes `waker` after this pass.
    fn wake_after_pass(&self, waker: &Waker) {
        let waiter = Waiter::of(waker, self); // outside of the borrow
        self.yielded.borrow_mut().push_back(waiter);
        self.announce_pass();
    }

    /// Returns `true` if a task gave way in this pass.
    pub(super) fn has_yielded(&self) -> bool {
        !self.yielded.borrow().is_empty()
    }

    /// Wakes the tasks that gave way.
    pub(super) fn wake_yielded(&self) {
        while let Some(waiter) = self.next_yielded() {
            waiter.wake(self);
        }
    }

    fn next_yielded(&self) -> Option<Waiter> {
        self.yielded.borrow_mut().pop_front()
    }

    /// Begins a poll of a task with this waker, or its drop, which has none. Until the returned
    /// value is dropped, the task is the current one of its executor. Anything else that is to be
    /// current in a task is entered here too.
    pub(super) fn enter_task(&self, key: TaskKey, waker: WakerId) -> InTask<'_> {
        fairness::begin_poll();
        self.polling_by.set(waker);
        InTask {
            outer: self.polling.replace(Some(key)),
            local: self,
        }
    }
}

/// A task that is being polled or dropped.
pub(super) struct InTask<'a> {
    outer: Option<TaskKey>,
    local: &'a Local,
}

impl Drop for InTask<'_> {
    fn drop(&mut self) {
        self.local.polling.set(self.outer);
    }
}
