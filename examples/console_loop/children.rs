//! Children: programs that are started, shown and waited for.

use std::cell::OnceCell;
use std::io;
use std::process::{Command, Stdio};
use std::rc::Rc;

use handlers::child::{self, Exit, Output};
use handlers::{CloseReason, Stream};

use crate::Cx;

/// The maximum length of a line. A longer line is cut.
const LINE_MAX: usize = 64 * 1024;

/// A child, shared by the callback for its exit and those for its output. The last of them reports
/// the exit.
struct Process {
    number: u64,
    exit: OnceCell<io::Result<Exit>>,
}

/// Runs a program. Its output is shown line by line, and then its exit.
pub(crate) fn run(command: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("usage: run COMMAND...")?;
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Typed input is for this program.
        .stderr(Stdio::piped());
    let number = cx.state.number();
    let process = Rc::new(Process {
        number,
        exit: OnceCell::new(),
    });
    let exited = Rc::clone(&process);
    let spawned = child::spawn(cx.registry, &mut command, move |exit, cx| {
        let _ = exited.exit.set(exit); // called once
        tell(exited, cx);
        Ok(())
    });
    let spawned = spawned.map_err(|error| error.to_string())?;
    cx.state.children += 1;
    cx.state
        .say(format_args!("child {number} is process {}", spawned.pid));
    show(spawned.stdout, format!("{number}: "), &process, cx)?;
    show(spawned.stderr, format!("{number}! "), &process, cx)
}

/// Shows an output of a child, each line after `mark`.
fn show(
    output: Option<impl Stream>,
    mark: String,
    process: &Rc<Process>,
    cx: &mut Cx<'_>,
) -> Result<(), String> {
    let Some(output) = output else { return Ok(()) };
    let mut process = Some(Rc::clone(process));
    let shown = child::lines(
        cx.registry,
        output,
        LINE_MAX,
        move |output, cx: &mut Cx<'_>| {
            match output {
                Output::Line(line, _) => cx
                    .state
                    .say(format_args!("{mark}{}", String::from_utf8_lossy(line))),
                Output::Cut(line, _) => cx
                    .state
                    .say(format_args!("{mark}{}...", String::from_utf8_lossy(line))),
                // This output has ended. The exit is reported when the last reference is gone.
                Output::Ended(reason) => {
                    if let CloseReason::Failed(error) = reason {
                        cx.state.say(format_args!("{mark}{error}"));
                    }
                    if let Some(process) = process.take() {
                        tell(process, cx);
                    }
                }
                _ => {}
            }
            Ok(())
        },
    );
    shown.map(drop).map_err(|refused| refused.error.to_string())
}

/// Reports the exit of a child, once its outputs have ended too.
fn tell(process: Rc<Process>, cx: &mut Cx<'_>) {
    let Some(Process { number, exit }) = Rc::into_inner(process) else {
        return;
    };
    cx.state.children -= 1;
    match exit.into_inner() {
        Some(Ok(exit)) => cx
            .state
            .say(format_args!("child {number}: {}", exit.status)),
        Some(Err(error)) => cx.state.say(format_args!("child {number}: {error}")),
        None => {} // the child ended with this program
    }
}
