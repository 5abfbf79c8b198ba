//! The executor of a loop: the table of its tasks, and the pass that polls the woken ones.
//!
//! A pass runs among the deferred callbacks of a turn, at most once a turn. It polls the woken
//! tasks in the order of their wakes, and those that are woken meanwhile, until its budget is used
//! up. The rest waits for the next turn, which does not sleep.
//!
//! Ground rule: nothing of this file is borrowed while a future, a closure or a destructor of the
//! user runs. A task that is polled is out of the table, its place stays.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use reactor::{
    Capacity, Context, Error, Key, Next, PanicPolicy, Receiver, Registry, notification_queue,
};

use super::join::LocalTask;
use super::local::{Local, Pass, Tasks};
use super::requests::{LoopRequest, Message, Request};
use super::spawn::Task;
use super::tasks::{Table, TaskKey};
use super::waker::{Shared, SpareWakers, TaskWaker};
use crate::error::{discard, panic_message};

/// The payload of a panic.
type Panic = Box<dyn Any + Send>;

/// The number of polls between two readings of the clock.
const POLLS_PER_CLOCK_READING: usize = 8;

/// The number of tasks that are looked at to find one in the foreground, whose line is shown.
const LOOKED_AT_FOR_A_NAME: usize = 64;

/// The executor of a loop, made when the first task is spawned.
struct OfLoop<S>(Option<Rc<Executor<S>>>);

impl<S> Default for OfLoop<S> {
    fn default() -> Self {
        Self(None)
    }
}

pub(super) struct Executor<S> {
    pub(super) local: Rc<Local>,
    tasks: RefCell<Table<Entry<S>>>,
    spare_wakers: RefCell<SpareWakers>,
    requests: RefCell<VecDeque<LoopRequest<S>>>,
    /// The registration of the queue, which is in the foreground while a task is.
    pub(super) queue: Key,
    foreground: Foreground,
    pub(super) budget: Cell<(usize, Duration)>,
}

/// The tasks that keep `run` alive.
#[derive(Default)]
struct Foreground {
    tasks: Cell<usize>,
    /// `true` if the queue is in the foreground.
    keeps_alive: Cell<bool>,
    /// The task whose line is that of the queue.
    named: Cell<Option<TaskKey>>,
}

impl Foreground {
    fn add(&self, tasks: usize) {
        self.tasks.set(self.tasks.get() + tasks);
    }

    fn remove(&self, tasks: usize) {
        self.tasks.set(self.tasks.get() - tasks);
    }
}

/// A task in the table.
pub(super) struct Entry<S> {
    /// `None` while the task is polled.
    body: Option<Body<S>>,
    pub(super) origin: &'static Location<'static>,
    pub(super) polls: u64,
    pub(super) is_background: bool,
}

/// The parts of a task that leave the table while the task is polled.
struct Body<S> {
    code: Code<S>,
    waker: TaskWaker,
}

/// The code of a task.
pub(super) enum Code<S> {
    /// It ends with a callback that has the state.
    WithState(Pin<Box<dyn Task<S>>>),
    /// It was spawned where the state type is not known.
    Local(Pin<Box<dyn LocalTask>>),
}

impl<S> Code<S> {
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match self {
            Self::WithState(task) => task.as_mut().poll(cx),
            Self::Local(task) => task.as_mut().poll(cx),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::WithState(task) => task.type_name(),
            Self::Local(task) => task.type_name(),
        }
    }

    fn set_panicked(&mut self, message: &str) {
        match self {
            Self::WithState(task) => task.as_mut().set_panicked(message),
            Self::Local(task) => task.as_mut().set_panicked(message),
        }
    }

    /// Calls the callback of a task whose future has ended.
    fn finish(&mut self, cx: &mut Context<'_, S>) {
        match self {
            Self::WithState(task) => task.as_mut().finish(cx),
            Self::Local(_) => (),
        }
    }
}

impl<S> Entry<S> {
    /// Returns the type name of the future; `"(running)"` while it is polled.
    pub(super) fn type_name(&self) -> &'static str {
        self.body
            .as_ref()
            .map_or("(running)", |body| body.code.type_name())
    }

    pub(super) fn is_woken(&self) -> bool {
        self.body.as_ref().is_some_and(|body| body.waker.is_woken())
    }
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
    let executor = Rc::new_cyclic(|this: &std::rc::Weak<Executor<S>>| Executor {
        local: Local::new(Arc::new(Shared { sender }), now, this.clone()),
        tasks: RefCell::new(Table::new()),
        spare_wakers: RefCell::default(),
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
    let queue = registry
        .consume(receiver, on_message)
        .map_err(|refused| refused.error)?;
    registry.set_background(queue)?;
    registry.set_name(queue, "futures")?;
    Ok(queue)
}

/// Polls the woken tasks of a loop.
fn run_pass<S: 'static>(cx: &mut Context<'_, S>) {
    let Some(executor) = find(cx.registry) else {
        return;
    };
    let outcome = executor.pass(cx);
    executor.end_pass(cx.registry);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl<S: 'static> Executor<S> {
    /// Adds a task, which is woken. The caller makes sure that a pass comes. Returns `None` if there
    /// are 2^32 tasks. The task is dropped then.
    fn add(
        &self,
        code: Code<S>,
        origin: &'static Location<'static>,
        is_background: bool,
    ) -> Option<TaskKey> {
        let key = match self.tasks.borrow().next_key() {
            Some(key) => key,
            None => return None,
        };
        let waker = self.spare_wakers.borrow_mut().take(key, &self.local.shared);
        let entry = Entry {
            body: Some(Body { code, waker }),
            origin,
            polls: 0,
            is_background,
        };
        let refused = self.tasks.borrow_mut().insert(entry).err();
        drop(refused);
        self.foreground.add(usize::from(!is_background));
        self.local.woken.borrow_mut().push_back(key);
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
        let key = self
            .add(code, origin, false)
            .ok_or(Error::StaleKey(self.queue))?;
        self.keep_alive_if_needed(registry);
        self.defer_pass(registry);
        Ok(key)
    }

    /// Makes sure that a pass comes, without a message.
    pub(super) fn defer_pass(&self, registry: &mut Registry<S>) {
        if matches!(self.local.pass.get(), Pass::None | Pass::Announced) {
            self.local.pass.set(Pass::Deferred);
            registry.defer(run_pass);
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
            Message::Wake(key) => self.local.woken.borrow_mut().push_back(key),
            Message::Pass => (),
            Message::Request(request) => self
                .requests
                .borrow_mut()
                .push_back(LoopRequest::Plain(request)),
        }
        self.defer_pass(registry);
    }

    /// Polls the woken tasks, up to the budget. Returns the panic that is to unwind, if any.
    fn pass(&self, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        let (max_polls, max_time) = self.budget.get();
        let began = cx.registry.now();
        self.local.pass.set(Pass::Running);
        self.local.now.set(began);
        self.carry_out_requests(cx)?;
        for polled in 1..=max_polls {
            let Some(key) = self.next_woken() else {
                break;
            };
            self.poll(key, cx)?;
            self.carry_out_requests(cx)?;
            if polled % POLLS_PER_CLOCK_READING == 0
                && cx.registry.refresh_now().saturating_duration_since(began) >= max_time
            {
                break;
            }
        }
        Ok(())
    }

    fn next_woken(&self) -> Option<TaskKey> {
        self.local.woken.borrow_mut().pop_front()
    }

    /// Ends a pass, also after a panic.
    fn end_pass(&self, registry: &mut Registry<S>) {
        self.local.wake_yielded();
        self.local.pass.set(Pass::None);
        self.keep_alive_if_needed(registry);
        if !self.local.woken.borrow().is_empty() || !self.requests.borrow().is_empty() {
            self.defer_pass(registry);
        }
    }

    /// Polls one task, unless it has ended.
    fn poll(&self, key: TaskKey, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        let Some(mut body) = self.begin_poll(key) else {
            return Ok(());
        };
        let polled = {
            let _entered = self.local.enter(key);
            let mut task_cx = task::Context::from_waker(body.waker.waker());
            catch_unwind(AssertUnwindSafe(|| body.code.poll(&mut task_cx)))
        };
        match polled {
            Ok(Poll::Pending) => {
                if let Some(entry) = self.tasks.borrow_mut().get_mut(key) {
                    entry.body = Some(body);
                }
                Ok(())
            }
            Ok(Poll::Ready(())) => {
                let origin = self.forget(key);
                let finished = catch_unwind(AssertUnwindSafe(|| body.code.finish(cx)));
                self.end(key, body, origin, finished.err(), cx.registry)
            }
            Err(panic) => {
                let origin = self.forget(key);
                self.end(key, body, origin, Some(panic), cx.registry)
            }
        }
    }

    fn begin_poll(&self, key: TaskKey) -> Option<Body<S>> {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.get_mut(key)?;
        let body = entry.body.take()?;
        entry.polls += 1;
        body.waker.begin_poll();
        Some(body)
    }

    /// Removes a task that is out of the table. Returns its origin.
    fn forget(&self, key: TaskKey) -> Option<&'static Location<'static>> {
        self.remove(key).map(|entry| entry.origin)
    }

    fn remove(&self, key: TaskKey) -> Option<Entry<S>> {
        let entry = self.tasks.borrow_mut().remove(key)?;
        self.foreground.remove(usize::from(!entry.is_background));
        Some(entry)
    }

    /// Drops a task that was removed, and treats its panic and that of its destructor.
    fn end(
        &self,
        key: TaskKey,
        body: Body<S>,
        origin: Option<&'static Location<'static>>,
        panic: Option<Panic>,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let Body { mut code, waker } = body;
        let name = code.type_name();
        let treated = panic.map_or(Ok(()), |panic| {
            let message = panic_message(&*panic);
            let _ = catch_unwind(AssertUnwindSafe(|| code.set_panicked(&message)));
            self.treat(name, origin, panic, registry)
        });
        let dropped = {
            let _entered = self.local.enter(key);
            catch_unwind(AssertUnwindSafe(|| drop(code)))
        };
        self.spare_wakers.borrow_mut().put(waker);
        let dropped = dropped.or_else(|panic| self.treat(name, origin, panic, registry));
        treated.and(dropped)
    }

    /// Treats a panic of a task as the policy of the loop says. Returns the panic if it is to
    /// unwind.
    fn treat(
        &self,
        name: &str,
        origin: Option<&'static Location<'static>>,
        panic: Panic,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let message = panic_message(&*panic);
        let at = origin.map_or_else(String::new, |origin| format!(" ({origin})"));
        let report = format!("task {name}{at}: {message}");
        match registry.report_panic(self.queue, &report) {
            Ok(PanicPolicy::RemoveHandler) => {
                discard(panic);
                Ok(())
            }
            _ => Err(panic),
        }
    }

    /// Cancels a task. Returns `None` if the key is stale.
    pub(super) fn cancel(
        &self,
        key: TaskKey,
        registry: &mut Registry<S>,
    ) -> Option<Result<(), Panic>> {
        let mut entry = self.remove(key)?;
        let body = entry.body.take()?;
        Some(self.end(key, body, Some(entry.origin), None, registry))
    }

    /// Gives access to the table, for a listing or a setting.
    pub(super) fn with_tasks<R>(&self, use_it: impl FnOnce(&mut Table<Entry<S>>) -> R) -> R {
        use_it(&mut self.tasks.borrow_mut())
    }

    /// Moves a task into the background or the foreground. Returns `false` if the key is stale.
    pub(super) fn set_background(
        &self,
        key: TaskKey,
        is_background: bool,
        registry: &mut Registry<S>,
    ) -> bool {
        let before = match self.tasks.borrow_mut().get_mut(key) {
            Some(entry) => std::mem::replace(&mut entry.is_background, is_background),
            None => return false,
        };
        self.foreground.add(usize::from(before && !is_background));
        self.foreground
            .remove(usize::from(!before && is_background));
        self.keep_alive_if_needed(registry);
        true
    }

    /// Keeps `run` alive while a task is in the foreground. The list of reasons shows the line of
    /// such a task.
    pub(super) fn keep_alive_if_needed(&self, registry: &mut Registry<S>) {
        let is_needed = self.foreground.tasks.get() > 0;
        // Each call fails only if the user has removed the queue.
        if is_needed != self.foreground.keeps_alive.replace(is_needed) {
            let _ = match is_needed {
                true => registry.set_foreground(self.queue),
                false => registry.set_background(self.queue),
            };
        }
        if is_needed {
            self.name_reason(registry);
        }
    }

    fn name_reason(&self, registry: &mut Registry<S>) {
        let mut tasks = self.tasks.borrow_mut();
        let named = self.foreground.named.get();
        if named.is_some_and(|named| tasks.get_mut(named).is_some_and(|task| !task.is_background)) {
            return;
        }
        let first = tasks
            .iter()
            .take(LOOKED_AT_FOR_A_NAME)
            .find(|(_, task)| !task.is_background);
        let named = first.map(|(key, task)| (key, task.origin));
        self.foreground.named.set(named.map(|(key, _)| key));
        if let Some((_, origin)) = named {
            let _ = registry.set_origin(self.queue, origin);
        }
    }

    pub(super) fn push_request(&self, request: LoopRequest<S>) {
        self.requests.borrow_mut().push_back(request);
    }

    fn next_request(&self) -> Option<LoopRequest<S>> {
        self.requests.borrow_mut().pop_front()
    }

    fn carry_out_requests(&self, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        while let Some(request) = self.next_request() {
            self.carry_out(request, cx)?;
        }
        Ok(())
    }

    fn carry_out(&self, request: LoopRequest<S>, cx: &mut Context<'_, S>) -> Result<(), Panic> {
        match request {
            LoopRequest::Call(call, asked_by) => {
                let called = catch_unwind(AssertUnwindSafe(|| call.run(cx)));
                drop(call);
                called.or_else(|panic| self.fail_caller(asked_by, panic, cx.registry))
            }
            LoopRequest::Plain(Request::Abort(key)) => {
                self.cancel(key, cx.registry).unwrap_or(Ok(()))
            }
            LoopRequest::Plain(Request::Arm(sleep, deadline)) => {
                super::time::arm(&self.local, sleep, deadline, cx.registry);
                Ok(())
            }
            LoopRequest::Plain(Request::CancelTimer(timer)) => {
                let _ = cx.registry.cancel(timer); // it may have run meanwhile
                Ok(())
            }
            LoopRequest::Plain(Request::ForgetSleep(sleep)) => {
                super::time::forget(&self.local, sleep, cx.registry);
                Ok(())
            }
        }
    }

    /// Ends the task whose closure has panicked.
    fn fail_caller(
        &self,
        key: Option<TaskKey>,
        panic: Panic,
        registry: &mut Registry<S>,
    ) -> Result<(), Panic> {
        let entry = key.and_then(|key| Some((key, self.remove(key)?)));
        let Some((key, mut entry)) = entry else {
            return self.treat("with_context", None, panic, registry);
        };
        match entry.body.take() {
            Some(body) => self.end(key, body, Some(entry.origin), Some(panic), registry),
            None => Err(panic),
        }
    }
}

impl<S: 'static> Tasks for Executor<S> {
    fn spawn(
        &self,
        task: Pin<Box<dyn LocalTask>>,
        origin: &'static Location<'static>,
    ) -> Option<TaskKey> {
        let parent = self.local.polling();
        let is_background = parent.is_some_and(|parent| {
            let mut tasks = self.tasks.borrow_mut();
            tasks.get_mut(parent).is_some_and(|task| task.is_background)
        });
        let key = self.add(Code::Local(task), origin, is_background)?;
        self.local.announce_pass();
        Some(key)
    }

    fn request(&self, request: Request) {
        self.push_request(LoopRequest::Plain(request));
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The end of the loop. Each task is dropped separately.
impl<S> Drop for Executor<S> {
    fn drop(&mut self) {
        self.local.retire();
        let mut first = None;
        while let Some(mut entry) = self.tasks.get_mut().pop() {
            let _entered = entry.body.as_ref().map(|_| self.local.enter(TaskKey::NONE));
            keep_first(
                &mut first,
                catch_unwind(AssertUnwindSafe(|| drop(entry.body.take()))),
            );
        }
        while let Some(request) = self.requests.get_mut().pop_front() {
            keep_first(&mut first, catch_unwind(AssertUnwindSafe(|| drop(request))));
        }
        self.local.clear();
        if let Some(panic) = first.filter(|_| !std::thread::panicking()) {
            resume_unwind(panic);
        }
    }
}

/// Keeps the first of several panics, and logs the others.
fn keep_first(first: &mut Option<Panic>, result: Result<(), Panic>) {
    match result {
        Ok(()) => (),
        Err(panic) if first.is_none() => *first = Some(panic),
        Err(panic) => {
            let message = panic_message(&*panic);
            tracing::error!(message, "the destructor of another task has panicked");
            discard(panic);
        }
    }
}
