//! The ways in which a loop hands work on, each with a callback that the test chooses.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use reactor::{
    Capacity, CloseReason, Context, DeferredKey, Event, Handler, HookKey, Interest, Io, Key,
    ManualClock, Missed, Next, Reactor, Registry, RequestContext, Sender, Then, TimerKey,
    notification_queue,
};
use support::{PATIENCE, ms};

use crate::{Here, Result, here};

/// The contexts that the callbacks have seen.
pub(crate) struct State {
    pub(crate) seen: Vec<Here>,
    /// Those of callbacks that nobody has handed a context to.
    pub(crate) between: Vec<Here>,
    pub(crate) clock: ManualClock,
}

impl State {
    pub(crate) const fn new(clock: ManualClock) -> Self {
        Self {
            seen: Vec::new(),
            between: Vec::new(),
            clock,
        }
    }
}

type Act = dyn Fn(&mut Context<'_, State>, Name) -> io::Result<Next> + Send + Sync;

/// The callback of a way.
#[derive(Clone)]
pub(crate) struct Body(Arc<Act>);

impl Body {
    pub(crate) fn new(
        act: impl Fn(&mut Context<'_, State>, Name) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(act))
    }

    fn run(&self, cx: &mut Context<'_, State>, name: Name) -> io::Result<Next> {
        cx.state.seen.push(here());
        (self.0)(cx, name)
    }

    fn run_timer(&self, cx: &mut Context<'_, State>) -> io::Result<Then> {
        let name = cx.timer().map_or(Name::Once, Name::Timer);
        Ok(match self.run(cx, name)? {
            Next::Keep => Then::After(ms(1)),
            Next::Remove => Then::Done,
        })
    }

    fn run_once(&self, cx: &mut Context<'_, State>) {
        let _ = self.run(cx, Name::Once); // nothing is told of its error
    }
}

/// The key of what was handed on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    Source(Key),
    Queue(Key),
    Timer(TimerKey),
    Hook(HookKey),
    Deferred(DeferredKey),
    /// It runs once, and has no key.
    Once,
}

impl Name {
    /// Ends it, unless it has ended.
    pub(crate) fn end(self, registry: &mut Registry<State>) {
        let _ = match self {
            Self::Source(key) | Self::Queue(key) => registry.remove(key),
            Self::Timer(timer) => registry.cancel(timer),
            Self::Hook(hook) => registry.remove_hook(hook),
            Self::Deferred(key) => registry.cancel_deferred(key),
            Self::Once => Ok(()),
        };
    }

    /// Changes its context. Returns `false` if it has none that can be changed.
    pub(crate) fn set_context(
        self,
        registry: &mut Registry<State>,
        context: RequestContext,
    ) -> bool {
        match self {
            Self::Source(key) | Self::Queue(key) => registry.set_context(key, context).unwrap(),
            Self::Timer(timer) => registry.set_timer_context(timer, context).unwrap(),
            Self::Hook(hook) => registry.set_hook_context(hook, context).unwrap(),
            Self::Deferred(_) | Self::Once => return false,
        }
        true
    }

    /// Returns `true` if a context that its callback sets is kept for the next call.
    pub(crate) const fn keeps_context(self) -> bool {
        matches!(self, Self::Source(_) | Self::Timer(_) | Self::Hook(_))
    }

    /// Returns `true` if the loop is told of an error of the callback.
    pub(crate) const fn may_fail(self) -> bool {
        !matches!(self, Self::Deferred(_) | Self::Once)
    }
}

/// Work that was handed on.
pub(crate) struct Handed {
    pub(crate) name: Name,
    /// Peers and senders, which must live until the callback has run.
    pub(crate) held: Vec<Box<dyn Send>>,
    /// `true` if it holds a thread that waits for the callback.
    is_calling: bool,
}

impl Handed {
    fn new(name: Name) -> Self {
        Self {
            name,
            held: Vec::new(),
            is_calling: false,
        }
    }

    /// Returns what it holds, after threads that it waits for.
    pub(crate) fn held_after_its_end(self) -> Vec<Box<dyn Send>> {
        if self.is_calling {
            Vec::new()
        } else {
            self.held
        }
    }

    fn holding(mut self, held: impl Send + 'static) -> Self {
        self.held.push(Box::new(held));
        self
    }
}

/// A way, in which work is handed on from within a context.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) hand_on: fn(&mut Reactor<State>, Body) -> Result<Handed>,
}

macro_rules! ways {
    ($($name:ident),*) => { &[$(Way { name: stringify!($name), hand_on: $name }),*] };
}

pub(crate) const WAYS: &[Way] = ways![
    add,
    add_handler,
    closing,
    closed,
    taken_source,
    timeout,
    queue,
    try_send,
    send_many,
    send_within,
    on_room,
    on_event,
    on_any,
    on_all,
    on_all_and_readable,
    after,
    at,
    every,
    at_wall,
    defer,
    before_wait,
    after_wait,
    idle,
    post,
    try_post,
    post_from,
    call,
    with_handler,
    request,
    enter
];

/// Returns a source that stays readable, and its peer.
fn readable() -> io::Result<(UnixStream, UnixStream)> {
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"x")?;
    Ok((near, far))
}

fn add(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (near, far) = readable()?;
    let key = reactor.add(near, Interest::READABLE, move |_, cx| {
        let key = cx.key();
        body.run(cx, Name::Source(key))
    })?;
    Ok(Handed::new(Name::Source(key)).holding(far))
}

/// The calls of a handler in which its body runs.
#[derive(PartialEq)]
enum At {
    Ready,
    Closing,
    Closed,
    Request,
}

struct Object(Body, At);

impl<T: AsFd + 'static> Handler<State, T> for Object {
    fn ready(&mut self, _: &mut Io<T>, cx: &mut Context<'_, State>) -> io::Result<Next> {
        let key = cx.key();
        match self.1 {
            At::Ready => self.0.run(cx, Name::Source(key)),
            At::Closing | At::Closed => Ok(Next::Remove),
            At::Request => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn request(&mut self, _: &mut Io<T>, _: &mut dyn std::any::Any, cx: &mut Context<'_, State>) {
        self.0.run_once(cx);
    }

    fn closing(&mut self, _: &mut Io<T>) {
        if self.1 == At::Closing {
            CLOSING.set(CLOSING.take().into_iter().chain([here()]).collect());
        }
    }

    fn closed(&mut self, _: CloseReason, cx: &mut Context<'_, State>) {
        match self.1 {
            At::Closing => cx.state.seen.extend(CLOSING.take()),
            At::Closed => self.0.run_once(cx),
            At::Ready | At::Request => {}
        }
    }
}

thread_local! {
    static CLOSING: std::cell::Cell<Vec<Here>> = const { std::cell::Cell::new(Vec::new()) };
}

fn object(reactor: &mut Reactor<State>, body: Body, at: At) -> Result<(Key, UnixStream)> {
    let (near, far) = readable()?;
    Ok((
        reactor.add_handler(near, Interest::READABLE, Object(body, at))?,
        far,
    ))
}

fn add_handler(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (key, far) = object(reactor, body, At::Ready)?;
    Ok(Handed::new(Name::Source(key)).holding(far))
}

fn closing(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (_, far) = object(reactor, body, At::Closing)?;
    Ok(Handed::new(Name::Once).holding(far))
}

fn closed(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (_, far) = object(reactor, body, At::Closed)?;
    Ok(Handed::new(Name::Once).holding(far))
}

fn taken_source(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (key, far) = object(reactor, body, At::Closed)?;
    RequestContext::NONE.scope(|| reactor.take_source::<UnixStream>(key))?;
    Ok(Handed::new(Name::Once).holding(far))
}

fn timeout(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (near, far) = UnixStream::pair()?;
    let key = reactor.add(near, Interest::READABLE, move |_, cx| {
        assert!(cx.readiness().is_timeout());
        let key = cx.key();
        cx.registry.set_timeout(key, Some(ms(1)))?;
        body.run(cx, Name::Source(key))
    })?;
    reactor.set_timeout(key, Some(ms(1)))?;
    Ok(Handed::new(Name::Source(key)).holding(far))
}

/// Registers a queue whose values run `body`.
fn consume(
    reactor: &mut Reactor<State>,
    capacity: Capacity,
    body: Body,
) -> Result<(Sender<()>, Key)> {
    let (sender, receiver) = notification_queue(capacity);
    let key = reactor.consume(receiver, move |value, cx| {
        let key = cx.key();
        if value.is_none() {
            Ok(Next::Keep)
        } else {
            body.run(cx, Name::Queue(key))
        }
    })?;
    Ok((sender, key))
}

/// Registers the queue in no context, so that its values bring theirs.
fn consume_outside(
    reactor: &mut Reactor<State>,
    capacity: Capacity,
    body: Body,
) -> Result<Sender<()>> {
    RequestContext::NONE
        .scope(|| consume(reactor, capacity, body))
        .map(|(sender, _)| sender)
}

fn queue(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (sender, key) = consume(reactor, Capacity::Unbounded, body)?;
    RequestContext::NONE.scope(|| sender.try_send(()).and_then(|()| sender.try_send(())))?;
    Ok(Handed::new(Name::Queue(key)).holding(sender))
}

fn try_send(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let sender = consume_outside(reactor, Capacity::Unbounded, body)?;
    sender.try_send(())?;
    Ok(Handed::new(Name::Once).holding(sender))
}

fn send_many(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let sender = consume_outside(reactor, Capacity::Unbounded, body)?;
    sender.send_many(&mut VecDeque::from([(), ()]))?;
    Ok(Handed::new(Name::Once).holding(sender))
}

/// Runs `work` on another thread, in the context of this one.
fn elsewhere(work: impl FnOnce() + Send + 'static) {
    let context = RequestContext::current();
    thread::spawn(move || context.scope(work)).join().unwrap();
}

fn send_within(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let sender = consume_outside(reactor, Capacity::Unbounded, body)?;
    let other = sender.clone();
    elsewhere(move || other.send_within((), PATIENCE).unwrap());
    Ok(Handed::new(Name::Once).holding(sender))
}

fn on_room(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let nothing = Body::new(|cx, _| {
        cx.state.seen.pop(); // only the closure is looked at
        Ok(Next::Keep)
    });
    let sender = consume_outside(reactor, Capacity::Bounded(1), nothing)?;
    RequestContext::NONE.scope(|| sender.try_send(()))?;
    let remote = reactor.remote()?; // the shared queue of the loop is made in the context
    sender.on_room(&remote, move |cx| body.run_once(cx))?;
    Ok(Handed::new(Name::Once).holding(sender))
}

fn set_event() -> Event {
    let event = Event::manual_reset();
    event.set();
    event
}

fn on_event(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let key = reactor.on_event(&set_event(), move |cx| {
        let key = cx.key();
        body.run(cx, Name::Queue(key))
    })?;
    Ok(Handed::new(Name::Queue(key)))
}

fn on_any(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let key = reactor.on_any(&[&Event::manual_reset(), &set_event()], move |_, cx| {
        let key = cx.key();
        body.run(cx, Name::Queue(key))
    })?;
    Ok(Handed::new(Name::Queue(key)))
}

fn on_all(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let key = reactor.on_all(&[&set_event(), &set_event()], move |cx| {
        let key = cx.key();
        body.run(cx, Name::Queue(key))
    })?;
    Ok(Handed::new(Name::Queue(key)))
}

fn on_all_and_readable(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (near, far) = readable()?;
    let key = reactor.on_all_and_readable(&[&set_event()], &[near.as_fd()], move |cx| {
        let key = cx.key();
        body.run(cx, Name::Source(key))
    })?;
    Ok(Handed::new(Name::Source(key)).holding(far))
}

fn after(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let timer = reactor.after(ms(1), move |cx| body.run_timer(cx));
    Ok(Handed::new(Name::Timer(timer)))
}

fn at(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let tick = reactor.now() + ms(1);
    let timer = reactor.at(tick, move |cx| body.run_timer(cx));
    Ok(Handed::new(Name::Timer(timer)))
}

fn every(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let timer = reactor.every(ms(1), Missed::Skip, move |cx| {
        let name = cx.timer().map_or(Name::Once, Name::Timer);
        body.run(cx, name)
    });
    Ok(Handed::new(Name::Timer(timer)))
}

fn at_wall(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let tick = reactor.wall_now() + ms(1);
    let timer = reactor.at_wall(tick, move |cx| {
        let next = body.run_timer(cx)?;
        Ok(if next == Then::Done {
            next
        } else {
            Then::AtWall(cx.registry.wall_now() + ms(1))
        })
    })?;
    Ok(Handed::new(Name::Timer(timer)))
}

fn defer(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let key = reactor.defer(move |cx| body.run_once(cx));
    Ok(Handed::new(Name::Deferred(key)))
}

/// Returns a hook that runs `body`. The body learns its name.
fn hook(
    body: Body,
    name: &Arc<std::sync::OnceLock<HookKey>>,
) -> impl FnMut(&mut Context<'_, State>) -> io::Result<Next> + 'static {
    let name = Arc::clone(name);
    move |cx| body.run(cx, Name::Hook(*name.get().expect("it was registered")))
}

fn before_wait(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let name = Arc::default();
    let key = reactor.before_wait(hook(body, &name));
    Ok(Handed::new(Name::Hook(*name.get_or_init(|| key))))
}

fn after_wait(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let name = Arc::default();
    let key = reactor.after_wait(hook(body, &name));
    Ok(Handed::new(Name::Hook(*name.get_or_init(|| key))))
}

fn idle(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let name = Arc::default();
    let key = reactor.idle(hook(body, &name));
    Ok(Handed::new(Name::Hook(*name.get_or_init(|| key))))
}

fn post(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    reactor.remote()?.post(move |cx| body.run_once(cx))?;
    Ok(Handed::new(Name::Once))
}

fn try_post(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let posted = reactor.remote()?.try_post(move |cx| body.run_once(cx));
    posted.map_err(|_| "refused")?;
    Ok(Handed::new(Name::Once))
}

fn post_from(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    reactor
        .remote()?
        .post_from(Location::caller(), move |cx| body.run_once(cx))?;
    Ok(Handed::new(Name::Once))
}

/// Waits on another thread for the closure. The thread is joined when this value is dropped.
struct Calling(Option<thread::JoinHandle<()>>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0
            .take()
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

fn call(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let (remote, context) = (reactor.remote()?, RequestContext::current());
    let posted = remote.clone();
    let calls = move || {
        let _ = context.scope(|| remote.call(move |cx| body.run_once(cx))); // it may panic
    };
    let thread = Calling(Some(thread::spawn(calls)));
    while posted.pending() == 0 {
        thread::yield_now();
    }
    Ok(Handed {
        is_calling: true,
        ..Handed::new(Name::Once).holding(thread)
    })
}

/// An access runs in the context of its caller, which is a deferred callback here.
fn with_handler(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let nothing = Body::new(|_, _| Ok(Next::Keep));
    let outside = || object(reactor, nothing, At::Request);
    let (key, far) = RequestContext::NONE.scope(outside)?;
    reactor.defer(move |cx| {
        let access = |_: &mut Io<UnixStream>, _: &mut Object, cx: &mut Context<'_, State>| {
            body.run_once(cx);
        };
        cx.with_handler(key, access).unwrap();
    });
    Ok(Handed::new(Name::Once).holding(far))
}

fn request(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let outside = || object(reactor, body, At::Request);
    let (key, far) = RequestContext::NONE.scope(outside)?;
    reactor.defer(move |cx| cx.request(key, &mut ()).unwrap());
    Ok(Handed::new(Name::Once).holding(far))
}

fn enter(reactor: &mut Reactor<State>, body: Body) -> Result<Handed> {
    let mut state = State::new(ManualClock::new());
    reactor.enter(&mut state, |cx| {
        cx.registry.defer(move |cx| body.run_once(cx))
    });
    Ok(Handed::new(Name::Once))
}

/// A time in which each way calls its callback at least twice, if it calls it more than once.
pub(crate) const LONG_ENOUGH: Duration = ms(5);
