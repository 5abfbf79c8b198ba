//! `forwarder`: lines reach an upstream that comes and goes, and what was acknowledged is not lost.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::Result;
use crate::server::{PATIENCE, Server, accept, run};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `done` returns `true`.
#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// An upstream that collects lines and acknowledges them. It can be killed and started again.
struct Collector {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    running: Option<Running>,
}

struct Running {
    is_over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn new() -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self {
            address,
            lines: Arc::default(),
            running: None,
        })
    }

    fn start(&mut self) -> Result {
        let listener = TcpListener::bind(self.address)?;
        let (is_over, open) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<TcpStream>>>::default(),
        );
        let (ends, opens, lines) = (
            Arc::clone(&is_over),
            Arc::clone(&open),
            Arc::clone(&self.lines),
        );
        let thread = thread::spawn(move || {
            for peer in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(peer), lines) = (peer, Arc::clone(&lines)) else {
                    continue;
                };
                lock(&opens).extend(peer.try_clone());
                thread::spawn(move || {
                    collect(&peer, &lines);
                    let _ = peer.shutdown(Shutdown::Both);
                });
            }
        });
        self.running = Some(Running {
            is_over,
            open,
            thread,
        });
        Ok(())
    }

    /// Closes the listener and all connections.
    fn kill(&mut self) {
        let Some(Running {
            is_over,
            open,
            thread,
        }) = self.running.take()
        else {
            return;
        };
        is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // ends the wait for a connection
        let _ = thread.join();
        for peer in lock(&open).drain(..) {
            let _ = peer.shutdown(Shutdown::Both);
        }
    }

    fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Collects the whole lines of a connection.
fn collect(mut peer: &TcpStream, lines: &Mutex<Vec<String>>) {
    let mut reads = BufReader::new(peer);
    loop {
        let mut line = String::new();
        match reads.read_line(&mut line) {
            Ok(1..) if line.ends_with('\n') => {}
            _ => return,
        }
        lock(lines).push(line.trim_end().to_owned());
        if peer.write_all(b"+\n").is_err() {
            return;
        }
    }
}

/// A folder with the spool and the socket of a forwarder.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
        })
    }

    fn spool(&self) -> std::path::PathBuf {
        self.folder.path().join("spool")
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("socket")
    }

    /// Starts a forwarder. It listens at the same path each time.
    fn start(&self, to: SocketAddr, more: &[&str]) -> Result<Server> {
        let (spool, to) = (self.spool().display().to_string(), to.to_string());
        let listen = format!("unix:{}", self.socket().display());
        let arguments = [
            "--listen",
            &listen,
            "--to",
            &to,
            "--spool",
            &spool,
            "--max-delay",
            "20",
        ];
        Server::start("forwarder", &[&arguments, more].concat())
    }

    fn connect(&self) -> io::Result<UnixStream> {
        connect(&self.socket())
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends lines and waits until all of them are acknowledged.
fn send(client: &mut UnixStream, lines: &[&str]) -> Result {
    client.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    let mut answers = vec![0; 2 * lines.len()];
    client.read_exact(&mut answers)?;
    assert_eq!(answers, b"+\n".repeat(lines.len()));
    Ok(())
}

/// Returns the message with which a forwarder ends that cannot start.
fn refuse(arguments: &[&str]) -> Result<String> {
    let output = run("forwarder", arguments)?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

fn end(forwarder: Server) -> Result {
    forwarder.signal(Signal::TERM)?;
    let status = forwarder.wait()?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[test]
fn lines_are_forwarded_and_acknowledged_in_order() -> Result {
    let (place, mut collector) = (Place::new()?, Collector::new()?);
    collector.start()?;
    let forwarder = place.start(collector.address, &[])?;
    let mut client = place.connect()?;
    send(&mut client, &["one", "two", ""])?;
    send(&mut client, &["three"])?;
    assert_eq!(collector.lines(), ["one", "two", "", "three"]);
    end(forwarder)?;
    assert_eq!(fs::metadata(place.spool())?.len(), 0);
    Ok(())
}

#[test]
fn lines_are_acknowledged_from_the_spool_and_survive_a_kill() -> Result {
    for sync in ["always", "never"] {
        let (place, mut collector) = (Place::new()?, Collector::new()?);
        let forwarder = place.start(collector.address, &["--sync", sync])?;
        send(&mut place.connect()?, &["one", "two"])?;
        drop(forwarder); // a kill
        let forwarder = place.start(collector.address, &["--sync", sync])?;
        send(&mut place.connect()?, &["three"])?;
        collector.start()?;
        wait_until("all lines", || collector.lines().len() == 3);
        assert_eq!(collector.lines(), ["one", "two", "three"]);
        let is_cleared = || fs::metadata(place.spool()).is_ok_and(|spool| spool.len() == 0);
        wait_until("an empty spool", is_cleared);
        end(forwarder)?;
    }
    Ok(())
}

#[test]
fn an_end_leaves_the_lines_that_wait_in_the_spool() -> Result {
    let (place, mut collector) = (Place::new()?, Collector::new()?);
    let forwarder = place.start(collector.address, &[])?;
    send(&mut place.connect()?, &["one"])?;
    end(forwarder)?;
    collector.start()?;
    let forwarder = place.start(collector.address, &[])?;
    wait_until("the line", || collector.lines() == ["one"]);
    end(forwarder)
}

#[test]
fn a_torn_record_is_cut_off_and_those_before_it_are_kept() -> Result {
    let place = Place::new()?;
    let mut collector = Collector::new()?;
    let forwarder = place.start(collector.address, &[])?;
    send(&mut place.connect()?, &["one", "two", "three"])?;
    drop(forwarder);
    let whole = fs::read(place.spool())?;
    let last = whole.len() - "5 0123456789abcdef three\n".len() - 1;
    collector.start()?;
    let mut zeros = whole.clone();
    zeros.resize(whole.len() + 1000, 0);
    let mut flipped = whole.clone();
    flipped[whole.len() - 2] ^= 1;
    let mut contents = vec![(zeros, 3), (flipped, 2)];
    contents.extend((last + 1..whole.len()).map(|length| (whole[..length].to_vec(), 2)));
    for (content, count) in contents {
        fs::write(place.spool(), &content)?;
        lock(&collector.lines).clear();
        let forwarder = place.start(collector.address, &[])?;
        send(&mut place.connect()?, &["last"])?;
        let expected = [&["one", "two", "three"][..count], &["last"]].concat();
        assert_eq!(collector.lines(), expected, "{} bytes", content.len());
        end(forwarder)?;
    }
    Ok(())
}

#[test]
fn a_full_spool_pauses_clients_until_the_upstream_is_back() -> Result {
    // Half of the limit is 50 lines of 1000 bytes, or 196 lines of any length.
    for (length, all, answered) in [(999, 200, 50), (0, 1000, 196)] {
        let (place, mut collector) = (Place::new()?, Collector::new()?);
        let forwarder = place.start(collector.address, &["--max-spool", "100000"])?;
        let mut client = place.connect()?;
        let line = "x".repeat(length);
        client.write_all(format!("{line}\n").repeat(all).as_bytes())?;
        let mut answers = vec![0; 2 * answered];
        client.read_exact(&mut answers)?;
        client.set_nonblocking(true)?;
        assert_eq!(
            client.read(&mut [0]).map_err(|error| error.kind()),
            Err(io::ErrorKind::WouldBlock)
        );
        client.set_nonblocking(false)?;
        assert!(fs::metadata(place.spool())?.len() < 200_000);
        collector.start()?;
        let mut answers = vec![0; 2 * (all - answered)];
        client.read_exact(&mut answers)?;
        assert_eq!(collector.lines().len(), all);
        end(forwarder)?;
    }
    Ok(())
}

#[test]
fn a_spool_belongs_to_one_forwarder_at_a_time() -> Result {
    let (place, collector) = (Place::new()?, Collector::new()?);
    let first = place.start(collector.address, &[])?;
    let spool = place.spool().display().to_string();
    let listen = format!("unix:{}", place.folder.path().join("second").display());
    let arguments = [
        "--listen",
        &listen,
        "--to",
        "127.0.0.1:1",
        "--spool",
        &spool,
    ];
    let ended = refuse(&arguments)?;
    let expected = format!("forwarder: {spool}: another process uses this spool\n");
    assert_eq!(ended, expected);
    end(first)
}

#[test]
fn a_file_that_is_no_spool_is_not_lost() -> Result {
    let (place, collector) = (Place::new()?, Collector::new()?);
    fs::write(place.spool(), "a poem\n")?;
    end(place.start(collector.address, &[])?)?;
    let kept = place.folder.path().join("spool.torn");
    assert_eq!(fs::read_to_string(kept)?, "a poem\n");
    let device = place.folder.path().join("device");
    std::os::unix::fs::symlink("/dev/zero", &device)?; // it can be read without end
    let device = device.display().to_string();
    let ended = refuse(&["--to", "127.0.0.1:1", "--spool", &device])?;
    assert_eq!(ended, format!("forwarder: {device}: not a regular file\n"));
    Ok(())
}

#[test]
fn an_upstream_that_answers_nonsense_is_left() -> Result {
    let place = Place::new()?;
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let forwarder = place.start(upstream.local_addr()?, &[])?;
    for nonsense in [&b"-\n"[..], b"+\n"] {
        let mut peer = accept(&upstream)?; // `+` acknowledges a line that was never sent
        peer.write_all(nonsense)?;
        assert_eq!(peer.read(&mut [0])?, 0);
    }
    end(forwarder)
}

#[test]
fn only_the_answers_before_nonsense_acknowledge_lines() -> Result {
    let (place, mut collector) = (Place::new()?, Collector::new()?);
    let upstream = TcpListener::bind(collector.address)?;
    let forwarder = place.start(collector.address, &[])?;
    let mut peer = accept(&upstream)?;
    place.connect()?.write_all(b"one\ntwo\nthree\n")?;
    let mut lines = [0; 14];
    peer.read_exact(&mut lines)?;
    peer.write_all(b"+\nno\n+\n")?;
    assert_eq!(peer.read(&mut [0])?, 0);
    drop((peer, upstream));
    collector.start()?;
    wait_until("the other lines", || collector.lines().len() == 2);
    assert_eq!(collector.lines(), ["two", "three"]);
    end(forwarder)
}

/// A client that sends numbered lines for ever, to whichever forwarder listens.
struct Load {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(name: usize, socket: std::path::PathBuf) -> Self {
        let (is_over, acknowledged) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (ends, notes) = (Arc::clone(&is_over), Arc::clone(&acknowledged));
        let thread = thread::spawn(move || {
            let mut number = 0_u64;
            while !ends.load(Ordering::Relaxed) {
                let Ok(mut client) = connect(&socket) else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                while !ends.load(Ordering::Relaxed) {
                    let lines: Vec<_> = (number..number + 5)
                        .map(|line| format!("{name}-{line}"))
                        .collect();
                    number += 5;
                    if client
                        .write_all(format!("{}\n", lines.join("\n")).as_bytes())
                        .is_err()
                    {
                        break;
                    }
                    let mut answers = lines.into_iter();
                    let is_answered = answers.all(|line| {
                        let mut answer = [0; 2];
                        let is_read = client.read_exact(&mut answer).is_ok() && &answer == b"+\n";
                        if is_read {
                            lock(&notes).push(line);
                        }
                        is_read
                    });
                    if !is_answered {
                        break;
                    }
                }
            }
        });
        Self {
            is_over,
            acknowledged,
            thread,
        }
    }

    fn count(&self) -> usize {
        lock(&self.acknowledged).len()
    }

    fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        lock(&self.acknowledged).clone()
    }
}

/// Waits until the collector has each of these lines.
#[track_caller]
fn expect_all(collector: &Collector, acknowledged: &[String]) {
    let is_whole = || {
        let lines = collector.lines();
        let there: HashSet<_> = lines.iter().collect();
        acknowledged.iter().all(|line| there.contains(line))
    };
    wait_until("the acknowledged lines", is_whole);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_hundred_kills() -> Result {
    let (place, mut collector) = (Place::new()?, Collector::new()?);
    let loads = [0, 1].map(|name| Load::start(name, place.socket()));
    for round in 0..100 {
        // The upstream comes and goes meanwhile.
        match round % 5 {
            0 => collector.start()?,
            3 => collector.kill(),
            _ => {}
        }
        let forwarder = place.start(collector.address, &["--sync", "never"])?;
        let before = loads[0].count();
        wait_until("an acknowledgement", || {
            loads[0].count() > before + round % 7
        });
        drop(forwarder); // a kill
    }
    collector.kill();
    collector.start()?;
    let forwarder = place.start(collector.address, &[])?;
    let acknowledged = loads.map(Load::end).concat();
    assert!(acknowledged.len() >= 100, "{} lines", acknowledged.len());
    expect_all(&collector, &acknowledged);
    end(forwarder)
}

/// Lets the upstream come and go under a load. Waits for `pause` in each state, and for lines that
/// are acknowledged in it.
fn come_and_go(rounds: usize, pause: Duration) -> Result {
    let (place, mut collector) = (Place::new()?, Collector::new()?);
    let forwarder = place.start(collector.address, &["--sync", "never"])?;
    let loads = [0, 1].map(|name| Load::start(name, place.socket()));
    let mut after_warm_up = 0;
    for round in 0..rounds {
        collector.start()?;
        let before = collector.lines().len();
        thread::sleep(pause);
        wait_until("a line", || collector.lines().len() > before + 20);
        collector.kill();
        let before = loads[0].count();
        thread::sleep(pause);
        wait_until("an acknowledgement", || loads[0].count() > before + 20);
        if round == rounds / 3 {
            after_warm_up = forwarder.anonymous_bytes()?;
        }
    }
    let grown = forwarder.anonymous_bytes()?.saturating_sub(after_warm_up);
    assert!(grown < 2_000_000, "{grown} bytes more");
    collector.start()?;
    let acknowledged = loads.map(Load::end).concat();
    expect_all(&collector, &acknowledged);
    let is_calm = || forwarder.open_files().is_ok_and(|files| files < 20);
    wait_until("few open files", is_calm);
    end(forwarder)
}

#[test]
fn nothing_grows_or_is_lost_while_the_upstream_comes_and_goes() -> Result {
    come_and_go(30, Duration::ZERO)
}

#[test]
#[ignore = "takes a minute: .ci/long runs it"]
fn nothing_grows_or_is_lost_in_a_minute_of_restarts() -> Result {
    come_and_go(60, Duration::from_millis(500))
}
