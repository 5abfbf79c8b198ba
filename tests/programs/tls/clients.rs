//! Programs that are clients: started, fed and read.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// Returns the command of a program that is killed after half a minute.
fn limited(program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["30", program]).args(arguments);
    command
}

/// Runs a program without input.
pub(super) fn run(program: &str, arguments: &[impl AsRef<OsStr>]) -> Result<Output> {
    Ok(limited(program, arguments).stdin(Stdio::null()).output()?)
}

/// Runs a program that must succeed, and returns its output.
#[track_caller]
pub(super) fn output_of(program: &str, arguments: &[impl AsRef<OsStr>]) -> Result<String> {
    let output = run(program, arguments)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", errors(&output));
    Ok(text)
}

pub(super) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A program that talks over its input and output. It is killed when it is dropped.
pub(super) struct Talking {
    child: Child,
    stdout: ChildStdout,
    said: String,
}

impl Talking {
    pub(super) fn start(program: &str, arguments: &[impl AsRef<OsStr>]) -> Result<Self> {
        let mut child = limited(program, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a piped stdout")?;
        Ok(Self {
            child,
            stdout,
            said: String::new(),
        })
    }

    pub(super) fn say(&mut self, text: &str) -> Result {
        let stdin = self.child.stdin.as_mut().ok_or("a piped stdin")?;
        Ok(stdin.write_all(text.as_bytes())?)
    }

    /// Reads until everything that it has said contains `text`.
    #[track_caller]
    pub(super) fn expect(&mut self, text: &str) -> Result {
        let mut buf = [0; 4096];
        while !self.said.contains(text) {
            let count = self.stdout.read(&mut buf)?;
            assert!(count > 0, "no {text:?} in: {}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&buf[..count]));
        }
        Ok(())
    }

    /// Ends its input and waits for its end. Returns everything that it has said.
    #[track_caller]
    pub(super) fn end(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        self.stdout.read_to_string(&mut self.said)?;
        let status = self.child.wait()?;
        assert!(status.success(), "{status}: {}", self.said);
        Ok(std::mem::take(&mut self.said))
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // Once it was waited for, its number may be that of another process.
        if let Ok(None) = self.child.try_wait() {
            // `timeout` passes this signal on, and SIGKILL not.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
