//! Two sessions that are connected by vectors of bytes, and the certificates that they need.

mod certificates;
mod ends;
mod errors;
mod faults;
mod handshake;
mod reload;
mod resumption;
mod roots;
mod traffic;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::rc::Rc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::session::{Below, Session};
use super::{
    TlsCertificate, TlsClientConfig, TlsClientOptions, TlsError, TlsErrorKind, TlsRoots,
    TlsServerConfig, TlsServerOptions,
};
use crate::Shutdown;

const NAME: &str = "a.example";

/// One direction of a stream.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    is_closed: bool,
}

/// One end of a stream in memory.
struct End {
    incoming: Rc<RefCell<Wire>>,
    outgoing: Rc<RefCell<Wire>>,
    /// The most bytes that a read returns.
    read_max: usize,
    /// The number of bytes that can be written before a write would block.
    room: usize,
    reads: usize,
    writes: usize,
}

impl Below for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let mut wire = self.incoming.borrow_mut();
        let count = wire.bytes.len().min(self.read_max).min(buf.len());
        if count == 0 && !wire.is_closed {
            return Err(ErrorKind::WouldBlock.into());
        }
        for (byte, taken) in buf.iter_mut().zip(wire.bytes.drain(..count)) {
            *byte = taken;
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.writes += 1;
        self.outgoing.borrow_mut().bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn shutdown(&mut self) -> io::Result<Shutdown> {
        self.outgoing.borrow_mut().is_closed = true;
        Ok(Shutdown::Done)
    }
}

/// A session and its end of the stream.
struct Peer {
    session: Session,
    end: End,
}

impl Peer {
    fn handshake(&mut self) -> io::Result<()> {
        self.session.handshake(&mut self.end)
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.session.read(&mut self.end, buf)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.write(&mut self.end, &[IoSlice::new(bytes)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.flush(&mut self.end)
    }

    fn shutdown(&mut self) -> io::Result<Shutdown> {
        self.session.shutdown(&mut self.end)
    }

    /// Reads until the stream has nothing left. Returns the plaintext, and the end or the error.
    fn read_all(&mut self) -> (Vec<u8>, io::Result<()>) {
        let (mut all, mut buf) = (Vec::new(), vec![0; 40_000]);
        loop {
            match self.read(&mut buf) {
                Ok(0) => return (all, Ok(())),
                Ok(count) => all.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (all, Err(error)),
            }
        }
    }

    /// Reads everything that has arrived on an open stream.
    #[track_caller]
    fn read_open(&mut self) -> Vec<u8> {
        let (all, end) = self.read_all();
        assert_eq!(end.unwrap_err().kind(), ErrorKind::WouldBlock);
        all
    }

    /// Puts bytes on the wire that this peer did not encrypt.
    fn inject(&mut self, bytes: &[u8]) {
        self.end.outgoing.borrow_mut().bytes.extend(bytes);
    }

    /// Returns the bytes that wait for this peer.
    fn arrived(&self) -> Vec<u8> {
        self.end.incoming.borrow().bytes.iter().copied().collect()
    }
}

/// Connects a client and a server, which have not begun their handshake.
fn connect_to(server: &TlsServerConfig, client: &TlsClientConfig, name: &str) -> (Peer, Peer) {
    let (up, down) = (Rc::default(), Rc::default());
    let end = |incoming: &Rc<_>, outgoing: &Rc<_>| End {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        read_max: usize::MAX,
        room: usize::MAX,
        reads: 0,
        writes: 0,
    };
    let client_end = end(&down, &up);
    let server_end = end(&up, &down);
    let (end, session) = client.connect(client_end, name).unwrap().into_parts();
    let client = Peer { session, end };
    let (end, session) = server.accept(server_end).unwrap().into_parts();
    (client, Peer { session, end })
}

fn connect(server: &TlsServerConfig, client: &TlsClientConfig) -> (Peer, Peer) {
    connect_to(server, client, NAME)
}

/// Runs both handshakes until neither goes on. Returns their results.
fn shake(client: &mut Peer, server: &mut Peer) -> (io::Result<()>, io::Result<()>) {
    loop {
        let before = (client.end.reads, server.end.reads);
        let (c, s) = (client.handshake(), server.handshake());
        let waits = |result: &io::Result<()>, peer: &Peer| {
            let blocked = result
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            blocked && !peer.end.incoming.borrow().bytes.is_empty()
        };
        if waits(&c, client) || waits(&s, server) {
            assert_ne!(
                before,
                (client.end.reads, server.end.reads),
                "a handshake hangs"
            );
            continue;
        }
        return (c, s);
    }
}

/// Returns a client and a server whose handshake is done.
#[track_caller]
fn established(server: &TlsServerConfig, client: &TlsClientConfig) -> (Peer, Peer) {
    let (mut client, mut server) = connect(server, client);
    let (c, s) = shake(&mut client, &mut server);
    c.unwrap();
    s.unwrap();
    assert_eq!(client.read_open(), b""); // tickets
    (client, server)
}

/// Returns a client and a server of the usual configuration, whose handshake is done.
#[track_caller]
fn pair() -> (Peer, Peer) {
    let ca = Authority::new();
    established(&ca.server(), &ca.client())
}

#[track_caller]
fn expect_error(result: io::Result<()>, kind: TlsErrorKind, words: &[&str]) {
    let error = result.unwrap_err();
    let found = TlsError::of(&error).unwrap_or_else(|| panic!("no error of TLS: {error:?}"));
    assert_eq!(found.kind(), kind, "{found}");
    for word in words {
        assert!(found.to_string().contains(word), "{word:?} in: {found}");
    }
}

/// An issuer of certificates for tests.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("one", KeyPair::generate().unwrap())
    }

    fn named(name: &str, key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Stores certificate and key in a file.
    fn store(&self, path: &Path) {
        std::fs::write(path, self.0.pem() + &self.0.key().serialize_pem()).unwrap();
    }

    /// Returns the authority that was stored in a file.
    fn of_file(path: &Path) -> Self {
        let pem = std::fs::read_to_string(path).unwrap();
        let key = pem.find("-----BEGIN PRIVATE").map(|at| &pem[at..]).unwrap();
        Self::named("one", KeyPair::from_pem(key).unwrap())
    }

    /// Returns an authority of another name.
    fn other() -> Self {
        Self::named("other", KeyPair::generate().unwrap())
    }

    fn roots(&self) -> TlsRoots {
        TlsRoots::pem(self.0.pem())
    }

    /// Issues a certificate, as PEM with its key.
    fn issue_pem(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> [String; 2] {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }

    fn issue(&self, names: &[&str]) -> TlsCertificate {
        let [chain, key] = self.issue_pem(names, |_| ());
        TlsCertificate::pem(chain, key)
    }

    /// Issues a certificate that expired on 2024-02-29.
    fn issue_expired(&self) -> [String; 2] {
        self.issue_pem(&[NAME], |params| {
            params.not_before = rcgen::date_time_ymd(2023, 1, 1);
            params.not_after = rcgen::date_time_ymd(2024, 2, 29);
        })
    }

    fn server_options(&self) -> TlsServerOptions {
        TlsServerOptions::new().certificate(self.issue(&[NAME]))
    }

    fn client_options(&self) -> TlsClientOptions {
        TlsClientOptions::new().roots(self.roots())
    }

    fn server(&self) -> TlsServerConfig {
        self.server_options().load().unwrap()
    }

    fn client(&self) -> TlsClientConfig {
        self.client_options().load().unwrap()
    }
}
