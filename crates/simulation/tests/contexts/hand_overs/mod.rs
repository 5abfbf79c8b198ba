//! Loops and threads that hand on work at random, in every way there is. Each callback knows which
//! context it must find, and asserts it.
//!
//! Ground rule of the model: the expected context travels within each callback, beside the one that
//! the loop carries. It is never read from the loop.

mod acts;
mod causes;
mod requests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use handlers::{PoolHandle, ServerKey, WorkerPool};
use reactor::{
    Capacity, Context, DeferredKey, Event, KeepAlive, Key, Next, PanicPolicy, Reactor, Registry,
    Remote, RequestContext, Sender, TimerKey, notification_queue,
};
use simulation::{Handle, Seeds, random, wait_until};

use self::acts::arrive;
use crate::draw::{
    duration, forget_failures, has_failed, hide_wanted_panics, is_wanted, once_in, size,
};
use crate::mark::{context_of, expect_current, listen_to_spans};

pub(crate) type Cx<'a> = Context<'a, Loop>;

/// The expected context of a registration, a timer or a hook. A callback that runs once has one
/// that nothing reads again.
pub(crate) type Kept = Rc<RefCell<RequestContext>>;

fn kept(context: &RequestContext) -> Kept {
    Rc::new(RefCell::new(context.clone()))
}

/// The contexts that a callback must find: the current one, and that of its next call.
pub(crate) struct Here {
    pub(crate) current: RequestContext,
    pub(crate) kept: Kept,
    /// `true` in a scope within the callback.
    pub(crate) is_scope: bool,
}

impl Here {
    /// A callback of a registration, a timer or a hook.
    pub(crate) fn of(kept: &Kept) -> Self {
        Self {
            current: kept.borrow().clone(),
            kept: Rc::clone(kept),
            is_scope: false,
        }
    }

    /// A callback that runs once.
    pub(crate) fn once(context: &RequestContext) -> Self {
        Self::of(&kept(context))
    }

    /// A callback of a registration that keeps nothing of what the callback sets.
    pub(crate) fn unkept(of_registration: &Kept) -> Self {
        Self::once(&of_registration.borrow())
    }
}

/// The part of the model that all loops of a simulation share.
#[derive(Default)]
pub(crate) struct Shared {
    remotes: RefCell<Vec<Remote<Loop>>>,
    senders: RefCell<Vec<Sender<RequestContext>>>,
    events: RefCell<Vec<Event>>,
    /// The keys by which the loops are ended.
    servers: RefCell<Vec<(KeepAlive, ServerKey<Loop>)>>,
    /// How much is handed on yet.
    budget: RefCell<u64>,
    last_number: RefCell<u64>,
    panics: bool,
    /// How often a callback was reached in each way.
    arrived: RefCell<BTreeMap<&'static str, u64>>,
}

impl Shared {
    /// Returns the context of a new request.
    pub(crate) fn fresh(&self) -> RequestContext {
        let mut number = self.last_number.borrow_mut();
        *number += 1;
        context_of(*number)
    }

    /// Returns `false` when enough has been handed on.
    fn spend(&self) -> bool {
        let mut budget = self.budget.borrow_mut();
        let left = budget.checked_sub(1);
        *budget = left.unwrap_or(0);
        left.is_some()
    }

    /// Draws one of the loops.
    fn draw_remote(&self) -> Remote<Loop> {
        let remotes = self.remotes.borrow();
        remotes[random(remotes.len() as u64) as usize].clone()
    }

    /// Draws one of the queues, with the remote of a loop that may wait for its room.
    fn draw_sender(&self) -> Sender<RequestContext> {
        let senders = self.senders.borrow();
        senders[random(senders.len() as u64) as usize].clone()
    }

    fn draw_event(&self) -> Event {
        let events = self.events.borrow();
        events[random(events.len() as u64) as usize].clone()
    }
}

/// The state of a loop.
pub(crate) struct Loop {
    pub(crate) shared: Rc<Shared>,
    remote: Remote<Self>,
    pool: PoolHandle<Self>,
    _workers: WorkerPool<Self>,
    timers: Vec<(TimerKey, Kept)>,
    deferred: Vec<DeferredKey>,
    /// The registrations, connections among them, with the contexts that they must have.
    registrations: BTreeMap<Key, Kept>,
}

/// Tries until the simulation grants it.
fn patiently<R>(mut attempt: impl FnMut() -> io::Result<R>) -> R {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) => simulation::note(&format!("{:?}", error.kind())),
        }
        simulation::sleep(Duration::from_millis(1));
    }
}

fn set_up(number: usize, reactor: &mut Reactor<Loop>, shared: &Rc<Shared>) -> Loop {
    let workers = patiently(|| WorkerPool::builder().workers(2).build(reactor));
    expect_nothing_between_callbacks(reactor);
    let remote = reactor.remote().unwrap();
    let mut state = Loop {
        shared: Rc::clone(shared),
        remote: remote.clone(),
        pool: workers.handle(),
        _workers: workers,
        timers: Vec::new(),
        deferred: Vec::new(),
        registrations: BTreeMap::new(),
    };
    // Some are registered on behalf of a request, as by a callback.
    let own = || {
        if once_in(2) {
            shared.fresh()
        } else {
            RequestContext::NONE
        }
    };
    let (queue, event) = (kept(&own()), kept(&own()));
    state.add_queue(reactor, &queue);
    state.add_event(reactor, &event);
    let server = patiently(|| requests::serve(number, reactor));
    shared.remotes.borrow_mut().push(remote.clone());
    let ends = (remote.keep_alive(), server);
    shared.servers.borrow_mut().push(ends);
    state
}

fn expect_nothing_between_callbacks(registry: &mut Registry<Loop>) {
    let nothing = |_: &mut Cx<'_>| {
        expect_current(&RequestContext::NONE, "a hook without a context");
        Ok(Next::Keep)
    };
    registry.before_wait(nothing);
    registry.after_wait(nothing);
}

impl Loop {
    /// Adds a queue whose values are the contexts in which they were sent.
    fn add_queue(&mut self, registry: &mut Registry<Self>, context: &Kept) {
        let capacity = if once_in(2) {
            Capacity::Unbounded
        } else {
            Capacity::Bounded(1 + size(4))
        };
        let (sender, receiver) = notification_queue(capacity);
        self.shared.senders.borrow_mut().push(sender);
        let of_queue = Rc::clone(context);
        let consume = move |sent: Option<RequestContext>, cx: &mut Cx<'_>| {
            // A value without a context is handled in that of the queue.
            let sent = sent.filter(|sent| !sent.is_none());
            let expected = sent.unwrap_or_else(|| of_queue.borrow().clone());
            arrive("a queue", &mut Here::once(&expected), cx);
            Ok(Next::Keep)
        };
        let key = context
            .borrow()
            .scope(|| registry.consume(receiver, consume));
        let key = key.unwrap();
        registry.set_background(key).unwrap();
        self.registrations.insert(key, Rc::clone(context));
    }

    fn add_event(&mut self, registry: &mut Registry<Self>, context: &Kept) {
        let event = Event::semaphore(0, 100);
        let of_event = Rc::clone(context);
        let handle = move |cx: &mut Cx<'_>| {
            // What the handler of an event sets is not kept.
            arrive("an event", &mut Here::unkept(&of_event), cx);
            Ok(Next::Keep)
        };
        let key = context.borrow().scope(|| registry.on_event(&event, handle));
        let key = key.unwrap();
        registry.set_background(key).unwrap();
        self.registrations.insert(key, Rc::clone(context));
        self.shared.events.borrow_mut().push(event);
    }
}

/// Runs a loop to its end, also through panics of its callbacks. The loop runs in a context of its
/// thread, which no callback sees.
fn run_loop(number: usize, shared: &Rc<Shared>) {
    let policy = if once_in(3) {
        PanicPolicy::Propagate
    } else {
        PanicPolicy::RemoveHandler
    };
    let mut reactor = Reactor::builder().on_panic(policy).build().unwrap();
    let mut state = set_up(number, &mut reactor, shared);
    let outer = shared.fresh();
    outer.scope(|| {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| reactor.run(&mut state))) {
            expect_current(&outer, "the thread of a loop after a panic");
            if !is_wanted(&*panic) {
                resume_unwind(panic);
            }
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
        }
        expect_current(&outer, "the thread of a loop");
    });
}

/// Another thread: hands on work to the loops, and blocks meanwhile.
fn hand_on(shared: &Rc<Shared>) {
    let mut current = RequestContext::NONE;
    for _ in 0..random(12) {
        if once_in(3) {
            current = shared.fresh();
        }
        current.scope(|| {
            hand_on_once(&current, shared);
            expect_current(&current, "a thread");
        });
        expect_current(&RequestContext::NONE, "a thread without a context");
    }
}

fn hand_on_once(current: &RequestContext, shared: &Shared) {
    simulation::sleep(duration(Duration::from_secs(5)));
    let sent = current.clone();
    match random(5) {
        0 => {
            let _ = shared.draw_remote().post(move |cx| {
                arrive("a post of a thread", &mut Here::once(&sent), cx);
            });
        }
        1 => {
            let _ = shared.draw_remote().call(move |cx| {
                arrive("a call", &mut Here::once(&sent), cx);
            });
        }
        2 => {
            let timeout = duration(Duration::from_secs(5));
            let _ = shared.draw_sender().send_within(sent, timeout);
        }
        3 => {
            let _ = shared.draw_sender().try_send(sent);
        }
        _ => drop(shared.draw_event().set()),
    }
}

/// Starts the loops, with clients and threads, and ends them when those have ended.
fn daemon() -> Rc<Shared> {
    forget_failures();
    let shared = Rc::new(Shared {
        budget: RefCell::new(random(200)),
        last_number: RefCell::new(1_000_000), // those of the clients are below
        panics: !once_in(3),
        ..Shared::default()
    });
    let count = 1 + random(3) as usize;
    let loops: Vec<Handle<()>> = (0..count)
        .map(|number| {
            let of_loop = Rc::clone(&shared);
            simulation::thread(&format!("loop {number}"), move || {
                run_loop(number, &of_loop);
            })
        })
        .collect();
    wait_until(|| shared.servers.borrow().len() == count);
    let mut others: Vec<Handle<()>> = (0..random(4))
        .map(|number| {
            let number = 1000 * (number + 1);
            simulation::thread("client", move || requests::ask(number, count))
        })
        .collect();
    others.extend((0..random(4)).map(|_| {
        let shared = Rc::clone(&shared);
        simulation::thread("thread", move || hand_on(&shared))
    }));
    others.into_iter().for_each(Handle::join);
    end(&shared);
    loops.into_iter().for_each(Handle::join);
    assert!(!has_failed(), "a callback found another context");
    shared
}

/// Ends all loops. Each runs until nothing is left.
fn end(shared: &Shared) {
    let remotes = shared.remotes.borrow().clone();
    for (remote, (alive, server)) in remotes.iter().zip(shared.servers.take()) {
        remote
            .post(move |cx| server.stop(cx.registry, Duration::from_secs(5)))
            .expect("a loop that is kept alive");
        drop(alive);
    }
}

#[test]
fn each_callback_finds_the_context_of_its_caller() {
    use std::sync::Mutex;

    listen_to_spans();
    hide_wanted_panics();
    static ARRIVED: Mutex<BTreeMap<&str, u64>> = Mutex::new(BTreeMap::new());
    Seeds::new(0..200).check(|| {
        let shared = daemon();
        let mut arrived = ARRIVED.lock().unwrap();
        for (way, count) in &*shared.arrived.borrow() {
            *arrived.entry(way).or_default() += count;
        }
    });
    let arrived = ARRIVED.lock().unwrap();
    let is_one_seed = std::env::var_os("SIMULATION_SEED").is_some();
    for way in acts::WAYS.iter().chain(requests::WAYS) {
        let is_reached = arrived.contains_key(way);
        assert!(
            is_reached || is_one_seed,
            "{way} is never reached: {arrived:?}"
        );
    }
}
