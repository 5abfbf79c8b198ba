//! Children: programs that are started, shown and waited for.

use std::io;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use handlers::{CloseReason, Connection, ConnectionHandler, ConnectionOptions, Framing, Lines, open};

use crate::{Cx, Shell};

/// The longest line that is shown; a child that writes a longer one is not listened to any more.
const LINE_MAX: usize = 64 * 1024;

/// A child, shared by those who read its output: the last one of them waits for its end.
struct Process {
    number: u64,
    child: Child,
}

/// One output of a child.
struct Output {
    process: Option<Rc<Process>>,
    lines: Lines,
    mark: String,
}

/// Runs a program: its output is read on the loop, line by line, and when that has ended a worker waits for its exit.
pub(crate) fn run(command: &str, cx: &mut Cx<'_>) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("usage: run COMMAND...")?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()); // what is typed is ours
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let number = cx.state.number();
    cx.state.children += 1;
    cx.state.say(format_args!("child {number} is process {}", child.id()));
    let process = Rc::new(Process { number, child });
    let output = |mark| Output { process: Some(Rc::clone(&process)), lines: Lines::new(LINE_MAX), mark };
    let options = ConnectionOptions::new();
    let stdout = stdout.map(|stdout| open(cx.registry, stdout, &options, output(format!("{number}: "))));
    let stderr = stderr.map(|stderr| open(cx.registry, stderr, &options, output(format!("{number}! "))));
    wait(Some(process), cx); // where none of them can be read
    stdout.transpose().map_err(|refused| refused.error.to_string())?;
    stderr.transpose().map_err(|refused| refused.error.to_string())?;
    Ok(())
}

impl ConnectionHandler<Shell> for Output {
    fn on_data(&mut self, data: &[u8], _: &mut Connection<'_, Shell>, cx: &mut Cx<'_>) -> io::Result<usize> {
        let mut lines = self.lines.frames(data);
        for line in &mut lines {
            cx.state.say(format_args!("{}{}", self.mark, String::from_utf8_lossy(line?)));
        }
        Ok(lines.taken())
    }

    fn on_end(&mut self, rest: &[u8], connection: &mut Connection<'_, Shell>, cx: &mut Cx<'_>) -> io::Result<()> {
        for line in self.lines.last_frames(rest) {
            cx.state.say(format_args!("{}{}", self.mark, String::from_utf8_lossy(line?)));
        }
        connection.shutdown();
        Ok(())
    }

    fn on_close(&mut self, reason: CloseReason, cx: &mut Cx<'_>) {
        if let CloseReason::Failed(error) = reason {
            cx.state.say(format_args!("{}{error}", self.mark));
        }
        wait(self.process.take(), cx);
    }
}

/// Has a worker wait for a child, if nobody reads its output any more: then it does not take long.
fn wait(process: Option<Rc<Process>>, cx: &mut Cx<'_>) {
    let Some(Process { number, mut child }) = process.and_then(Rc::into_inner) else { return };
    let waiting = cx.state.pool.submit(
        move || child.wait(),
        move |status, cx| {
            cx.state.children -= 1;
            match status {
                Ok(Ok(status)) => cx.state.say(format_args!("child {number}: {status}")),
                Ok(Err(error)) => cx.state.say(format_args!("child {number}: {error}")),
                Err(panic) => cx.state.say(format_args!("child {number}: {panic}")),
            }
        },
    );
    if let Err(refused) = waiting {
        cx.state.children -= 1;
        cx.state.say(format_args!("child {number} is not waited for: {}", refused.reason));
    }
}
