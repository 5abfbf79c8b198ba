//! The daemon as a process: it is started, asked, stopped and continued, and ends with its owner.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

/// The idle timeout of the server of idle connections.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum length of a line for the server of frames.
pub(crate) const LINE_MAX: usize = 4096;
/// The name of the file that the daemon watches.
pub(crate) const WATCHED: &str = "watched";

/// Far beyond what any pause of the daemon takes: something is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The running daemon. It is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    pid: Pid,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) addresses: Value,
}

impl Daemon {
    pub(crate) fn start(folder: &Path, seed: u64) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
        let mut child = Command::new(own)
            .arg("daemon")
            .arg(folder)
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the daemon: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .ok_or("the daemon has no standard output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let pid = Pid::from_child(&child);
        let mut daemon = Self {
            child,
            pid,
            stdin,
            lines,
            addresses: Value::Null,
        };
        daemon.addresses = daemon.answer()?;
        Ok(daemon)
    }

    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the address of a server.
    pub(crate) fn address(&self, server: &str) -> Result<String, String> {
        let address = self.addresses[server].as_str();
        address
            .map(str::to_owned)
            .ok_or_else(|| format!("no address of {server}"))
    }

    /// Asks for the books.
    pub(crate) fn status(&mut self) -> Result<Value, String> {
        let stdin = self.stdin.as_mut().ok_or("the daemon has no console")?;
        stdin
            .write_all(b"status\n")
            .map_err(|error| format!("the console of the daemon: {error}"))?;
        self.answer()
    }

    fn answer(&self) -> Result<Value, String> {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.map_err(|error| format!("no answer of the daemon: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("{line:?} of the daemon: {error}"))
    }

    /// Returns the number of open file descriptors.
    pub(crate) fn descriptors(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/fd", self.pid.as_raw_nonzero());
        let open = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(open.count() as u64)
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/statm", self.pid.as_raw_nonzero());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| format!("{path}: {text:?}"))?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    /// Asks the daemon to end gracefully.
    pub(crate) fn end(&self) -> Result<(), String> {
        signal(self.pid, Signal::TERM)
    }

    /// Waits for the end. Returns the last books.
    pub(crate) fn join(mut self) -> Result<Value, String> {
        let books = self.answer()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(books),
                Ok(Some(status)) => return Err(format!("the daemon ended with {status}")),
                Ok(None) if Instant::now() > deadline => {
                    return Err("the daemon does not exit".to_owned());
                }
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(format!("cannot wait for the daemon: {error}")),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: Pid, signal: Signal) -> Result<(), String> {
    kill_process(pid, signal).map_err(|error| format!("{signal:?} to the daemon: {error}"))
}

/// Sets the limit of open files of the daemon. Returns the limits that it had.
pub(crate) fn limit_files(pid: Pid, limits: Rlimit) -> Result<Rlimit, String> {
    prlimit(Some(pid), Resource::Nofile, limits)
        .map_err(|error| format!("the limits of the daemon: {error}"))
}

/// Replaces the watched file: its number is the version.
pub(crate) fn write_version(folder: &Path, version: u64) -> Result<(), String> {
    let next: PathBuf = folder.join("next");
    fs::write(&next, version.to_string())
        .and_then(|()| fs::rename(&next, folder.join(WATCHED)))
        .map_err(|error| format!("the watched file: {error}"))
}
