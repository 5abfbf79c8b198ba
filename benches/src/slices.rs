//! Echo servers that run during a whole case, each with its own client, and are loaded for one
//! slice at a time.
//!
//! A disturbance on a shared machine lasts for seconds. Servers that run one after the other, for a
//! second each, meet different conditions. Slices of some milliseconds, one after the other, meet
//! the same conditions.

use std::error::Error;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::event::Timespec;
use workloads::Result;

use crate::catalogue::Load;
use crate::figures::Figures;
use crate::load::GO;
use crate::pinning::{Core, on_core};
use crate::server::{Lines, Server};

/// The maximum time until a client answers. A client waits for its server for less time than this.
const ANSWER: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// A server and its client, whose connections are open.
pub(crate) struct Loaded {
    // Declared before the server, since it must end first.
    client: Client,
    server: Server,
    /// The figures that the client printed when all connections were open.
    opened: Figures,
}

impl Loaded {
    /// Starts the server and its client.
    ///
    /// # Errors
    /// The errors of the server and of its client.
    pub(crate) fn start(command: &mut Command, load: Load) -> Result<Self> {
        let mut server = Server::start(command)?;
        let mut client = server.client(load)?;
        client.args(["--slices-of", &server.id().to_string()]);
        match Client::start(&mut client) {
            Ok((client, opened)) => Ok(Self {
                client,
                server,
                opened,
            }),
            Err(error) => Err(server.blamed(error)),
        }
    }

    /// Loads the server for one slice. The other servers sleep meanwhile.
    ///
    /// # Errors
    /// The errors of the client, which ends then. If the server has ended, the error has its exit
    /// status too.
    pub(crate) fn slice(&mut self) -> Result<Figures> {
        let mut figures = self
            .client
            .slice()
            .map_err(|error| self.server.blamed(error))?;
        figures.extend(self.opened.clone());
        Ok(figures)
    }

    /// Ends the client and the server.
    ///
    /// # Errors
    /// The server has ended before, or does not end by SIGTERM.
    pub(crate) fn stop(self) -> Result {
        let Self { client, server, .. } = self;
        drop(client);
        server.stop()
    }
}

/// A process that prints a line when it is ready, and then answers each line `go` with a line of
/// figures.
struct Client {
    child: Child,
    orders: ChildStdin,
    answers: Lines,
}

impl Client {
    /// Starts the client on the last core, and waits for its first line.
    fn start(command: &mut Command) -> Result<(Self, Figures)> {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = on_core(Core::Last, || Ok(piped.spawn()?))?;
        let (orders, answers) = (
            child.stdin.take().ok_or("stdin is not piped")?,
            Lines::of(&mut child)?,
        );
        let mut client = Self {
            child,
            orders,
            answers,
        };
        let opened = client.answer()?;
        Ok((client, opened))
    }

    fn slice(&mut self) -> Result<Figures> {
        // If the client has ended, `answer` returns the reason.
        let _ = writeln!(self.orders, "{GO}");
        self.answer()
    }

    fn answer(&mut self) -> Result<Figures> {
        self.answers
            .figures(&ANSWER)
            .map_err(|error| self.last_words(error))
    }

    /// Kills the client. Returns the text that it wrote to standard error, or `error` if it wrote
    /// nothing.
    fn last_words(&mut self, error: Box<dyn Error>) -> Box<dyn Error> {
        let (_, mut said) = (self.child.kill(), String::new());
        if let Some(stderr) = &mut self.child.stderr
            && stderr.read_to_string(&mut said).is_ok()
            && !said.is_empty()
        {
            return said.into();
        }
        error
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(script: &str) -> Result<(Client, Figures)> {
        Client::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_client_says_that_it_is_ready_and_answers_each_go() {
        let script = "echo '{\"bytes\": 49}'; while read -r order; do echo \"{\\\"$order\\\": $((turn += 1))}\"; done";
        let (mut client, opened) = client(script).unwrap();
        assert_eq!(opened, Figures::from([("bytes".to_owned(), 49.0)]));
        for turn in [1.0, 2.0] {
            assert_eq!(
                client.slice().unwrap(),
                Figures::from([("go".to_owned(), turn)])
            );
        }
    }

    #[test]
    fn the_error_of_a_client_that_never_gets_ready_says_why() {
        let refused = client("echo 'connection refused' >&2; exit 1")
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.to_string(), "connection refused\n");
        assert_eq!(
            client("exit 1").map(drop).unwrap_err().to_string(),
            "no output"
        );
        assert!(client("echo ready").map(drop).is_err());
    }

    #[test]
    fn a_client_that_dies_fails_in_its_slice_and_in_none_before() {
        let (mut client, _) =
            client("echo '{}'; read -r go; echo '{}'; read -r go; echo 'it is dead' >&2; exit 1")
                .unwrap();
        client.slice().unwrap();
        assert_eq!(client.slice().unwrap_err().to_string(), "it is dead\n");
        assert_eq!(client.slice().unwrap_err().to_string(), "no output");
    }

    #[test]
    fn a_client_that_answers_without_figures_is_ended_without_waiting() {
        let (mut client, _) = client("echo '{}'; read -r go; echo hello; exec sleep 1000").unwrap();
        assert!(client.slice().unwrap_err().to_string().contains("hello"));
        assert!(!client.child.wait().unwrap().success());
    }
}
