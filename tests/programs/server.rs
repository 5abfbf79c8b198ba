//! An example that runs as a server during a test.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, pidfd_open, setrlimit,
};
use support::{example, wait_until_readable};

use crate::Result;

/// The time after which a wait for a server fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs an example that is expected to end by itself.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(example(name)?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?)
}

/// Runs an example with at most `files` open files.
pub(crate) fn run_with_open_files_max(
    name: &str,
    arguments: &[&str],
    files: u32,
) -> Result<Output> {
    Ok(limited(name, arguments, files)?
        .stdin(Stdio::null())
        .output()?)
}

/// Returns the command of an example with at most `files` open files.
fn limited(name: &str, arguments: &[&str], files: u32) -> Result<Command> {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
        .arg(example(name)?)
        .args(arguments);
    Ok(command)
}

/// A running server, which is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The address in its first line, after "listening on".
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(example(name)?);
        command.args(arguments).stderr(Stdio::null());
        Self::spawn(command)
    }

    /// Starts a server that writes its log to a file.
    pub(crate) fn start_with_log(
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: File,
    ) -> Result<Self> {
        let mut command = Command::new(example(name)?);
        command
            .args(arguments)
            .envs(environment.iter().copied())
            .stderr(log);
        Self::spawn(command)
    }

    /// Starts a server with at most `files` open files.
    pub(crate) fn start_with_open_files_max(
        name: &str,
        arguments: &[&str],
        files: u32,
    ) -> Result<Self> {
        let mut command = limited(name, arguments, files)?;
        command.stderr(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("a piped stdout")?);
        let address = next_address(&mut stdout)?;
        Ok(Self {
            child,
            stdout,
            address,
        })
    }

    /// Returns the next of the addresses that it listens on.
    pub(crate) fn next_address(&mut self) -> Result<String> {
        next_address(&mut self.stdout)
    }

    /// Returns the next line of its output.
    pub(crate) fn next_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty())?;
        if wait_until_readable(pidfd, PATIENCE)? {
            Ok(self.child.wait()?)
        } else {
            Err("it is still running".into())
        }
    }

    /// Sends `signal` again and again until it has ended.
    pub(crate) fn insist(&self, signal: Signal) -> Result {
        insist(self.pid(), signal)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Returns a connection to it. Its reads and writes end after [`PATIENCE`].
    pub(crate) fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address.parse::<SocketAddr>()?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Returns the bytes that come back for `request` until the server closes.
    pub(crate) fn ask(&self, request: &[u8]) -> Result<String> {
        let mut client = self.connect()?;
        client.write_all(request)?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Returns the number of anonymous bytes of its memory that are resident.
    pub(crate) fn anonymous_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .ok_or("RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Returns the number of files that it has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

/// Accepts a connection within [`PATIENCE`]. Its reads end after that time too.
pub(crate) fn accept(listener: &TcpListener) -> Result<TcpStream> {
    if !wait_until_readable(listener, PATIENCE)? {
        return Err("no connection has come".into());
    }
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn next_address(stdout: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let address = line
        .trim_end()
        .strip_prefix("listening on ")
        .ok_or_else(|| format!("a line of its output: {line:?}"))?;
    Ok(address.to_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself: then there is no process to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files to its maximum, for this process and its children. Returns that
/// maximum.
pub(crate) fn raise_open_files_limit() -> Result<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(maximum.map_or(usize::MAX, |files| files as usize))
}

/// Sends `signal` to a child until it has ended: a signal too soon after the first does not count
/// as insistence.
pub(crate) fn insist(child: Pid, signal: Signal) -> Result {
    let pidfd = pidfd_open(child, PidfdFlags::empty())?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        kill_process(child, signal)?;
        if wait_until_readable(&pidfd, Duration::from_millis(50))? {
            return Ok(());
        }
    }
    Err("it is still running".into())
}
