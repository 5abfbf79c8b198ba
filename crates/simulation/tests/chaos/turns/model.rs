//! The model: requests that were made of the loop, and the effects that must follow from them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reactor::{
    CallError, Context, DeferredKey, Event, HookKey, KeepAlive, Key, ManualClock, Remote, Sender,
    SetOutcome, TimerKey, Waker,
};
use simulation::{Handle, now, random};

use super::acts::callback;
use crate::draw::{PanicsWhenDropped, once_in, panic, size};

/// The longest time from a request to what follows from it.
pub(super) const REACTION: Duration = Duration::from_millis(500);
/// The longest time that the hooks before a wait take. A later hook has slept.
pub(super) const HOOKS: Duration = Duration::from_millis(50);
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(60);
pub(super) const THREADS: u64 = 4;
pub(super) const SOURCES: u64 = 32;
/// Its state lasts until it is reset. The other events are consumed by each call.
pub(super) const MANUAL_RESET: usize = 2;
pub(super) const EVENTS: [&str; 3] = ["event 0", "event 1", "event 2"];
pub(super) const WOKEN_TURN: &str = "a turn that a wake asks for";

pub(super) type Cx<'a> = Context<'a, Rc<Model>>;

pub(super) struct Timer {
    pub(super) key: TimerKey,
    pub(super) deadline: Instant,
    /// The order of the armings.
    pub(super) arming: u64,
    /// When it was armed, by the time of the simulation.
    pub(super) armed: Instant,
    pub(super) essential: bool,
}

pub(super) struct Hook {
    pub(super) key: Option<HookKey>,
    pub(super) last_turn: Option<u64>,
}

/// A stream that is read, with a timeout.
pub(super) struct Source {
    pub(super) key: Key,
    /// The time of its timeout.
    pub(super) deadline: Option<Instant>,
    /// The time of the turn of the last call for what can be read.
    pub(super) served: Instant,
}

/// The state of the loop: what was asked of it, and what is left of that.
pub(super) struct Model {
    pub(super) remote: RefCell<Option<Remote<Rc<Self>>>>,
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) sender: RefCell<Option<Sender<u64>>>,
    pub(super) clock: Option<ManualClock>,
    pub(super) catches: bool,
    pub(super) panics: bool,
    pub(super) events: [Event; EVENTS.len()],
    pub(super) budget: Cell<u32>,
    pub(super) next_number: Cell<u64>,
    /// Requests that have had no effect yet: when they were made.
    pub(super) promises: RefCell<BTreeMap<u64, (Instant, &'static str)>>,
    /// Values that keep `run` alive, and since when there are none.
    pub(super) left: Cell<i64>,
    pub(super) nothing_since: Cell<Instant>,
    /// Whether something was left when the hooks before the wait began.
    pub(super) had_work: Cell<bool>,
    /// Whether this turn has a timeout. Such a turn waits although nothing is left.
    pub(super) has_timeout: Cell<bool>,
    /// The fewest tokens that were held since the last hook before the wait.
    pub(super) tokens: Cell<i64>,
    pub(super) fewest_tokens: Cell<i64>,
    /// The most tokens that were held in this turn.
    pub(super) most_tokens: Cell<i64>,
    pub(super) clock_before: Cell<Option<Instant>>,
    pub(super) own_tokens: RefCell<Vec<Token>>,
    pub(super) timers: RefCell<BTreeMap<u64, Timer>>,
    pub(super) last_timer: Cell<Option<(u64, Instant, u64)>>,
    pub(super) deferred: RefCell<VecDeque<(u64, DeferredKey)>>,
    pub(super) hooks: RefCell<BTreeMap<u64, Hook>>,
    pub(super) event_turns: [Cell<u64>; EVENTS.len()],
    pub(super) sources: RefCell<Vec<Source>>,
    pub(super) turn: Cell<u64>,
    /// The last turn that a panic may have cut short.
    pub(super) cut_turn: Cell<u64>,
    pub(super) posted: Cell<usize>,
    pub(super) posts_over: Arc<AtomicUsize>,
    pub(super) stops_posted: Cell<bool>,
    pub(super) sent: RefCell<VecDeque<u64>>,
    pub(super) handled: Cell<u64>,
    pub(super) queue: Cell<Key>,
    pub(super) stopped: Cell<Option<Instant>>,
    pub(super) failed: Cell<bool>,
    /// Callbacks since the turn began.
    pub(super) ran: Cell<usize>,
    pub(super) is_over: Cell<bool>,
}

/// Counts as something that keeps `run` alive.
pub(super) struct Left(pub(super) Rc<Model>);

impl Left {
    pub(super) fn new(model: &Rc<Model>) -> Self {
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
pub(super) struct Token {
    pub(super) _alive: KeepAlive,
    pub(super) left: Left,
}

impl Token {
    pub(super) fn new(model: &Rc<Model>) -> Option<Self> {
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
pub(super) struct Posted(pub(super) Arc<AtomicUsize>);

impl Drop for Posted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A capture with a destructor that does something.
pub(super) struct Destructor(pub(super) Rc<Model>);

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
pub(super) struct Joins(pub(super) Option<Handle<()>>);

impl Drop for Joins {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take().filter(|_| !std::thread::panicking()) {
            handle.join();
        }
    }
}

impl Model {
    pub(super) fn number(&self) -> u64 {
        self.next_number.set(self.next_number.get() + 1);
        self.next_number.get()
    }

    pub(super) fn promise(&self, what: &'static str) -> u64 {
        let number = self.number();
        self.promises.borrow_mut().insert(number, (now(), what));
        number
    }

    #[track_caller]
    pub(super) fn keep(&self, promise: u64) {
        let kept = self.promises.borrow_mut().remove(&promise);
        let (made, what) = kept.expect("nothing happens twice");
        expect_soon(made, what);
    }

    /// Keeps all promises of a kind.
    pub(super) fn keep_all(&self, kind: &'static str) {
        self.promises.borrow_mut().retain(|_, (made, what)| {
            if *what == kind {
                expect_soon(*made, what);
            }
            *what != kind
        });
    }

    /// A wake asks for a turn whose hooks all begin after it, the hooks after the wait too.
    pub(super) fn begin_woken_turn(&self) {
        for (_, what) in self.promises.borrow_mut().values_mut() {
            if *what == "a wake" {
                *what = WOKEN_TURN;
            }
        }
    }

    pub(super) fn expect_nothing_forgotten(&self) {
        for (made, what) in self.promises.borrow().values() {
            expect_soon(*made, what);
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            self.promise("a wake");
            waker.wake();
        }
    }

    pub(super) fn set_event(&self) {
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
    pub(super) fn outstanding(&self, kind: &'static str) -> Option<u64> {
        let promises = self.promises.borrow();
        let mut of_kind = promises.iter().filter(|(_, (_, what))| *what == kind);
        of_kind.next().map(|(number, _)| *number)
    }

    pub(super) fn send(&self) {
        let Some(sender) = &*self.sender.borrow() else {
            return;
        };
        let promise = self.promise("a value");
        match sender.try_send(promise) {
            Ok(()) => self.sent.borrow_mut().push_back(promise),
            Err(_) => drop(self.promises.borrow_mut().remove(&promise)),
        }
    }

    pub(super) fn post(&self) {
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

    pub(super) fn call(&self) {
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
    pub(super) fn expect_pending(&self, remote: &Remote<Rc<Self>>) {
        let left = self.posted.get() - self.posts_over.load(Ordering::Relaxed);
        let pending = remote.pending();
        let is_right = pending == left || self.stops_posted.get() && pending > left;
        assert!(
            is_right || self.is_over.get(),
            "{pending} pending, {left} have not run"
        );
    }

    pub(super) fn stop(&self) {
        if self.stopped.get().is_none() {
            self.stopped.set(Some(now()));
        }
    }

    pub(super) fn capture(self: &Rc<Self>) -> (Option<Destructor>, Option<PanicsWhenDropped>) {
        let has_destructor = once_in(6);
        let panics = self.panics && self.catches && once_in(16);
        (
            has_destructor.then(|| Destructor(Rc::clone(self))),
            panics.then(|| PanicsWhenDropped),
        )
    }
}

#[track_caller]
pub(super) fn expect_soon(made: Instant, what: &str) {
    let took = now() - made;
    assert!(took <= REACTION, "{what} took {took:?}");
}

pub(super) fn new_model() -> Rc<Model> {
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
