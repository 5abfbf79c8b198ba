//! New certificates for a server that runs.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use std::{env, fs, process};

use handlers::tls::{TlsCertificate, TlsServerOptions};
use handlers::{ConnectionOptions, ListenOptions, SocketStream, on_data};
use simulation::{Daemon, Faults, Peer, Seeds};

use crate::streams::{TlsPeer, new_certificate};
use crate::trial::listen;

/// Connects a client that trusts one certificate.
fn connect(trusted: &str) -> io::Result<TlsPeer> {
    let address: SocketAddr = ([127, 0, 0, 1], 7777).into();
    let mut peer = TlsPeer::new(Peer::connect(address)?, trusted);
    peer.handshake()?;
    Ok(peer)
}

/// Sends some bytes, and expects them back.
fn talk(peer: &mut TlsPeer) {
    let sent = vec![7; 1 + simulation::random(20_000) as usize];
    for piece in sent.chunks(1 + simulation::random(5000) as usize) {
        peer.write_all(piece).unwrap();
        peer.flush().unwrap();
        let mut received = vec![0; piece.len()];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, piece);
    }
}

fn trial(files: [&str; 2], certificates: &[[String; 2]; 2]) {
    let write = |certificate: &[String; 2]| {
        for (file, text) in files.iter().zip(certificate) {
            fs::write(file, text).unwrap();
        }
    };
    let [old, new] = certificates;
    write(old);
    let certificate = TlsCertificate::files(files[0], files[1]);
    let config = TlsServerOptions::new().certificate(certificate);
    let config = config.load().unwrap();
    let accepts = config.clone();
    let daemon = Daemon::start("server", move |reactor| {
        let listener = listen(&ListenOptions::new(), ([127, 0, 0, 1], 7777).into());
        let options = ConnectionOptions::new().handshake_timeout(None);
        let protect = move |stream: SocketStream| accepts.accept(stream.into_tcp()?);
        let server = listener.serve_as(reactor, &options, protect, |_peer, _cx| {
            Ok(on_data(|data, connection, _cx| {
                let _ = connection.write(data)?;
                Ok(data.len())
            }))
        });
        Ok(((), server?))
    });
    let mut early = connect(&old[0]).unwrap();
    talk(&mut early);
    // Another client is in its handshake, or talks, while the certificate changes.
    let trusted = [&old[0], &new[0]].map(String::clone);
    let during = simulation::process("during", move || {
        simulation::sleep(Duration::from_micros(simulation::random(5000)));
        trusted.iter().any(|trusted| connect(trusted).is_ok())
    });
    simulation::sleep(Duration::from_micros(simulation::random(5000)));
    write(new);
    config.reload().unwrap();
    let mut late = connect(&new[0]).unwrap();
    talk(&mut late);
    talk(&mut early);
    let refused = connect(&old[0]).map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
    assert!(during.join(), "one of both certificates is presented");
    drop((early, late));
    daemon.end(|server, cx| server.stop(cx.registry, Duration::from_secs(1)));
}

#[test]
fn a_reload_changes_the_certificate_of_new_sessions_only() {
    let certificates = [new_certificate(), new_certificate()];
    Seeds::new(0..20).faults(Faults::slow()).check(move || {
        // Simulations run on several threads of the process.
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let folder = env::temp_dir().join(format!("reload-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let files = ["chain", "key"].map(|name| folder.join(name));
        let files = files.each_ref().map(|file| file.to_str().unwrap());
        trial(files, &certificates);
        fs::remove_dir_all(&folder).unwrap();
    });
}
