//! The streams between servers and their clients: bare ones, and those of TLS.
//!
//! The certificate is one of Ed25519, whose signatures have a fixed length. So the keys, which are
//! not drawn from the seed, change no length and no order.

#[path = "../../../../../examples/tls/mod.rs"]
#[allow(dead_code, reason = "the examples use more of it")]
mod tls;
mod tls_peer;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use handlers::tls::{
    TlsCertificate, TlsClientConfig, TlsClientOptions, TlsRoots, TlsServerConfig, TlsServerOptions,
};
use handlers::{ConnectionHandler, ConnectionOptions, Listener, ServerKey};
use reactor::{Context, Registry};
use simulation::Peer;

pub(crate) use self::tls_peer::TlsPeer;

/// The name that the certificate is for.
pub(crate) const NAME: &str = "a.example";

/// A certificate and its key, in PEM.
pub(crate) fn new_certificate() -> [String; 2] {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    [params.self_signed(&key).unwrap().pem(), key.serialize_pem()]
}

/// The certificate of the servers.
pub(crate) static CERTIFICATE: LazyLock<[String; 2]> = LazyLock::new(new_certificate);

pub(crate) fn server_config() -> TlsServerConfig {
    let [chain, key] = CERTIFICATE.each_ref().map(String::as_str);
    let certificate = TlsCertificate::pem(chain, key);
    let options = TlsServerOptions::new().certificate(certificate);
    options.load().unwrap()
}

pub(crate) fn client_config() -> TlsClientConfig {
    let roots = TlsRoots::pem(CERTIFICATE[0].as_str());
    TlsClientOptions::new().roots(roots).load().unwrap()
}

/// The stream that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Bare,
    Tls,
}

impl Stream {
    /// Returns the TLS of the server, if it speaks TLS.
    pub(crate) fn server(self) -> Option<TlsServerConfig> {
        (self == Self::Tls).then(server_config)
    }

    /// Serves the connections of a listener. No time limits the handshake of TLS.
    pub(crate) fn serve<S: 'static, H: ConnectionHandler<S>>(
        self,
        listener: Listener,
        registry: &mut Registry<S>,
        options: &ConnectionOptions,
        handler: impl FnMut(&handlers::Peer, &mut Context<'_, S>) -> io::Result<H> + 'static,
    ) -> io::Result<ServerKey<S>> {
        let options = options.clone().handshake_timeout(None);
        tls::serve(
            listener,
            registry,
            &options,
            self.server().as_ref(),
            handler,
        )
    }

    /// Connects a client. A client of TLS begins its handshake with its first read or write.
    pub(crate) fn connect(self, address: SocketAddr) -> io::Result<ClientStream> {
        let peer = Peer::connect(address)?;
        Ok(match self {
            Self::Bare => ClientStream::Bare(peer),
            Self::Tls => ClientStream::Tls(Box::new(TlsPeer::new(peer, &CERTIFICATE[0]))),
        })
    }
}

/// The client's end of a connection.
pub(crate) enum ClientStream {
    Bare(Peer),
    Tls(Box<TlsPeer>),
}

impl ClientStream {
    fn peer(&mut self) -> &mut Peer {
        match self {
            Self::Bare(peer) => peer,
            Self::Tls(tls) => tls.peer(),
        }
    }

    /// Completes the handshake of TLS.
    pub(crate) fn handshake(&mut self) -> io::Result<()> {
        match self {
            Self::Bare(_) => Ok(()),
            Self::Tls(tls) => tls.handshake(),
        }
    }

    pub(crate) fn local_addr(&mut self) -> SocketAddr {
        self.peer().local_addr().expect("it is open")
    }

    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.peer().set_timeout(timeout);
    }

    /// Returns `true` if all that was written is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        match self {
            Self::Bare(_) => true,
            Self::Tls(tls) => tls.is_flushed(),
        }
    }

    /// Ends the direction to the server.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Bare(peer) => peer.shutdown_write(),
            Self::Tls(tls) => tls.shutdown_write(),
        }
    }

    /// Writes bytes, but sends only a part of what carries them. Returns how many bytes the stream
    /// has taken. The rest is sent by the next read or write.
    pub(crate) fn write_part(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Bare(peer) => peer.write(&bytes[..bytes.len().div_ceil(2)]),
            Self::Tls(tls) => tls.write_part(bytes),
        }
    }

    /// Returns `true` if the stream has no other end than that of its socket.
    pub(crate) const fn is_bare(&self) -> bool {
        matches!(self, Self::Bare(_))
    }

    pub(crate) fn reset(self) {
        match self {
            Self::Bare(peer) => peer.reset(),
            Self::Tls(tls) => tls.into_peer().reset(),
        }
    }
}

impl Read for ClientStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bare(peer) => peer.read(buf),
            Self::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for ClientStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Bare(peer) => peer.write(buf),
            Self::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Bare(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
