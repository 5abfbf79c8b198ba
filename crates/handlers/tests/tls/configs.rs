//! Configurations that connections and loops share: certificates that are read again, tickets, and
//! the file of keys.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use handlers::tls::rustls::HandshakeKind;
use handlers::tls::{TlsCertificate, TlsServerOptions};
use handlers::{Address, ConnectionOptions, ListenOptions, on_data};
use reactor::{LoopPool, Reactor};
use support::{Result, ms};

use crate::peer::{self, Peer};
use crate::servers::{connect, serve_with};
use crate::{Bench, CERTIFICATE, NAME, echo, server_config};

/// Writes a new certificate and its key into a folder. Returns the certificate.
fn write_certificate(folder: &Path) -> Result<String> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(folder.join("chain.pem"), made.cert.pem())?;
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(made.cert.pem())
}

/// Sends a message to a server that echoes, once the handshake is done.
fn expect_echo(bench: &mut Bench, peer: &mut Peer<TcpStream>) {
    bench.until(peer, |_, peer| !peer.tls.is_handshaking());
    peer.received.clear();
    peer.send(b"hello");
    bench.until(peer, |_, peer| peer.received == b"hello");
}

#[test]
fn a_reload_interrupts_no_connection_and_no_handshake() -> Result {
    let folder = tempfile::tempdir()?;
    let old = write_certificate(folder.path())?;
    let files = TlsCertificate::files(
        folder.path().join("chain.pem"),
        folder.path().join("key.pem"),
    );
    let config = TlsServerOptions::new().certificate(files).load()?;
    let mut bench = Bench::new()?;
    let (address, _) = serve_with(&mut bench, config.clone(), ListenOptions::new(), || {
        echo("server")
    })?;
    let trusts_old = peer::client_config_of([old.as_str()]);
    let mut talks = Peer::client_of(&trusts_old, connect(address)?);
    expect_echo(&mut bench, &mut talks);
    let mut begins = Peer::client_of(&trusts_old, connect(address)?);
    let hello = begins.ciphertext();
    begins.send_raw(&hello[..hello.len() / 2]);
    bench.run_until_idle();

    let new = write_certificate(folder.path())?;
    config.reload()?;
    let trusts_new = peer::client_config_of([new.as_str()]);
    let mut comes = Peer::client_of(&trusts_new, connect(address)?);
    expect_echo(&mut bench, &mut comes);
    begins.send_raw(&hello[hello.len() / 2..]);
    expect_echo(&mut bench, &mut begins);
    expect_echo(&mut bench, &mut talks);
    assert_eq!(bench.seen.end_of("server"), None);
    Ok(())
}

#[test]
fn a_session_is_resumed_by_every_loop_of_a_pool() -> Result {
    let pool = LoopPool::spawn(2, "loop", |_number, _registry| Ok(()))?;
    let remotes = [0, 1].map(|number| pool.get(number).cloned().expect("there are two"));
    let listener = ListenOptions::new().bind(&"127.0.0.1:0".parse()?)?;
    let Address::Tcp(address) = listener.local_addr()? else {
        return Err("no TCP".into());
    };
    let threads: Arc<Mutex<Vec<_>>> = Arc::default();
    let (config, seen) = (server_config(), Arc::clone(&threads));
    let mut reactor = Reactor::<()>::new()?;
    let mut turns = remotes.into_iter().cycle();
    listener.accept(&mut reactor, move |accepted, _cx| {
        let (config, seen) = (config.clone(), Arc::clone(&seen));
        let protected = accepted.map(|stream| config.accept(stream.into_tcp()?))?;
        let posted = turns.next().expect("it never ends").post(move |cx| {
            let answers = on_data(move |data, connection, _cx| {
                seen.lock().unwrap().push(thread::current().id());
                connection.write(data).map(|_flow| data.len())
            });
            let options = ConnectionOptions::new();
            protected.open(cx.registry, &options, answers).unwrap();
        });
        Ok(posted?)
    })?;
    let client = peer::client_config();
    for number in 0..4 {
        let mut peer = Peer::client_of(&client, connect(address)?);
        peer.tls.writer().write_all(b"hello")?;
        while peer.received != b"hello" {
            peer.step();
            reactor.turn(&mut (), Some(ms(1)))?;
        }
        let expected = match number {
            0 => HandshakeKind::Full,
            _ => HandshakeKind::Resumed,
        };
        assert_eq!(peer.tls.handshake_kind(), Some(expected), "{number}");
    }
    pool.stop()?;
    let threads = threads.lock().unwrap();
    assert_eq!(threads[..2], threads[2..]);
    assert_ne!(threads[0], threads[1]);
    Ok(())
}

/// The variable of the environment holds for the process, so the test runs again in its own.
#[test]
fn the_keys_of_served_connections_are_written_to_the_file_of_keys() -> Result {
    const TEST: &str = "configs::the_keys_of_served_connections_are_written_to_the_file_of_keys";
    let Some(path) = std::env::var_os("SSLKEYLOGFILE") else {
        let folder = tempfile::tempdir()?;
        let mut again = Command::new(std::env::current_exe()?);
        again.args(["--exact", TEST]);
        let output = again
            .env("SSLKEYLOGFILE", folder.path().join("keys"))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return Ok(());
    };
    let [chain, key] = CERTIFICATE.each_ref().map(String::as_str);
    let options = TlsServerOptions::new().certificate(TlsCertificate::pem(chain, key));
    let mut bench = Bench::new()?;
    let silent = options.clone().load()?;
    let logs = options.log_keys().load()?;
    for (config, sessions) in [(silent, 0), (logs, 1)] {
        let (address, _) = serve_with(&mut bench, config, ListenOptions::new(), || echo("server"))?;
        let mut peer = Peer::client(connect(address)?);
        expect_echo(&mut bench, &mut peer);
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let secrets = log.matches("SERVER_TRAFFIC_SECRET_0 ").count();
        assert_eq!(secrets, sessions, "{log}");
    }
    Ok(())
}
