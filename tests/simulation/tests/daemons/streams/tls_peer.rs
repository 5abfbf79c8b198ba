//! A client of TLS by another implementation than that of `handlers`: the buffered interface of
//! rustls. Its calls block as those of [`Peer`] do, up to the timeout of its socket.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use handlers::tls::rustls::crypto::ring;
use handlers::tls::rustls::pki_types::CertificateDer;
use handlers::tls::rustls::pki_types::pem::PemObject;
use handlers::tls::rustls::{ClientConfig, ClientConnection, RootCertStore};
use simulation::Peer;

use super::NAME;

pub(crate) struct TlsPeer {
    tls: ClientConnection,
    peer: Peer,
    /// Records that the socket has not taken yet.
    output: Vec<u8>,
}

impl TlsPeer {
    /// Makes a client that trusts one certificate, in PEM.
    pub(crate) fn new(peer: Peer, trusted: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        Self {
            tls,
            peer,
            output: Vec::new(),
        }
    }

    pub(crate) fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    pub(crate) fn into_peer(self) -> Peer {
        self.peer
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Completes the handshake.
    pub(crate) fn handshake(&mut self) -> io::Result<()> {
        self.flush()?;
        while self.tls.is_handshaking() {
            self.read_records()?;
            self.flush()?;
        }
        Ok(())
    }

    /// Writes bytes, and sends the first part of their last record.
    pub(crate) fn write_part(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.tls.writer().write(bytes)?;
        self.encode()?;
        let part = self.output.len().div_ceil(2);
        // The next call returns the error of this one.
        let sent = self.peer.write(&self.output[..part]).unwrap_or(0);
        self.output.drain(..sent);
        Ok(taken)
    }

    /// Sends the end of the stream, and of the socket's direction.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush()?;
        self.peer.shutdown_write()
    }

    /// Makes records of what was written.
    fn encode(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.output)?;
        }
        Ok(())
    }

    /// Reads from the socket once.
    fn read_records(&mut self) -> io::Result<()> {
        let read = self.tls.read_tls(&mut self.peer)?;
        let state = self.tls.process_new_packets();
        let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        // The socket has ended. Without an end of TLS the stream was cut.
        if read == 0 && !state.peer_has_closed() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

impl Read for TlsPeer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.read_records()?;
            // Answers of the handshake. What the socket does not take now is sent later.
            match self.flush() {
                Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
                _ => {}
            }
        }
    }
}

impl Write for TlsPeer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.tls.writer().write(bytes)?;
        let _ = self.flush(); // the bytes are taken: the next call returns the error
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encode()?;
        while !self.output.is_empty() {
            let sent = self.peer.write(&self.output)?;
            self.output.drain(..sent);
        }
        Ok(())
    }
}
