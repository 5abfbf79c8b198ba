//! Echo servers that are up for a whole case, each with a client of its own, and loaded for a slice
//! at a time.
//!
//! What disturbs a measurement on a shared machine lasts for seconds. Servers that run one after
//! the other, a second each, meet different machines; slices of a tenth of that, side by side, meet
//! the same one.

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

/// A client answers within that, or is taken for dead: it has less patience with its server.
const ANSWER: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// A server and its client, whose connections are open.
pub(crate) struct Loaded {
    // Before the server: it is the first to end.
    client: Client,
    server: Server,
    /// What the connections take up.
    opened: Figures,
}

impl Loaded {
    /// Starts both.
    ///
    /// # Errors
    /// Those of the server, and of its client.
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

    /// Loads the server once. The others sleep meanwhile.
    ///
    /// # Errors
    /// Those of the client, which ends by that; and how the server has ended, if it has.
    pub(crate) fn slice(&mut self) -> Result<Figures> {
        let mut figures = self
            .client
            .slice()
            .map_err(|error| self.server.blamed(error))?;
        figures.extend(self.opened.clone());
        Ok(figures)
    }

    /// Ends both.
    ///
    /// # Errors
    /// That the server has ended before, or does not.
    pub(crate) fn stop(self) -> Result {
        let Self { client, server, .. } = self;
        drop(client);
        server.stop()
    }
}

/// A process that says when it is ready, and then answers each `go` by a line of figures.
struct Client {
    child: Child,
    orders: ChildStdin,
    answers: Lines,
}

impl Client {
    /// Starts it on the last core, and waits for what it says first.
    fn start(command: &mut Command) -> Result<(Self, Figures)> {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = on_core(Core::Last, || Ok(piped.spawn()?))?;
        let (orders, answers) = (
            child.stdin.take().ok_or("a piped stdin")?,
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
        // One that has ended says why.
        let _ = writeln!(self.orders, "{GO}");
        self.answer()
    }

    fn answer(&mut self) -> Result<Figures> {
        self.answers
            .figures(&ANSWER)
            .map_err(|error| self.last_words(error))
    }

    /// Why it has ended, or else what is wrong with its answer.
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
            "it printed nothing"
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
        assert_eq!(
            client.slice().unwrap_err().to_string(),
            "it printed nothing"
        );
    }

    #[test]
    fn a_client_that_answers_without_figures_is_ended_without_waiting() {
        let (mut client, _) = client("echo '{}'; read -r go; echo hello; exec sleep 1000").unwrap();
        assert!(client.slice().unwrap_err().to_string().contains("hello"));
        assert!(!client.child.wait().unwrap().success());
    }
}
