//! A change from plain text to TLS: of a server and of a client, and bytes that were injected.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use handlers::{Connection, ConnectionHandler, ConnectionOptions, Taken};
use reactor::Context;
use support::Result;

use crate::peer::{End, Peer};
use crate::{Bench, NAME, Seen, client_config, echo, server_config, sink};

const DEADLINE: Duration = Duration::from_secs(60);

/// Takes the stream when everything was sent, and goes on with TLS.
fn upgrade<H: ConnectionHandler<Seen>>(
    connection: &mut Connection<'_, Seen>,
    cx: &mut Context<'_, Seen>,
    is_client: bool,
    handler: H,
) -> io::Result<()> {
    connection.take_after_flush(
        cx,
        DEADLINE,
        move |taken: io::Result<Taken<UnixStream>>, cx| {
            let options = ConnectionOptions::new();
            let upgraded = taken.and_then(|taken| {
                taken.upgrade(|stream| match is_client {
                    true => client_config().connect(stream, NAME),
                    false => server_config().accept(stream),
                })
            });
            let opened = upgraded.and_then(|stream| stream.open(cx.registry, &options, handler));
            if let Err(error) = opened {
                cx.state
                    .log
                    .push(format!("refused {:?}: {error}", error.kind()));
            }
        },
    )
}

/// The plain part of a server: answers STARTTLS.
struct Server;

impl ConnectionHandler<Seen> for Server {
    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            return Ok(0);
        };
        assert_eq!(&data[..end], b"STARTTLS");
        let _ = connection.write(b"220 go ahead\n")?;
        upgrade(connection, cx, false, echo("server"))?;
        Ok(end + 1)
    }
}

/// The plain part of a client: asks for TLS, and changes when the server agrees.
struct Client;

impl ConnectionHandler<Seen> for Client {
    fn on_open(
        &mut self,
        connection: &mut Connection<'_, Seen>,
        _: &mut Context<'_, Seen>,
    ) -> io::Result<()> {
        connection.write(b"STARTTLS\n").map(drop)
    }

    fn on_data(
        &mut self,
        data: &[u8],
        connection: &mut Connection<'_, Seen>,
        cx: &mut Context<'_, Seen>,
    ) -> io::Result<usize> {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            return Ok(0);
        };
        upgrade(connection, cx, true, sink("client"))?;
        Ok(end + 1)
    }
}

fn open<H: ConnectionHandler<Seen>>(handler: H) -> Result<(Bench, UnixStream)> {
    let mut bench = Bench::new()?;
    let (near, far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    Connection::open(&mut bench.reactor, near, &ConnectionOptions::new(), handler)?;
    Ok((bench, far))
}

/// Returns what the peer reads while the loop turns, up to the end of a line.
fn read_line(bench: &mut Bench, far: &mut UnixStream) -> Vec<u8> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        match io::Read::read(far, &mut byte) {
            Ok(count) => line.extend(&byte[..count]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                bench.turn();
            }
        }
    }
    line
}

#[test]
fn a_server_changes_to_tls_after_its_answer() -> Result {
    let (mut bench, mut far) = open(Server)?;
    far.write_all(b"STARTTLS\n")?;
    assert_eq!(read_line(&mut bench, &mut far), b"220 go ahead\n");
    let mut peer = Peer::client(far);
    peer.send(b"secret");
    bench.until(&mut peer, |_, peer| peer.received == b"secret");
    peer.close();
    bench.until(&mut peer, |_, peer| peer.end == Some(End::Whole));
    bench.turn_until(|seen| seen.end_of("server") == Some("finished"));
    Ok(())
}

#[test]
fn a_client_changes_to_tls_when_the_server_agrees() -> Result {
    let (mut bench, mut far) = open(Client)?;
    assert_eq!(read_line(&mut bench, &mut far), b"STARTTLS\n");
    far.write_all(b"220 go ")?;
    bench.run_until_idle();
    far.write_all(b"ahead\n")?;
    let mut peer = Peer::server(far);
    peer.send(b"secret");
    bench.until(&mut peer, |seen, _| seen.received("client") == b"secret");
    Ok(())
}

#[test]
fn both_sides_change_to_tls_on_one_loop() -> Result {
    let mut bench = Bench::new()?;
    let (near, far) = UnixStream::pair()?;
    let options = ConnectionOptions::new();
    Connection::open(&mut bench.reactor, near, &options, Server)?;
    Connection::open(&mut bench.reactor, far, &options, Client)?;
    bench.turn_until(|seen| seen.has("server open") && seen.has("client open"));
    Ok(())
}

/// Bytes behind the request, sent in plain text by an attacker on the way. CVE-2021-38371.
#[test]
fn bytes_that_were_injected_before_the_change_are_refused() -> Result {
    let (mut bench, mut far) = open(Server)?;
    far.write_all(b"STARTTLS\nMAIL FROM:<evil>\n")?;
    bench.turn_until(|seen| !seen.log.is_empty());
    let [refused] = &bench.seen.log[..] else {
        panic!("{:?}", bench.seen.log)
    };
    assert!(refused.starts_with("refused InvalidData"), "{refused}");
    assert!(refused.contains("17 bytes"), "{refused}");
    assert_eq!(bench.seen.received("server"), b"");
    Ok(())
}

/// A server that injects bytes behind its answer, which the client would take for protected ones.
#[test]
fn bytes_that_were_injected_into_the_answer_are_refused() -> Result {
    let (mut bench, mut far) = open(Client)?;
    assert_eq!(read_line(&mut bench, &mut far), b"STARTTLS\n");
    far.write_all(b"220 go ahead\n250 evil\n")?;
    bench.turn_until(|seen| !seen.log.is_empty());
    assert!(
        bench.seen.log[0].starts_with("refused InvalidData"),
        "{:?}",
        bench.seen.log
    );
    assert!(bench.reactor.is_empty());
    Ok(())
}

/// They arrive between the answer and the hello, so they are no TLS: the handshake fails.
#[test]
fn bytes_that_are_injected_after_the_change_break_the_handshake() -> Result {
    let (mut bench, mut far) = open(Server)?;
    far.write_all(b"STARTTLS\n")?;
    assert_eq!(read_line(&mut bench, &mut far), b"220 go ahead\n");
    bench.run_until_idle();
    far.write_all(b"MAIL FROM:<evil>\n")?;
    Peer::client(far).flush();
    bench.turn_until(|seen| seen.end_of("server") == Some("NotTls"));
    assert_eq!(bench.seen.received("server"), b"");
    Ok(())
}
