//! `proxy` under load in front of a server that is killed and started again and again: each request
//! is answered, refused or cut, no byte of one is in another, and the proxy keeps nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::server::{PATIENCE, Server};

/// Clients that send requests at the same time.
const CLIENTS: usize = 8;
/// Requests that must be answered between a start of the server and its end.
const ANSWERED: usize = 100;

#[test]
fn requests_through_restarts_of_the_target_are_answered_or_cut() -> Result {
    restart_the_target(20, Duration::ZERO)
}

#[test]
#[ignore = "takes a minute: .ci/long runs it"]
fn requests_through_a_minute_of_restarts_are_answered_or_cut() -> Result {
    restart_the_target(60, Duration::from_secs(1))
}

/// Kills and starts the target of a proxy `rounds` times, each time after `uptime` at least.
fn restart_the_target(rounds: usize, uptime: Duration) -> Result {
    let mut echo = Server::start("echo_server", &["--listen", &free_address()?])?;
    let address = echo.address.clone();
    let proxy = Server::start("proxy", &["--listen", "127.0.0.1:0", "--to", &address])?;
    let files = proxy.open_files()?;
    let load = Load::default();
    thread::scope(|scope| -> Result {
        for client in 0..CLIENTS {
            let (load, proxy) = (&load, &proxy);
            scope.spawn(move || load.run(client, proxy));
        }
        let _stop = StopWhenDropped(&load); // also if an assertion fails
        let mut memory = 0;
        for round in 0..rounds {
            let began = Instant::now();
            load.wait_for(&load.answered, ANSWERED)?;
            thread::sleep(uptime.saturating_sub(began.elapsed()));
            if round == 1 {
                memory = proxy.anonymous_bytes()?;
            }
            drop(echo); // killed
            load.wait_for(&load.failed, CLIENTS)?;
            echo = Server::start("echo_server", &["--listen", &address])?;
        }
        load.wait_for(&load.answered, ANSWERED)?;
        let more = proxy.anonymous_bytes()?.saturating_sub(memory);
        assert!(
            more < 1_000_000,
            "{more} bytes more than in the second round"
        );
        Ok(())
    })?;
    assert_eq!(
        load.mixed_up.into_inner(),
        0,
        "answers with bytes of others"
    );
    let began = Instant::now();
    while proxy.open_files()? > files {
        assert!(began.elapsed() < PATIENCE, "files stay open");
        thread::yield_now();
    }
    Ok(())
}

/// Returns a free address outside of the range from which the kernel takes ports of clients: no
/// client gets the port while the server is away.
fn free_address() -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = 20_000 + std::process::id() % 10_000;
    (0..100)
        .map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|port| format!("127.0.0.1:{port}"))
        .find(|address| TcpListener::bind(address).is_ok())
        .ok_or_else(|| "no free port".into())
}

/// The outcomes of all requests.
#[derive(Default)]
struct Load {
    answered: AtomicUsize,
    /// Refused, reset, or ended before the whole answer.
    failed: AtomicUsize,
    mixed_up: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    /// Sends requests through the proxy until the load is over.
    fn run(&self, client: usize, proxy: &Server) {
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok(mut stream) = proxy.connect() else {
                continue; // its queue was full
            };
            while !self.is_over.load(Ordering::Relaxed) {
                number += 1;
                let (counter, goes_on) = match ask(&mut stream, &request(client, number)) {
                    Answer::Whole => (&self.answered, true),
                    Answer::Cut => (&self.failed, false),
                    Answer::OfAnother => (&self.mixed_up, false),
                };
                counter.fetch_add(1, Ordering::Relaxed);
                if !goes_on {
                    break;
                }
            }
        }
    }

    /// Waits until `counter` has grown by `more`.
    fn wait_for(&self, counter: &AtomicUsize, more: usize) -> Result {
        let (began, at_first) = (Instant::now(), counter.load(Ordering::Relaxed));
        while counter.load(Ordering::Relaxed) < at_first + more {
            if began.elapsed() > PATIENCE {
                let (answered, failed) = (&self.answered, &self.failed);
                return Err(format!("stuck: answered {answered:?}, failed {failed:?}").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

struct StopWhenDropped<'a>(&'a Load);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Returns a request that no other client sends, and this client only once.
fn request(client: usize, number: usize) -> Vec<u8> {
    let line = format!("client {client}, request {number};");
    line.repeat(1 + number % 100).into_bytes()
}

enum Answer {
    Whole,
    Cut,
    OfAnother,
}

/// Sends a request and reads its echo.
fn ask(stream: &mut TcpStream, request: &[u8]) -> Answer {
    if stream.write_all(request).is_err() {
        return Answer::Cut;
    }
    let mut answer = vec![0; request.len()];
    let mut received = 0;
    while received < answer.len() {
        match stream.read(&mut answer[received..]) {
            Ok(0) => break,
            Ok(len) => received += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    match received {
        _ if answer[..received] != request[..received] => Answer::OfAnother,
        len if len == request.len() => Answer::Whole,
        _ => Answer::Cut,
    }
}
