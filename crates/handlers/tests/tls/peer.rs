//! A peer of a TLS connection: a session of the buffered interface of rustls.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use handlers::tls::rustls::crypto::ring;
use handlers::tls::rustls::pki_types::pem::PemObject;
use handlers::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use handlers::tls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
};

use super::{CERTIFICATE, NAME};

/// The stream below a peer. It does not block.
pub(crate) trait Socket: Read + Write {
    fn shutdown(&self) -> io::Result<()>;
}

impl Socket for UnixStream {
    fn shutdown(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

impl Socket for TcpStream {
    fn shutdown(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}

/// The end of what a peer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By close_notify.
    Whole,
    /// By the end of the stream alone.
    Cut,
    /// By an error of the stream.
    Failed(ErrorKind),
    /// By an error of the session, for example an alert.
    Refused,
}

pub(crate) struct Peer<T> {
    pub(crate) tls: rustls::Connection,
    pub(crate) socket: T,
    pub(crate) received: Vec<u8>,
    pub(crate) end: Option<End>,
    has_closed: bool,
}

impl<T: Socket> Peer<T> {
    pub(crate) fn client(socket: T) -> Self {
        Self::client_of(&client_config(), socket)
    }

    /// Makes a client that resumes the sessions of this configuration.
    pub(crate) fn client_of(config: &Arc<ClientConfig>, socket: T) -> Self {
        let name = NAME.try_into().unwrap();
        let client = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self::of(client.into(), socket)
    }

    pub(crate) fn server(socket: T) -> Self {
        let key = PrivateKeyDer::from_pem_slice(CERTIFICATE[1].as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate()], key)
            .unwrap();
        let server = ServerConnection::new(Arc::new(config)).unwrap();
        Self::of(server.into(), socket)
    }

    fn of(mut tls: rustls::Connection, socket: T) -> Self {
        tls.set_buffer_limit(None);
        Self {
            tls,
            socket,
            received: Vec::new(),
            end: None,
            has_closed: false,
        }
    }

    /// Returns the ciphertext that this peer would send now, instead of sending it.
    pub(crate) fn ciphertext(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Sends ciphertext, which the socket has room for.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Encrypts `bytes`, and sends what the socket takes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
        self.flush();
    }

    /// Sends close_notify, and then the end of the stream.
    pub(crate) fn close(&mut self) {
        self.tls.send_close_notify();
        self.flush();
        self.socket.shutdown().unwrap();
    }

    /// Ends the stream without close_notify.
    pub(crate) fn cut(&mut self) {
        self.flush();
        self.socket.shutdown().unwrap();
    }

    /// Sends what the socket takes. Returns `true` if it took anything.
    pub(crate) fn flush(&mut self) -> bool {
        let mut has_moved = false;
        while self.tls.wants_write() && self.end.is_none() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => has_moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.end = Some(End::Failed(error.kind())),
            }
        }
        has_moved
    }

    /// Sends and receives what is possible now. Returns `true` if anything was.
    pub(crate) fn step(&mut self) -> bool {
        let mut has_moved = self.flush();
        while self.end.is_none() {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) if self.has_closed => self.end = Some(End::Whole),
                Ok(0) => self.end = Some(End::Cut),
                Ok(_) => self.process(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.end = Some(End::Failed(error.kind())),
            }
            has_moved = true;
        }
        self.flush() || has_moved
    }

    fn process(&mut self) {
        match self.tls.process_new_packets() {
            Ok(state) => {
                let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
                self.tls.reader().read_exact(&mut plaintext).unwrap();
                self.received.extend(plaintext);
                self.has_closed = state.peer_has_closed();
            }
            Err(_) => {
                self.flush();
                self.end = Some(End::Refused);
            }
        }
    }
}

impl<T> fmt::Debug for Peer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("received", &self.received.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// Returns a configuration that trusts the certificate of the tests.
pub(crate) fn client_config() -> Arc<ClientConfig> {
    client_config_of([CERTIFICATE[0].as_str()])
}

/// Returns a configuration that trusts these certificates, in PEM.
pub(crate) fn client_config_of<'a>(
    certificates: impl IntoIterator<Item = &'a str>,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
    }
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(CERTIFICATE[0].as_bytes()).unwrap()
}
