//! Child processes: short ones whose output and exit are compared, and a supervised one.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use handlers::child::{self, Output, RestartPolicy, SupervisorEvent, SupervisorKey};
use handlers::{Backoff, CloseReason, Jitter, Stream};
use reactor::{Missed, Next, TimerKey};

use super::Cx;

const PAUSE: Duration = Duration::from_millis(400);
const RUNNING_MAX: u64 = 8;
const STATUS: i32 = 7;
const LINE_MAX: usize = 80;

#[derive(Default)]
pub(super) struct Children {
    running: u64,
    outputs: u64,
    supervised: u64,
    exits: u64,
    pace: Option<TimerKey>,
    supervisor: Option<SupervisorKey>,
}

impl Children {
    pub(super) const fn registrations(&self) -> u64 {
        self.running + self.outputs + self.supervised
    }

    pub(super) const fn exits(&self) -> u64 {
        self.exits
    }
}

pub(super) fn register(cx: &mut Cx<'_>) {
    cx.state.children.pace = Some(cx.registry.every(PAUSE, Missed::Skip, |cx| {
        if cx.state.children.running < RUNNING_MAX
            && let Err(error) = start(cx)
        {
            cx.state.failed("a child", &error);
        }
        Ok(Next::Keep)
    }));
    let delays =
        Backoff::new(Duration::from_millis(100), Duration::from_millis(400)).jitter(Jitter::None);
    let policy = RestartPolicy::always().backoff(delays);
    let supervisor = child::supervise(
        cx.registry,
        policy,
        || {
            let mut command = Command::new("sleep");
            command.arg("0.3").stdin(Stdio::null());
            Ok(command)
        },
        on_event,
    );
    cx.state.children.supervisor = Some(supervisor);
}

fn start(cx: &mut Cx<'_>) -> io::Result<()> {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("echo one; echo two; exit {STATUS}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let spawned = child::spawn(cx.registry, &mut command, |exit, cx: &mut Cx<'_>| {
        cx.state.children.running -= 1;
        cx.state.children.exits += 1;
        match exit {
            Ok(exit) if exit.status.code() == Some(STATUS) => {}
            other => cx.state.deviate(format!("a child has ended so: {other:?}")),
        }
        Ok(())
    })?;
    cx.state.children.running += 1;
    match spawned.stdout {
        Some(stdout) => read(stdout, cx),
        None => Err(io::Error::other(
            "a child without the pipe that was asked for",
        )),
    }
}

/// Compares the output of a child.
fn read(stdout: impl Stream, cx: &mut Cx<'_>) -> io::Result<()> {
    let mut expected = [b"one", b"two"].into_iter();
    let on_output = move |output: Output<'_, '_, _>, cx: &mut Cx<'_>| {
        match output {
            Output::Line(line, _) if expected.next().is_some_and(|next| next == line) => {}
            Output::Ended(reason) => {
                cx.state.children.outputs -= 1;
                if !matches!(reason, CloseReason::Finished) || expected.next().is_some() {
                    cx.state
                        .deviate(format!("the output of a child ended early: {reason}"));
                }
            }
            other => cx.state.deviate(format!("a child has said {other:?}")),
        }
        Ok(())
    };
    child::lines(cx.registry, stdout, LINE_MAX, on_output).map_err(|refused| refused.error)?;
    cx.state.children.outputs += 1;
    Ok(())
}

fn on_event(event: SupervisorEvent, cx: &mut Cx<'_>) -> io::Result<()> {
    let children = &mut cx.state.children;
    let is_ending = children.supervisor.is_none();
    match event {
        SupervisorEvent::Started(_) => children.supervised += 1,
        SupervisorEvent::Exited { exit, .. } => {
            children.supervised -= 1;
            children.exits += 1;
            if !exit?.status.success() && !is_ending {
                cx.state.deviate("the supervised child has failed");
            }
        }
        SupervisorEvent::NotStarted { error, .. } => {
            cx.state.failed("the supervised child", &error);
        }
        SupervisorEvent::Stopped if is_ending => {}
        other => cx.state.deviate(format!("the supervisor: {other:?}")),
    }
    if cx.state.children.supervised > 1 {
        cx.state.deviate("a supervised child runs twice");
    }
    Ok(())
}

pub(super) fn end(cx: &mut Cx<'_>) {
    let pace = cx.state.children.pace.take();
    let cancelled = pace.map_or(Ok(()), |pace| cx.registry.cancel(pace));
    let supervisor = cx.state.children.supervisor.take();
    let stopped = supervisor.map_or(Ok(()), |key| key.stop(cx.registry, super::GRACE));
    if let Some(error) = cancelled.and(stopped).err() {
        cx.state.deviate(format!("children at the end: {error}"));
    }
}
