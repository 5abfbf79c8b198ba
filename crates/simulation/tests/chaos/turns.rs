//! A loop whose callbacks do at random what a registry offers, with threads that do at random what
//! a `Remote` offers, and a model that knows what must follow.
//!
//! Ground rule of the model: callbacks of this daemon take little time, so whatever is asked of the
//! loop happens within [`REACTION`]. What is late was forgotten, and came with the next event.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reactor::{
    CallError, Capacity, Context, DeferredKey, Event, Exit, HookKey, Interest, Io, KeepAlive, Key,
    ManualClock, Next, PanicPolicy, Priority, Reactor, Registry, Remote, Sender, SetOutcome, Spin,
    Then, TimerKey, Waker, notification_queue,
};
use simulation::{Faults, Handle, Peer, Seeds, now, random};

use crate::draw::{
    PanicsWhenDropped, duration, forget_failures, has_failed, hide_wanted_panics, is_wanted,
    once_in, panic, size,
};

/// The longest time from a request to what follows from it.
const REACTION: Duration = Duration::from_millis(500);
/// The longest time that the hooks before a wait take. What is later has slept.
const HOOKS: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const THREADS: u64 = 4;
const SOURCES: u64 = 32;
/// Its state lasts until it is reset. The other events are consumed by each call.
const MANUAL_RESET: usize = 2;
const EVENTS: [&str; 3] = ["event 0", "event 1", "event 2"];
const WOKEN_TURN: &str = "a turn that a wake asks for";

type Cx<'a> = Context<'a, Rc<Model>>;

struct Timer {
    key: TimerKey,
    deadline: Instant,
    /// The order of the armings.
    arming: u64,
    /// When it was armed, by the time of the simulation.
    armed: Instant,
    essential: bool,
}

struct Hook {
    key: Option<HookKey>,
    last_turn: Option<u64>,
}

/// A stream that is read, with a timeout.
struct Source {
    key: Key,
    /// The time of its timeout.
    deadline: Option<Instant>,
    /// The time of the turn of the last call for what can be read.
    served: Instant,
}

/// The state of the loop: what was asked of it, and what is left of that.
struct Model {
    remote: RefCell<Option<Remote<Rc<Self>>>>,
    waker: RefCell<Option<Waker>>,
    sender: RefCell<Option<Sender<u64>>>,
    clock: Option<ManualClock>,
    catches: bool,
    panics: bool,
    events: [Event; EVENTS.len()],
    budget: Cell<u32>,
    next_number: Cell<u64>,
    /// Requests that have had no effect yet: when they were made.
    promises: RefCell<BTreeMap<u64, (Instant, &'static str)>>,
    /// Values that keep `run` alive, and since when there are none.
    left: Cell<i64>,
    nothing_since: Cell<Instant>,
    /// Whether something was left when the hooks before the wait began.
    had_work: Cell<bool>,
    /// Whether this turn has a timeout. Such a turn waits although nothing is left.
    has_timeout: Cell<bool>,
    /// The fewest tokens that were held since the last hook before the wait.
    tokens: Cell<i64>,
    fewest_tokens: Cell<i64>,
    /// The most tokens that were held in this turn.
    most_tokens: Cell<i64>,
    clock_before: Cell<Option<Instant>>,
    own_tokens: RefCell<Vec<Token>>,
    timers: RefCell<BTreeMap<u64, Timer>>,
    last_timer: Cell<Option<(u64, Instant, u64)>>,
    deferred: RefCell<VecDeque<(u64, DeferredKey)>>,
    hooks: RefCell<BTreeMap<u64, Hook>>,
    event_turns: [Cell<u64>; EVENTS.len()],
    sources: RefCell<Vec<Source>>,
    turn: Cell<u64>,
    /// The last turn that a panic may have cut short.
    cut_turn: Cell<u64>,
    posted: Cell<usize>,
    posts_over: Arc<AtomicUsize>,
    stops_posted: Cell<bool>,
    sent: RefCell<VecDeque<u64>>,
    handled: Cell<u64>,
    queue: Cell<Key>,
    stopped: Cell<Option<Instant>>,
    failed: Cell<bool>,
    /// Callbacks since the turn began.
    ran: Cell<usize>,
    is_over: Cell<bool>,
}

/// Counts as something that keeps `run` alive.
struct Left(Rc<Model>);

impl Left {
    fn new(model: &Rc<Model>) -> Self {
        model.left.set(model.left.get() + 1);
        Self(Rc::clone(model))
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.left.set(self.0.left.get() - 1);
        if self.0.left.get() == 0 {
            self.0.nothing_since.set(now());
        }
    }
}

/// A keep-alive token.
struct Token {
    _alive: KeepAlive,
    left: Left,
}

impl Token {
    fn new(model: &Rc<Model>) -> Option<Self> {
        let alive = model.remote.borrow().as_ref()?.keep_alive();
        model.tokens.set(model.tokens.get() + 1);
        model
            .most_tokens
            .set(model.most_tokens.get().max(model.tokens.get()));
        let left = Left::new(model);
        Some(Self {
            _alive: alive,
            left,
        })
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let model = &self.left.0;
        model.tokens.set(model.tokens.get() - 1);
        let fewest = model.fewest_tokens.get().min(model.tokens.get());
        model.fewest_tokens.set(fewest);
    }
}

/// Counts a posted closure as over when it is dropped.
struct Posted(Arc<AtomicUsize>);

impl Drop for Posted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A capture with a destructor that does something.
struct Destructor(Rc<Model>);

impl Drop for Destructor {
    fn drop(&mut self) {
        let model = &self.0;
        match random(4) {
            0 => model.wake(),
            1 => model.set_event(),
            2 if model.panics && !std::thread::panicking() => {
                model.cut_turn.set(model.turn.get());
                panic();
            }
            _ => {}
        }
    }
}

/// Joins a thread when it is dropped, which is at the end of the loop.
struct Joins(Option<Handle<()>>);

impl Drop for Joins {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take().filter(|_| !std::thread::panicking()) {
            handle.join();
        }
    }
}

impl Model {
    fn number(&self) -> u64 {
        self.next_number.set(self.next_number.get() + 1);
        self.next_number.get()
    }

    fn promise(&self, what: &'static str) -> u64 {
        let number = self.number();
        self.promises.borrow_mut().insert(number, (now(), what));
        number
    }

    #[track_caller]
    fn keep(&self, promise: u64) {
        let kept = self.promises.borrow_mut().remove(&promise);
        let (made, what) = kept.expect("nothing happens twice");
        expect_soon(made, what);
    }

    /// Keeps all promises of a kind.
    fn keep_all(&self, kind: &'static str) {
        self.promises.borrow_mut().retain(|_, (made, what)| {
            if *what == kind {
                expect_soon(*made, what);
            }
            *what != kind
        });
    }

    /// A wake asks for a turn whose hooks all begin after it, the hooks after the wait too.
    fn begin_woken_turn(&self) {
        for (_, what) in self.promises.borrow_mut().values_mut() {
            if *what == "a wake" {
                *what = WOKEN_TURN;
            }
        }
    }

    fn expect_nothing_forgotten(&self) {
        for (made, what) in self.promises.borrow().values() {
            expect_soon(*made, what);
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            self.promise("a wake");
            waker.wake();
        }
    }

    fn set_event(&self) {
        let number = random(EVENTS.len() as u64) as usize;
        for _ in 0..=size(3) {
            // Further sets of a manual-reset event change nothing while a call is outstanding.
            let is_new = number != MANUAL_RESET || self.outstanding(EVENTS[number]).is_none();
            let promise = is_new.then(|| self.promise(EVENTS[number]));
            if self.events[number].set() == SetOutcome::AlreadySet
                && let Some(promise) = promise
            {
                self.promises.borrow_mut().remove(&promise);
            }
        }
    }

    /// Returns the oldest promise of a kind.
    fn outstanding(&self, kind: &'static str) -> Option<u64> {
        let promises = self.promises.borrow();
        let mut of_kind = promises.iter().filter(|(_, (_, what))| *what == kind);
        of_kind.next().map(|(number, _)| *number)
    }

    fn send(&self) {
        let Some(sender) = &*self.sender.borrow() else {
            return;
        };
        let promise = self.promise("a value");
        match sender.try_send(promise) {
            Ok(()) => self.sent.borrow_mut().push_back(promise),
            Err(_) => drop(self.promises.borrow_mut().remove(&promise)),
        }
    }

    fn post(&self) {
        let Some(remote) = self.remote.borrow().clone() else {
            return;
        };
        let posted = Posted(Arc::clone(&self.posts_over));
        self.posted.set(self.posted.get() + 1);
        let promise = self.promise("a closure");
        let closure = move |cx: &mut Cx<'_>| {
            let _posted = posted;
            cx.state.keep(promise);
            callback(cx);
        };
        if remote.post(closure).is_err() {
            self.promises.borrow_mut().remove(&promise);
        }
        self.expect_pending(&remote);
    }

    fn call(&self) {
        let Some(remote) = self.remote.borrow().clone() else {
            return;
        };
        let posted = Posted(Arc::clone(&self.posts_over));
        self.posted.set(self.posted.get() + 1);
        let began = now();
        let answer = remote.call(move |cx: &mut Cx<'_>| {
            let _posted = posted;
            callback(cx);
        });
        assert_ne!(answer, Err(CallError::OnLoopThread));
        expect_soon(began, "a call");
    }

    #[track_caller]
    fn expect_pending(&self, remote: &Remote<Rc<Self>>) {
        let left = self.posted.get() - self.posts_over.load(Ordering::Relaxed);
        let pending = remote.pending();
        let is_right = pending == left || self.stops_posted.get() && pending > left;
        assert!(
            is_right || self.is_over.get(),
            "{pending} pending, {left} have not run"
        );
    }

    fn stop(&self) {
        if self.stopped.get().is_none() {
            self.stopped.set(Some(now()));
        }
    }

    fn capture(self: &Rc<Self>) -> (Option<Destructor>, Option<PanicsWhenDropped>) {
        let has_destructor = once_in(6);
        let panics = self.panics && self.catches && once_in(16);
        (
            has_destructor.then(|| Destructor(Rc::clone(self))),
            panics.then(|| PanicsWhenDropped),
        )
    }
}

#[track_caller]
fn expect_soon(made: Instant, what: &str) {
    let took = now() - made;
    assert!(took <= REACTION, "{what} took {took:?}");
}

/// Every callback but a hook: counts it, lets other threads run, and acts.
fn callback(cx: &mut Cx<'_>) {
    cx.state.ran.set(cx.state.ran.get() + 1);
    act_some(cx);
}

fn act_some(cx: &mut Cx<'_>) {
    pause();
    for _ in 0..size(4) {
        act(cx);
    }
    pause();
    if cx.state.panics && once_in(50) {
        cx.state.cut_turn.set(cx.state.turn.get());
        panic();
    }
}

/// Acts in a handler or hook that has to stay: a destructor that panics would end it.
fn act_and_stay(cx: &mut Cx<'_>) {
    if cx.state.catches || !cx.state.panics {
        (0..size(3)).for_each(|_| act(cx));
    }
}

fn pause() {
    if once_in(4) {
        simulation::sleep(duration(Duration::from_millis(2)));
    }
}

fn act(cx: &mut Cx<'_>) {
    let model = Rc::clone(cx.state);
    let Some(budget) = model.budget.get().checked_sub(1) else {
        return take_away(cx.registry, &model);
    };
    model.budget.set(budget);
    match random(24) {
        0..=2 => arm(cx.registry, &model),
        3 => cancel_timer(cx.registry, &model),
        4 => reset_timer(cx.registry, &model),
        5 | 6 => defer(cx.registry, &model),
        7 => cancel_deferred(cx.registry, &model),
        8 | 9 => add_hook(cx.registry, &model),
        10 => remove_hook(cx.registry, &model),
        11 => hold_token(cx.registry, &model),
        12 | 13 => drop(model.own_tokens.take()),
        14 => model.wake(),
        15 => model.set_event(),
        16 => model.post(),
        17 => model.send(),
        18 if once_in(20) => {
            model.stop();
            cx.registry.stop();
        }
        19 if once_in(20) => {
            model.stop();
            model.failed.set(true);
            cx.registry.stop_with(io::Error::other("as the seed wants"));
        }
        20 => model.set_event(),
        21 => model.events[MANUAL_RESET].reset(),
        22 => set_timeout(cx.registry, &model),
        23 => set_priority(cx.registry, &model),
        _ => {}
    }
}

/// What a loop does that begins nothing new: it ends something that it began, or nothing.
fn take_away(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    match random(10) {
        0..=5 => cancel_timer(registry, model),
        6 => cancel_deferred(registry, model),
        7 => remove_hook(registry, model),
        8 => drop(model.own_tokens.take()),
        _ => {}
    }
}

/// Keeps the loop alive for a time. A clock that jumps would stand still for ever.
fn hold_token(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    if model.clock.is_none() {
        model.own_tokens.borrow_mut().extend(Token::new(model));
        let left = Left::new(model);
        registry.after(duration(LONGEST_DELAY), move |cx| {
            let _ = &left;
            cx.state.ran.set(cx.state.ran.get() + 1);
            drop(cx.state.own_tokens.take());
            Ok(Then::Done)
        });
    }
}

fn arm(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let (number, delay) = (model.number(), duration(LONGEST_DELAY));
    let deadline = registry.now() + delay;
    let (left, captured) = (Left::new(model), model.capture());
    let key = registry.after(delay, move |cx| {
        let _captured = (&left, &captured);
        run_timer(number, cx)
    });
    let essential = once_in(20);
    if essential {
        registry.set_timer_essential(key).unwrap();
    }
    let timer = Timer {
        key,
        deadline,
        arming: number,
        armed: now(),
        essential,
    };
    model.timers.borrow_mut().insert(number, timer);
}

fn run_timer(number: u64, cx: &mut Cx<'_>) -> io::Result<Then> {
    let model = Rc::clone(cx.state);
    let timer = model.timers.borrow_mut().remove(&number);
    let timer = timer.expect("a timer that has ended does not run");
    assert!(cx.now() >= timer.deadline, "a timer is early");
    if model.clock.is_none() {
        expect_soon(timer.deadline.max(timer.armed), "a timer");
    }
    let turn = cx.registry.metrics().turns;
    let order = (turn, timer.deadline, timer.arming);
    assert!(
        model.last_timer.replace(Some(order)) < Some(order),
        "timers run in their order"
    );
    let is_failing = once_in(12);
    if is_failing && timer.essential {
        model.failed.set(true);
        model.stop();
    }
    let is_essential = timer.essential && model.catches;
    let fails = is_essential.then(|| FailsIfUnwound(Rc::clone(&model)));
    callback(cx);
    drop(fails);
    if is_failing {
        return Err(io::Error::other("as the seed wants"));
    }
    if once_in(2) {
        return Ok(Then::Done);
    }
    let delay = duration(LONGEST_DELAY);
    let timer = Timer {
        deadline: cx.now() + delay,
        arming: model.number(),
        armed: now(),
        ..timer
    };
    model.timers.borrow_mut().insert(number, timer);
    Ok(Then::After(delay))
}

/// Expects a failure of the loop if a panic unwinds through an essential callback.
struct FailsIfUnwound(Rc<Model>);

impl Drop for FailsIfUnwound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.set(true);
            self.0.stop();
        }
    }
}

/// Draws one of the armed timers.
fn draw_timer(model: &Model) -> Option<(u64, TimerKey)> {
    let timers = model.timers.borrow();
    let place = random(timers.len() as u64) as usize;
    timers
        .iter()
        .nth(place)
        .map(|(number, timer)| (*number, timer.key))
}

fn cancel_timer(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    if let Some((number, key)) = draw_timer(model) {
        model.timers.borrow_mut().remove(&number);
        registry.cancel(key).unwrap();
    }
}

fn reset_timer(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    if let Some((number, key)) = draw_timer(model) {
        let delay = duration(LONGEST_DELAY);
        let deadline = registry.now() + delay;
        registry.reset(key, delay).unwrap();
        let arming = model.number();
        if let Some(timer) = model.timers.borrow_mut().get_mut(&number) {
            (timer.deadline, timer.arming) = (deadline, arming);
            timer.armed = now();
        }
    }
}

fn defer(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let (left, captured, promise) = (
        Left::new(model),
        model.capture(),
        model.promise("a deferred callback"),
    );
    let key = registry.defer(move |cx| {
        let _captured = (left, captured);
        let first = cx.state.deferred.borrow_mut().pop_front();
        assert_eq!(first.map(|(number, _)| number), Some(promise));
        cx.state.keep(promise);
        callback(cx);
    });
    model.deferred.borrow_mut().push_back((promise, key));
}

fn cancel_deferred(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let cancelled = model.deferred.borrow_mut().pop_back();
    if let Some((promise, key)) = cancelled {
        model.promises.borrow_mut().remove(&promise);
        registry.cancel_deferred(key).unwrap();
    }
}

fn add_hook(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let (number, kind, captured) = (model.number(), random(5), model.capture());
    let is_idle = kind == 4;
    let left = is_idle.then(|| Left::new(model));
    let hook = move |cx: &mut Cx<'_>| {
        let _captured = (&left, &captured);
        run_hook(number, is_idle, cx)
    };
    let key = match kind {
        0 | 1 => registry.before_wait(hook),
        2 | 3 => registry.after_wait(hook),
        _ => registry.idle(hook),
    };
    let hook = Hook {
        key: Some(key),
        last_turn: None,
    };
    model.hooks.borrow_mut().insert(number, hook);
}

fn run_hook(number: u64, is_idle: bool, cx: &mut Cx<'_>) -> io::Result<Next> {
    let model = Rc::clone(cx.state);
    let turn = cx.registry.metrics().turns;
    let hook = model.hooks.borrow_mut().remove(&number);
    let hook = hook.expect("a hook that was removed does not run");
    if is_idle {
        model.ran.set(model.ran.get() + 1);
    } else if let Some(last) = hook.last_turn {
        assert!(
            turn == last + 1 || last <= model.cut_turn.get(),
            "a hook runs once a turn"
        );
    }
    let last_turn = Some(turn);
    model
        .hooks
        .borrow_mut()
        .insert(number, Hook { last_turn, ..hook });
    let kept = {
        let result = catch_unwind(AssertUnwindSafe(|| act_some(cx)));
        if let Err(panic) = result {
            model.hooks.borrow_mut().remove(&number);
            std::panic::resume_unwind(panic);
        }
        model.hooks.borrow_mut().contains_key(&number)
    };
    if kept && once_in(if is_idle { 4 } else { 12 }) {
        model.hooks.borrow_mut().remove(&number);
        return Ok(Next::Remove);
    }
    Ok(Next::Keep)
}

fn remove_hook(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let drawn = {
        let hooks = model.hooks.borrow();
        let place = random(hooks.len() as u64) as usize;
        hooks
            .iter()
            .nth(place)
            .and_then(|(number, hook)| hook.key.map(|key| (*number, key)))
    };
    if let Some((number, key)) = drawn {
        model.hooks.borrow_mut().remove(&number);
        registry.remove_hook(key).unwrap();
    }
}

/// Registers what every daemon of this kind has, and what looks at the model in each turn.
fn set_up(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let remote = registry.remote().unwrap();
    model.waker.replace(Some(remote.waker()));
    model.remote.replace(Some(remote));
    // The loop may have caught a panic of the model.
    registry.before_wait(|cx| {
        if has_failed() {
            cx.registry.stop();
        }
        Ok(Next::Keep)
    });
    registry.before_wait(|cx| {
        let model = Rc::clone(cx.state);
        model.begin_woken_turn();
        model.expect_nothing_forgotten();
        model.turn.set(cx.registry.metrics().turns);
        if let Some(stopped) = model.stopped.get() {
            expect_soon(stopped, "the end of a stopped loop");
        }
        model.fewest_tokens.set(model.tokens.get());
        model.had_work.set(model.left.get() > 0);
        model
            .clock_before
            .set(model.clock.as_ref().map(ManualClock::now));
        pause();
        Ok(Next::Keep)
    });
    registry.after_wait(|cx| {
        let model = Rc::clone(cx.state);
        model.keep_all(WOKEN_TURN);
        let took = now() - model.nothing_since.get();
        assert!(
            !model.had_work.get()
                || model.left.get() > 0
                || model.has_timeout.get()
                || took < HOOKS,
            "a loop from which its hooks took all work slept for {took:?}"
        );
        let clock = model.clock.as_ref().map(ManualClock::now);
        assert!(
            model.fewest_tokens.get() == 0 || clock == model.clock_before.get(),
            "the clock jumps while another thread is awaited"
        );
        let queue = cx.registry.registrations();
        let queue = queue
            .filter(|registration| registration.key == model.queue.get())
            .map(|registration| registration.calls)
            .next();
        assert_eq!(queue, Some(model.handled.get()), "calls of the queue");
        pause();
        Ok(Next::Keep)
    });
    for (number, kind) in EVENTS.into_iter().enumerate() {
        let key = registry
            .on_event(&model.events[number], move |cx| {
                let turn = cx.registry.metrics().turns;
                let last = cx.state.event_turns[number].replace(turn);
                assert!(
                    last < turn,
                    "the handler of an event is called twice in a turn"
                );
                let promise = cx.state.outstanding(kind);
                cx.state.keep(promise.expect("an event was set"));
                cx.state.ran.set(cx.state.ran.get() + 1);
                pause();
                act_and_stay(cx);
                if number == MANUAL_RESET {
                    go_on_with_manual_reset(cx.state);
                }
                Ok(Next::Keep)
            })
            .unwrap();
        registry.set_background(key).unwrap();
    }
    let capacity = if once_in(2) {
        Capacity::Unbounded
    } else {
        Capacity::Bounded(1 + size(8))
    };
    let (sender, receiver) = notification_queue(capacity);
    model.sender.replace(Some(sender));
    let queue = registry
        .consume(receiver, |value, cx| {
            let model = Rc::clone(cx.state);
            let first = model.sent.borrow_mut().pop_front();
            assert_eq!(first, value, "values come in their order");
            model.handled.set(model.handled.get() + 1);
            model.keep(value.unwrap());
            model.ran.set(model.ran.get() + 1);
            pause();
            act_and_stay(cx);
            Ok(Next::Keep)
        })
        .unwrap();
    registry.set_background(queue).unwrap();
    registry
        .set_max_messages_per_turn(queue, 1 + size(16))
        .unwrap();
    model.queue.set(queue);
}

/// At the end of a call for the manual-reset event: mostly resets it. If it stays set, the handler
/// is called again.
fn go_on_with_manual_reset(model: &Model) {
    let event = &model.events[MANUAL_RESET];
    if !once_in(4) {
        event.reset();
        // A set within this call led to no further call: the loop looks when the call returns.
        if let Some(promise) = model.outstanding(EVENTS[MANUAL_RESET]) {
            model.promises.borrow_mut().remove(&promise);
        }
    }
    if event.is_set() && model.outstanding(EVENTS[MANUAL_RESET]).is_none() {
        model.promise(EVENTS[MANUAL_RESET]);
    }
}

/// Registers streams, and returns their other ends.
fn add_sources(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) -> Vec<Peer> {
    let peers = (0..1 + random(SOURCES)).map(|number| {
        let (stream, peer) = Peer::pair().unwrap();
        let key = registry
            .add(stream, Interest::READABLE, move |stream, cx| {
                read_source(number as usize, stream, cx)
            })
            .unwrap();
        registry.set_background(key).unwrap();
        model.sources.borrow_mut().push(Source {
            key,
            deadline: None,
            served: registry.now(),
        });
        peer
    });
    let peers = peers.collect();
    for _ in 0..random(SOURCES) {
        set_timeout(registry, model);
        set_priority(registry, model);
    }
    peers
}

/// Reads a part of what has come. A timeout comes behind what had come before.
fn read_source(number: usize, stream: &mut Io<TcpStream>, cx: &mut Cx<'_>) -> io::Result<Next> {
    let model = Rc::clone(cx.state);
    model.ran.set(model.ran.get() + 1);
    let readiness = cx.readiness();
    if readiness.is_timeout() {
        let mut sources = model.sources.borrow_mut();
        let deadline = sources[number].deadline.take();
        let deadline = deadline.expect("a timeout that has ended is not told");
        assert!(cx.now() >= deadline, "a timeout is early");
        assert!(
            !readiness.is_readable() || sources[number].served >= deadline,
            "a timeout is told before what had come"
        );
    }
    if readiness.is_readable() {
        model.sources.borrow_mut()[number].served = cx.now();
        let mut buf = [0; 64];
        let room = 1 + size(64);
        let _ = stream.read(&mut buf[..room])?;
    }
    pause();
    act_and_stay(cx);
    if once_in(2) {
        set_timeout_of(number, cx.registry, &model);
    }
    Ok(Next::Keep)
}

fn set_timeout(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let sources = model.sources.borrow().len();
    if sources > 0 {
        set_timeout_of(random(sources as u64) as usize, registry, model);
    }
}

fn set_timeout_of(number: usize, registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let timeout = (!once_in(8)).then(|| duration(LONGEST_DELAY));
    let source = &mut model.sources.borrow_mut()[number];
    source.deadline = timeout.map(|timeout| registry.now() + timeout);
    registry.set_timeout(source.key, timeout).unwrap();
}

fn set_priority(registry: &mut Registry<Rc<Model>>, model: &Rc<Model>) {
    let sources = model.sources.borrow();
    if let Some(source) = sources.get(random(SOURCES) as usize) {
        let priorities = [Priority::Low, Priority::Normal, Priority::High];
        let priority = priorities[random(3) as usize];
        registry.set_priority(source.key, priority).unwrap();
    }
}

/// The other side of the streams: writes to some of them at a time.
fn write_to_sources(model: &Rc<Model>, mut peers: Vec<Peer>) {
    for _ in 0..8 {
        simulation::sleep(duration(Duration::from_secs(20)));
        if model.is_over.get() {
            return;
        }
        let written = 1 + random(peers.len() as u64) as usize;
        for peer in &mut peers[..written] {
            let _ = peer.write_all(&vec![0; 1 + size(200)]); // the loop may be gone
        }
    }
    // A stream that has ended would stay readable, and keep idle callbacks from running.
    simulation::wait_until(|| model.is_over.get());
}

/// Another thread: does what a `Remote`, a `Waker` and a `Sender` offer.
fn act_from_outside(model: &Rc<Model>) {
    let mut token = None;
    for _ in 0..10 {
        simulation::sleep(duration(Duration::from_secs(20)));
        if model.is_over.get() {
            return;
        }
        match random(12) {
            0 | 1 => model.wake(),
            2 | 3 => model.post(),
            4 => (0..size(12)).for_each(|_| model.post()),
            5 => model.send(),
            6 => (0..size(12)).for_each(|_| model.send()),
            7 => model.set_event(),
            8 => token = Token::new(model),
            9 => token = None,
            10 => model.call(),
            11 if once_in(4) => {
                let remote = model.remote.borrow().clone();
                if let Some(remote) = remote {
                    model.stops_posted.set(true);
                    model.stop();
                    let _ = remote.stop(); // the loop may be gone
                }
            }
            _ => {}
        }
        if let Some(remote) = &*model.remote.borrow() {
            model.expect_pending(remote);
        }
    }
    drop(token);
}

fn new_model() -> Rc<Model> {
    let is_manual = once_in(4);
    let panics = !once_in(3);
    Rc::new(Model {
        remote: RefCell::default(),
        waker: RefCell::default(),
        sender: RefCell::default(),
        clock: is_manual.then(ManualClock::jumping),
        catches: !once_in(4),
        panics,
        events: [
            Event::auto_reset(),
            Event::semaphore(0, 3),
            Event::manual_reset(),
        ],
        budget: Cell::new(1 + size(320) as u32),
        next_number: Cell::new(0),
        promises: RefCell::default(),
        left: Cell::new(0),
        nothing_since: Cell::new(now()),
        had_work: Cell::new(false),
        has_timeout: Cell::new(false),
        tokens: Cell::new(0),
        fewest_tokens: Cell::new(0),
        most_tokens: Cell::new(0),
        clock_before: Cell::new(None),
        own_tokens: RefCell::default(),
        timers: RefCell::default(),
        last_timer: Cell::new(None),
        deferred: RefCell::default(),
        hooks: RefCell::default(),
        event_turns: Default::default(),
        sources: RefCell::default(),
        turn: Cell::new(0),
        cut_turn: Cell::new(0),
        posted: Cell::new(0),
        posts_over: Arc::default(),
        stops_posted: Cell::new(false),
        sent: RefCell::default(),
        handled: Cell::new(0),
        queue: Cell::new(Key::NULL),
        stopped: Cell::new(None),
        failed: Cell::new(false),
        ran: Cell::new(0),
        is_over: Cell::new(false),
    })
}

/// Runs the loop until it ends, by `run` or turn by turn.
fn drive(reactor: &mut Reactor<Rc<Model>>, model: &Rc<Model>) {
    let turns = once_in(2);
    let mut state = Rc::clone(model);
    loop {
        let driven = catch_unwind(AssertUnwindSafe(|| {
            if turns {
                return turn_by_turn(reactor, model);
            }
            reactor.run(&mut state)
        }));
        match driven {
            Ok(result) => {
                assert!(!has_failed(), "a callback found a fault");
                expect_right_end(&result, model);
                // A turn with a timeout lets time pass although nothing is left.
                let may_panic = model.panics && !model.catches;
                if model.clock.is_some() && model.stopped.get().is_none() && !may_panic {
                    take_turn(reactor, &mut state, Duration::from_secs(10)).unwrap();
                }
                return;
            }
            Err(panic) => {
                model.cut_turn.set(reactor.metrics().turns);
                expect_wanted(Err(panic), model);
            }
        }
    }
}

/// Swallows a panic that the daemon wants, and resumes every other one.
fn expect_wanted(result: std::thread::Result<()>, model: &Model) {
    if let Err(payload) = result {
        if model.catches || !is_wanted(&*payload) {
            std::panic::resume_unwind(payload);
        }
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    }
}

fn turn_by_turn(
    reactor: &mut Reactor<Rc<Model>>,
    model: &Rc<Model>,
) -> Result<Exit, reactor::Error> {
    let mut state = Rc::clone(model);
    while reactor.has_work() && !reactor.is_stopping() {
        take_turn(reactor, &mut state, duration(LONGEST_DELAY))?;
    }
    reactor.take_failure().map_or(Ok(Exit::NothingLeft), Err)
}

fn take_turn(
    reactor: &mut Reactor<Rc<Model>>,
    state: &mut Rc<Model>,
    timeout: Duration,
) -> Result<(), reactor::Error> {
    let model = Rc::clone(state);
    model.ran.set(0);
    model.has_timeout.set(true);
    let began = now();
    model.most_tokens.set(model.tokens.get());
    let ran = reactor.turn(state, Some(timeout))?;
    if model.clock.is_some() && model.most_tokens.get() == 0 {
        expect_soon(began, "a turn by a clock that jumps");
    }
    let is_counted = ran == model.ran.get() || model.stops_posted.get();
    assert!(is_counted, "{ran} of {} callbacks ran", model.ran.get());
    model.nothing_since.set(now());
    Ok(())
}

fn expect_right_end(result: &Result<Exit, reactor::Error>, model: &Model) {
    model.expect_nothing_forgotten();
    let failed = matches!(result, Err(reactor::Error::Failed(_)));
    assert_eq!(failed, model.failed.get(), "{result:?}");
    if let (false, None) = (failed, model.stopped.get()) {
        assert!(!matches!(result, Ok(Exit::Stopped { .. })), "{result:?}");
        assert_eq!(model.left.get(), 0, "the loop ends and something is left");
        expect_soon(model.nothing_since.get(), "the end of a loop without work");
    }
    if let Some(stopped) = model.stopped.get() {
        expect_soon(stopped, "the end of a stopped loop");
    }
}

fn daemon() {
    forget_failures();
    let model = new_model();
    let mut builder = Reactor::builder()
        .max_events_per_turn(1 + size(64))
        .max_calls_per_turn(size(64))
        .on_panic(if model.catches {
            PanicPolicy::RemoveHandler
        } else {
            PanicPolicy::Propagate
        });
    if let Some(clock) = &model.clock {
        builder = builder.clock(clock.clone());
    } else if once_in(4) {
        builder = builder.spin(Spin::Fixed(Duration::from_micros(5)));
    }
    let mut reactor = builder.build().unwrap();
    set_up(&mut reactor, &model);
    let writer = (model.clock.is_none() && once_in(4)).then(|| {
        let (model, peers) = (Rc::clone(&model), add_sources(&mut reactor, &model));
        simulation::thread("writer", move || write_to_sources(&model, peers))
    });
    let first = Left::new(&model);
    let alive = reactor.remote().unwrap().keep_alive();
    model.tokens.set(1);
    let threads = if once_in(3) { 0 } else { 1 + random(THREADS) };
    let threads = (0..threads).map(|number| {
        let model = Rc::clone(&model);
        simulation::thread(&format!("thread {number}"), move || {
            act_from_outside(&model);
        })
    });
    let mut threads: VecDeque<_> = threads.collect();
    // Some threads belong to callbacks that live as long as the loop.
    for _ in 0..random(3) {
        let joins = Joins(threads.pop_front());
        reactor.before_wait(move |cx| {
            let _ = &joins;
            (0..2).for_each(|_| act_and_stay(cx));
            Ok(Next::Keep)
        });
    }
    reactor.defer(|cx| {
        (0..size(12)).for_each(|_| act(cx));
        callback(cx);
    });
    drop(alive);
    model.tokens.set(model.tokens.get() - 1);
    drop(first);

    drive(&mut reactor, &model);
    model.is_over.set(true);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
    expect_wanted(dropped, &model);
    threads.into_iter().chain(writer).for_each(Handle::join);
    // The tokens hold the model, and the model holds the tokens.
    drop(model.own_tokens.take());
    drop((model.remote.take(), model.waker.take(), model.sender.take()));
}

#[test]
fn a_loop_does_what_is_asked_of_it_in_time_and_once() {
    hide_wanted_panics();
    let mut faults = Faults::slow();
    // Time passes only where the model lets it pass.
    (faults.stops, faults.preemptions) = (0, 0);
    Seeds::new(0..100).faults(faults).check(|| {
        simulation::process("daemon", daemon).join();
    });
}
