//! The watch of a child, from its start until it is reaped, in the foreground or in the background.

use std::io;
use std::panic::Location;
use std::process::{Child, Command};
use std::rc::Rc;

use reactor::{CloseReason, Context, Handler, Interest, Io, Key, Next, Registry};

use super::key::{ChildKey, Children};
use super::orphans::{self, Orphan};
use super::process::ChildProcess;
use super::{Exit, Spawned, WatchError};
use crate::carried::for_no_request;
use crate::error::{advised, is_nothing_done, is_out_of_resources};

/// The action at the exit of a child.
pub(super) trait OnExit<S>: 'static {
    fn exited(self, exit: io::Result<Exit>, cx: &mut Context<'_, S>) -> io::Result<()>;
}

pub(super) struct ExitCallback<F>(pub(super) F);

impl<S, F> OnExit<S> for ExitCallback<F>
where
    F: FnOnce(io::Result<Exit>, &mut Context<'_, S>) -> io::Result<()> + 'static,
{
    fn exited(self, exit: io::Result<Exit>, cx: &mut Context<'_, S>) -> io::Result<()> {
        (self.0)(exit, cx)
    }
}

/// No action: the child is only reaped.
struct ReapOnly;

impl<S> OnExit<S> for ReapOnly {
    fn exited(self, exit: io::Result<Exit>, _cx: &mut Context<'_, S>) -> io::Result<()> {
        exit.map(|exit| tracing::debug!(pid = exit.pid, status = %exit.status, "reaped in the background"))
    }
}

/// Starts `command` and watches the child. If the child cannot be watched, it is killed, and kept
/// for the next loop that starts or watches a child.
#[track_caller]
pub(super) fn spawn_watched<S, H: OnExit<S>>(
    registry: &mut Registry<S>,
    command: &mut Command,
    on_exit: Option<H>,
) -> io::Result<Spawned> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => {
                ": no such program in PATH, or its interpreter or working directory is missing"
            }
            io::ErrorKind::PermissionDenied => ": not a program, or this user may not execute it",
            io::ErrorKind::WouldBlock => ": this user has reached the limit of processes",
            _ => "",
        };
        advised(format_args!("spawn of {program:?}"), error, advice)
    })?;
    watch_child(registry, child, Some(&program), on_exit).map_err(
        |WatchError { mut child, error }| {
            if let Err(error) = child.kill() {
                tracing::warn!(program, %error, "kill failed for a child that cannot be watched");
            }
            orphans::add(Orphan::of(child, &program));
            error
        },
    )
}

/// Watches `child`. If `on_exit` is `None`, the caller may fill it in later by `with_handler`.
#[track_caller]
pub(super) fn watch_child<S, H: OnExit<S>>(
    registry: &mut Registry<S>,
    mut child: Child,
    program: Option<&str>,
    on_exit: Option<H>,
) -> Result<Spawned, WatchError> {
    // This loop is alive, so it takes over the children that dropped loops have left behind.
    for (orphan, pidfd) in orphans::adopt() {
        reap_in_background(
            registry,
            Rc::new(ChildProcess::from_orphan(orphan, pidfd)),
            Location::caller(),
        );
    }
    let process = match ChildProcess::open(&child, program) {
        Ok(process) => Rc::new(process),
        Err(error) => return Err(WatchError { child, error }),
    };
    let key = match register(registry, &process, on_exit) {
        Ok(key) => ChildKey(key),
        Err(error) => return Err(WatchError { child, error }),
    };
    tracing::debug!(child = process.label(), "watched");
    // No error can follow that would return the child to the caller, so from here on it is reaped
    // here.
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    process.take_over(child);
    Ok(Spawned {
        key,
        pid: process.pid(),
        stdin,
        stdout,
        stderr,
    })
}

#[track_caller]
fn register<S, H: OnExit<S>>(
    registry: &mut Registry<S>,
    process: &Rc<ChildProcess>,
    on_exit: Option<H>,
) -> io::Result<Key> {
    let watch = ChildWatch {
        process: Rc::clone(process),
        origin: Location::caller(),
        on_exit,
    };
    let key = registry.add_handler(Rc::clone(process), Interest::READABLE, watch)?;
    registry.set_name(key, process.label().to_owned())?;
    registry
        .local::<Children>()
        .0
        .insert(key, Rc::clone(process));
    Ok(key)
}

/// Reaps a child whose watch has ended. If the child has a deadline, it is killed at the deadline,
/// and `run` waits for its end. Otherwise the watch is in the background.
fn reap_in_background<S>(
    registry: &mut Registry<S>,
    process: Rc<ChildProcess>,
    origin: &'static Location<'static>,
) {
    let registered = for_no_request(|| register(registry, &process, Some(ReapOnly)));
    let watched = registered.and_then(|key| {
        registry.set_origin(key, origin)?;
        match process.kill_at.get() {
            Some(at) => {
                let left = at.saturating_duration_since(registry.now());
                registry.set_timeout(key, Some(left))?;
            }
            None => registry.set_background(key)?,
        }
        Ok(())
    });
    if let Err(error) = watched {
        tracing::debug!(child = process.label(), %error, "kept for the next loop that starts a child");
    }
}

/// The handler that the loop calls for a child.
pub(super) struct ChildWatch<H> {
    process: Rc<ChildProcess>,
    /// The user's source location that the registration shows, also when the child is only reaped.
    pub(super) origin: &'static Location<'static>,
    /// `None` after the exit was reported, or before a supervisor is filled in.
    pub(super) on_exit: Option<H>,
}

impl<S, H: OnExit<S>> Handler<S, Rc<ChildProcess>> for ChildWatch<H> {
    fn ready(
        &mut self,
        io: &mut Io<Rc<ChildProcess>>,
        cx: &mut Context<'_, S>,
    ) -> io::Result<Next> {
        if self.process.has_unfinished_group() {
            if !cx.readiness().is_timeout() && self.waits_for_group(cx) {
                return Ok(Next::Keep);
            }
            self.process.kill_group();
        }
        let exit = match io.try_io(Interest::READABLE, |process| process.reap()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if cx.readiness().is_timeout() {
                    self.process.kill_if_overdue();
                }
                return Ok(Next::Keep);
            }
            exit => exit,
        };
        let key = cx.key();
        cx.registry.local::<Children>().0.remove(&key);
        if let Some(on_exit) = self.on_exit.take() {
            match on_exit.exited(exit, cx) {
                // `WouldBlock` would keep the registration although the child has ended.
                Err(error) if is_nothing_done(&error) => return Err(io::Error::other(error)),
                told => told?,
            }
        }
        Ok(Next::Remove)
    }

    fn closed(&mut self, _reason: CloseReason, cx: &mut Context<'_, S>) {
        let key = cx.key();
        cx.registry.local::<Children>().0.remove(&key);
        // Drops the values that the callback has captured now, not when the child ends.
        self.on_exit = None;
        if self.process.must_be_reaped() {
            reap_in_background(cx.registry, Rc::clone(&self.process), self.origin);
        }
    }
}

impl<H> ChildWatch<H> {
    /// Postpones the report of the exit until another process of the group has ended. Returns
    /// `true` if there is such a process, or if resources to look for one are lacking: the loop
    /// calls again, with pauses.
    fn waits_for_group<S>(&self, cx: &mut Context<'_, S>) -> bool {
        let key = cx.key();
        let waits = self.process.other_of_group().and_then(|other| {
            let Some(other) = other else { return Ok(false) };
            let on_end = move |_: &mut Io<_>, cx: &mut Context<'_, S>| {
                // The rest of the group may have been killed meanwhile, and the registration of the
                // child may have ended.
                let _ = cx.registry.set_interest(key, Interest::READABLE);
                Ok(Next::Remove)
            };
            let waiting = for_no_request(|| cx.registry.add(other, Interest::READABLE, on_end))?;
            cx.registry.set_background(waiting)?;
            cx.registry.set_interest(key, Interest::NONE)?;
            Ok(true)
        });
        waits.unwrap_or_else(|error| {
            let child = self.process.label();
            let is_lasting = !is_out_of_resources(&error);
            if is_lasting {
                tracing::warn!(child, %error, "not waiting for the rest of its group");
            } else {
                tracing::debug!(child, %error, "the rest of its group is looked for again later");
            }
            !is_lasting
        })
    }
}

/// Kills a child whose supervision has failed.
pub(super) fn kill_now<S>(registry: &mut Registry<S>, key: ChildKey) {
    if let Err(error) = key.kill(registry) {
        tracing::debug!(%error, "SIGKILL failed");
    }
}
