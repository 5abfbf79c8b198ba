//! Futures over TLS: what was cut never looks whole, to the future and to its peer.

#[allow(dead_code, reason = "the tests of TLS use more of it")]
#[path = "../tls/peer.rs"]
mod peer;

use std::future::{Future, pending};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use futures_lite::future::race;
use futures_lite::io::split;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use handlers::futures::{self, AsyncConnection, tasks};
use handlers::tls::{TlsCertificate, TlsError, TlsErrorKind, TlsServerConfig, TlsServerOptions};
use handlers::{Connection, ConnectionOptions, ListenOptions, SocketStream};
use reactor::{ManualClock, Reactor};
use support::{PATIENCE, Result, reset, run_out, tcp_pair, turn_until_quiet};

use self::peer::{End, Peer};
use crate::servers::{client, listen};
use crate::{Notes, reactor};

const NAME: &str = "a.example";

/// A certificate that signs itself, and its key, as PEM.
static CERTIFICATE: LazyLock<[String; 2]> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    [made.cert.pem(), made.signing_key.serialize_pem()]
});

fn server_config() -> TlsServerConfig {
    let [chain, key] = CERTIFICATE.each_ref().map(String::as_str);
    let options = TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key));
    options.load().unwrap()
}

/// Opens a connection over TLS whose protocol is a future. Returns its peer after the handshake.
fn open<F>(
    reactor: &mut Reactor<()>,
    protocol: impl FnOnce(AsyncConnection) -> F + 'static,
) -> Result<Peer<TcpStream>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let (near, far) = tcp_pair()?;
    far.set_nonblocking(true)?;
    let handler = futures::protocol(move |stream, _connection, _cx| protocol(stream));
    let stream = server_config().accept(near)?;
    Connection::open(reactor, stream, &ConnectionOptions::new(), handler)?;
    let mut peer = Peer::client(far);
    go_on(reactor, &mut peer)?;
    assert!(!peer.tls.is_handshaking());
    Ok(peer)
}

/// Lets the loop and the peer go on until both are quiet.
fn go_on(reactor: &mut Reactor<()>, peer: &mut Peer<TcpStream>) -> Result {
    loop {
        turn_until_quiet(reactor, &mut ())?;
        if !peer.step() {
            return Ok(());
        }
    }
}

/// The input of a future, and the errors of two reads and of a write.
#[derive(Debug, PartialEq, Eq)]
struct Learned {
    input: usize,
    errors: [Option<(ErrorKind, Option<TlsErrorKind>)>; 3],
}

fn facts(result: &io::Result<usize>) -> Option<(ErrorKind, Option<TlsErrorKind>)> {
    let error = result.as_ref().err()?;
    Some((error.kind(), TlsError::of(error).map(TlsError::kind)))
}

/// Opens a connection whose future begins to read after `attack`. Returns what it learns.
fn learn<K>(
    reactor: &mut Reactor<()>,
    attack: impl FnOnce(&mut Reactor<()>, Peer<TcpStream>) -> Result<K>,
) -> Result<Learned> {
    let (learned, begin) = (Notes::default(), reactor::Event::auto_reset());
    let (notes, begins) = (Rc::clone(&learned), begin.clone());
    let peer = open(reactor, move |mut stream| async move {
        futures::wait_event(&begins).await?;
        let mut input = Vec::new();
        let first = stream.read_to_end(&mut input).await;
        let second = stream.read(&mut [0]).await;
        let write = stream.write(b"x").await;
        let errors = [facts(&first), facts(&second), facts(&write)];
        let input = input.len();
        notes.borrow_mut().push(Learned { input, errors });
        first.map(drop)
    })?;
    let kept = attack(reactor, peer)?;
    begin.set();
    run_out(reactor, &mut ())?;
    drop(kept);
    let learned = learned.take().pop();
    Ok(learned.ok_or("the future has not ended")?)
}

#[test]
fn a_future_gets_what_has_come_and_then_the_same_error_for_ever() -> Result {
    const TRUNCATED: (ErrorKind, Option<TlsErrorKind>) =
        (ErrorKind::UnexpectedEof, Some(TlsErrorKind::Truncated));
    const PROTOCOL: (ErrorKind, Option<TlsErrorKind>) =
        (ErrorKind::InvalidData, Some(TlsErrorKind::Protocol));
    for much in [10, 100_000, 1_000_000] {
        let mut reactor = reactor()?;
        let cut = learn(&mut reactor, |_, mut peer| {
            peer.socket.set_nonblocking(false)?;
            Ok(std::thread::spawn(move || {
                peer.send(&vec![7; much]);
                peer.cut();
                peer
            }))
        })?;
        let errors = [Some(TRUNCATED); 3];
        assert_eq!(
            cut,
            Learned {
                input: much,
                errors
            }
        );
    }
    for within in [1, 6, 20] {
        let mut reactor = reactor()?;
        let cut = learn(&mut reactor, |_, mut peer| {
            peer.send(b"whole");
            peer.tls.writer().write_all(b"a record")?;
            let record = peer.ciphertext();
            peer.send_raw(&record[..within]);
            peer.cut();
            Ok(peer)
        })?;
        let errors = [Some(TRUNCATED); 3];
        assert_eq!(cut, Learned { input: 5, errors });
    }
    let mut reactor = reactor()?;
    let garbage = learn(&mut reactor, |_, mut peer| {
        peer.send(b"whole");
        peer.send_raw(&[0; 100]);
        Ok(peer)
    })?;
    let errors = [Some(PROTOCOL); 3];
    assert_eq!(garbage, Learned { input: 5, errors });
    Ok(())
}

/// A response is pending, so any other end would be a reset.
#[test]
fn the_peer_of_a_future_reads_why_its_session_has_failed() -> Result {
    let mut reactor = reactor()?;
    let peer = open(&mut reactor, |mut stream| async move {
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    })?;
    let mut socket = peer.socket;
    socket.write_all(&[0; 100])?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(tasks(&mut reactor).len(), 0, "the future has ended");
    socket.write_all(&[0; 100_000])?; // the failed session has no use for it
    turn_until_quiet(&mut reactor, &mut ())?;
    let mut alert = Vec::new();
    socket.read_to_end(&mut alert)?;
    assert_ne!(alert.len(), 0);
    drop(socket);
    run_out(&mut reactor, &mut ())
}

/// The alert waits behind what the peer does not read.
#[test]
fn a_peer_that_cannot_be_told_of_a_failed_session_is_reset() -> Result {
    let mut reactor = reactor()?;
    let mut peer = open(&mut reactor, |mut stream| async move {
        stream.read_exact(&mut [0]).await?;
        let (mut reader, mut writer) = split(stream);
        let write = async move { writer.write_all(&vec![7; 32 << 20]).await };
        let read = async move { reader.read_to_end(&mut Vec::new()).await.map(drop) };
        race(write, read).await
    })?;
    peer.send(b"?");
    turn_until_quiet(&mut reactor, &mut ())?;
    let mut socket = peer.socket;
    socket.set_nonblocking(false)?;
    socket.write_all(&[0; 100])?;
    turn_until_quiet(&mut reactor, &mut ())?;
    assert_eq!(tasks(&mut reactor).len(), 0, "the future has ended");
    let ended = socket.read_to_end(&mut Vec::new());
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    run_out(&mut reactor, &mut ())
}

#[test]
fn a_reset_over_tls_is_reported_with_its_errno() -> Result {
    let mut reactor = reactor()?;
    let learned = learn(&mut reactor, |reactor, mut peer| {
        peer.send(b"whole");
        go_on(reactor, &mut peer)?;
        Ok(reset(peer.socket)?)
    })?;
    let errors = [Some((ErrorKind::ConnectionReset, None)); 3];
    assert_eq!(learned, Learned { input: 5, errors });
    Ok(())
}

#[test]
fn an_end_by_close_notify_is_an_end() -> Result {
    let mut reactor = reactor()?;
    let learned = learn(&mut reactor, |_, mut peer| {
        peer.send(b"whole");
        peer.close();
        Ok(peer)
    })?;
    assert_eq!((learned.input, learned.errors), (5, [None; 3]));
    Ok(())
}

/// The ways in which a future leaves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    Returns,
    Errs,
    Panics,
    Cancelled,
    DropsAndHangs,
    DropsAndErrs,
    Closes,
}

#[test]
fn a_peer_of_tls_sees_an_end_only_if_the_future_has_meant_it() -> Result {
    use Leaves::{Cancelled, Closes, DropsAndErrs, DropsAndHangs, Errs, Panics, Returns};
    for leaves in [
        Returns,
        Errs,
        Panics,
        Cancelled,
        DropsAndHangs,
        DropsAndErrs,
        Closes,
    ] {
        let mut reactor = reactor()?;
        let mut peer = open(&mut reactor, move |mut stream| async move {
            stream.read_exact(&mut [0; 2]).await?;
            stream.write_all(b"an answer").await?;
            match leaves {
                Returns => Ok(()),
                Errs => io::Result::Err(io::Error::other("no more")),
                Panics => panic!("as the test wants"),
                Cancelled => pending().await,
                DropsAndHangs => {
                    drop(stream);
                    pending().await
                }
                DropsAndErrs => {
                    drop(stream);
                    futures::yield_now().await;
                    io::Result::Err(io::Error::other("no more"))
                }
                Closes => {
                    stream.close().await?;
                    pending().await
                }
            }
        })?;
        peer.send(b"go");
        go_on(&mut reactor, &mut peer)?;
        let is_whole = matches!(leaves, Returns | Closes);
        if matches!(leaves, Cancelled | DropsAndHangs | Closes) {
            let tasks = tasks(&mut reactor);
            assert_eq!(peer.end.is_some(), leaves == Closes, "{leaves:?}");
            tasks[0].key.cancel(&mut reactor)?;
            go_on(&mut reactor, &mut peer)?;
        }
        assert_eq!(
            peer.end == Some(End::Whole),
            is_whole,
            "{leaves:?}: {peer:?}"
        );
        assert!(peer.end.is_some(), "{leaves:?}");
        if matches!(leaves, Returns | Errs | DropsAndErrs | Closes) {
            assert_eq!(peer.received, b"an answer", "{leaves:?}");
        }
        drop(peer);
        run_out(&mut reactor, &mut ())?;
    }
    Ok(())
}

/// A server of TLS whose futures answer a byte, and its address.
fn serve(reactor: &mut Reactor<()>) -> Result<(handlers::ServerKey<()>, std::net::SocketAddr)> {
    let (listener, address) = listen(ListenOptions::new())?;
    let config = server_config();
    let accept = move |stream: SocketStream| config.accept(stream.into_tcp()?);
    let options = ConnectionOptions::new();
    let server =
        listener.serve_async_as(reactor, &options, accept, |mut stream, _, _cx| async move {
            stream.read_exact(&mut [0]).await?;
            stream.write_all(b"answer").await
        })?;
    Ok((server, address))
}

#[test]
fn a_client_in_its_handshake_is_served_by_a_server_that_stops() -> Result {
    let mut reactor = reactor()?;
    let (server, address) = serve(&mut reactor)?;
    let stream = client(address)?;
    stream.set_nonblocking(true)?;
    let mut peer = Peer::client(stream);
    peer.flush(); // its hello
    turn_until_quiet(&mut reactor, &mut ())?;
    server.stop(&mut reactor, PATIENCE);
    peer.send(b"?");
    go_on(&mut reactor, &mut peer)?;
    assert_eq!(
        (peer.received.as_slice(), peer.end),
        (b"answer".as_slice(), Some(End::Whole))
    );
    drop(peer);
    run_out(&mut reactor, &mut ())?;
    Ok(())
}

#[test]
fn a_client_that_never_ends_its_handshake_is_reset_after_the_grace() -> Result {
    for sends_hello in [false, true] {
        let mut reactor: Reactor<()> = Reactor::builder().clock(ManualClock::jumping()).build()?;
        let (server, address) = serve(&mut reactor)?;
        let stream = client(address)?;
        let mut peer = Peer::client(stream);
        if sends_hello {
            peer.flush();
        }
        for _ in 0..10 {
            reactor.turn(&mut (), Some(Duration::ZERO))?;
        }
        let began = reactor.now();
        server.stop(&mut reactor, Duration::from_secs(5));
        reactor.run(&mut ())?;
        assert!(reactor.now() - began <= Duration::from_secs(5));
        peer.step();
        assert!(peer.end.is_some_and(|end| end != End::Whole), "{peer:?}");
    }
    Ok(())
}

#[test]
fn a_peer_that_goes_during_our_close_ends_the_connection() -> Result {
    for resets in [false, true] {
        let mut reactor = reactor()?;
        let mut peer = open(&mut reactor, |mut stream| async move {
            stream.read_exact(&mut [0]).await?;
            stream.write_all(&vec![7; 8 << 20]).await
        })?;
        peer.send(b"?");
        turn_until_quiet(&mut reactor, &mut ())?; // more than the kernel takes is queued
        if resets {
            reset(peer.socket)?;
        } else {
            drop(peer); // with unread bytes: a reset too
        }
        run_out(&mut reactor, &mut ())?;
    }
    Ok(())
}
