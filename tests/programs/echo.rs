//! `echo_raw` and `echo_server`, on the reactor alone and on the ready-made handlers: a fault of a
//! peer affects that peer only, and a message costs one read and one write.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::process::Signal;
use support::reset;

use crate::Result;
use crate::server::{PATIENCE, Server, raise_open_files_limit, run};
use crate::tracer::Tracee;

/// Runs each of these tests for both programs.
macro_rules! tests_of_both {
    ($($test:ident),* $(,)?) => {
        mod echo_raw {
            $(#[test] fn $test() -> crate::Result { super::$test("echo_raw") })*
        }
        mod echo_server {
            $(#[test] fn $test() -> crate::Result { super::$test("echo_server") })*
        }
    };
}

tests_of_both! {
    it_says_where_it_listens_and_echoes,
    one_that_spins_serves_as_well_and_its_idle_timeout_holds,
    it_listens_on_a_unix_socket,
    a_bad_address_ends_it_with_2_and_a_line_that_names_it,
    an_address_in_use_ends_it_with_1_and_the_text_of_the_errno,
    bytes_of_a_half_closed_peer_are_still_echoed,
    a_peer_that_sends_one_byte_at_a_time_gets_each_back,
    peers_that_reset_or_vanish_affect_no_other_peer,
    a_peer_that_does_not_read_is_not_read_from_and_loses_nothing,
    more_connections_than_allowed_wait_until_one_is_closed,
    out_of_file_descriptors_it_pauses_and_then_serves_waiting_clients,
    a_wait_that_is_interrupted_goes_on,
    a_message_costs_one_read_one_write_and_a_share_of_one_wait,
    an_idle_timeout_costs_no_system_call_for_a_message,
    the_idle_timeout_closes_a_silent_connection_and_spares_a_busy_one,
    the_idle_timeout_holds_after_back_pressure,
    ten_thousand_connections_are_served_at_the_same_time,
}

fn start(program: &str, arguments: &[&str]) -> Result<Server> {
    Server::start(program, &[&["--listen", "127.0.0.1:0"], arguments].concat())
}

/// Sends `message` and expects it back.
#[track_caller]
pub(crate) fn expect_echo(stream: &mut (impl Read + Write), message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut echoed = vec![0; message.len()];
    stream.read_exact(&mut echoed).unwrap();
    assert!(
        echoed == message,
        "{} bytes came back changed",
        message.len()
    );
}

/// Returns bytes that depend on their place, so that a lost or exchanged byte shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

fn it_says_where_it_listens_and_echoes(program: &str) -> Result {
    let server = start(program, &[])?;
    assert!(!server.address.ends_with(":0"), "{}", server.address);
    let mut client = server.connect()?;
    expect_echo(&mut client, b"hello\n");
    expect_echo(&mut client, &pattern(1_000_000)[..64_000]);
    Ok(())
}

fn one_that_spins_serves_as_well_and_its_idle_timeout_holds(program: &str) -> Result {
    let server = start(program, &["--spin", "100", "--idle-timeout", "1"])?;
    let mut client = server.connect()?;
    for round in 0..100 {
        expect_echo(&mut client, &pattern(1000 + round));
    }
    assert_eq!(client.read(&mut [0])?, 0, "closed for its silence");
    Ok(())
}

fn it_listens_on_a_unix_socket(program: &str) -> Result {
    let path = std::env::temp_dir().join(format!("{program}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let address = format!("unix:{}", path.display());
    let server = Server::start(program, &["--listen", &address])?;
    assert_eq!(server.address, address);
    let mut client = UnixStream::connect(&path)?;
    client.set_read_timeout(Some(PATIENCE))?;
    expect_echo(&mut client, b"hello");
    drop(server);
    let _ = std::fs::remove_file(&path); // a killed server leaves its socket
    Ok(())
}

fn a_bad_address_ends_it_with_2_and_a_line_that_names_it(program: &str) -> Result {
    for bad in ["nonsense", "127.0.0.1:99999", "unix:"] {
        let output = run(program, &["--listen", bad])?;
        assert_eq!(output.status.code(), Some(2));
        assert!(
            String::from_utf8(output.stderr)?
                .lines()
                .any(|line| line.contains(bad)),
            "{bad} is not named"
        );
    }
    Ok(())
}

fn an_address_in_use_ends_it_with_1_and_the_text_of_the_errno(program: &str) -> Result {
    let server = start(program, &[])?;
    let output = run(program, &["--listen", &server.address])?;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr)?;
    assert!(
        error.contains(&server.address) && error.contains("Address already in use"),
        "{error}"
    );
    Ok(())
}

fn bytes_of_a_half_closed_peer_are_still_echoed(program: &str) -> Result {
    let server = start(program, &[])?;
    let message = pattern(100_000);
    let mut client = server.connect()?;
    client.write_all(&message)?;
    client.shutdown(Shutdown::Write)?;
    let mut echoed = Vec::new();
    client.read_to_end(&mut echoed)?;
    assert!(
        echoed == message,
        "{} of {} bytes",
        echoed.len(),
        message.len()
    );
    Ok(())
}

fn a_peer_that_sends_one_byte_at_a_time_gets_each_back(program: &str) -> Result {
    let server = start(program, &[])?;
    let mut client = server.connect()?;
    for byte in pattern(500) {
        expect_echo(&mut client, &[byte]);
    }
    Ok(())
}

fn peers_that_reset_or_vanish_affect_no_other_peer(program: &str) -> Result {
    let server = start(program, &[])?;
    let mut steady = server.connect()?;
    expect_echo(&mut steady, b"accepted");
    let files = server.open_files()?;
    for round in 0..50 {
        let mut rude = server.connect()?;
        rude.write_all(&pattern(10_000))?;
        if round % 2 == 0 {
            reset(rude)?;
        } else {
            drop(rude);
        }
        expect_echo(&mut steady, b"still here");
    }
    let mut last = server.connect()?;
    expect_echo(&mut last, b"and open for others");
    // The turn that accepted the last client has read the ends of all others, or a later turn does.
    for _ in 0..1000 {
        expect_echo(&mut steady, b"still here");
    }
    assert_eq!(server.open_files()?, files + 1);
    Ok(())
}

/// Sends the part of `message` that the server takes from a client that does not read. Returns its
/// length.
pub(crate) fn send_until_refused(
    client: &mut TcpStream,
    message: &[u8],
    steady: &mut TcpStream,
) -> Result<usize> {
    client.set_nonblocking(true)?;
    let (mut sent, mut refused) = (0, 0);
    while refused < 1000 {
        match client.write(&message[sent..]) {
            Ok(n) => (sent, refused) = (sent + n, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => refused += 1,
            Err(error) => return Err(error.into()),
        }
        expect_echo(steady, b"served meanwhile");
    }
    client.set_nonblocking(false)?;
    Ok(sent)
}

/// Sends the rest of `message` while all of it is read back.
pub(crate) fn send_rest_and_read_all(client: &mut TcpStream, message: &[u8], sent: usize) {
    let mut reader = client.try_clone().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| client.write_all(&message[sent..]));
        let mut echoed = vec![0; message.len()];
        reader.read_exact(&mut echoed).unwrap();
        assert!(echoed == message, "not what was sent");
        writer.join().unwrap().unwrap();
    });
}

fn a_peer_that_does_not_read_is_not_read_from_and_loses_nothing(program: &str) -> Result {
    let server = start(program, &[])?;
    let mut steady = server.connect()?;
    let mut slow = server.connect()?;
    let message = pattern(64_000_000);
    let sent = send_until_refused(&mut slow, &message, &mut steady)?;
    assert!(sent < message.len(), "it swallowed all of it");
    assert!(
        server.anonymous_bytes()? < 4_000_000,
        "{} bytes",
        server.anonymous_bytes()?
    );
    send_rest_and_read_all(&mut slow, &message, sent);
    Ok(())
}

/// This does not hold for `echo_server`. After a full queue it does not read before most of the
/// queue is sent. A peer that goes on sending meanwhile causes spurious wakeups. After the eighth
/// one, an `epoll_ctl` stops them.
#[test]
fn back_pressure_that_comes_and_goes_costs_no_updates_of_the_kernel() -> Result {
    let server = start("echo_raw", &[])?;
    let mut steady = server.connect()?;
    let mut slow = server.connect()?;
    let message = pattern(64_000_000);
    // When the server has to wait for room for the first time, it calls `epoll_ctl`. It never does
    // so again.
    let sent = send_until_refused(&mut slow, &message, &mut steady)?;
    send_rest_and_read_all(&mut slow, &message, sent);
    let mut tracee = Tracee::attach(server.pid())?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sent = send_until_refused(&mut slow, &message, &mut steady).unwrap();
            send_rest_and_read_all(&mut slow, &message, sent);
            drop(slow); // the server answers it by closing its end
        });
        let mut updates = 0;
        loop {
            let calls = tracee.run_to_wait()?;
            updates += calls.iter().filter(|call| **call == "epoll_ctl").count();
            if calls.contains(&"close") {
                assert_eq!(updates, 1, "the end of the registration");
                break Ok(());
            }
        }
    })
}

fn more_connections_than_allowed_wait_until_one_is_closed(program: &str) -> Result {
    let server = start(program, &["--max-connections", "2"])?;
    let mut first = server.connect()?;
    let mut second = server.connect()?;
    expect_echo(&mut first, b"one");
    expect_echo(&mut second, b"two");
    let files = server.open_files()?;
    let mut third = server.connect()?;
    third.write_all(b"three")?;
    for _ in 0..100 {
        expect_echo(&mut first, b"the third is not served");
    }
    assert_eq!(server.open_files()?, files);
    drop(second);
    third.read_exact(&mut [0; 5])?;
    Ok(())
}

fn out_of_file_descriptors_it_pauses_and_then_serves_waiting_clients(program: &str) -> Result {
    let server = Server::start_with_open_files_max(program, &["--listen", "127.0.0.1:0"], 64)?;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = server.connect()?; // clients beyond the limit wait in the kernel's queue
        client.write_all(b"hello")?;
        clients.push(client);
    }
    let mut tracee = Tracee::attach(server.pid())?;
    let mut calls_of_a_pause = || -> Result<Vec<&'static str>> {
        let mut calls = Vec::new();
        loop {
            match tracee.next_call()? {
                "accept4" => return Ok(calls),
                "write" => {} // the log
                call => calls.push(call),
            }
        }
    };
    // The server waits for the time, and perhaps checks the listener whose interest is back. It
    // does not spin: a server that checks for connections again and again would not wait in
    // between.
    let (mut quiet, mut looks) = (0, 0);
    while quiet < 5 {
        let calls = calls_of_a_pause()?;
        let is_quiet =
            (1..=2).contains(&calls.len()) && calls.iter().all(|call| *call == "epoll_pwait");
        quiet = if is_quiet { quiet + 1 } else { 0 };
        looks += 1;
        assert!(looks < 75, "the last of them: {calls:?}");
    }
    drop(tracee);
    for mut client in clients {
        let mut echoed = [0; 5];
        client.read_exact(&mut echoed)?; // and is closed, which makes room for the next client
        assert_eq!(&echoed, b"hello");
    }
    Ok(())
}

fn a_wait_that_is_interrupted_goes_on(program: &str) -> Result {
    let server = start(program, &[])?;
    let mut client = server.connect()?;
    for _ in 0..20 {
        // signal(7): epoll_wait returns EINTR when a stopped process is continued, also without a
        // handler.
        server.signal(Signal::STOP)?;
        server.signal(Signal::CONT)?;
        expect_echo(&mut client, b"hello");
    }
    Ok(())
}

fn a_message_costs_one_read_one_write_and_a_share_of_one_wait(program: &str) -> Result {
    expect_exact_calls(&start(program, &[])?)
}

fn an_idle_timeout_costs_no_system_call_for_a_message(program: &str) -> Result {
    expect_exact_calls(&start(program, &["--idle-timeout", "600"])?)
}

#[track_caller]
fn expect_exact_calls(server: &Server) -> Result {
    const CONNECTIONS: usize = 10;
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| server.connect())
        .collect::<Result<_>>()?;
    for client in &mut clients {
        expect_echo(client, &pattern(64));
    }
    let mut tracee = Tracee::attach(server.pid())?;
    tracee.run_to_wait()?;
    for round in 0..20 {
        // The server stands before its wait: the bytes of all clients are one batch.
        for client in &mut clients {
            client.write_all(&pattern(64))?;
        }
        let calls = tracee.run_to_wait()?;
        assert_eq!(
            calls,
            ["recvfrom", "sendto"].repeat(CONNECTIONS),
            "round {round}"
        );
        for client in &mut clients {
            client.read_exact(&mut [0; 64])?;
        }
    }
    Ok(())
}

fn the_idle_timeout_closes_a_silent_connection_and_spares_a_busy_one(program: &str) -> Result {
    let server = start(program, &["--idle-timeout", "1"])?;
    let mut silent = server.connect()?;
    let mut talking = server.connect()?;
    expect_echo(&mut silent, b"the last words");
    silent.set_nonblocking(true)?;
    while matches!(silent.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
        expect_echo(&mut talking, b"on and on");
    }
    silent.set_nonblocking(false)?;
    assert_eq!(silent.read(&mut [0; 1])?, 0);
    expect_echo(&mut talking, b"still there");
    Ok(())
}

/// The idle timeout also ends the connection of a peer that never reads.
fn the_idle_timeout_holds_after_back_pressure(program: &str) -> Result {
    let server = start(program, &["--idle-timeout", "2"])?;
    let message = pattern(64_000_000);
    let mut steady = server.connect()?;
    // Once the server has waited for room, it knows from then on that there is room to write.
    let mut drained = server.connect()?;
    let sent = send_until_refused(&mut drained, &message, &mut steady)?;
    send_rest_and_read_all(&mut drained, &message, sent);
    let mut steady = server.connect()?; // the first one was silent meanwhile
    let mut never_reads = server.connect()?;
    send_until_refused(&mut never_reads, &message, &mut steady)?;
    drained.set_nonblocking(true)?;
    never_reads.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE / 3;
    let mut open = [true, true];
    while open != [false, false] {
        assert!(Instant::now() < deadline, "still open: {open:?}");
        expect_echo(&mut steady, b"talking");
        open[0] &= matches!(drained.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        // This client must not read, so a write finds the end.
        open[1] &=
            matches!(never_reads.write(b"x"), Err(error) if error.kind() == ErrorKind::WouldBlock);
    }
    Ok(())
}

fn ten_thousand_connections_are_served_at_the_same_time(program: &str) -> Result {
    let connections = raise_open_files_limit()?.saturating_sub(100).min(10_000);
    let server = start(program, &[])?;
    let mut clients: Vec<TcpStream> = Vec::new();
    while clients.len() < connections {
        let mut client = server.connect()?;
        if clients.len().is_multiple_of(500) {
            expect_echo(&mut client, b"accepted"); // so that the kernel's queue never overflows
        }
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&number.to_le_bytes())?;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut echoed = [0; 8];
        client.read_exact(&mut echoed)?;
        assert_eq!(usize::from_le_bytes(echoed), number);
    }
    Ok(())
}
