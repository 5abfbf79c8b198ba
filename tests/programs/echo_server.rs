//! The additions of `echo_server` to `echo_raw`: several addresses and loops, counters, a graceful
//! end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use rustix::process::Signal;
use support::reset;

use crate::Result;
use crate::echo::{expect_echo, pattern, send_until_refused};
use crate::server::{PATIENCE, Server, raise_open_files_limit, run};

fn start(arguments: &[&str]) -> Result<Server> {
    Server::start(
        "echo_server",
        &[&["--listen", "127.0.0.1:0"], arguments].concat(),
    )
}

/// Returns a client that has sent more than it has read, so that the server has queued bytes for
/// it.
fn client_with_a_backlog(server: &Server) -> Result<TcpStream> {
    let mut steady = server.connect()?;
    let mut slow = server.connect()?;
    send_until_refused(&mut slow, &pattern(64_000_000), &mut steady)?;
    Ok(slow)
}

/// No client is accepted meanwhile.
#[test]
fn a_signal_ends_it_with_0_once_everything_is_sent() -> Result {
    for signal in [Signal::TERM, Signal::INT] {
        let server = start(&[])?;
        let mut slow = client_with_a_backlog(&server)?;
        let mut idle = server.connect()?;
        expect_echo(&mut idle, b"about to be idle");
        server.signal(signal)?;
        assert_eq!(idle.read(&mut [0])?, 0, "closed in order");
        let refused =
            TcpStream::connect(&server.address).and_then(|mut late| late.read_exact(&mut [0]));
        assert!(refused.is_err());
        let mut echoed = Vec::new();
        slow.read_to_end(&mut echoed)?; // to the end of the stream, not to a reset
        assert!(
            echoed == pattern(64_000_000)[..echoed.len()],
            "what came is what was sent"
        );
        assert!(echoed.len() > 256 * 1024, "only {} bytes", echoed.len());
        drop(slow);
        drop(idle);
        assert_eq!(server.wait()?.code(), Some(0));
    }
    Ok(())
}

#[test]
fn a_peer_that_does_not_read_delays_the_end_by_5_seconds_at_most() -> Result {
    let server = start(&[])?;
    let _slow = client_with_a_backlog(&server)?;
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_signal_that_comes_again_a_second_later_ends_it_at_once() -> Result {
    let server = start(&[])?;
    let _slow = client_with_a_backlog(&server)?;
    let mut idle = server.connect()?;
    server.signal(Signal::TERM)?;
    assert_eq!(idle.read(&mut [0])?, 0, "the first one was heard");
    server.insist(Signal::INT)?;
    assert_eq!(server.wait()?.code(), Some(128 + 2));
    Ok(())
}

#[test]
fn it_listens_on_several_addresses_of_several_families() -> Result {
    let name = format!("unix:@echo_server-several-{}", std::process::id());
    let mut server = start(&["--listen", "[::1]:0", "--listen", &name])?;
    let v6 = server.next_address()?;
    assert!(v6.starts_with("[::1]:"), "{v6}");
    assert_eq!(server.next_address()?, name);
    expect_echo(&mut server.connect()?, b"by v4");
    expect_echo(&mut TcpStream::connect(v6)?, b"by v6");
    let address = SocketAddr::from_abstract_name(&name["unix:@".len()..])?;
    let mut unix = UnixStream::connect_addr(&address)?;
    unix.set_read_timeout(Some(PATIENCE))?;
    expect_echo(&mut unix, b"by name");
    Ok(())
}

/// A server that ends by itself removes its file.
#[test]
fn the_socket_file_of_a_killed_server_is_replaced() -> Result {
    let path = std::env::temp_dir().join(format!("echo_server-stale-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    drop(Server::start("echo_server", &["--listen", &address])?); // killed
    assert!(path.exists());
    let server = Server::start("echo_server", &["--listen", &address])?;
    expect_echo(&mut UnixStream::connect(&path)?, b"hello");
    let output = run("echo_server", &["--listen", &address])?;
    assert_eq!(output.status.code(), Some(1), "a server listens there");
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait()?.code(), Some(0));
    assert!(!path.exists());
    Ok(())
}

#[test]
fn several_loops_serve_one_address_and_end_together() -> Result {
    let server = start(&["--threads", "3"])?;
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero()))?;
    assert!(
        status
            .lines()
            .any(|line| line.split_whitespace().eq(["Threads:", "4"])),
        "one measures the time to insist: {status}"
    );
    let mut clients = (0..60)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        expect_echo(client, &pattern(10_000));
    }
    server.signal(Signal::TERM)?;
    for mut client in clients {
        assert_eq!(client.read(&mut [0])?, 0);
    }
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn the_limit_of_connections_is_one_for_all_loops() -> Result {
    let server = start(&["--threads", "3", "--max-connections", "5"])?;
    let mut clients = (0..40)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    // Each client closes when it has been served: all are, five at a time.
    for client in &mut clients {
        client.write_all(b"hello")?;
        client.shutdown(std::net::Shutdown::Write)?;
    }
    for mut client in clients {
        let mut echoed = Vec::new();
        client.read_to_end(&mut echoed)?;
        assert_eq!(echoed, b"hello");
    }
    Ok(())
}

#[test]
fn it_writes_its_counters_at_the_configured_interval() -> Result {
    let mut server = start(&["--stats", "1"])?;
    let mut client = server.connect()?;
    expect_echo(&mut client, b"seven b");
    let line = server.next_line()?;
    assert_eq!(line, "loop 0: 1 connections, 1 accepted, 7 bytes\n");
    Ok(())
}

#[test]
fn options_that_cannot_be_are_named() -> Result {
    for bad in [
        ["--threads", "0"],
        ["--stats", "soon"],
        ["--idle-timeout", "0"],
        ["--listen", "localhost"],
    ] {
        let output = run("echo_server", &bad)?;
        assert_eq!(output.status.code(), Some(2));
        assert!(
            String::from_utf8(output.stderr)?.contains(bad[0]),
            "{bad:?}"
        );
    }
    Ok(())
}

#[test]
fn a_connection_that_resets_while_the_server_ends_does_not_hold_it_up() -> Result {
    let server = start(&[])?;
    let slow = client_with_a_backlog(&server)?;
    let mut idle = server.connect()?;
    server.signal(Signal::TERM)?;
    assert_eq!(idle.read(&mut [0])?, 0);
    reset(slow)?;
    drop(idle);
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn bytes_sent_before_the_signal_are_echoed_in_full() -> Result {
    let server = start(&[])?;
    let mut clients = (0..20)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        expect_echo(client, b"accepted");
    }
    // Both have arrived when the server polls again: the bytes of the clients, and the signal.
    server.signal(Signal::STOP)?;
    for client in &mut clients {
        client.write_all(&pattern(30_000))?;
    }
    server.signal(Signal::TERM)?;
    server.signal(Signal::CONT)?;
    for client in &mut clients {
        let mut echoed = Vec::new();
        client.read_to_end(&mut echoed)?;
        assert!(echoed == pattern(30_000), "{} bytes", echoed.len());
    }
    drop(clients);
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn idle_connections_take_at_most_400_bytes_each_and_give_them_back() -> Result {
    let connections = raise_open_files_limit()?.saturating_sub(100).min(10_000);
    let server = start(&[])?;
    let files = server.open_files()?;
    let before = server.anonymous_bytes()?;
    let mut after = [0; 3];
    for after in &mut after {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let mut client = server.connect()?;
            expect_echo(&mut client, &pattern(1000));
            clients.push(client);
        }
        let each = server.anonymous_bytes()?.saturating_sub(before) / connections as u64;
        assert!(each <= 400, "{each} bytes a connection");
        drop(clients);
        let mut last = server.connect()?;
        while server.open_files()? > files + 1 {
            expect_echo(&mut last, b"until it has met the ends of all others");
        }
        *after = server.anonymous_bytes()?;
    }
    // The first wave has made room for the later ones, which leave no more behind.
    assert!(after[2] <= after[0] + 100_000, "{after:?}");
    Ok(())
}

#[test]
fn clients_that_speak_in_time_outlive_a_stop_longer_than_the_idle_timeout() -> Result {
    const IDLE_SECONDS: u64 = 4;
    // More connections than one wait returns.
    let connections = raise_open_files_limit()?.saturating_sub(100).min(1200);
    let server = start(&["--idle-timeout", &IDLE_SECONDS.to_string()])?;
    let mut clients = (0..connections)
        .map(|_| server.connect())
        .collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        expect_echo(client, b"alive");
    }
    server.signal(Signal::STOP)?;
    for client in &mut clients {
        client.write_all(b"in time")?;
    }
    // The program uses the system's clock.
    std::thread::sleep(std::time::Duration::from_secs(IDLE_SECONDS + 1));
    server.signal(Signal::CONT)?;
    for client in &mut clients {
        let mut echoed = [0; 7];
        client.read_exact(&mut echoed)?;
        assert_eq!(&echoed, b"in time");
    }
    Ok(())
}
