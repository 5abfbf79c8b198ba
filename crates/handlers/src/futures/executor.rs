//! The executor of a loop: the table of its tasks, and what comes in from other threads.
//!
//! Ground rule: nothing of this module is borrowed while a future, a closure or a destructor of the
//! user runs, but for the task that is polled.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use reactor::{Capacity, Context, Error, Key, Next, Receiver, Registry, notification_queue};

use super::join::Joined;
use super::keep_alive::Foreground;
use super::local::{Local, Tasks};
use super::places::Places;
use super::requests::{LoopRequest, Message, Request};
use super::sources::access::Access;
use super::task::{Code, Handle, Slot};
use super::tasks::TaskKey;
use super::waker::{Shared, TaskWaker};
use crate::carried::{CallerContext, for_no_request};

/// The executor of a loop, made when the first task is spawned.
struct OfLoop<S>(Option<Rc<Executor<S>>>);

impl<S> Default for OfLoop<S> {
    fn default() -> Self {
        Self(None)
    }
}

pub(super) struct Executor<S> {
    pub(super) local: Rc<Local>,
    pub(super) tasks: Places<Slot<S>>,
    pub(super) requests: RefCell<VecDeque<LoopRequest<S>>>,
    /// The registration of the queue, which is in the foreground while a task is.
    pub(super) queue: Key,
    pub(super) foreground: Foreground,
    pub(super) budget: Cell<(usize, Duration)>,
}

/// Returns the executor of a loop, if a task was ever spawned on it.
pub(super) fn find<S: 'static>(registry: &mut Registry<S>) -> Option<Rc<Executor<S>>> {
    registry.local::<OfLoop<S>>().0.clone()
}

/// Returns the executor of a loop.
pub(super) fn of_loop<S: 'static>(registry: &mut Registry<S>) -> Result<Rc<Executor<S>>, Error> {
    if let Some(executor) = find(registry) {
        return Ok(executor);
    }
    let (sender, receiver) = notification_queue(Capacity::Unbounded);
    let queue = register(registry, receiver)?;
    let now = registry.now();
    let executor = Rc::new_cyclic(|this: &Weak<Executor<S>>| Executor {
        local: Local::new(Arc::new(Shared { sender }), now, this.clone()),
        tasks: Places::new(),
        requests: RefCell::default(),
        queue,
        foreground: Foreground::default(),
        budget: Cell::new((super::MAX_POLLS, super::MAX_TIME)),
    });
    registry.local::<OfLoop<S>>().0 = Some(Rc::clone(&executor));
    Ok(executor)
}

/// Registers the queue through which other threads reach an executor.
fn register<S: 'static>(
    registry: &mut Registry<S>,
    receiver: Receiver<Message>,
) -> Result<Key, Error> {
    let on_message = |message: Option<Message>, cx: &mut Context<'_, S>| {
        if let (Some(message), Some(executor)) = (message, find(cx.registry)) {
            executor.receive(message, cx.registry);
        }
        Ok::<_, io::Error>(Next::Keep)
    };
    let consumed = for_no_request(|| registry.consume(receiver, on_message));
    let queue = consumed.map_err(|refused| refused.error)?;
    registry.set_background(queue)?;
    registry.set_name(queue, "futures")?;
    Ok(queue)
}

impl<S: 'static> Executor<S> {
    /// Adds a task, which is woken. The caller makes sure that a pass comes. Returns `None` if
    /// there are 2^32 tasks. The task is dropped then.
    fn add(
        &self,
        code: Code<S>,
        origin: &'static Location<'static>,
        is_background: bool,
    ) -> Option<TaskKey> {
        let context = CallerContext::current();
        let handle = match code {
            Code::WithState(_) => Handle::None,
            Code::Joined(_) => Handle::Waits,
        };
        let (key, slot) = self.tasks.claim()?;
        {
            let mut body = slot.body.borrow_mut();
            match &body.waker {
                Some(waker) if waker.is_unused() => waker.reuse(key),
                _ => body.waker = Some(TaskWaker::new(key, &self.local.shared)),
            }
            body.code = Some(code);
            body.context = context;
        }
        slot.handle.set(handle);
        slot.origin.set(origin);
        slot.polls.set(0);
        slot.is_background.set(is_background);
        self.foreground.add(usize::from(!is_background));
        self.local.with_woken(|woken| woken.add(key));
        Some(key)
    }

    /// Adds a task from a callback.
    pub(super) fn spawn(
        &self,
        registry: &mut Registry<S>,
        code: Code<S>,
        origin: &'static Location<'static>,
    ) -> Result<TaskKey, Error> {
        if !registry.contains(self.queue) {
            return Err(Error::StaleKey(self.queue));
        }
        let Some(key) = self.add(code, origin, false) else {
            return Err(Error::StaleKey(self.queue));
        };
        self.keep_alive_if_needed(registry, Some((key, origin)));
        self.defer_pass(registry);
        Ok(key)
    }

    /// Runs `wake`, which wakes tasks, in a callback. Saves the message that a wake without a
    /// registry sends.
    pub(super) fn wake_in_callback(&self, registry: &mut Registry<S>, wake: impl FnOnce()) {
        self.defer_pass(registry);
        wake();
    }

    fn receive(&self, message: Message, registry: &mut Registry<S>) {
        match message {
            Message::Wake(key) => self.receive_wake(key),
            Message::Pass => (),
            Message::Request(request) => self.push_request(LoopRequest::Plain(request)),
        }
        self.defer_pass(registry);
    }

    fn receive_wake(&self, key: TaskKey) {
        if let Some(body) = self
            .tasks
            .get(key)
            .and_then(|slot| slot.body.try_borrow().ok())
            && let Some(waker) = &body.waker
        {
            waker.receive();
            self.local.with_woken(|woken| woken.wake(key));
        }
    }
}

impl<S: 'static> Tasks for Executor<S> {
    fn spawn(
        &self,
        task: Pin<Box<dyn Joined>>,
        origin: &'static Location<'static>,
    ) -> Option<TaskKey> {
        let parent = self.local.polling();
        let is_background = parent.is_some_and(|parent| {
            (self.tasks.get(parent)).is_some_and(|slot| slot.is_background.get())
        });
        let key = self.add(Code::Joined(task), origin, is_background)?;
        self.local.announce_pass();
        Some(key)
    }

    fn is_alive(&self, key: TaskKey) -> bool {
        self.tasks.get(key).is_some()
    }

    fn set_background(&self, key: TaskKey, is_background: bool) -> bool {
        self.set_background(key, is_background)
    }

    fn poll_result(&self, key: TaskKey, waker: &Waker, result: &mut dyn Any) -> Poll<()> {
        let alive = self.tasks.get(key);
        if let Some(slot) = alive {
            slot.await_by(waker);
            return Poll::Pending;
        }
        if let Some(mut task) = self.take_result(key) {
            task.as_mut().take_result(result);
        }
        Poll::Ready(())
    }

    fn detach(&self, key: TaskKey) {
        let awaited_by = self.tasks.get(key).map(|slot| slot.detach());
        match awaited_by {
            Some(waker) => drop(waker),
            None => drop(self.take_result(key)),
        }
    }

    fn request(&self, request: Request) {
        self.push_request(LoopRequest::Plain(request));
    }

    fn access(&self, access: Access) {
        self.push_request(LoopRequest::Access(access));
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
