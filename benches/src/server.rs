//! An echo server that runs while it is measured, and the command of the client that loads it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, kill_process};
use workloads::Result;

use crate::catalogue::Load;
use crate::figures::{self, Figures};
use crate::pinning::{Core, on_core};
use crate::process::{ends_within, succeed};

/// The maximum time until a server listens. It is long because valgrind is slow.
const START: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};
/// The maximum time until a server ends. After that it is killed.
const END: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// The output of a program, line by line.
pub(crate) struct Lines(BufReader<ChildStdout>);

impl Lines {
    /// Takes the standard output of a program, which must be piped.
    pub(crate) fn of(child: &mut Child) -> Result<Self> {
        Ok(Self(BufReader::new(
            child.stdout.take().ok_or("stdout is not piped")?,
        )))
    }

    /// Returns the figures of the next line. Waits for it for at most `limit`.
    ///
    /// # Errors
    /// No line arrives in time, or the line contains no figures.
    pub(crate) fn figures(&mut self, limit: &Timespec) -> Result<Figures> {
        let mut ready = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
        if retry_on_intr(|| poll(&mut ready, Some(limit)))? == 0 {
            return Err(format!("no output for {} s", limit.tv_sec).into());
        }
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        figures::parse(&line)
    }
}

/// A server on the first core, which is ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// The pipe stays open after the first line, so that further writes of the server do not fail.
    stdout: Lines,
}

impl Server {
    /// Starts a server, and waits until it listens.
    ///
    /// # Errors
    /// The server does not start, or its first line names no port.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = on_core(Core::First, || {
            Ok(command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?)
        })
        .map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Self {
            stdout: Lines::of(&mut child)?,
            child,
            port: 0,
        };
        server.port = server
            .listening()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Ok(server)
    }

    /// Returns the port that the first line names.
    fn listening(&mut self) -> Result<u16> {
        let told = self.stdout.figures(&START)?;
        Ok(*told.get("port").ok_or("the first line names no port")? as u16)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the command of a client for this server. The length of the load is still missing in
    /// it.
    pub(crate) fn client(&self, load: Load) -> Result<Command> {
        let mut client = Command::new(std::env::current_exe()?);
        client.arg("load").args(["--port", &self.port.to_string()]);
        client.args([
            "--connections",
            &load.connections.to_string(),
            "--message",
            &load.message.to_string(),
        ]);
        if let Some(exchange) = load.tls.as_ref().and_then(ValueEnum::to_possible_value) {
            client.args(["--tls", exchange.get_name()]);
        }
        if load.bursts {
            client.arg("--bursts");
        }
        Ok(client)
    }

    /// Exchanges this many messages with the server.
    ///
    /// # Errors
    /// The errors of the client. If the server has ended, the error has its exit status too.
    pub(crate) fn exchange(&mut self, load: Load, messages: &str) -> Result {
        let mut client = self.client(load)?;
        client.args(["--messages", messages]);
        on_core(Core::Last, || succeed(&mut client))
            .map(drop)
            .map_err(|error| self.blamed(error))
    }

    /// Returns an error of the client. If the server has ended, the error names its exit status,
    /// since that is the cause.
    pub(crate) fn blamed(&mut self, error: Box<dyn Error>) -> Box<dyn Error> {
        match self.child.try_wait() {
            Ok(Some(status)) => format!("the server has ended: {status}; {error}").into(),
            _ => error,
        }
    }

    /// Ends the server, and waits until it has ended.
    ///
    /// # Errors
    /// The server has ended before, or does not end by SIGTERM.
    pub(crate) fn stop(mut self) -> Result {
        match self.child.try_wait()? {
            Some(status) => Err(format!("the server has ended: {status}").into()),
            None => self.end(),
        }
    }

    fn end(&self) -> Result {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        if ends_within(&self.child, END)? {
            Ok(())
        } else {
            Err("the server does not end on SIGTERM".into())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended was waited for, so no process is left to signal. SIGTERM comes
        // first because the server may run under a tool that has to pass the signal on. If such a
        // tool were killed, it would leave the server behind.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.end();
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
