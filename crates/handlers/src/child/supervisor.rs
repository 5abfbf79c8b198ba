//! A supervisor: a child that is started again when it ends, by a policy.
//!
//! It is one object that is passed on: from the callback that starts a child to the watch of the child, from there to
//! the timer of the next start. So it is in one place at a time, and ends with the place it is in.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::Location;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{Context, Error, Io, Key, Registry, Then, TimerKey};

use super::process::ChildProcess;
use super::restart::{Backoff, RestartPolicy};
use super::watch::{ChildWatch, OnExit, kill_now, spawn_watched};
use super::{ChildKey, Exit, Spawned};

/// What [`supervise`] tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupervisorEvent {
    /// A child has been started. Its pipes are for the taking; those that are left are closed.
    Started(Spawned),
    /// The child has ended.
    Exited {
        /// As with [`spawn`](super::spawn).
        exit: io::Result<Exit>,
        /// When it is started again; `None`: it is not, and this is the last call.
        restart_in: Option<Duration>,
    },
    /// The child could not be started, which counts as a failure.
    NotStarted {
        /// Why: as [`spawn`](super::spawn).
        error: io::Error,
        /// When it is tried again; `None`: it is not, and this is the last call.
        restart_in: Option<Duration>,
    },
    /// It was stopped while no child ran: the last call.
    Stopped,
}

/// Starts the `command` that is given at each start, with the deferred callbacks, and starts it again when it has
/// ended, as `policy` says. `on_event` is told of each step.
///
/// While a child runs, or is waited for to be started again, it keeps [`Reactor::run`](reactor::Reactor::run) alive. An
/// error of `command` is a failed start. One of `on_event` ends the supervision: a child that runs is killed then, and
/// the error is logged. A watch that is removed by [`ChildKey::key`] ends it too, and nobody is told; so does a panic
/// of either, but for one at [`SupervisorEvent::Started`]. Loop thread only.
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use handlers::child::{self, SupervisorEvent, RestartPolicy};
/// use reactor::{ManualClock, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// // A test would let the time jump, too.
/// let mut reactor = Reactor::<u32>::builder().clock(ManualClock::jumping()).build()?;
/// let policy = RestartPolicy::on_failure().initial_delay(Duration::from_secs(1)).max_restarts(3);
/// child::supervise(&mut reactor, policy, || Ok(Command::new("false")), |news, cx| {
///     match news {
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
/// reactor.run(&mut failures)?; // 1 s, 2 s, 4 s later it is over
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
    supervisors.supervisions.insert(
        key,
        Supervision {
            state: SupervisorState::Starting,
            stopping: false,
        },
    );
    let (backoff, origin) = (Backoff::new(policy), Location::caller());
    let supervisor = Supervisor {
        key,
        backoff,
        command,
        on_event,
        started: registry.now(),
        origin,
    };
    registry.defer(move |cx| {
        if let Err(error) = supervisor.start(cx) {
            tracing::error!(%error, "the supervision of a child has ended");
        }
    });
    key
}

/// The name of a supervisor on its loop: `Copy`, and checked at every use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SupervisorKey(u64);

/// As it is shown in [`Error::StaleKey`].
impl From<SupervisorKey> for Key {
    fn from(supervisor: SupervisorKey) -> Self {
        Self::unregistered(supervisor.0 as u32) // they are counted: the low half tells them apart
    }
}

/// As the [`Key`] that this becomes: `7v0` for the seventh supervisor of its loop.
impl fmt::Display for SupervisorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::from(*self).fmt(f)
    }
}

impl SupervisorKey {
    /// Ends the supervision: a child that runs gets `grace` to end, as by [`ChildKey::terminate`], and its end is the
    /// last that is told; where none runs [`SupervisorEvent::Stopped`] is, next turn. For its whole group,
    /// [`ChildKey::terminate_group`] of the [`child`](Self::child) comes first: of the two the group counts, and each
    /// process gets one `SIGTERM`.
    ///
    /// # Errors
    /// [`Error::StaleKey`] if it has ended already; those of [`ChildKey::terminate`], and then nothing is started again
    /// all the same.
    pub fn stop<S>(self, registry: &mut Registry<S>, grace: Duration) -> Result<(), Error> {
        let supervision = self.find(registry).ok_or_else(|| self.stale())?;
        supervision.stopping = true;
        match supervision.state {
            SupervisorState::Starting => Ok(()),
            SupervisorState::Waiting(timer) => registry.reset(timer, Duration::ZERO),
            SupervisorState::Running(child) => child.terminate(registry, grace),
        }
    }

    /// Starts the child next turn, where it is waited for to be started again: for an operator who has mended what it
    /// failed of. Does nothing where it runs; [`ChildKey::terminate`] of the [`child`](Self::child) has that started
    /// again, if the policy does so. The delays go on where they were. O(1).
    ///
    /// # Errors
    /// [`Error::StaleKey`] if the supervision has ended.
    pub fn start_now<S>(self, registry: &mut Registry<S>) -> Result<(), Error> {
        match self.find(registry).ok_or_else(|| self.stale())?.state {
            SupervisorState::Waiting(timer) => registry.reset(timer, Duration::ZERO),
            SupervisorState::Starting | SupervisorState::Running(_) => Ok(()),
        }
    }

    /// The child that runs at present, if one does: to signal it.
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

    /// Returns its entry, unless it has ended with the registration or the timer that it was in.
    fn find<S>(self, registry: &mut Registry<S>) -> Option<&mut Supervision> {
        let state = registry
            .local::<Supervisors>()
            .supervisions
            .get(&self)?
            .state;
        let over = match state {
            SupervisorState::Starting => false,
            SupervisorState::Waiting(timer) => registry.remaining(timer).is_err(),
            SupervisorState::Running(child) => !registry.contains(child.key()),
        };
        let supervisions = &mut registry.local::<Supervisors>().supervisions;
        if over {
            supervisions.remove(&self);
        }
        supervisions.get_mut(&self)
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
}

#[derive(Clone, Copy)]
enum SupervisorState {
    /// It will be with this turn's or next turn's deferred callbacks, or is being.
    Starting,
    Waiting(TimerKey),
    Running(ChildKey),
}

struct Supervisor<C, F> {
    key: SupervisorKey,
    backoff: Backoff,
    command: C,
    on_event: F,
    /// When the present child was.
    started: Instant,
    /// The line that has called [`supervise`].
    origin: &'static Location<'static>,
}

impl<C, F> Supervisor<C, F>
where
    C: FnMut() -> io::Result<Command> + 'static,
{
    /// Starts the child, or says that it will not.
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
                return self.tell_and_restart(false, Duration::ZERO, cx, |restart_in| {
                    SupervisorEvent::NotStarted { error, restart_in }
                });
            }
        };
        self.started = cx.now();
        let key = spawned.key;
        cx.registry.set_origin(key.key(), self.origin)?;
        self.set_state(SupervisorState::Running(key), cx.registry);
        // The watch comes first, so that the child can be reached by its key from within the callback.
        cx.with_handler(
            key.key(),
            move |_io: &mut Io<Rc<ChildProcess>>, watch: &mut ChildWatch<Self>, cx| {
                watch.origin = self.origin;
                let supervisor = watch.on_exit.insert(self);
                let told = (supervisor.on_event)(SupervisorEvent::Started(spawned), cx);
                if told.is_err() {
                    supervisor.remove(cx.registry);
                    watch.on_exit = None;
                    kill_now(cx.registry, key);
                }
                told
            },
        )?
    }

    /// Reports an end, and has the child started again if the policy says so.
    fn tell_and_restart<S>(
        mut self,
        succeeded: bool,
        ran: Duration,
        cx: &mut Context<'_, S>,
        news: impl FnOnce(Option<Duration>) -> SupervisorEvent,
    ) -> io::Result<()>
    where
        F: FnMut(SupervisorEvent, &mut Context<'_, S>) -> io::Result<()> + 'static,
    {
        let delay = self
            .backoff
            .next(succeeded, ran)
            .filter(|_| !self.is_stopping(cx.registry));
        let Some(delay) = delay else {
            self.remove(cx.registry);
            return (self.on_event)(news(None), cx);
        };
        self.set_state(SupervisorState::Starting, cx.registry);
        if let Err(error) = (self.on_event)(news(Some(delay)), cx) {
            self.remove(cx.registry);
            return Err(error);
        }
        // Where it was stopped by that callback, it says so next turn.
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
        let _ = cx.registry.set_timer_origin(timer, origin); // it is there
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
        self.tell_and_restart(succeeded, ran, cx, |restart_in| SupervisorEvent::Exited {
            exit,
            restart_in,
        })
    }
}
