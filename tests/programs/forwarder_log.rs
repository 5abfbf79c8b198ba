//! `forwarder`: each line of its log names the request that it is about.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::Result;
use crate::server::{PATIENCE, Server, accept};

/// A forwarder that logs to a file.
struct Logging {
    folder: TempDir,
    server: Server,
}

impl Logging {
    fn start(to: SocketAddr, more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let spool = folder.path().join("spool").display().to_string();
        let to = to.to_string();
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--to",
            &to,
            "--spool",
            &spool,
            "--max-delay",
            "20",
        ];
        let server = Server::start_with_log(
            "forwarder",
            &[&arguments, more].concat(),
            &[("RUST_LOG", "forwarder=debug"), ("NO_COLOR", "1")],
            File::create(folder.path().join("log"))?,
        )?;
        Ok(Self { folder, server })
    }

    /// Waits until the log has a line with this ending.
    fn wait_for(&self, ending: &str) -> Result {
        let began = Instant::now();
        while !lines_of(&self.folder)?
            .iter()
            .any(|line| line.ends_with(ending))
        {
            assert!(began.elapsed() < PATIENCE, "{ending:?} is not logged");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends the forwarder, and compares its log line by line.
    #[track_caller]
    fn expect_log(self, expected: &[String]) -> Result {
        self.server.signal(Signal::TERM)?;
        let Self { folder, server } = self;
        let status = server.wait()?;
        assert!(status.success(), "{status}");
        let lines = lines_of(&folder)?;
        assert_eq!(lines, expected, "\n{}", lines.join("\n"));
        Ok(())
    }
}

/// Returns the lines of the log in a folder, without their times.
fn lines_of(folder: &TempDir) -> Result<Vec<String>> {
    let log = fs::read_to_string(folder.path().join("log"))?;
    let lines = log.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.map(|(_time, line)| line.to_owned()).collect())
}

/// Reads exactly these bytes.
#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) -> Result {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read)?;
    assert_eq!(read, bytes);
    Ok(())
}

fn start_of_log() -> String {
    " INFO forwarder::relay: spool read lines=0".to_owned()
}

fn accepted(client: u32, stream: &TcpStream) -> Result<String> {
    let address = stream.local_addr()?;
    Ok(format!(
        "DEBUG client{{id={client}}}: forwarder::relay: accepted address={address}"
    ))
}

/// Returns the line of the log about a request of a client.
fn about(client: u32, request: u32, what: &str) -> String {
    let (level, module) = match what {
        "answered" => ("DEBUG", "request"),
        "is not answered yet" => (" WARN", "relay"),
        _ => ("DEBUG", "relay"),
    };
    format!("{level} client{{id={client}}}:request{{id={request}}}: forwarder::{module}: {what}")
}

#[test]
fn each_line_of_the_log_names_its_request() -> Result {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let address = upstream.local_addr()?;
    let forwarder = Logging::start(address, &["--slow", "60000", "--sync", "never"])?;
    let mut link = accept(&upstream)?;
    let mut first = forwarder.server.connect()?;
    first.write_all(b"a\n")?;
    expect(&mut link, b"a\n")?;
    let mut second = forwarder.server.connect()?;
    second.write_all(b"bb\n")?;
    expect(&mut link, b"bb\n")?;
    first.write_all(b"ccc\n")?;
    expect(&mut link, b"ccc\n")?;
    link.write_all(b"+\n+\n")?;
    expect(&mut first, b"+\n")?;
    expect(&mut second, b"+\n")?;
    drop((link, upstream)); // so the third line goes into the spool
    expect(&mut first, b"+\n")?;
    let upstream = TcpListener::bind(address)?;
    let mut link = accept(&upstream)?;
    expect(&mut link, b"ccc\n")?;
    link.write_all(b"+\n")?;
    forwarder.wait_for("request{id=2}: forwarder::relay: acknowledged by the upstream")?;
    forwarder.expect_log(&[
        start_of_log(),
        accepted(1, &first)?,
        about(1, 0, "received bytes=1"),
        accepted(2, &second)?,
        about(2, 1, "received bytes=2"),
        about(1, 2, "received bytes=3"),
        about(1, 0, "acknowledged by the upstream"),
        about(1, 0, "answered"),
        about(2, 1, "acknowledged by the upstream"),
        about(2, 1, "answered"),
        about(1, 2, "in the spool"),
        about(1, 2, "answered"),
        about(1, 2, "acknowledged by the upstream"),
    ])
}

#[test]
fn a_line_without_an_answer_is_reported_with_its_id() -> Result {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let forwarder = Logging::start(upstream.local_addr()?, &["--slow", "20"])?;
    let mut link = accept(&upstream)?;
    let mut client = forwarder.server.connect()?;
    client.write_all(b"a\n")?;
    expect(&mut link, b"a\n")?;
    forwarder.wait_for("is not answered yet")?;
    link.write_all(b"+\n")?;
    expect(&mut client, b"+\n")?;
    forwarder.expect_log(&[
        start_of_log(),
        accepted(1, &client)?,
        about(1, 0, "received bytes=1"),
        about(1, 0, "is not answered yet"),
        about(1, 0, "acknowledged by the upstream"),
        about(1, 0, "answered"),
    ])
}

#[test]
fn lines_that_a_pause_has_held_up_have_their_ids() -> Result {
    const LINES: u32 = 100;
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    // The queue is full at half of 16 lines. Each acknowledgement lets the client continue.
    let options = ["--slow", "60000", "--max-spool", "4096"];
    let forwarder = Logging::start(upstream.local_addr()?, &options)?;
    let mut link = accept(&upstream)?;
    let mut client = forwarder.server.connect()?;
    client.write_all(&b"a\n".repeat(LINES as usize))?;
    for _ in 0..LINES {
        expect(&mut link, b"a\n")?;
        link.write_all(b"+\n")?;
        expect(&mut client, b"+\n")?;
    }
    let lines = lines_of(&forwarder.folder)?;
    for request in 0..LINES {
        let all = [
            "received bytes=1",
            "acknowledged by the upstream",
            "answered",
        ];
        let all = all.map(|what| about(1, request, what));
        let id = format!("request{{id={request}}}:");
        let of_request: Vec<_> = lines.iter().filter(|line| line.contains(&id)).collect();
        assert_eq!(of_request, all.each_ref());
    }
    assert_eq!(lines.len() as u32, 2 + 3 * LINES, "\n{}", lines.join("\n"));
    Ok(())
}
