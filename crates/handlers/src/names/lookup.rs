//! A lookup on its loop: its callback, its time limit, its end.

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem::replace;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reactor::{Capacity, Context, Key, Next, Registry, Then, TimerKey, notification_queue};

use super::target::{Step, Target};
use super::threads::{Answer, Request, Threads};
use crate::error::named;
use crate::sockets::Address;

/// If the timer of a lookup is late by this time, the process may have been stopped, and the
/// threads with it. They get the same time to pass on an answer that has come meanwhile.
const CATCH_UP: Duration = Duration::from_millis(100);

pub(super) type Callback<S> = Box<dyn FnOnce(Answer, &mut Context<'_, S>)>;

/// A pending lookup, returned by [`Resolver::resolve`](super::Resolver::resolve). Use it to cancel
/// the lookup. If you drop the `Lookup`, the lookup continues.
///
/// ```
/// use handlers::{Lookup, Resolver, Target};
/// use reactor::Context;
///
/// /// The state of a loop, with the lookup that it waits for.
/// struct App {
///     lookup: Option<Lookup<App>>,
/// }
///
/// /// Looks up another name. The earlier one is of no interest any more.
/// fn look_up(target: &Target, cx: &mut Context<'_, App>) {
///     let lookup = Resolver::default().resolve(cx.registry, target, |addresses, _cx| {
///         println!("{addresses:?}");
///     });
///     if let Some(earlier) = cx.state.lookup.replace(lookup) {
///         earlier.cancel(cx.registry);
///     }
/// }
/// ```
pub struct Lookup<S: 'static> {
    pending: Weak<Pending<S>>,
}

impl<S> Lookup<S> {
    /// Cancels the lookup: its callback is dropped before this method returns, and is not called.
    /// Does nothing if the callback is running or has run.
    ///
    /// A thread that has begun with the lookup is occupied until the lookup function returns, since
    /// a thread cannot be interrupted.
    pub fn cancel(&self, registry: &mut Registry<S>) {
        if let Some(pending) = self.pending.upgrade() {
            pending.is_pending.set(false);
            pending.end(registry);
            drop(pending.callback.take());
        }
    }

    /// Returns `true` until the callback begins to run, the lookup is cancelled, or the loop is
    /// dropped.
    pub fn is_pending(&self) -> bool {
        self.pending
            .upgrade()
            .is_some_and(|pending| pending.is_pending.get())
    }
}

impl<S> Clone for Lookup<S> {
    fn clone(&self) -> Self {
        Self {
            pending: Weak::clone(&self.pending),
        }
    }
}

impl<S> fmt::Debug for Lookup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("is_pending", &self.is_pending())
            .finish()
    }
}

/// A lookup that is not over. It is held by what ends it: first the queue of the answer and the
/// timer, then a deferred callback. So it is dropped with its loop.
struct Pending<S: 'static> {
    target: Target,
    callback: Cell<Option<Callback<S>>>,
    is_pending: Cell<bool>,
    /// The registration of the queue, until the answer has arrived.
    queue: Cell<Key>,
    timer: Cell<Option<TimerKey>>,
    /// The line that called `resolve`.
    origin: &'static Location<'static>,
}

/// Starts a lookup.
pub(super) fn start<S>(
    registry: &mut Registry<S>,
    threads: &Arc<Threads>,
    target: &Target,
    timeout: Option<Duration>,
    callback: Callback<S>,
    origin: &'static Location<'static>,
) -> Lookup<S> {
    let pending = Rc::new(Pending {
        target: target.clone(),
        callback: Cell::new(Some(callback)),
        is_pending: Cell::new(true),
        queue: Cell::new(Key::NULL),
        timer: Cell::new(None),
        origin,
    });
    let answer = match target.name() {
        Some((host, service)) => pending
            .ask(registry, threads, host, service, timeout)
            .map_or_else(|error| Some(Err(error)), |()| None),
        None => Some(ip_of(target)),
    };
    if let Some(answer) = answer {
        pending.finish(registry, answer);
    }
    Lookup {
        pending: Rc::downgrade(&pending),
    }
}

/// Returns the address of a target that needs no lookup.
fn ip_of(target: &Target) -> Answer {
    match target.first_step()? {
        Step::Connect(Address::Tcp(address)) => Ok(vec![address]),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "a Unix socket has no IP address",
        )),
    }
}

impl<S> Pending<S> {
    /// Asks a thread, and waits for its answer.
    fn ask(
        self: &Rc<Self>,
        registry: &mut Registry<S>,
        threads: &Arc<Threads>,
        host: &str,
        service: &str,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let (answer, answers) = notification_queue(Capacity::Bounded(1));
        let pending = Rc::clone(self);
        let queue = registry.consume(answers, move |answer: Option<Answer>, cx| {
            let lost = || Err(io::Error::other("the thread of the lookup has ended"));
            pending.finish(cx.registry, answer.unwrap_or_else(lost));
            Ok(Next::Remove)
        });
        let queue = queue.map_err(|refused| io::Error::from(refused.error))?;
        self.queue.set(queue);
        registry.set_origin(queue, self.origin)?;
        registry.set_name(queue, format!("lookup of {}", self.target))?;
        let request = Request {
            host: host.to_owned(),
            service: service.to_owned(),
            begun: Arc::new(AtomicBool::new(false)),
            answer,
        };
        if let Some(timeout) = timeout {
            let begun = Arc::clone(&request.begun);
            self.limit_time(registry, timeout, threads.max_threads, begun)?;
        }
        threads.submit(registry, request)
    }

    fn limit_time(
        self: &Rc<Self>,
        registry: &mut Registry<S>,
        timeout: Duration,
        threads: usize,
        begun: Arc<AtomicBool>,
    ) -> io::Result<()> {
        let pending = Rc::clone(self);
        let due = registry.now().checked_add(timeout);
        let mut has_waited = false;
        let timer = registry.after(timeout, move |cx| {
            let late = due.map(|due| cx.now().saturating_duration_since(due));
            if late >= Some(CATCH_UP) && !replace(&mut has_waited, true) {
                return Ok(Then::After(CATCH_UP));
            }
            // An answer that has arrived is more than a timeout. It is taken from its queue after
            // the timers and before the deferred callbacks of this turn.
            let (pending, begun) = (Rc::clone(&pending), Arc::clone(&begun));
            let origin = pending.origin;
            cx.registry.defer_from(origin, move |cx| {
                if pending.queue.get() != Key::NULL {
                    let error = timed_out(timeout, threads, begun.load(Ordering::Relaxed));
                    pending.end(cx.registry);
                    pending.call(Err(error), cx);
                }
            });
            Ok(Then::Done)
        });
        self.timer.set(Some(timer));
        registry.set_timer_origin(timer, self.origin)?;
        registry.set_timer_background(timer)?; // the queue keeps the loop running
        Ok(())
    }

    /// Calls the callback with the deferred callbacks.
    fn finish(self: &Rc<Self>, registry: &mut Registry<S>, answer: Answer) {
        self.end(registry);
        let pending = Rc::clone(self);
        registry.defer_from(self.origin, move |cx| pending.call(answer, cx));
    }

    /// Waits for no answer any more.
    fn end(&self, registry: &mut Registry<S>) {
        // An error means that it has ended by itself.
        let _ = registry.remove(self.queue.replace(Key::NULL));
        self.timer.take().map(|timer| registry.cancel(timer));
    }

    /// Calls the callback, unless the lookup was cancelled.
    fn call(&self, answer: Answer, cx: &mut Context<'_, S>) {
        self.is_pending.set(false);
        if let Some(callback) = self.callback.take() {
            let named = |error| named(format_args!("resolve {}", self.target), error);
            callback(answer.map_err(named), cx);
        }
    }
}

/// Returns the error of a lookup that has taken too long.
#[cold]
fn timed_out(timeout: Duration, threads: usize, begun: bool) -> io::Error {
    let text = if begun {
        format!("no answer within {timeout:?}: check the name servers of /etc/resolv.conf")
    } else {
        format!("not begun within {timeout:?}: other lookups occupy all threads ({threads})")
    };
    io::Error::new(ErrorKind::TimedOut, text)
}
