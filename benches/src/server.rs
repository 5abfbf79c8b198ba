//! An echo server for as long as it is measured, and the client that loads it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, kill_process};
use workloads::Result;

use crate::catalogue::Load;
use crate::figures::{self, Figures};
use crate::pinning::{Core, on_core};
use crate::process::{ends_within, succeed};

/// How long it may take to listen, which is long under valgrind.
const START: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};
/// How long it may take to end, before it is killed.
const END: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// What a program says, a line at a time.
pub(crate) struct Lines(BufReader<ChildStdout>);

impl Lines {
    /// Of a program whose standard output is piped.
    pub(crate) fn of(child: &mut Child) -> Result<Self> {
        Ok(Self(BufReader::new(
            child.stdout.take().ok_or("a piped stdout")?,
        )))
    }

    /// The figures of the next line, which is waited for, but not longer than that.
    ///
    /// # Errors
    /// That there is none, or that it says something else.
    pub(crate) fn figures(&mut self, limit: &Timespec) -> Result<Figures> {
        let mut ready = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
        if retry_on_intr(|| poll(&mut ready, Some(limit)))? == 0 {
            return Err(format!("it has said nothing for {} s", limit.tv_sec).into());
        }
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        figures::parse(&line)
    }
}

/// A server on the first core, which is killed if nobody has stopped it.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// It may write more than its first line, and must not fail then.
    stdout: Lines,
}

impl Server {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// That it does not start, or says something else.
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

    /// What its first line says.
    fn listening(&mut self) -> Result<u16> {
        let told = self.stdout.figures(&START)?;
        Ok(*told.get("port").ok_or("it names no port")? as u16)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A client for it, which is yet to be told for how long.
    pub(crate) fn client(&self, load: Load) -> Result<Command> {
        let mut client = Command::new(std::env::current_exe()?);
        client.arg("load").args(["--port", &self.port.to_string()]);
        client.args([
            "--connections",
            &load.connections.to_string(),
            "--message",
            &load.message.to_string(),
        ]);
        Ok(client)
    }

    /// Has it send back so many messages.
    ///
    /// # Errors
    /// Those of the client; and how the server has ended, if it has.
    pub(crate) fn exchange(&mut self, load: Load, messages: &str) -> Result {
        let mut client = self.client(load)?;
        client.args(["--messages", messages]);
        on_core(Core::Last, || succeed(&mut client))
            .map(drop)
            .map_err(|error| self.blamed(error))
    }

    /// An error of its client: the server is to blame if it has ended.
    pub(crate) fn blamed(&mut self, error: Box<dyn Error>) -> Box<dyn Error> {
        match self.child.try_wait() {
            Ok(Some(status)) => format!("the server has ended: {status}; {error}").into(),
            _ => error,
        }
    }

    /// Ends it, and waits until it has.
    ///
    /// # Errors
    /// That it has ended before, or does not.
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
            Err("the server does not end by SIGTERM".into())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended: then there is nobody to signal, as it has been waited for. SIGTERM
        // comes first because what it runs under may have to pass that on, and leaves it behind if
        // it is killed.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.end();
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
