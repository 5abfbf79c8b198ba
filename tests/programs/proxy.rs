//! `proxy`: bytes, ends and back-pressure pass through it both ways.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use handlers::proxy_protocol::{Addresses, Header, Progress};
use rustix::process::Signal;
use support::{Haproxy, is_installed, reset};

use crate::Result;
use crate::echo::{expect_echo, pattern, send_rest_and_read_all, send_until_refused};
use crate::server::{PATIENCE, Server, accept, run};

/// Returns a proxy in front of an echo server, and that server.
fn start() -> Result<(Server, Server)> {
    let echo = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let proxy = start_to(&echo.address)?;
    Ok((proxy, echo))
}

fn start_to(address: &str) -> Result<Server> {
    Server::start("proxy", &["--listen", "127.0.0.1:0", "--to", address])
}

/// Returns a proxy, and both ends of a connection through it: the client's and the server's.
fn pair() -> Result<(Server, TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = start_to(&listener.local_addr()?.to_string())?;
    let client = proxy.connect()?;
    let server = accept(&listener)?;
    Ok((proxy, client, server))
}

#[test]
fn bytes_come_back_through_proxy_and_server() -> Result {
    let (proxy, _echo) = start()?;
    let mut clients = (0..20)
        .map(|_| proxy.connect())
        .collect::<Result<Vec<_>>>()?;
    for round in 0..20 {
        for client in &mut clients {
            expect_echo(client, &pattern(1 + round * 997));
        }
    }
    Ok(())
}

#[test]
fn a_header_of_a_proxy_in_front_is_not_passed_on() -> Result {
    let echo = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let arguments = ["--listen", "127.0.0.1:0", "--to", &echo.address];
    for (trusted, is_served) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let trusting = [&arguments[..], &["--accept-proxy", trusted]].concat();
        let proxy = Server::start("proxy", &trusting)?;
        let mut client = proxy.connect()?;
        client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n")?;
        if is_served {
            expect_echo(&mut client, b"hello");
        } else {
            assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        }
    }
    Ok(())
}

/// The options that send a header, and the addresses that proxies listen on.
const HEADERS: [&str; 2] = ["--send-proxy", "--send-proxy-v2"];
const FAMILIES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// Returns a proxy at this address that sends a header to `to`.
fn start_sending(listen: &str, to: SocketAddr, more: &[&str]) -> Result<Server> {
    let to = to.to_string();
    Server::start(
        "proxy",
        &[&["--listen", listen, "--to", &to], more].concat(),
    )
}

/// Reads the header that a connection begins with.
fn read_header(server: &mut TcpStream) -> Result<Header> {
    server.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    loop {
        match Header::parse(&bytes)? {
            Progress::Complete { header, .. } => return Ok(header),
            Progress::Incomplete(more) => {
                let begun = bytes.len();
                bytes.resize(begun + more, 0);
                server.read_exact(&mut bytes[begun..])?;
            }
        }
    }
}

/// Checks that the next connection to the server begins with this header, before `hello`.
fn expect_header(listener: &TcpListener, header: &Header) -> Result {
    let mut server = accept(listener)?;
    assert_eq!(&read_header(&mut server)?, header);
    let mut hello = [0; 5];
    server.read_exact(&mut hello)?;
    assert_eq!(&hello, b"hello");
    Ok(())
}

#[test]
fn the_target_gets_the_address_of_the_client_before_its_bytes() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    for (option, listen) in HEADERS.iter().flat_map(|o| FAMILIES.map(|f| (o, f))) {
        let proxy = start_sending(listen, listener.local_addr()?, &[option])?;
        let mut client = proxy.connect()?;
        client.write_all(b"hello")?;
        let header = Header::internet(client.local_addr()?, client.peer_addr()?);
        expect_header(&listener, &header)?;
    }
    Ok(())
}

#[test]
fn a_client_of_a_unix_socket_has_no_address_in_the_header() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let unix = format!("unix:{}", path.display());
    for (option, addresses) in [
        ("--send-proxy", Addresses::Unknown),
        ("--send-proxy-v2", Addresses::Local),
    ] {
        let _proxy = start_sending(&unix, listener.local_addr()?, &[option])?;
        let mut client = UnixStream::connect(&path)?;
        client.write_all(b"hello")?;
        let mut server = accept(&listener)?;
        assert_eq!(read_header(&mut server)?.addresses(), &addresses);
        server.read_exact(&mut [0; 5])?;
    }
    Ok(())
}

#[test]
fn the_header_of_a_proxy_in_front_names_the_client_to_the_target() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let behind = ["--accept-proxy", "127.0.0.1"];
    let client: SocketAddr = "192.0.2.1:56324".parse()?;
    for option in HEADERS {
        let more = [&behind[..], &[option]].concat();
        let proxy = start_sending("127.0.0.1:0", listener.local_addr()?, &more)?;
        let header = Header::internet(client, "[2001:db8::1]:443".parse()?);
        let mut in_front = proxy.connect()?;
        in_front.write_all(&header.to_v2())?;
        in_front.write_all(b"hello")?;
        let both = ["::ffff:192.0.2.1", "2001:db8::1"].map(str::parse::<std::net::IpAddr>);
        let [client, server] = both;
        expect_header(
            &listener,
            &Header::internet((client?, 56324).into(), (server?, 443).into()),
        )?;
        let mut checks = proxy.connect()?;
        checks.write_all(&[&Header::local().to_v2()[..], b"hello"].concat())?;
        let mut server = accept(&listener)?;
        assert_eq!(read_header(&mut server)?.addresses().source(), None);
    }
    Ok(())
}

#[test]
fn haproxy_understands_the_header_of_each_version_and_family() -> Result {
    if !is_installed("haproxy") {
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let haproxy = Haproxy::start("accept-proxy", listener.local_addr()?, "send-proxy")?;
    for (option, listen) in HEADERS.iter().flat_map(|o| FAMILIES.map(|f| (o, f))) {
        let proxy = start_sending(listen, haproxy.address, &[option])?;
        let mut client = proxy.connect()?;
        client.write_all(b"hello")?;
        let header = Header::internet(client.local_addr()?, client.peer_addr()?);
        expect_header(&listener, &header)?;
    }
    Ok(())
}

#[test]
fn haproxy_takes_a_client_without_an_address_for_the_proxy() -> Result {
    if !is_installed("haproxy") {
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let haproxy = Haproxy::start("accept-proxy", listener.local_addr()?, "send-proxy-v2")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let unix = format!("unix:{}", path.display());
    for option in HEADERS {
        let _proxy = start_sending(&unix, haproxy.address, &[option])?;
        let mut client = UnixStream::connect(&path)?;
        client.write_all(b"hello")?;
        let mut server = accept(&listener)?;
        let source = read_header(&mut server)?.addresses().source();
        let source = source.ok_or("the address of the proxy itself")?;
        assert!(source.ip().is_loopback(), "{source}");
        server.read_exact(&mut [0; 5])?;
    }
    Ok(())
}

#[test]
fn a_slow_reader_holds_up_its_sender_and_loses_nothing() -> Result {
    let (proxy, echo) = start()?;
    let mut steady = proxy.connect()?;
    let mut slow = proxy.connect()?;
    let message = pattern(128_000_000);
    let sent = send_until_refused(&mut slow, &message, &mut steady)?;
    assert!(sent < message.len(), "they swallowed all of it");
    for server in [&proxy, &echo] {
        assert!(
            server.anonymous_bytes()? < 4_000_000,
            "{} bytes",
            server.anonymous_bytes()?
        );
    }
    send_rest_and_read_all(&mut slow, &message, sent);
    Ok(())
}

#[test]
fn each_direction_ends_on_its_own() -> Result {
    let (_proxy, mut client, mut server) = pair()?;
    client.write_all(b"question")?;
    client.shutdown(Shutdown::Write)?;
    let mut question = String::new();
    server.read_to_string(&mut question)?;
    assert_eq!(question, "question");
    server.write_all(b"a long answer")?;
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert_eq!(answer, "a long answer");
    Ok(())
}

#[test]
fn a_reset_of_one_side_is_a_reset_of_the_other() -> Result {
    for client_resets in [true, false] {
        let (_proxy, mut client, mut server) = pair()?;
        client.write_all(b"x")?;
        server.read_exact(&mut [0])?;
        let (rude, mut other) = if client_resets {
            (client, server)
        } else {
            (server, client)
        };
        reset(rude)?;
        let error = other.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    Ok(())
}

#[test]
fn bytes_sent_during_a_stop_longer_than_the_idle_timeout_arrive() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let target = listener.local_addr()?.to_string();
    let to = ["--to", &target, "--idle-timeout", "1"];
    let proxy = Server::start("proxy", &[&["--listen", "127.0.0.1:0"], &to[..]].concat())?;
    let mut client = proxy.connect()?;
    let mut server = accept(&listener)?;
    client.write_all(b"before")?;
    server.read_exact(&mut [0; 6])?;
    proxy.signal(Signal::STOP)?;
    client.write_all(b"question")?;
    server.write_all(b"answer")?;
    // The program uses the system's clock.
    std::thread::sleep(std::time::Duration::from_secs(2));
    proxy.signal(Signal::CONT)?;
    let (mut question, mut answer) = ([0; 8], [0; 6]);
    server.read_exact(&mut question)?;
    client.read_exact(&mut answer)?;
    assert_eq!((&question, &answer), (b"question", b"answer"));
    Ok(())
}

#[test]
fn the_client_is_reset_when_no_server_listens() -> Result {
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let proxy = start_to(&refusing)?;
    for _ in 0..10 {
        let error = proxy
            .connect()?
            .read(&mut [0])
            .expect_err("an end would look like an empty answer");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    Ok(())
}

#[test]
fn the_first_address_that_answers_is_taken() -> Result {
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let echo = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let proxy = Server::start(
        "proxy",
        &[
            "--listen",
            "127.0.0.1:0",
            "--to",
            &refusing,
            "--to",
            &echo.address,
        ],
    )?;
    expect_echo(&mut proxy.connect()?, b"hello");
    Ok(())
}

#[test]
fn a_target_can_be_a_name_or_a_unix_socket() -> Result {
    let echo = Server::start("echo_server", &["--listen", "127.0.0.1:0"])?;
    let port = echo.address.rsplit(':').next().ok_or("a port")?;
    let proxy = start_to(&format!("localhost:{port}"))?;
    expect_echo(&mut proxy.connect()?, b"hello");

    let name = format!("unix:@proxy-{}", std::process::id());
    let _echo = Server::start("echo_server", &["--listen", &name])?;
    let proxy = start_to(&name)?;
    expect_echo(&mut proxy.connect()?, b"hello");
    Ok(())
}

#[test]
fn a_name_among_several_targets_ends_it_with_1() -> Result {
    let arguments = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--to"];
    let output = run("proxy", &[&arguments[..], &["localhost:1"]].concat())?;
    assert_eq!(output.status.code(), Some(1));
    let text = "proxy: --to localhost:1: one of several targets must be IP:PORT";
    assert_eq!(String::from_utf8(output.stderr)?.trim_end(), text);
    Ok(())
}

#[test]
fn a_signal_ends_it_with_0() -> Result {
    let (proxy, _echo) = start()?;
    let mut client = proxy.connect()?;
    expect_echo(&mut client, b"hello");
    proxy.signal(Signal::TERM)?;
    expect_echo(&mut client, b"still there"); // open connections go on during the grace period
    drop(client);
    assert_eq!(proxy.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn a_download_in_progress_at_the_signal_arrives_completely() -> Result {
    const LENGTH: usize = 50_000_000;
    let (proxy, mut client, mut server) = pair()?;
    client.write_all(b"question")?;
    server.read_exact(&mut [0; 8])?;
    let answers = std::thread::spawn(move || server.write_all(&vec![7; LENGTH]));
    client.read_exact(&mut [0; 1_000_000])?;
    proxy.signal(Signal::TERM)?;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest)?;
    assert_eq!(1_000_000 + rest.len(), LENGTH);
    answers.join().expect("it does not panic")?;
    drop(client);
    assert_eq!(proxy.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn an_answer_before_the_end_of_the_question_reaches_every_client() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = start_to(&listener.local_addr()?.to_string())?;
    for round in 0..20 {
        let mut client = proxy.connect()?;
        let mut server = accept(&listener)?;
        let answers = std::thread::spawn(move || {
            server.read_exact(&mut [0; 1000])?;
            server.write_all(b"413 too large") // and closes, with many unread bytes
        });
        while client.write_all(&[7; 65536]).is_ok() {}
        let mut answer = [0; 13];
        client
            .read_exact(&mut answer)
            .map_err(|error| format!("round {round}: {error}"))?;
        assert_eq!(&answer, b"413 too large");
        answers.join().expect("it does not panic")?;
    }
    Ok(())
}

#[test]
fn two_versions_of_a_header_are_refused() -> Result {
    let output = run("proxy", &["--to", "127.0.0.1:1", HEADERS[0], HEADERS[1]])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains(HEADERS[1]));
    Ok(())
}

#[test]
fn without_an_address_to_forward_to_or_with_a_bad_one_it_ends_with_2() -> Result {
    for arguments in [&[][..], &["--to", "localhost"]] {
        let output = run("proxy", arguments)?;
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr)?.contains("--to"));
    }
    Ok(())
}
