//! A supervisor: it restarts a child when it ends, according to a policy.
//!
//! The supervisor is one object that is passed on. The callback that starts a child passes it to
//! the watch of the child, and the watch passes it to the timer of the next start. The supervisor
//! is in one place at a time, and ends when that place is dropped.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::Location;
use std::process::Command;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use reactor::{Context, Error, Io, Key, Registry, Then, TimerKey};

use super::process::ChildProcess;
use super::restart::{RestartPolicy, Restarts};
use super::watch::{ChildWatch, OnExit, kill_now, spawn_watched};
use super::{ChildKey, Exit, Spawned};

/// The events that [`supervise`] reports.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupervisorEvent {
    /// A child was started. The callback may take the pipes of the child. Pipes that the callback
    /// does not take are closed.
    Started(Spawned),
    /// The child has ended.
    Exited {
        /// The exit of the child, or the error that the callback of [`spawn`](super::spawn) gets in
        /// its place.
        exit: io::Result<Exit>,
        /// The delay until the next start. `None` if the child is not started again: this event is
        /// then the last one.
        restart_in: Option<Duration>,
    },
    /// The child could not be started. The [policy](super::RestartPolicy) treats this like a child
    /// that has failed.
    NotStarted {
        /// The error that [`spawn`](super::spawn) or the `command` callback has returned.
        error: io::Error,
        /// The delay until the next attempt. `None` if there is no further attempt: this event is
        /// then the last one.
        restart_in: Option<Duration>,
    },
    /// The supervision was stopped while no child ran. This event is the last one.
    Stopped,
}

/// Starts a child and restarts it when it has ended, according to `policy`. `command` is called for
/// each start, and returns the command to run. `on_event` is called for each
/// [event](SupervisorEvent). No callback runs before this function returns, because the first start
/// is [deferred](Registry::defer). Call this function on the loop's thread.
///
/// The supervision keeps [`Reactor::run`](reactor::Reactor::run) alive, even while it waits for the
/// next start.
///
/// An error of `command` counts as a failed start. The supervision ends early in these cases:
/// - `on_event` returns an error. A running child is killed, and the error is logged.
/// - You [remove](Registry::remove) the child's registration, whose key [`ChildKey::key`] returns.
///   The child continues to run, and no event is reported.
/// - `command` panics, or `on_event` panics at any event but [`SupervisorEvent::Started`]. No event
///   is reported. A panic at `Started` does not end the supervision.
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use handlers::{Backoff, Jitter};
/// use handlers::child::{self, SupervisorEvent, RestartPolicy};
/// use reactor::{ManualClock, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// // With this clock a test does not wait for the delays.
/// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::jumping()).build()?;
/// let delays = Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).jitter(Jitter::None);
/// let policy = RestartPolicy::on_failure().backoff(delays).max_restarts(3);
/// child::supervise(&mut reactor, policy, || Ok(Command::new("false")), |event, cx| {
///     match event {
///         SupervisorEvent::Started(child) => println!("started: {}", child.pid),
///         SupervisorEvent::Exited { exit, restart_in } => {
///             *cx.state += 1;
///             println!("{}, again in {restart_in:?}", exit?.status);
///         }
///         other => println!("{other:?}"),
///     }
///     Ok(())
/// });
/// let mut failures = 0;
/// reactor.run(&mut failures)?; // returns after restarts at 1 s, 2 s and 4 s
/// assert_eq!(failures, 4);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn supervise<S, C, F>(
    registry: &mut Registry<S>,
    policy: RestartPolicy,
    command: C,
    on_event: F,
) -> SupervisorKey
where
    C: FnMut() -> io::Result<Command> + 'static,
    F: FnMut(SupervisorEvent, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    let supervisors = registry.local::<Supervisors>();
    supervisors.last += 1;
    let key = SupervisorKey(supervisors.last);
    let alive = Rc::new(());
    // A supervisor that was dropped by a panic has not removed its entry.
    supervisors
        .supervisions
        .retain(|_, supervision| supervision.is_alive());
    supervisors.supervisions.insert(
        key,
        Supervision {
            state: SupervisorState::Starting,
            stopping: false,
            alive: Rc::downgrade(&alive),
        },
    );
    // The first start is deferred, so that no callback runs before the caller knows the key.
    let (restarts, origin) = (Restarts::new(policy), Location::caller());
    let supervisor = Supervisor {
        key,
        restarts,
        command,
        on_event,
        started: registry.now(),
        origin,
        _alive: alive,
    };
    registry.defer(move |cx| {
        if let Err(error) = supervisor.start(cx) {
            tracing::error!(%error, "supervision of a child ended");
        }
    });
    key
}

/// Identifies a supervisor on its loop. The key is `Copy`. Each method checks the key, and returns
/// [`Error::StaleKey`] if the supervision has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SupervisorKey(u64);

/// Returns the key that [`Error::StaleKey`] shows for the supervisor.
impl From<SupervisorKey> for Key {
    fn from(supervisor: SupervisorKey) -> Self {
        // Supervisors are counted, so the low half of the number identifies them.
        Self::unregistered(supervisor.0 as u32)
    }
}

/// Displays as the [`Key`] that this key converts to, for example `7v0`. The number before the `v`
/// is 7 for the seventh supervisor that was started on the loop. The number after it is always 0.
impl fmt::Display for SupervisorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::from(*self).fmt(f)
    }
}

impl SupervisorKey {
    /// Ends the supervision. If a child runs, this method calls [`ChildKey::terminate`]: the child
    /// gets `SIGTERM` now, and `SIGKILL` if it has not ended when `grace` has elapsed. The exit of
    /// this child is the last event. If no child runs, [`SupervisorEvent::Stopped`] is reported
    /// next turn as the last event.
    ///
    /// To end the whole group of the child, call [`ChildKey::terminate_group`] with the key from
    /// [`child`](Self::child) before you call this method. Each process of the group then gets one
    /// `SIGTERM`, and the whole group is killed at the earlier of the deadlines of the two calls.
    ///
    /// # Errors
    /// - [`Error::StaleKey`] if the supervision has already ended.
    /// - [`Error::Call`] if the child cannot be signalled; see [`ChildKey::terminate`]. Even after
    ///   this error, the child is not restarted.
    pub fn stop<S>(self, registry: &mut Registry<S>, grace: Duration) -> Result<(), Error> {
        let supervision = self.find(registry).ok_or_else(|| self.stale())?;
        supervision.stopping = true;
        match supervision.state {
            SupervisorState::Starting => Ok(()),
            SupervisorState::Waiting(timer) => registry.reset(timer, Duration::ZERO),
            SupervisorState::Running(child) => child.terminate(registry, grace),
        }
    }

    /// Starts the child next turn if the supervisor is waiting for the restart delay. Does nothing
    /// if the child runs. The delays of later restarts are not changed. Use this, for example,
    /// after an operator has fixed the cause of a failure.
    ///
    /// To restart a running child, call [`ChildKey::terminate`] with the key from
    /// [`child`](Self::child). The child is then restarted if the policy allows a restart after
    /// this exit.
    ///
    /// # Cost
    /// O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the supervision has ended.
    pub fn start_now<S>(self, registry: &mut Registry<S>) -> Result<(), Error> {
        match self.find(registry).ok_or_else(|| self.stale())?.state {
            SupervisorState::Waiting(timer) => registry.reset(timer, Duration::ZERO),
            SupervisorState::Starting | SupervisorState::Running(_) => Ok(()),
        }
    }

    /// Returns the key of the running child, or `None` if no child runs at present. With the key
    /// you can signal the child.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the supervision has ended.
    pub fn child<S>(self, registry: &mut Registry<S>) -> Result<Option<ChildKey>, Error> {
        match self.find(registry).ok_or_else(|| self.stale())?.state {
            SupervisorState::Running(child) => Ok(Some(child)),
            SupervisorState::Starting | SupervisorState::Waiting(_) => Ok(None),
        }
    }

    fn stale(self) -> Error {
        Error::StaleKey(self.into())
    }

    /// Returns the entry of the supervisor. Returns `None` if the supervisor has ended: with the
    /// registration or the timer that holds it, or by a panic. Its holder may be dropped only later
    /// this turn, so the holder is looked at too.
    fn find<S>(self, registry: &mut Registry<S>) -> Option<&mut Supervision> {
        let supervision = registry.local::<Supervisors>().supervisions.get(&self)?;
        let (is_alive, state) = (supervision.is_alive(), supervision.state);
        let is_held = match state {
            SupervisorState::Starting => true,
            SupervisorState::Waiting(timer) => registry.remaining(timer).is_ok(),
            SupervisorState::Running(child) => registry.contains(child.key()),
        };
        let supervisions = &mut registry.local::<Supervisors>().supervisions;
        supervisions.get_mut(&self).filter(|_| is_alive && is_held)
    }
}

/// The supervisors of a loop.
#[derive(Default)]
struct Supervisors {
    last: u64,
    supervisions: HashMap<SupervisorKey, Supervision>,
}

struct Supervision {
    state: SupervisorState,
    stopping: bool,
    /// Dangling once the supervisor has been dropped, wherever it was.
    alive: Weak<()>,
}

impl Supervision {
    fn is_alive(&self) -> bool {
        self.alive.strong_count() > 0
    }
}

#[derive(Clone, Copy)]
enum SupervisorState {
    /// The child is being started, or will be started with the deferred callbacks of this turn or
    /// the next.
    Starting,
    Waiting(TimerKey),
    Running(ChildKey),
}

struct Supervisor<C, F> {
    key: SupervisorKey,
    restarts: Restarts,
    command: C,
    on_event: F,
    /// The time at which the present child was started.
    started: Instant,
    /// The location of the call of [`supervise`].
    origin: &'static Location<'static>,
    /// Tells [`Supervision::is_alive`] when the supervisor is dropped.
    _alive: Rc<()>,
}

impl<C, F> Supervisor<C, F>
where
    C: FnMut() -> io::Result<Command> + 'static,
{
    /// Starts the child, or reports that it will not be started.
    fn start<S>(mut self, cx: &mut Context<'_, S>) -> io::Result<()>
    where
        F: FnMut(SupervisorEvent, &mut Context<'_, S>) -> io::Result<()> + 'static,
    {
        self.set_state(SupervisorState::Starting, cx.registry);
        if self.is_stopping(cx.registry) {
            self.remove(cx.registry);
            return (self.on_event)(SupervisorEvent::Stopped, cx);
        }
        let spawned = (self.command)()
            .and_then(|mut command| spawn_watched::<S, Self>(cx.registry, &mut command, None));
        let spawned = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                return self.report_and_restart(false, Duration::ZERO, cx, |restart_in| {
                    SupervisorEvent::NotStarted { error, restart_in }
                });
            }
        };
        self.started = cx.now();
        let key = spawned.key;
        cx.registry.set_origin(key.key(), self.origin)?;
        self.set_state(SupervisorState::Running(key), cx.registry);
        // The supervisor moves into the watch before its callback runs, so that the callback can
        // reach the child by the child's key.
        cx.with_handler(
            key.key(),
            move |_io: &mut Io<Rc<ChildProcess>>, watch: &mut ChildWatch<Self>, cx| {
                watch.origin = self.origin;
                let supervisor = watch.on_exit.insert(self);
                let outcome = (supervisor.on_event)(SupervisorEvent::Started(spawned), cx);
                if outcome.is_err() {
                    supervisor.remove(cx.registry);
                    watch.on_exit = None;
                    kill_now(cx.registry, key);
                }
                outcome
            },
        )?
    }

    /// Reports an exit or a failed start, and schedules the next start if the policy restarts the
    /// child.
    fn report_and_restart<S>(
        mut self,
        succeeded: bool,
        ran: Duration,
        cx: &mut Context<'_, S>,
        event: impl FnOnce(Option<Duration>) -> SupervisorEvent,
    ) -> io::Result<()>
    where
        F: FnMut(SupervisorEvent, &mut Context<'_, S>) -> io::Result<()> + 'static,
    {
        let delay = self
            .restarts
            .next(succeeded, ran)
            .filter(|_| !self.is_stopping(cx.registry));
        let Some(delay) = delay else {
            self.remove(cx.registry);
            return (self.on_event)(event(None), cx);
        };
        self.set_state(SupervisorState::Starting, cx.registry);
        if let Err(error) = (self.on_event)(event(Some(delay)), cx) {
            self.remove(cx.registry);
            return Err(error);
        }
        // If `on_event` has stopped the supervision, `Stopped` is reported next turn.
        let delay = if self.is_stopping(cx.registry) {
            Duration::ZERO
        } else {
            delay
        };
        let (key, origin) = (self.key, self.origin);
        let mut waiting = Some(self);
        let timer = cx.registry.after(delay, move |cx| {
            if let Some(supervisor) = waiting.take() {
                supervisor.start(cx)?;
            }
            Ok(Then::Done)
        });
        let _ = cx.registry.set_timer_origin(timer, origin); // the timer exists
        if let Some(supervision) = cx
            .registry
            .local::<Supervisors>()
            .supervisions
            .get_mut(&key)
        {
            supervision.state = SupervisorState::Waiting(timer);
        }
        Ok(())
    }

    fn set_state<S>(&self, state: SupervisorState, registry: &mut Registry<S>) {
        if let Some(supervision) = registry
            .local::<Supervisors>()
            .supervisions
            .get_mut(&self.key)
        {
            supervision.state = state;
        }
    }

    fn is_stopping<S>(&self, registry: &mut Registry<S>) -> bool {
        registry
            .local::<Supervisors>()
            .supervisions
            .get(&self.key)
            .is_none_or(|supervision| supervision.stopping)
    }

    fn remove<S>(&self, registry: &mut Registry<S>) {
        registry
            .local::<Supervisors>()
            .supervisions
            .remove(&self.key);
    }
}

impl<S, C, F> OnExit<S> for Supervisor<C, F>
where
    C: FnMut() -> io::Result<Command> + 'static,
    F: FnMut(SupervisorEvent, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn exited(self, exit: io::Result<Exit>, cx: &mut Context<'_, S>) -> io::Result<()> {
        let succeeded = exit.as_ref().is_ok_and(|exit| exit.status.success());
        let ran = cx.now().saturating_duration_since(self.started);
        self.report_and_restart(succeeded, ran, cx, |restart_in| SupervisorEvent::Exited {
            exit,
            restart_in,
        })
    }
}
