//! TLS is a stream that keeps its contract, on both sides.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use handlers::StreamCheck;
use handlers::tls::{
    TlsCertificate, TlsClientConfig, TlsClientOptions, TlsRoots, TlsServerConfig, TlsServerOptions,
};

const NAME: &str = "a.example";

/// A server, and a client that trusts its certificate.
fn configs() -> (TlsServerConfig, TlsClientConfig) {
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = TlsCertificate::pem(issued.cert.pem(), issued.signing_key.serialize_pem());
    let server = TlsServerOptions::new().certificate(certificate);
    let client = TlsClientOptions::new().roots(TlsRoots::pem(issued.cert.pem()));
    (server.load().unwrap(), client.load().unwrap())
}

#[test]
fn a_tls_server_and_its_client_pass() {
    let (server, client) = configs();
    let accept = |socket: OwnedFd| server.accept(UnixStream::from(socket)).unwrap();
    let connect = |socket: OwnedFd| client.connect(UnixStream::from(socket), NAME).unwrap();
    let check = StreamCheck::new().with_end();
    check.run(accept, connect).unwrap();
    check.run(connect, accept).unwrap();
}
