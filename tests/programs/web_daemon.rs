//! `web_daemon`: hyper on the loop, driven by `curl` and `h2load`; uploads and downloads, bad
//! input, slow clients, the stop.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{is_installed, wait_until_readable};
use tempfile::TempDir;

use crate::Result;
use crate::server::{PATIENCE, Server};

const MIB: usize = 1 << 20;

/// A daemon with a folder of its own.
struct Daemon {
    server: Server,
    folder: TempDir,
}

impl Daemon {
    fn start(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().display().to_string();
        let fixed = ["--listen", "127.0.0.1:0", "--root", &root];
        let server = Server::start("web_daemon", &[&fixed, arguments].concat())?;
        Ok(Self { server, folder })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    /// Makes a file that cannot be compressed. Returns its content.
    fn file(&self, name: &str, length: usize) -> Result<Vec<u8>> {
        let mut number = 1_u64;
        let content: Vec<u8> = std::iter::repeat_with(|| {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (number >> 56) as u8
        })
        .take(length)
        .collect();
        fs::write(self.path(name), &content)?;
        Ok(content)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the names of all files, also of hidden ones.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Result<Output> {
        let mut command = curl(arguments, &self.url(path));
        Ok(command.output()?)
    }

    /// Returns what `curl` prints. It succeeds.
    fn ask(&self, arguments: &[&str], path: &str) -> Result<String> {
        let output = self.curl(arguments, path)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn curl(arguments: &[&str], url: &str) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "60"])
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null());
    command
}

/// Both versions of HTTP, as arguments of `curl`.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

#[test]
fn the_status_page_shows_the_state_of_the_loop_by_both_versions() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    for (number, version) in (1..).zip(VERSIONS) {
        let page = daemon.ask(&[version, "-w", "%{http_version}"], "/")?;
        let state = format!("connections: {number}\nrequests: {number}\nuploaded bytes: 0\n");
        assert!(page.contains(&state), "{page}");
        let shown = if number == 1 { "1.1" } else { "2" };
        assert!(page.ends_with(shown), "{page}");
    }
    Ok(())
}

#[test]
fn a_download_equals_the_file() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let big = daemon.file("big", 20 * MIB + 17)?;
    daemon.file("empty", 0)?;
    for version in VERSIONS {
        let came = daemon.curl(&[version], "/files/big")?;
        assert!(came.stdout == big && came.status.success(), "{version}");
        let came = daemon.curl(&[version], "/files/empty")?;
        assert!(came.stdout.is_empty() && came.status.success(), "{version}");
        let head = daemon.ask(&[version, "-I"], "/files/big")?;
        let length = format!("content-length: {}\r\n", big.len());
        assert!(head.contains(&length), "{head}");
    }
    Ok(())
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_never_looks_whole() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    for version in VERSIONS {
        daemon.file("big", 20 * MIB)?;
        let mut client = curl(&[version, "--limit-rate", "4M"], &daemon.url("/files/big"));
        let mut client = client
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut came = client.stdout.take().ok_or("a piped stdout")?;
        came.read_exact(&mut [0; 1000])?;
        let file = OpenOptions::new().write(true).open(daemon.path("big"))?;
        file.set_len(MIB as u64)?;
        std::io::copy(&mut came, &mut std::io::sink())?;
        assert!(!client.wait()?.success(), "{version}");
    }
    Ok(())
}

/// Waits for a client. Returns its output and the most memory that the daemon has taken meanwhile.
fn memory_until_end(mut client: Child, daemon: &Daemon) -> Result<(String, u64)> {
    let mut most = 0;
    while client.try_wait()?.is_none() {
        most = most.max(daemon.server.anonymous_bytes()?);
        thread::sleep(Duration::from_millis(5));
    }
    let output = client.wait_with_output()?;
    Ok((String::from_utf8(output.stdout)?, most))
}

#[test]
fn an_upload_of_100_mb_to_a_slow_disk_takes_little_memory() -> Result {
    const LENGTH: usize = 100_000_000;
    if !is_installed("curl") {
        return Ok(());
    }
    let daemon = Daemon::start(&["--upload-rate", "80000000"])?;
    let other = tempfile::tempdir()?;
    let sent = other.path().join("sent");
    let content: Vec<u8> = (0..LENGTH).map(|n| (n / 251) as u8).collect();
    fs::write(&sent, &content)?;
    let small = other.path().join("small");
    fs::write(&small, &content[..MIB])?;
    let [sent, small] = [sent, small].map(|path| path.display().to_string());
    for version in VERSIONS {
        daemon.ask(&[version, "-T", &small], "/files/warm")?; // the first allocations
        let before = daemon.server.anonymous_bytes()?;
        let mut client = curl(&[version, "-T", &sent], &daemon.url("/files/up"));
        let client = client.stdout(Stdio::piped()).spawn()?;
        let (said, most) = memory_until_end(client, &daemon)?;
        assert_eq!(said, format!("{LENGTH} bytes\n"));
        assert!(
            most < before + 4 * MIB as u64,
            "{version}: {before} to {most}"
        );
        assert!(fs::read(daemon.path("up"))? == content, "{version}");
    }
    Ok(())
}

#[test]
fn an_upload_that_breaks_off_leaves_no_file() -> Result {
    let daemon = Daemon::start(&[])?;
    let mut client = daemon.server.connect()?;
    client.write_all(b"PUT /files/up HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")?;
    let began = Instant::now();
    while daemon.names()?.is_empty() {
        assert!(began.elapsed() < PATIENCE, "it does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    while !daemon.names()?.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", daemon.names()?);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn names_outside_the_folder_and_other_methods_are_refused() -> Result {
    let daemon = Daemon::start(&[])?;
    let cases = [
        ("GET /files/none", "404"),
        ("GET /files/../Cargo.toml", "404"),
        ("GET /files/%2e%2e", "404"),
        ("PUT /files/.hidden", "404"),
        ("GET /files/", "404"),
        ("GET /other", "404"),
        ("DELETE /files/x", "405"),
        ("POST /", "405"),
    ];
    for (request, status) in cases {
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = daemon.server.ask(head.as_bytes())?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
    Ok(())
}

#[test]
fn garbage_is_answered_and_closed() -> Result {
    let daemon = Daemon::start(&[])?;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\xfc\x03"[..],
        b"hello\r\n\r\n",
        b"PRI * HTTP/3\r\n\r\n",
    ] {
        let answer = daemon.server.ask(garbage)?;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    // The preface of HTTP/2, and then no frame of it: a GOAWAY, or a reset.
    let mut client = daemon.server.connect()?;
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nno frame at all, but enough bytes for one")?;
    let _ = client.read_to_end(&mut Vec::new());
    assert!(
        daemon
            .server
            .ask(b"GET / HTTP/1.0\r\n\r\n")?
            .contains(" 200 OK")
    );
    Ok(())
}

#[test]
fn a_client_that_has_closed_its_write_side_is_answered() -> Result {
    let daemon = Daemon::start(&[])?;
    let file = daemon.file("big", 12 * MIB)?;
    for (name, length) in [("none", 0), ("big", file.len())] {
        let mut client = daemon.server.connect()?;
        let request = format!("GET /files/{name} HTTP/1.1\r\nHost: x\r\n\r\n");
        client.write_all(request.as_bytes())?;
        client.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        assert!(answer.starts_with(b"HTTP/1.1 ") && answer.len() > length);
        assert!(length == 0 || answer.ends_with(&file));
    }
    Ok(())
}

#[test]
fn a_body_that_breaks_off_is_the_fault_of_the_client() -> Result {
    let daemon = Daemon::start(&[])?;
    let mut client = daemon.server.connect()?;
    client.write_all(b"PUT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")?;
    client.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(daemon.names()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_slow_head_and_a_silent_client_end_at_the_timeout() -> Result {
    let daemon = Daemon::start(&["--request-timeout", "1"])?;
    for first in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nX: ",
    ] {
        let (mut client, began) = (daemon.server.connect()?, Instant::now());
        client.set_read_timeout(Some(Duration::from_millis(100)))?;
        client.write_all(first)?;
        loop {
            let is_head = first.len() > 16;
            let is_gone = is_head && client.write_all(b"x").is_err();
            match client.read(&mut [0]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !is_gone => {}
                _ => break,
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}: it waits",
                first.escape_ascii()
            );
        }
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
    Ok(())
}

#[test]
fn a_stop_finishes_what_has_begun() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    for version in VERSIONS {
        let daemon = Daemon::start(&[])?;
        let big = daemon.file("big", 12 * MIB)?;
        let idle = daemon.server.connect()?;
        let mut client = curl(&[version, "--limit-rate", "6M"], &daemon.url("/files/big"));
        let mut client = client.stdout(Stdio::piped()).spawn()?;
        let mut stdout = client.stdout.take().ok_or("a piped stdout")?;
        let mut came = vec![0; 1000];
        stdout.read_exact(&mut came)?;
        daemon.server.signal(Signal::TERM)?;
        assert!(
            wait_until_readable(&idle, Duration::from_secs(5))?,
            "idle: closed at once"
        );
        stdout.read_to_end(&mut came)?;
        assert!(
            client.wait()?.success() && came == big,
            "{version}: {}",
            came.len()
        );
        drop(idle);
        assert!(daemon.server.wait()?.success());
    }
    Ok(())
}

#[test]
fn a_stop_loses_no_byte_of_a_request_whose_protocol_is_not_known() -> Result {
    let daemon = Daemon::start(&[])?;
    let mut client = daemon.server.connect()?;
    client.write_all(b"P")?; // as HTTP/2 begins too
    let mut idle = daemon.server.connect()?;
    idle.write_all(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")?;
    assert_ne!(idle.read(&mut [0; 1024])?, 0); // so the daemon has read both
    daemon.server.signal(Signal::TERM)?;
    assert!(wait_until_readable(&idle, PATIENCE)?, "the stop has begun");
    client.write_all(b"UT /files/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(fs::read(daemon.path("x"))?, b"ok");
    drop((client, idle));
    assert!(daemon.server.wait()?.success());
    Ok(())
}

#[test]
fn many_requests_side_by_side_all_succeed() -> Result {
    if !is_installed("h2load") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    for arguments in [&["-m", "20"][..], &["--h1"]] {
        let output = Command::new("h2load")
            .args(["-n", "2000", "-c", "20"])
            .args(arguments)
            .arg(daemon.url("/"))
            .output()?;
        let said = String::from_utf8(output.stdout)?;
        assert!(said.contains("2000 succeeded, 0 failed"), "{said}");
    }
    Ok(())
}

#[test]
fn requests_that_fail_do_not_fill_the_log() -> Result {
    if !is_installed("curl") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    let log = folder.path().join("log");
    let server = Server::start_with_log(
        "web_daemon",
        &[
            "--listen",
            "127.0.0.1:0",
            "--root",
            &root.display().to_string(),
        ],
        &[("NO_COLOR", "1")],
        fs::File::create(&log)?,
    )?;
    fs::remove_dir(&root)?;
    let url = format!("http://{}/files/new", server.address);
    for _ in 0..5 {
        let answer = curl(&["-T", "/dev/null", "-w", "%{http_code}"], &url).output()?;
        assert_eq!(answer.stdout, b"internal error\n500");
    }
    let log = fs::read_to_string(log)?;
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("open(") && lines[0].contains(".upload-"),
        "{log}"
    );
    Ok(())
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = &(payload.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn a_client_that_resets_many_streams_leaves_the_log_empty() -> Result {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let server = Server::start_with_log(
        "web_daemon",
        &["--listen", "127.0.0.1:0"],
        &[("NO_COLOR", "1")],
        fs::File::create(&log)?,
    )?;
    // GET and / by http: RFC 7541, appendix A. Each stream ends by a reset.
    let open = |stream| frame(1, 5, stream, &[0x82, 0x86, 0x84]);
    let streams = (1..200).step_by(2);
    let resets = streams.flat_map(|stream| [open(stream), frame(3, 0, stream, &[0, 0, 0, 8])]);
    let mut client = server.connect()?;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    client.write_all(&frame(4, 0, 0, &[]))?;
    client.write_all(&resets.flatten().collect::<Vec<_>>())?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    let reason = b"too_many_resets"; // of a GOAWAY
    assert!(answer.windows(reason.len()).any(|part| part == reason));
    assert_eq!(fs::read_to_string(log)?, "");
    Ok(())
}

#[test]
fn a_folder_that_does_not_exist_is_named() -> Result {
    let output = crate::server::run("web_daemon", &["--root", "/nowhere"])?;
    let said = String::from_utf8(output.stderr)?;
    assert!(
        !output.status.success() && said.contains("/nowhere"),
        "{said}"
    );
    assert!(!Path::new("/nowhere").exists());
    Ok(())
}
