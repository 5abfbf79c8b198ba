//! The executor of a loop: the table of its tasks, and the pass that polls the woken ones.
//!
//! A pass runs among the deferred callbacks of a turn, at most once a turn. It polls the woken
//! tasks in the order of their wakes, and those that are woken meanwhile, until its budget is used
//! up. The rest waits for the next turn, which does not sleep.
//!
//! Ground rule: nothing of this file is borrowed while a future, a closure or a destructor of the
//! user runs, but for the task that is polled.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use reactor::{Capacity, Context, Error, Key, Next, Receiver, Registry, notification_queue};

use super::ending::{End, Panic};
use super::join::Joined;
use super::keep_alive::Foreground;
use super::local::{Local, Pass, Tasks};
use super::places::{Place, Places};
use super::requests::{LoopRequest, Message, Request};
use super::sources::access::Access;
use super::task::{Body, Code, Handle, Slot};
use super::tasks::TaskKey;
use super::waiter::WakerId;
use super::waker::{Shared, TaskWaker};
use super::woken::Woken;
use crate::carried::{CallerContext, for_no_request};

/// The number of polls before the first reading of the clock in a pass. Later readings follow after
/// as many polls again if the time runs short, and otherwise after twice as many.
const POLLS_PER_CLOCK_READING: usize = 8;

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

/// Polls the woken tasks of a loop.
fn run_pass<S: 'static>(cx: &mut Context<'_, S>) {
    let Some(executor) = find(cx.registry) else {
        return;
    };
    let entered = executor.local.enter();
    // A pass that is cut short must be ended too, or no task would be polled again.
    let outcome = catch_unwind(AssertUnwindSafe(|| executor.pass(cx))).unwrap_or_else(Err);
    drop(entered);
    executor.end_pass(cx.registry);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
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

    /// Makes sure that a pass comes, without a message.
    pub(super) fn defer_pass(&self, registry: &mut Registry<S>) {
        if matches!(self.local.pass.get(), Pass::None | Pass::Announced) {
            self.local.pass.set(Pass::Deferred);
            for_no_request(|| registry.defer(run_pass)); // it polls the tasks of all requests
        }
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
            Message::Request(request) => self
                .requests
                .borrow_mut()
                .push_back(LoopRequest::Plain(request)),
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

    /// Polls the woken tasks, up to the budget. Returns the panic that is to unwind, if any.
    fn pass(&self, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        let (max_polls, max_time) = self.budget.get();
        let began = cx.registry.now();
        self.local.begin_pass(began);
        self.carry_out_requests(cx)?;
        let mut next_reading = POLLS_PER_CLOCK_READING;
        for polled in 1..=max_polls {
            let Some(key) = self.next_woken() else {
                break;
            };
            self.poll_task(key, cx)?;
            if self.has_requests() {
                self.carry_out_requests(cx)?;
            }
            if polled == next_reading {
                let took = cx.registry.refresh_now().saturating_duration_since(began);
                if took >= max_time {
                    break;
                }
                next_reading += match took >= max_time / 4 {
                    true => POLLS_PER_CLOCK_READING,
                    false => polled,
                };
            }
        }
        Ok(())
    }

    fn next_woken(&self) -> Option<TaskKey> {
        self.local.with_woken(Woken::next)
    }

    /// Ends a pass, also after a panic.
    fn end_pass(&self, registry: &mut Registry<S>) {
        self.local.pass.set(Pass::None);
        self.keep_alive_if_needed(registry, None);
        let has_more = !self.local.with_woken(|woken| woken.is_empty())
            || self.has_requests()
            || self.local.has_yielded();
        if has_more {
            self.defer_pass(registry);
        }
        self.local.wake_yielded(); // last, since a waker may be the code of a user
    }

    /// Polls one task, unless it has ended.
    fn poll_task(&self, key: TaskKey, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        let Some(slot) = self.tasks.get(key) else {
            return Ok(());
        };
        let polled = {
            let Some(mut body) = slot.begin_poll() else {
                return Ok(());
            };
            let Body {
                code: Some(code),
                waker: Some(waker),
                context,
            } = &mut *body
            else {
                return Ok(());
            };
            let waker = waker.waker();
            let _in_task = self.local.enter_task(key, WakerId::of(waker));
            let mut task_cx = task::Context::from_waker(waker);
            catch_unwind(AssertUnwindSafe(|| {
                context.scope_if_any(|| code.poll(&mut task_cx))
            }))
        };
        match polled {
            Ok(Poll::Pending) => Ok(()),
            Ok(Poll::Ready(())) => self.finish(key, slot, cx),
            Err(panic) => match self.remove(key, slot) {
                Some(body) => self.end(key, slot, body, End::Panicked(panic), cx.registry),
                None => Err(panic),
            },
        }
    }

    /// Ends a task whose future has ended.
    fn finish(
        &self,
        key: TaskKey,
        slot: &Place<Slot<S>>,
        cx: &mut Context<'_, S>,
    ) -> Result<(), Panic> {
        let Some(mut body) = self.remove(key, slot) else {
            return Ok(());
        };
        let mut end = End::Finished;
        if let Body {
            code: Some(Code::WithState(task)),
            context,
            ..
        } = &mut *body
        {
            let call = || context.scope(|| task.as_mut().finish(cx));
            if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
                end = End::Panicked(panic);
            }
        }
        self.end(key, slot, body, end, cx.registry)
    }

    pub(super) fn push_request(&self, request: LoopRequest<S>) {
        self.requests.borrow_mut().push_back(request);
    }

    fn has_requests(&self) -> bool {
        !self.requests.borrow().is_empty()
    }

    pub(super) fn next_request(&self) -> Option<LoopRequest<S>> {
        self.requests.borrow_mut().pop_front()
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
